//! A network between two parts that can be cut, half-open, or slow.

mod fault;
mod pump;

use crate::port::Port;
use fault::Faults;
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the one that connected to the target.
    ToTarget,
    /// From the target back.
    ToClient,
}

/// What has gone through a [`Proxy`], so that a test can assert that its fault hit something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Connections taken since the start.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections the proxy has ended by a reset.
    pub reset: u64,
    /// Bytes handed to the target.
    pub to_target: u64,
    /// Bytes handed to the client.
    pub to_client: u64,
    /// Bytes for the target that were thrown away.
    pub lost_to_target: u64,
    /// Bytes for the client that were thrown away.
    pub lost_to_client: u64,
}

/// A TCP proxy on a port of its own; dropping it resets its connections.
///
/// ```no_run
/// use millrace_testkit::{Mosquitto, Proxy};
///
/// let mosquitto = Mosquitto::builder().start();
/// let proxy = Proxy::to(mosquitto.address());
/// // ... connect something to proxy.port() ...
/// let before = proxy.counts();
/// proxy.half_open();
/// // ...
/// assert!(proxy.counts().lost_to_client > before.lost_to_client);
/// proxy.pass();
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Faults,
    connections: AtomicU64,
    open: AtomicU64,
    reset: AtomicU64,
    forwarded: [AtomicU64; 2],
    lost: [AtomicU64; 2],
    stopped: AtomicBool,
}

impl Proxy {
    /// Starts a proxy to `target`, which need not be there yet. Everything passes at first.
    ///
    /// # Panics
    /// When no port can be opened.
    pub fn to(target: SocketAddr) -> Proxy {
        let port = Port::free();
        let listener = port.listen();
        listener.set_nonblocking(true).expect("a non-blocking listener");
        let shared = Arc::new(Shared::default());
        thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, target, &shared)
        });
        Proxy { port, shared }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address to connect to.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Everything passes again. Connections that have lost bytes are reset: a stream with a hole is of no use.
    pub fn pass(&self) {
        self.shared.faults.pass();
    }

    /// Resets all connections, and every new one at once, until [`Proxy::pass`].
    pub fn cut(&self) {
        self.shared.faults.cut();
    }

    /// Resets all connections; new ones pass.
    pub fn reset(&self) {
        self.shared.faults.reset();
    }

    /// Connections stay open and new ones are taken, but everything sent on them is swallowed, both ways: what is left
    /// of a connection when a firewall has forgotten it.
    pub fn half_open(&self) {
        self.block(Direction::ToTarget);
        self.block(Direction::ToClient);
    }

    /// Swallows everything sent in one direction.
    pub fn block(&self, direction: Direction) {
        self.shared.faults.swallow(direction);
    }

    /// Reads nothing in one direction, so that the sender's buffers fill. Nothing is lost.
    pub fn stall(&self, direction: Direction) {
        self.shared.faults.stall(direction);
    }

    /// Lets `bytes_per_second` through in each direction of each connection, and holds every piece of data (at most
    /// 64 KiB) for `delay` before it goes on. Nothing is lost.
    pub fn slow(&self, bytes_per_second: u32, delay: Duration) {
        self.shared.faults.slow(bytes_per_second, delay);
    }

    /// What has gone through so far.
    pub fn counts(&self) -> ProxyCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        ProxyCounts {
            connections: get(&shared.connections),
            open: get(&shared.open),
            reset: get(&shared.reset),
            to_target: get(&shared.forwarded[0]),
            to_client: get(&shared.forwarded[1]),
            lost_to_target: get(&shared.lost[0]),
            lost_to_client: get(&shared.lost[1]),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.faults.cut();
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    while !shared.stopped.load(Ordering::Relaxed) {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if shared.faults.is_cut() {
            reset(&client);
            shared.reset.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let shared = shared.clone();
        // Connecting may take long when the target is frozen: not in this thread.
        thread::spawn(
            move || match TcpStream::connect_timeout(&target, Duration::from_secs(10)) {
                Ok(target) => pump::run(client, target, &shared),
                // The target refuses; so do we, as far as a proxy can.
                Err(_) => reset(&client),
            },
        );
    }
}

/// Makes the close of this socket, when its last handle is dropped, a reset.
fn reset(stream: &TcpStream) {
    // Fails only on a socket that is already gone.
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).ok();
}
