//! TLS, passwords, certificates and tokens, with servers that want them.

#[path = "../harness/bearer.rs"]
mod bearer;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/provider.rs"]
mod provider;

mod kafka;
mod mqtt;
mod tokens;
