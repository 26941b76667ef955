//! What rdkafka does not wrap of librdkafka, and the only unsafe code of the project.

pub mod groups;
mod headers;

pub use headers::headers;
