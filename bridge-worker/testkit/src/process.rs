//! A process of a test: its own process group, its output in files, gone when the guard is dropped.

mod reaper;
mod usage;

use crate::forks;
use crate::wait::{holds_within, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub use usage::{Usage, usage};

/// How much of a log is printed when a test fails.
const LOG_LINES: usize = 80;

/// A running program. Signals reach its whole process group. Dropping it kills it; if the test is panicking, the end
/// of its output is printed.
///
/// ```
/// use millrace_testkit::Process;
/// use std::{process::Command, time::Duration};
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo hello >&2; exit 3"]);
/// let mut process = Process::spawn("greeter", command);
/// assert_eq!(process.wait(Duration::from_secs(5)).code(), Some(3));
/// assert_eq!(process.stderr(), "hello\n");
/// ```
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
    exited: Option<ExitStatus>,
    /// Holds the two files.
    _folder: Arc<TempDir>,
}

impl Process {
    /// Starts `command` with no input and its output captured; `name` marks it in messages.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn spawn(name: &str, command: Command) -> Process {
        Self::spawn_in(name, command, &temp_folder(name))
    }

    /// Like [`Process::spawn`], with the output appended to `<name>.out` and `<name>.err` in a folder that several
    /// processes share, one after the other.
    #[track_caller]
    pub(crate) fn spawn_in(name: &str, mut command: Command, folder: &Arc<TempDir>) -> Process {
        let stdout = folder.path().join(format!("{name}.out"));
        let stderr = folder.path().join(format!("{name}.err"));
        command
            .stdin(Stdio::null())
            .stdout(append(&stdout))
            .stderr(append(&stderr))
            .process_group(0);
        let child = forks::spawn(&mut command)
            .unwrap_or_else(|error| panic!("{name}: cannot start {command:?}: {error}"));
        let pid = Pid::from_child(&child);
        reaper::watch(pid);
        Process {
            name: name.into(),
            child,
            pid,
            stdout,
            stderr,
            exited: None,
            _folder: folder.clone(),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time and memory used so far; `None` once it has ended.
    pub fn usage(&self) -> Option<Usage> {
        usage(self.pid())
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// How it ended, when it has.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("waiting for a child");
            if self.exited.is_some() {
                // What it started must not outlive it, and its id may be given to another process from here on.
                kill_process_group(self.pid, Signal::KILL).ok();
                reaper::forget(self.pid);
            }
        }
        self.exited
    }

    /// Asks it to end (SIGTERM); does not wait.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP, which makes many servers read their configuration again.
    pub fn hangup(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Ends it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10))
    }

    /// Has it crash (SIGABRT); does not wait.
    pub fn abort(&mut self) {
        self.signal(Signal::ABORT);
    }

    /// Freezes it (SIGSTOP).
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Process::pause`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended after `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} (pid {}) to end", self.name, self.pid());
        wait_until(deadline, &what, || self.poll().is_some());
        self.exited.expect("it has ended")
    }

    /// What it has written to its standard error.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// What it has written to its standard output.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    fn signal(&mut self, signal: Signal) {
        if self.poll().is_none() {
            // It may end between the look and the signal; then there is nothing left to do.
            kill_process_group(self.pid, signal).ok();
        }
    }

    /// Waits until `ready`, or panics with the output when the process ends first or the deadline passes.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut() -> bool) {
        let outcome = holds_within(deadline, || ready() || !self.is_running());
        if outcome.is_none() || !self.is_running() {
            panic!(
                "{} did not become ready within {deadline:?} ({:?})\n{}",
                self.name,
                self.exited,
                self.tail()
            );
        }
    }

    fn tail(&self) -> String {
        let part = |title: &str, text: String| {
            let lines: Vec<_> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES);
            lines[from..]
                .iter()
                .map(|line| format!("{} {title} | {line}\n", self.name))
                .collect::<String>()
        };
        part("out", self.stdout()) + &part("err", self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint!("{}", self.tail());
        }
        if self.poll().is_none() {
            kill_process_group(self.pid, Signal::KILL).ok();
            // SIGKILL cannot be refused: this ends.
            self.child.wait().ok();
            reaper::forget(self.pid);
        }
    }
}

/// A temporary folder that is removed when it is dropped, or when this process is killed.
pub(crate) fn temp_folder(name: &str) -> Arc<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("millrace-{name}-"))
        .tempdir()
        .expect("a temporary folder");
    reaper::watch_folder(folder.path());
    Arc::new(folder)
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a log file in a temporary folder")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_whole_group_ends_with_the_guard() {
        let process = Process::spawn("family", shell("sleep 600 & echo $!; wait"));
        wait_until(Duration::from_secs(5), "the child's id", || {
            !process.stdout().is_empty()
        });
        let grandchild: u32 = process.stdout().trim().parse().unwrap();
        assert!(usage(grandchild).is_some());
        drop(process);
        wait_until(Duration::from_secs(5), "the grandchild to end", || {
            usage(grandchild).is_none()
        });
    }

    #[test]
    fn a_paused_process_does_nothing_until_resumed() {
        // No command of its own in the loop: a shell that waits for a stopped child to begin is not in state T.
        let mut process = Process::spawn("counter", shell("while :; do echo x; done"));
        wait_until(Duration::from_secs(5), "output", || !process.stdout().is_empty());
        process.pause();
        wait_until(Duration::from_secs(5), "the state T", || {
            std::fs::read_to_string(format!("/proc/{}/stat", process.pid()))
                .unwrap()
                .contains(") T ")
        });
        process.resume();
        let before = process.stdout().len();
        wait_until(Duration::from_secs(5), "more output", || {
            process.stdout().len() > before
        });
        process.terminate();
        assert!(!process.wait(Duration::from_secs(5)).success());
    }
}
