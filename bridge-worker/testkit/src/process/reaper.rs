//! Ends processes and removes folders when the test process ends without dropping its guards.
//!
//! Rust drops no statics (a Kafka shared by all tests of a binary is one), and a test process can be killed. So a small
//! shell, in a process group of its own, reads what exists from a pipe; the pipe closes with the test process, whatever
//! ends it, and the shell clears up what is left.

use crate::forks;
use rustix::process::Pid;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SCRIPT: &str = r#"
pids=" " folders=" "
while read -r what item; do
    case $what in
    watch) pids="$pids$item " ;;
    forget) pids=$(printf "%sx" "$pids" | sed "s/ $item / /"); pids=${pids%x} ;;
    folder) folders="$folders$item " ;;
    esac
done
for pid in $pids; do kill -s KILL -- "-$pid"; done
for folder in $folders; do rm -rf "$folder"; done
"#;

/// From here on, the process group `pid` ends with this process.
pub(super) fn watch(pid: Pid) {
    tell("watch", pid);
}

/// The process group `pid` is gone: its id may belong to somebody else.
pub(super) fn forget(pid: Pid) {
    tell("forget", pid);
}

/// From here on, `folder` is removed with this process; its path has no spaces. Nobody has to tell when it is gone
/// earlier: names of temporary folders do not come again.
pub(super) fn watch_folder(folder: &Path) {
    tell("folder", folder.display());
}

fn tell(what: &str, item: impl std::fmt::Display) {
    static REAPER: OnceLock<Mutex<Child>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        Mutex::new(forks::spawn(&mut shell).expect("starting a shell"))
    });
    let mut reaper = reaper.lock().unwrap_or_else(PoisonError::into_inner);
    let input = reaper.stdin.as_mut().expect("the shell's input");
    // A shell that is gone only costs the clearing up after a killed test.
    writeln!(input, "{what} {item}").ok();
}
