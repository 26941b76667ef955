//! The `bridge-worker` binary: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Its memory has passwords and keys: nobody is to find it on a disk.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
    // A worker that has lost a thread is no longer what its status says: end, and let the supervisor start anew.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    bridge_worker::main()
}
