//! What rdkafka does not wrap of librdkafka, and the only unsafe code of the project.

mod bearer;
pub mod groups;
mod headers;

pub use bearer::set_token;
pub use headers::headers;
