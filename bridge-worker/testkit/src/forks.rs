//! Starting programs and taking ports again, never both at once.
//!
//! A process that is being started holds copies of every file of this one until it runs its program: for that long, a
//! listener that was closed here still listens, and its port cannot be bound.

use crate::wait::wait_until;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

/// For a program to be loaded.
const DEADLINE: Duration = Duration::from_secs(10);

static FORKS: Mutex<()> = Mutex::new(());

/// As long as the guard lives, [`spawn`] starts nothing, and nothing it started holds files of this process.
///
/// ```
/// # use std::net::TcpListener;
/// # let listener = TcpListener::bind("127.0.0.1:0").unwrap();
/// # let address = listener.local_addr().unwrap();
/// drop(listener);
/// let _no_copy = millrace_testkit::no_forks();
/// let listener = TcpListener::bind(address).unwrap();
/// ```
#[must_use = "the guard is what holds forks off"]
pub fn no_forks() -> MutexGuard<'static, ()> {
    FORKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program; when this returns, the program runs.
///
/// # Errors
/// As [`Command::spawn`].
#[track_caller]
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let _one = no_forks();
    let child = command.spawn()?;
    // `Command::spawn` returns a little earlier: the kernel lets the parent go on before it closes the child's files.
    wait_until(DEADLINE, "the program to run", || runs(child.id()));
    Ok(child)
}

/// Whether a process that was started runs its program, or has already ended: then the kernel has closed its copies.
fn runs(pid: u32) -> bool {
    // Until it runs its program it shares our memory, and with it these addresses, which are random for each program.
    let vector = |process: &str| fs::read(format!("/proc/{process}/auxv")).unwrap_or_default();
    let theirs = vector(&pid.to_string());
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    theirs.is_empty() || (theirs != vector("self") && has_mapped(&maps))
}

/// Whether a program has mapped something itself: its libraries, or without those, as in Go, its heap. Then it runs, and the
/// kernel has closed what was to be closed: it does that last, on the way into the program. The kernel maps no library but the
/// loader, and three parts without a name at most: what is zero at first of the program and of the loader, and the stack, which
/// gets its name in the end.
fn has_mapped(maps: &str) -> bool {
    let unnamed = maps.lines().filter(|line| line.split_whitespace().count() == 5);
    maps.contains("/libc.so.") || (maps.contains("[stack]") && unnamed.count() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Port;
    use std::thread;

    #[test]
    fn a_port_is_taken_again_while_programs_are_started() {
        let port = Port::free();
        thread::scope(|scope| {
            let starting = scope.spawn(|| {
                for _ in 0..200 {
                    let mut program = spawn(&mut Command::new("true")).expect("starting a program");
                    program.wait().expect("its end");
                }
            });
            while !starting.is_finished() {
                drop(port.listen());
            }
        });
    }
}
