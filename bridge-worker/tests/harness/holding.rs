//! A broker that holds messages back while too many are unacknowledged, as EMQX does, and mosquitto since 2.0.13.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long it waits for something to read.
const TICK: Duration = Duration::from_millis(1);
/// Protocol level 5 is MQTT 5 [MQTT-3.1.2.2].
const LEVEL_AT: usize = 8;

/// Serves one connection, with QoS 1. Messages that are held back are queued. Dropping it closes the connection.
pub(crate) struct Holding {
    url: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// Messages published per second.
    rate: AtomicU64,
    /// Of those, how many the worker has been sent.
    sent: AtomicU64,
    acked: AtomicU64,
    end: AtomicBool,
}

impl Holding {
    /// Holds messages back at `limit`; all have this payload.
    pub(crate) fn start(limit: u64, payload: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("mqtt://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            rate: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            end: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let (stream, _) = listener.accept().expect("a connection");
                Serving::new(stream, limit, payload, &shared).run();
            }
        });
        Self {
            url,
            shared,
            thread: Some(thread),
        }
    }

    /// Where a worker is to connect.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// From now on so many messages are published per second, and what has been queued is forgotten.
    pub(crate) fn publish(&self, per_second: u64) {
        self.shared.rate.store(per_second, Ordering::Relaxed);
    }

    /// Messages sent to the worker so far, and those among them that it has acknowledged.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (get(&self.shared.sent), get(&self.shared.acked))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the broker panicked");
        }
    }
}

struct Serving<'a> {
    stream: TcpStream,
    limit: u64,
    payload: Vec<u8>,
    shared: &'a Shared,
    level: u8,
    inbound: VecDeque<u8>,
    outbound: Vec<u8>,
    outstanding: u64,
    next_id: u16,
    is_subscribed: bool,
}

impl<'a> Serving<'a> {
    fn new(stream: TcpStream, limit: u64, payload: Vec<u8>, shared: &'a Shared) -> Self {
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(TICK)).expect("a socket");
        Self {
            stream,
            limit,
            payload,
            shared,
            level: 0,
            inbound: VecDeque::new(),
            outbound: Vec::new(),
            outstanding: 0,
            next_id: 0,
            is_subscribed: false,
        }
    }

    fn run(mut self) {
        let mut chunk = vec![0; 64 * 1024];
        let (mut rate, mut since, mut sent) = (0, Instant::now(), 0);
        while !self.shared.end.load(Ordering::Relaxed) {
            match self.stream.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => self.inbound.extend(&chunk[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return,
            }
            while self.take_packet() {}
            let now = self.shared.rate.load(Ordering::Relaxed);
            if now != rate {
                (rate, since, sent) = (now, Instant::now(), 0);
            }
            let due = (since.elapsed().as_secs_f64() * rate as f64) as u64;
            while self.is_subscribed && self.outstanding < self.limit && sent < due {
                self.publish();
                sent += 1;
            }
            // It blocks when the worker does not read.
            if self
                .stream
                .write_all(&std::mem::take(&mut self.outbound))
                .is_err()
            {
                return;
            }
        }
    }

    /// Answers the next whole packet; all that a worker sends here are shorter than 128 bytes.
    fn take_packet(&mut self) -> bool {
        let Some(length) = self.inbound.get(1).map(|length| usize::from(*length) + 2) else {
            return false;
        };
        if self.inbound.len() < length {
            return false;
        }
        let packet: Vec<u8> = self.inbound.drain(..length).collect();
        let is_5 = self.level == 5;
        match packet[0] >> 4 {
            1 => {
                self.level = packet[LEVEL_AT];
                let answer: &[u8] = match self.level {
                    5 => &[0x20, 3, 0, 0, 0],
                    _ => &[0x20, 2, 0, 0],
                };
                self.outbound.extend(answer);
            }
            4 => {
                self.outstanding -= 1;
                self.shared.acked.fetch_add(1, Ordering::Relaxed);
            }
            8 => {
                self.outbound
                    .extend([0x90, 3 + u8::from(is_5), packet[2], packet[3]]);
                self.outbound.extend(is_5.then_some(0));
                self.outbound.push(1);
                self.is_subscribed = true;
            }
            12 => self.outbound.extend([0xD0, 0]),
            _ => {}
        }
        true
    }

    fn publish(&mut self) {
        const TOPIC: &[u8] = b"in/a/x";
        let is_5 = self.level == 5;
        self.next_id = self.next_id % u16::MAX + 1;
        self.outbound.push(0x32);
        let mut remaining = 2 + TOPIC.len() + 2 + usize::from(is_5) + self.payload.len();
        while remaining > 127 {
            self.outbound.push((remaining % 128) as u8 | 0x80);
            remaining /= 128;
        }
        self.outbound.push(remaining as u8);
        self.outbound.extend([0, TOPIC.len() as u8]);
        self.outbound.extend(TOPIC);
        self.outbound.extend(self.next_id.to_be_bytes());
        self.outbound.extend(is_5.then_some(0));
        self.outbound.extend(&self.payload);
        self.outstanding += 1;
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
    }
}
