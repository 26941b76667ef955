//! The proxy's faults, between two plain sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_testkit::{Direction, Proxy, wait_until};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(150);

struct Wire {
    listener: TcpListener,
    proxy: Proxy,
}

impl Wire {
    fn new() -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap());
        Wire { listener, proxy }
    }

    fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).unwrap();
        let (target, _) = self.listener.accept().unwrap();
        for stream in [&client, &target] {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        (client, target)
    }
}

fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").unwrap();
    let mut read = [0; 5];
    to.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"hello");
}

fn nothing_comes(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
}

fn is_reset(stream: &mut TcpStream) {
    assert_eq!(
        stream.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn bytes_pass_and_are_counted_each_way() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    passes(&mut client, &mut target);
    passes(&mut target, &mut client);
    passes(&mut target, &mut client);
    wait_until(DEADLINE, "the counts", || wire.proxy.counts().to_client == 10);
    let counts = wire.proxy.counts();
    assert_eq!(
        (counts.connections, counts.open, counts.to_target, counts.reset),
        (1, 1, 5, 0)
    );
    drop(client);
    assert_eq!(target.read(&mut [0; 1]).unwrap(), 0);
    drop(target);
    wait_until(DEADLINE, "the end of the connection", || {
        wire.proxy.counts().open == 0
    });
    assert_eq!(wire.proxy.counts().reset, 0);
}

#[test]
fn a_cut_resets_old_and_new_connections() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    passes(&mut client, &mut target);
    wire.proxy.cut();
    is_reset(&mut client);
    is_reset(&mut target);
    let mut refused = TcpStream::connect(wire.proxy.address()).unwrap();
    is_reset(&mut refused);
    assert_eq!(wire.proxy.counts().reset, 2);
    wire.proxy.pass();
    let (mut client, mut target) = wire.connect();
    passes(&mut client, &mut target);
    wire.proxy.reset();
    is_reset(&mut client);
    let (mut client, mut target) = wire.connect();
    passes(&mut client, &mut target);
}

#[test]
fn a_half_open_connection_swallows_and_is_reset_after_the_fault() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    passes(&mut client, &mut target);
    wire.proxy.half_open();
    client.write_all(b"lost").unwrap();
    target.write_all(b"lost too").unwrap();
    nothing_comes(&mut target);
    nothing_comes(&mut client);
    let counts = wire.proxy.counts();
    assert_eq!(
        (counts.lost_to_target, counts.lost_to_client, counts.open),
        (4, 8, 1)
    );
    wire.proxy.pass();
    is_reset(&mut client);
    is_reset(&mut target);
}

#[test]
fn a_half_open_connection_swallows_the_end_as_well() {
    let wire = Wire::new();
    let (client, mut target) = wire.connect();
    wire.proxy.half_open();
    drop(client);
    nothing_comes(&mut target);
    wire.proxy.pass();
    is_reset(&mut target);
}

#[test]
fn a_half_open_connection_that_lost_nothing_goes_on() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    wire.proxy.half_open();
    nothing_comes(&mut client);
    wire.proxy.pass();
    passes(&mut client, &mut target);
}

#[test]
fn one_direction_is_blocked() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    wire.proxy.block(Direction::ToClient);
    passes(&mut client, &mut target);
    target.write_all(b"lost").unwrap();
    nothing_comes(&mut client);
    passes(&mut client, &mut target);
    assert_eq!(
        (
            wire.proxy.counts().lost_to_client,
            wire.proxy.counts().lost_to_target
        ),
        (4, 0)
    );
}

#[test]
fn a_stalled_direction_loses_nothing() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    wire.proxy.stall(Direction::ToTarget);
    // The fault reaches a waiting pump within 10 ms.
    nothing_comes(&mut client);
    client.write_all(b"later").unwrap();
    nothing_comes(&mut target);
    passes(&mut target, &mut client);
    wire.proxy.pass();
    let mut read = [0; 5];
    target.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"later");
}

#[test]
fn a_slow_network_takes_its_time_and_loses_nothing() {
    let wire = Wire::new();
    let (mut client, mut target) = wire.connect();
    wire.proxy.slow(20_000, Duration::ZERO);
    nothing_comes(&mut client);
    let start = Instant::now();
    client.write_all(&[7; 10_000]).unwrap();
    let mut read = vec![0; 10_000];
    target.read_exact(&mut read).unwrap();
    assert!(
        start.elapsed() > Duration::from_millis(450),
        "{:?}",
        start.elapsed()
    );
    assert!(read.iter().all(|&byte| byte == 7));

    wire.proxy.slow(u32::MAX, Duration::from_millis(100));
    nothing_comes(&mut client);
    let start = Instant::now();
    passes(&mut client, &mut target);
    passes(&mut target, &mut client);
    assert!(
        start.elapsed() >= Duration::from_millis(200),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_target_that_is_away_resets_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap());
    drop(listener);
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    is_reset(&mut client);
}
