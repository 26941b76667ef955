//! The program `millrace-operator`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = millrace_operator::cli::Cli::parse();
    match millrace_operator::app::main(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
