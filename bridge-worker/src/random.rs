//! Names that nobody else has.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number. The standard library's keys are random enough to tell clients apart and to spread them in time.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Eight hexadecimal digits.
pub(crate) fn word() -> String {
    format!("{:08x}", number() as u32)
}
