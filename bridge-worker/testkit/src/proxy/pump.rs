//! Moves the bytes of one connection, one thread for each direction.

use super::fault::Flow;
use super::{Direction, Shared, reset};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How soon a change of the faults reaches a connection on which nothing moves.
const LOOK: Duration = Duration::from_millis(10);
const PIECE: usize = 64 * 1024;

struct Pump<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    direction: Direction,
    generation: u64,
    /// Set by either direction: this connection ends with a reset.
    broken: &'a AtomicBool,
    shared: &'a Shared,
}

/// Returns when the connection is over.
pub(super) fn run(client: TcpStream, target: TcpStream, shared: &Shared) {
    let generation = shared.faults.generation();
    shared.open.fetch_add(1, Ordering::Relaxed);
    for stream in [&client, &target] {
        // A socket that takes no settings is closed already; the first read says so.
        stream.set_nodelay(true).ok();
        stream.set_nonblocking(false).ok();
        stream.set_read_timeout(Some(LOOK)).ok();
        stream.set_write_timeout(Some(LOOK)).ok();
    }
    let broken = AtomicBool::new(false);
    let up = Pump {
        from: &client,
        to: &target,
        direction: Direction::ToTarget,
        generation,
        broken: &broken,
        shared,
    };
    let down = Pump {
        from: &target,
        to: &client,
        direction: Direction::ToClient,
        ..up
    };
    thread::scope(|scope| {
        scope.spawn(|| up.run());
        down.run();
    });
    if broken.load(Ordering::Relaxed) {
        reset(&client);
        reset(&target);
        shared.reset.fetch_add(1, Ordering::Relaxed);
    }
    shared.open.fetch_sub(1, Ordering::Relaxed);
}

impl Pump<'_> {
    fn run(&self) {
        if self.forward().is_none() {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// Until the sender has closed its side (which is passed on) or, `None`, the connection is to be reset.
    fn forward(&self) -> Option<()> {
        let mut piece = vec![0; PIECE];
        let mut has_hole = false;
        loop {
            let flow = self.flow()?;
            if has_hole && flow != Flow::Swallow {
                return None;
            }
            let size = match flow {
                Flow::Stall => {
                    thread::sleep(LOOK);
                    continue;
                }
                // A hundredth of a second's worth at a time.
                Flow::Slow { bytes_per_second, .. } => (bytes_per_second as usize / 100).clamp(1, PIECE),
                Flow::Pass | Flow::Swallow => PIECE,
            };
            let read = match { self.from }.read(&mut piece[..size]) {
                // A firewall that has forgotten a connection passes on its end as little as its data.
                Ok(0) if self.flow()? == Flow::Swallow => {
                    has_hole = true;
                    thread::sleep(LOOK);
                    continue;
                }
                Ok(0) => {
                    // Gone already if that fails.
                    self.to.shutdown(Shutdown::Write).ok();
                    return Some(());
                }
                Ok(read) => read,
                Err(error) if is_timeout(&error) => continue,
                Err(_) => return None,
            };
            if let Flow::Slow {
                bytes_per_second,
                delay,
            } = flow
            {
                thread::sleep(
                    delay + Duration::from_secs_f64(read as f64 / f64::from(bytes_per_second.max(1))),
                );
            }
            // The fault may have come while the data did.
            if self.flow()? == Flow::Swallow {
                has_hole = true;
                self.shared.lost[self.direction as usize].fetch_add(read as u64, Ordering::Relaxed);
            } else {
                self.write(&piece[..read])?;
                self.shared.forwarded[self.direction as usize].fetch_add(read as u64, Ordering::Relaxed);
            }
        }
    }

    fn write(&self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            match { self.to }.write(data) {
                Ok(written) => data = &data[written..],
                Err(error) if is_timeout(&error) => {}
                Err(_) => return None,
            }
            self.flow()?;
        }
        Some(())
    }

    fn flow(&self) -> Option<Flow> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        self.shared.faults.flow(self.direction, self.generation)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
