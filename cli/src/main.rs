//! The `millrace` command.

mod app;
mod broker;
mod check_route;
mod demo;
mod exit;
mod fleet;
mod live;
mod manifests;
mod outcome;
mod plan;
mod redrive;
mod report;
mod run;
mod secrets;
mod signals;
mod sizing;
mod top;
mod validate;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Its memory has passwords and keys: nobody is to find it on a disk.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
    match app::main(std::env::args_os()) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            exit::Exit::Failed.into()
        }
    }
}
