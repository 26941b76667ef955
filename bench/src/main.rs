//! `millrace-bench`: see [`millrace_bench`].

use std::process::ExitCode;

use clap::Parser as _;
use millrace_bench::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("millrace-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
