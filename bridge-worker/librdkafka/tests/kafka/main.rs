//! What rdkafka does not wrap, against a real Kafka.

mod brokers;
mod groups;
mod headers;
mod topic;
