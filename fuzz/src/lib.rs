//! Fuzz targets: functions that take any bytes and must come back.
//!
//! Each target panics if something that must hold does not hold. `tests/short.rs` feeds them the inputs of `corpus/`
//! and some seconds of mutations of these, on any toolchain, in every test run. `libfuzzer/` makes cargo-fuzz
//! targets of the same functions; it is a workspace of its own, because libFuzzer needs a nightly compiler:
//!
//! ```sh
//! cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer filter fuzz/corpus/filter
//! ```

pub mod filter;
pub mod manifest;
pub mod packet;
pub mod template;
