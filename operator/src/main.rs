//! The program `millrace-operator`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Its memory has a token that the API server takes: nobody is to find it on a disk.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
    let cli = millrace_operator::cli::Cli::parse();
    match millrace_operator::app::main(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
