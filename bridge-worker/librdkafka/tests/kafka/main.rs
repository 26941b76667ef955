//! What rdkafka does not wrap, against a real Kafka.

mod groups;
mod headers;
mod topic;
