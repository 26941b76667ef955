//! What rdkafka does not wrap of librdkafka, and the only unsafe code of the project.

mod headers;

pub use headers::headers;
