//! Ports that a server can be stopped and started on without anybody else taking them in between.

use crate::forks::no_forks;
use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range the kernel hands out for outgoing connections (32768 and up on Linux): a port of that range can be
/// taken by a client that is connecting to it while its server is down.
const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

/// A free TCP port of the loopback address, reserved among all tests of this machine until it is dropped.
///
/// ```
/// let port = millrace_testkit::Port::free();
/// let listener = port.listen();
/// assert_eq!(listener.local_addr().unwrap().port(), port.number());
/// ```
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked while the port is reserved; the lock ends with the process.
    reservation: File,
}

impl Port {
    /// Reserves a free port.
    ///
    /// # Panics
    /// When none is free.
    pub fn free() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Test processes that start together look in different places first.
        let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_add(step) % COUNT);
            if let Some(port) = Self::reserve(number) {
                return port;
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    fn reserve(number: u16) -> Option<Port> {
        let folder = std::env::temp_dir().join("millrace-test-ports");
        std::fs::create_dir_all(&folder).expect("the folder of port reservations");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(number.to_string()))
            .expect("the file of a port reservation");
        file.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Port {
            number,
            reservation: file,
        })
    }

    /// Listens on it.
    ///
    /// # Panics
    /// When somebody listens on it.
    #[track_caller]
    pub fn listen(&self) -> TcpListener {
        let _no_copy = no_forks();
        TcpListener::bind(self.address()).expect("listening on a reserved port")
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on the loopback address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

impl Drop for Port {
    /// Closing the file is not enough: a process that is being started has it open as well until it runs its program.
    fn drop(&mut self) {
        self.reservation.unlock().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_out_again() {
        let port = Port::free();
        assert!(Port::reserve(port.number()).is_none());
        let number = port.number();
        drop(port);
        assert!(Port::reserve(number).is_some());
    }
}
