//! One connection of a publisher: a thread that writes, and one that reads acknowledgements.

use super::account::Account;
use super::acks::{self, Seen};
use super::builder::PublisherBuilder;
use super::schedule::Schedule;
use super::window::{Message, Outcome, Resend, Window};
use super::{Shared, Sockets};
use crate::stamp::{MessageId, Stamp};
use crate::wait::now_micros;
use crate::wire::{Connect, Packet, Properties, Value, Version, id, put_connect, put_data, put_varint};
use bytes::{BufMut, BytesMut};
use std::collections::VecDeque;
use std::io::{Error, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Before a message that was refused is sent anew, and before a broker that is away is tried again.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// The step of a steady rate, and how long acknowledgements are collected before the next look: a broker that sends
/// one packet at a time would wake both threads for each.
const TICK: Duration = Duration::from_millis(1);
/// How long to wait when nothing but an acknowledgement can change anything.
const IDLE: Duration = Duration::from_millis(20);
/// Written at once, then a look at the acknowledgements.
const WRITE: usize = 64 * 1024;

pub(super) struct Connection {
    index: u32,
    settings: PublisherBuilder,
    /// By the key's place, like everything here.
    topics: Vec<String>,
    /// Messages of this connection in all.
    messages: Option<u64>,
    begun: u64,
    schedule: Option<Schedule>,
    window: Window,
    /// What the broker allows, at most the window.
    limit: usize,
    refused: VecDeque<(Instant, Message)>,
    account: Account,
    shared: Arc<Shared>,
    sockets: Sockets,
}

impl Connection {
    pub(super) fn new(
        index: u32,
        settings: PublisherBuilder,
        topics: Vec<String>,
        messages: Option<u64>,
        rate: Option<f64>,
        account: Account,
        (shared, sockets): (Arc<Shared>, Sockets),
    ) -> Connection {
        Connection {
            index,
            window: Window::new(settings.window),
            limit: usize::from(settings.window),
            settings,
            topics,
            messages,
            begun: 0,
            schedule: rate.map(Schedule::new),
            refused: VecDeque::new(),
            account,
            shared,
            sockets,
        }
    }

    /// Until everything is acknowledged.
    pub(super) fn run(mut self) -> Account {
        while !self.is_done() {
            // A lost connection is what this is made for: the next one takes over.
            if self.serve().is_err() && !self.is_done() {
                thread::sleep(CONNECT_PAUSE);
            }
        }
        self.account
    }

    fn is_done(&self) -> bool {
        self.shared.abort.load(Ordering::Relaxed)
            || (self.all_begun() && self.window.len() == 0 && self.refused.is_empty())
    }

    fn all_begun(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
            || self.messages.is_some_and(|messages| self.begun >= messages)
    }

    /// One connection, from CONNECT to its end.
    fn serve(&mut self) -> Result<(), Error> {
        let mut stream = TcpStream::connect(self.settings.broker.0)?;
        stream.set_nodelay(true)?;
        let slot = self.sockets[self.index as usize].lock();
        *slot.unwrap_or_else(PoisonError::into_inner) = Some(stream.try_clone()?);
        let mut input = BytesMut::new();
        let session_present = self.connect(&mut stream, &mut input)?;
        self.shared.connects.fetch_add(1, Ordering::Relaxed);

        let mut buffer = BytesMut::new();
        self.resend(session_present, &mut buffer);
        let (sender, acks) = channel();
        let reading = stream.try_clone()?;
        let nap = if self.schedule.is_some() {
            TICK
        } else {
            Duration::ZERO
        };
        let reader = thread::spawn(move || acks::read(reading, input, nap, &sender));
        let result = self.exchange(&mut stream, &acks, buffer);
        if result.is_ok() {
            // DISCONNECT; the broker may be quicker to close.
            stream.write_all(&[0xe0, 0]).ok();
        }
        stream.shutdown(std::net::Shutdown::Both).ok();
        reader.join().expect("the reading thread");
        result
    }

    fn connect(&mut self, stream: &mut TcpStream, input: &mut BytesMut) -> Result<bool, Error> {
        let login = self.settings.login.clone();
        let mut buffer = BytesMut::new();
        put_connect(
            &mut buffer,
            &Connect {
                version: Version::V5,
                client_id: format!("testkit-{:08x}-{}", self.settings.run, self.index),
                clean_start: false,
                keep_alive: 0,
                username: login.as_ref().map(|(user, _)| user.clone()),
                password: login.map(|(_, password)| password.into()),
                has_will: false,
                properties: Properties::new().with(id::SESSION_EXPIRY_INTERVAL, Value::Long(3_600)),
            },
        );
        stream.write_all(&buffer)?;
        loop {
            if let Some(packet) = Packet::take(Version::V5, input).map_err(Error::other)? {
                let Packet::Connack {
                    session_present,
                    reason: 0,
                    properties,
                } = packet
                else {
                    return Err(Error::other(format!("refused: {packet:?}")));
                };
                let allowed = properties
                    .number(id::RECEIVE_MAXIMUM)
                    .unwrap_or(u32::from(u16::MAX)) as usize;
                self.limit = allowed.min(usize::from(self.settings.window));
                return Ok(session_present);
            }
            acks::read_some(stream, input)?;
        }
    }

    /// What the broker must get before anything new.
    fn resend(&mut self, session_present: bool, buffer: &mut BytesMut) {
        if !session_present {
            // A new session knows none of them: they are new messages.
            for message in self.window.restart() {
                self.publish(message, buffer);
            }
            return;
        }
        for resend in self.window.resume() {
            match resend {
                Resend::Pubrel(packet_id) => put_pubrel(buffer, packet_id),
                Resend::Publish(packet_id, message) => {
                    // The broker recognises a repeated QoS 2 message; one with QoS 1 it may hand on twice.
                    if self.settings.qos == 1 {
                        self.account.attempt(message.key, message.sequence);
                    }
                    self.put_publish(buffer, packet_id, true, message);
                }
            }
        }
    }

    /// Sends and takes acknowledgements until everything is acknowledged, or the connection is lost.
    fn exchange(
        &mut self,
        stream: &mut TcpStream,
        acks: &Receiver<Vec<Seen>>,
        mut buffer: BytesMut,
    ) -> Result<(), Error> {
        loop {
            let full = self.fill(&mut buffer);
            if !buffer.is_empty() {
                stream.write_all(&buffer)?;
                buffer.clear();
            }
            if self.is_done() {
                return Ok(());
            }
            let wait = match full {
                Fill::Blocked => IDLE,
                Fill::More => Duration::ZERO,
                Fill::Later => {
                    thread::sleep(TICK);
                    Duration::ZERO
                }
            };
            match acks.recv_timeout(wait) {
                Ok(batch) => batch.into_iter().for_each(|seen| self.settle(seen, &mut buffer)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(Error::other("the broker is gone")),
            }
            while let Ok(batch) = acks.try_recv() {
                batch.into_iter().for_each(|seen| self.settle(seen, &mut buffer));
            }
        }
    }

    /// Appends what is due and allowed.
    fn fill(&mut self, buffer: &mut BytesMut) -> Fill {
        let now = Instant::now();
        while self.has_room() && self.refused.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, message)) = self.refused.pop_front() {
                self.publish(message, buffer);
            }
        }
        let mut due = match &mut self.schedule {
            Some(schedule) => schedule.due(self.begun, now),
            None => u64::MAX,
        };
        while !self.all_begun() {
            if !self.has_room() {
                return Fill::Blocked;
            }
            if due == 0 {
                return Fill::Later;
            }
            if buffer.len() >= WRITE {
                return Fill::More;
            }
            due -= 1;
            let keys = self.topics.len() as u64;
            let sequence = u32::try_from(self.begun / keys).expect("fewer than 2^32 messages of a key");
            let message = Message {
                key: (self.begun % keys) as usize,
                sequence,
                sent_at: now_micros(),
            };
            self.begun += 1;
            self.publish(message, buffer);
        }
        Fill::Blocked
    }

    fn has_room(&self) -> bool {
        self.window.len() < self.limit
    }

    /// Appends a message as a new one.
    fn publish(&mut self, message: Message, buffer: &mut BytesMut) {
        if self.account.attempt(message.key, message.sequence) {
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
        }
        let packet_id = if self.settings.qos == 0 {
            Some(0)
        } else {
            self.window.push(message)
        };
        self.put_publish(buffer, packet_id.expect("room in the window"), false, message);
    }

    fn put_publish(&self, buffer: &mut BytesMut, packet_id: u16, dup: bool, message: Message) {
        let Message {
            key,
            sequence,
            sent_at,
        } = message;
        let id = MessageId {
            run: self.settings.run,
            key: self.account.keys()[key],
            sequence,
        };
        let (qos, topic) = (self.settings.qos, &self.topics[key]);
        let size = (self.settings.size_of)(id).max(Stamp::SIZE);
        buffer.put_u8(0x30 | u8::from(dup) << 3 | qos << 1);
        put_varint(buffer, 2 + topic.len() + if qos > 0 { 2 } else { 0 } + 1 + size);
        put_data(buffer, topic.as_bytes());
        if qos > 0 {
            buffer.put_u16(packet_id);
        }
        buffer.put_u8(0);
        Stamp { id, sent_at }.write(size, buffer);
    }

    fn settle(&mut self, seen: Seen, buffer: &mut BytesMut) {
        let (ack, outcome) = match seen {
            Seen::Puback(ack) => (ack, self.window.puback(ack)),
            Seen::Pubrec(ack) => (ack, self.window.pubrec(ack)),
            Seen::Pubcomp(ack) => (ack, self.window.pubcomp(ack)),
        };
        match outcome {
            Outcome::Acknowledged(message) => {
                self.account.acknowledge(message.key, message.sequence);
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Refused(message) => {
                self.account.refuse(message.key, message.sequence);
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                self.refused.push_back((Instant::now() + REFUSED_PAUSE, message));
            }
            Outcome::Release => put_pubrel(buffer, ack.packet_id),
            Outcome::Unknown => {}
        }
    }
}

/// Why no more was appended.
enum Fill {
    /// There is more to send now.
    More,
    /// The next message is not due.
    Later,
    /// Only an acknowledgement helps.
    Blocked,
}

fn put_pubrel(buffer: &mut BytesMut, packet_id: u16) {
    buffer.put_slice(&[0x62, 2]);
    buffer.put_u16(packet_id);
}
