//! The Helm chart, as `helm template` renders it. Needs helm: `MILLRACE_HELM`, on the PATH, or where
//! `scripts/test-deps.sh` puts it. Without it these tests are skipped, and say so; where `CI` is set they fail instead.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod definitions;
mod helm;
mod hooks;
mod metadata;
mod notes;
mod operator;
mod rbac;
mod values;
