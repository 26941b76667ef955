//! What rdkafka does not wrap of librdkafka, and the only unsafe code of the project.

mod bearer;
mod brokers;
pub mod groups;
mod headers;
mod mock;
mod topic;

pub use bearer::set_token;
pub use brokers::add_brokers;
pub use headers::headers;
pub use mock::group_delay;
pub use topic::{HeaderList, Record, Topic};
