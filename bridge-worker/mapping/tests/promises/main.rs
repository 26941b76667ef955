//! What this crate promises, one file for each kind of promise.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod document;
mod filter;
mod hostile;
mod mapping;
mod numbers;
mod publishing;
mod refused;
mod support;
mod tables;
mod template;
mod total;
