//! The two threads of a connection: one reads packets, one writes what is queued.

use super::transcript::{Transcript, describe};
use crate::wire::{Frame, Malformed, Packet, Version};
use bytes::{Bytes, BytesMut};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// How soon a thread sees that it is to do something else.
const LOOK: Duration = Duration::from_millis(5);

/// What the client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Packet(Packet),
    /// It has closed its side in order.
    Closed,
    /// It has reset the connection.
    Reset,
    /// It has sent what is not MQTT.
    Malformed(Malformed),
}

/// What the threads and the test share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    /// Known from the CONNECT on.
    pub(super) version: OnceLock<Version>,
    pub(super) transcript: Mutex<Transcript>,
    pub(super) reading: AtomicBool,
    /// The reading thread has seen that it is not to read.
    pub(super) parked: AtomicBool,
    pub(super) answer_pings: AtomicBool,
    pub(super) over: AtomicBool,
    /// Bytes queued, not yet taken by the kernel.
    pub(super) pending: AtomicU64,
}

impl Link {
    pub(super) fn new(stream: TcpStream, name: String) -> Arc<Link> {
        stream.set_nonblocking(false).expect("a blocking socket");
        // A socket that takes no settings is closed already; the first read says so.
        stream.set_nodelay(true).ok();
        stream.set_read_timeout(Some(LOOK)).ok();
        stream.set_write_timeout(Some(LOOK)).ok();
        Arc::new(Link {
            stream,
            version: OnceLock::new(),
            transcript: Mutex::new(Transcript::new(name)),
            reading: AtomicBool::new(true),
            parked: AtomicBool::new(false),
            answer_pings: AtomicBool::new(true),
            over: AtomicBool::new(false),
            pending: AtomicU64::new(0),
        })
    }

    pub(super) fn note_sent(&self, kind: &str, detail: String) {
        self.transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sent(kind, detail);
    }

    fn note_received(&self, event: &Event) {
        let (kind, detail) = match event {
            Event::Packet(packet) => describe(packet),
            Event::Closed => ("closed", String::new()),
            Event::Reset => ("reset", String::new()),
            Event::Malformed(malformed) => ("malformed", malformed.0.clone()),
        };
        self.transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .received(kind, detail);
    }

    pub(super) fn queue(&self, outbox: &Sender<Bytes>, bytes: Bytes) {
        self.pending.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        // The writing thread ends with the connection; then there is nobody to send to.
        outbox.send(bytes).ok();
    }

    /// Reads until the connection is over.
    pub(super) fn read(&self, inbox: &Sender<Event>, outbox: &Sender<Bytes>) {
        let (mut buffer, mut piece) = (BytesMut::new(), vec![0; 64 * 1024]);
        let mut has_said_goodbye = false;
        while !self.over.load(Ordering::Relaxed) {
            let reading = self.reading.load(Ordering::Relaxed);
            self.parked.store(!reading, Ordering::Relaxed);
            if !reading {
                thread::sleep(LOOK);
                continue;
            }
            let end = match { &self.stream }.read(&mut piece) {
                Ok(0) => Some(Event::Closed),
                Ok(count) => {
                    buffer.extend_from_slice(&piece[..count]);
                    match self.decode(&mut buffer, inbox, outbox) {
                        Ok(disconnects) => {
                            has_said_goodbye |= disconnects;
                            None
                        }
                        Err(malformed) => Some(Event::Malformed(malformed)),
                    }
                }
                Err(error) if is_timeout(&error) => None,
                Err(_) => Some(Event::Reset),
            };
            if let Some(end) = end {
                self.note_received(&end);
                if end == Event::Closed && has_said_goodbye {
                    self.close_too();
                }
                // Nobody waits for it any more if that fails.
                inbox.send(end).ok();
                return;
            }
        }
    }

    /// A broker closes when the client has said DISCONNECT and closed its side: a client that reads to the end waits
    /// for it.
    fn close_too(&self) {
        while self.pending.load(Ordering::Relaxed) > 0 && !self.over.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        // Closed by the test already if that fails.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Gives the test what has been read completely. Returns whether a DISCONNECT was among it.
    fn decode(
        &self,
        buffer: &mut BytesMut,
        inbox: &Sender<Event>,
        outbox: &Sender<Bytes>,
    ) -> Result<bool, Malformed> {
        let mut disconnects = false;
        while let Some(frame) = Frame::split(buffer)? {
            // A CONNECT names its version itself.
            let version = self.version.get().copied().unwrap_or(Version::V5);
            let packet = Packet::decode(version, &frame)?;
            if let Packet::Connect(connect) = &packet {
                self.version.get_or_init(|| connect.version);
            }
            let is_ping = packet == Packet::Pingreq;
            disconnects |= matches!(packet, Packet::Disconnect { .. });
            let event = Event::Packet(packet);
            self.note_received(&event);
            if is_ping && self.answer_pings.load(Ordering::Relaxed) {
                self.note_sent("PINGRESP", String::new());
                self.queue(outbox, Bytes::from_static(&[0xd0, 0]));
            } else {
                // Nobody waits for it any more if that fails.
                inbox.send(event).ok();
            }
        }
        Ok(disconnects)
    }

    /// Writes until the connection is over, or all senders are gone and everything is written.
    pub(super) fn write(&self, outbox: &Receiver<Bytes>) {
        while let Ok(bytes) = outbox.recv() {
            let mut left = &bytes[..];
            while !left.is_empty() && !self.over.load(Ordering::Relaxed) {
                match { &self.stream }.write(left) {
                    Ok(count) => {
                        left = &left[count..];
                        self.pending.fetch_sub(count as u64, Ordering::Relaxed);
                    }
                    Err(error) if is_timeout(&error) => {}
                    Err(_) => return,
                }
            }
        }
    }
}

fn is_timeout(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
