use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::time::timeout;

use super::oversized::{self, MAX_HEADER, Oversized};
use super::packet::{self, Goodbye, Inbound, PacketError, Publish, Version};
use super::plain::Plain;
use super::publish::Answer;
use super::reasons::{AGAIN, advice, meaning};
use super::transport::Transport;
use super::wire::{FixedHeader, Peek};
use crate::pipeline::{Ack, Acks, Received};

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 128 * 1024;
/// Answers that wait to be written while packets are still read, in bytes: those to a whole window of 65,535.
const BACKED_UP_BYTES: usize = 256 * 1024;
/// How long the goodbye may take: writing what is left, and reading what the broker still sends.
const GOODBYE: Duration = Duration::from_secs(5);

/// A packet as [`Connection::next_packet`] gives it.
#[derive(Debug)]
pub(crate) enum Packet {
    /// A PUBLISH that [`Connection::plain`] shows where it was read.
    Plain(Plain),
    Inbound(Inbound),
    /// What the broker says to what was published.
    Answer(Answer),
    /// A PUBLISH larger than the route takes: its head, the size of its payload in bytes, and its SHA-256.
    Oversized(Publish, u64, String),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    // Not every broker says that another client took the session.
    #[error(
        "the broker closed the connection; a new connection is made: if none lasts, look for another client with this \
         client id, or see the broker's log"
    )]
    Closed,
    #[error("the connection to the broker broke: {0}; {AGAIN}")]
    Broken(#[from] io::Error),
    #[error(
        "the broker breaks the rules of MQTT: {0}; a new connection is made: if none lasts, update the broker, or try \
         another spec.protocolVersion of the MqttBroker"
    )]
    Protocol(#[from] PacketError),
    #[error(
        "the broker ended the connection: {}{} ({reason:#04x}); {}",
        meaning(*.reason),
        text.as_ref().map_or(String::new(), |text| format!(": {text}")),
        advice(*.reason)
    )]
    Disconnected { reason: u8, text: Option<String> },
    #[error("the broker does not answer: nothing received for {0:?} after PINGREQ; {AGAIN}")]
    Silent(Duration),
    #[error("the broker does not read: nothing could be written for {0:?}; {AGAIN}")]
    Stuck(Duration),
    #[error("the broker does not answer SUBSCRIBE: no SUBACK within {0:?}; {AGAIN}")]
    NoSubAck(Duration),
    #[error("the broker does not answer UNSUBSCRIBE: no UNSUBACK within {0:?}; {AGAIN}")]
    NoUnsubAck(Duration),
    #[error(
        "the broker refused the subscription to {filter}: {why}; check the broker's access rules for this client"
    )]
    SubscriptionRefused { filter: String, why: &'static str },
    #[error(
        "the broker cannot share subscriptions ({filter} was refused): use spec.from.mqtt.ordering: PerTopic, \
         which needs none"
    )]
    SharedUnsupported { filter: String },
}

/// A connection to a broker: bytes in both directions, packets, and the keep-alive.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    version: Version,
    inbound: BytesMut,
    /// Bytes at the start of `inbound` that belong to the packet given last.
    given: usize,
    out: BytesMut,
    oversized: Option<Oversized>,
    max_message_bytes: usize,
    keep_alive: Duration,
    last_received: Instant,
    last_sent: Instant,
    /// When the PINGREQ was sent that nothing has been received after.
    pinged: Option<Instant>,
    /// PINGREQs sent, and PINGRESPs received: they are answered in order.
    pings: u64,
    pongs: u64,
}

impl Acks for Connection {
    fn ack(&mut self, ack: Ack, id: u16) {
        packet::ack(&mut self.out, ack, id);
    }
}

impl Connection {
    pub(super) fn new(transport: Transport, version: Version, max_message_bytes: usize) -> Self {
        let now = Instant::now();
        Self {
            transport,
            version,
            inbound: BytesMut::new(),
            given: 0,
            out: BytesMut::new(),
            oversized: None,
            max_message_bytes,
            keep_alive: Duration::from_secs(30),
            last_received: now,
            last_sent: now,
            pinged: None,
            pings: 0,
            pongs: 0,
        }
    }

    /// What is to be written.
    pub(crate) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    pub(crate) fn set_keep_alive(&mut self, keep_alive: Duration) {
        self.keep_alive = keep_alive;
    }

    /// Answers PUBREL, known or not: the broker only wants to be rid of the identifier.
    pub(crate) fn pubcomp(&mut self, id: u16) {
        packet::pubcomp(&mut self.out, id);
    }

    /// Whether what has been read and not taken begins with this byte.
    pub(crate) fn begins_with(&self, byte: u8) -> bool {
        self.inbound.first() == Some(&byte)
    }

    /// Takes the next complete packet from what has been read.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packet>, PacketError> {
        self.inbound.advance(std::mem::take(&mut self.given));
        if let Some(oversized) = &mut self.oversized {
            if !oversized.take(&mut self.inbound) {
                return Ok(None);
            }
            return Ok(self
                .oversized
                .take()
                .map(Oversized::finish)
                .map(|(publish, size, sha256)| Packet::Oversized(publish, size, sha256)));
        }
        let header = match FixedHeader::peek(&self.inbound) {
            Peek::Incomplete => return Ok(None),
            Peek::Malformed => return Err(PacketError::RemainingLength),
            Peek::Header(header) => header,
        };
        if header.remaining > self.max_message_bytes + MAX_HEADER {
            if !header.is_publish() {
                return Err(PacketError::TooLarge(header.packet_length()));
            }
            self.oversized = Oversized::start(self.version, header, &mut self.inbound)?;
            return if self.oversized.is_some() {
                self.next_packet()
            } else {
                Ok(None)
            };
        }
        if self.inbound.len() < header.packet_length() {
            return Ok(None);
        }
        if let Some(answer) = Answer::read(header, &self.inbound) {
            self.given = header.packet_length();
            return Ok(Some(Packet::Answer(answer)));
        }
        if let Some(plain) = Plain::find(self.version, header, &self.inbound)
            && plain.payload.len() <= self.max_message_bytes
        {
            self.given = header.packet_length();
            return Ok(Some(Packet::Plain(plain)));
        }
        Ok(Some(match self.version.decode(&mut self.inbound)? {
            // Small enough to be held, and still more than the route takes.
            Inbound::Publish(publish) if publish.payload.len() > self.max_message_bytes => {
                let (publish, size, sha256) = oversized::cut(publish);
                Packet::Oversized(publish, size, sha256)
            }
            inbound => Packet::Inbound(inbound),
        }))
    }

    /// The message of the [`Packet::Plain`] that was given last.
    pub(crate) fn plain(&self, plain: &Plain) -> Result<Received<'_>, PacketError> {
        plain.received(&self.inbound)
    }

    /// Reads what is there without waiting; `None` when nothing is. Zero: the broker has closed.
    pub(crate) fn try_read(&mut self) -> io::Result<Option<usize>> {
        self.reserve();
        match self.transport.try_read(&mut self.inbound) {
            Ok(bytes) => {
                self.heard();
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads, waiting until something is there. Zero: the broker has closed.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        loop {
            if let Some(bytes) = self.try_read()? {
                return Ok(bytes);
            }
            self.readable().await?;
        }
    }

    fn reserve(&mut self) {
        if self.inbound.capacity() - self.inbound.len() < READ_BYTES / 2 {
            self.inbound.reserve(READ_BYTES);
        }
    }

    fn heard(&mut self) {
        self.last_received = Instant::now();
        self.pinged = None;
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.transport.readable().await
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.transport.writable().await
    }

    /// Whether so much waits to be written that nothing more should be read: a broker that sends without reading
    /// would have its answers pile up here.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.out.len() >= BACKED_UP_BYTES
    }

    /// Whether something waits to be written.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.transport.has_unsent()
    }

    /// Writes as much as the socket takes without waiting.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.transport.try_write(&self.out) {
                Ok(bytes) => {
                    drop(self.out.split_to(bytes));
                    self.last_sent = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        match self.transport.try_flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Writes all, waiting for the socket.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.try_flush()?;
        while self.has_unsent() {
            self.writable().await?;
            self.try_flush()?;
        }
        Ok(())
    }

    /// Keeps the connection alive and notices when it is not. `reading` is false while back-pressure holds the
    /// lane: what the broker has sent then waits unread, so its silence means nothing.
    pub(crate) fn keep_alive(&mut self, reading: bool) -> Result<(), Ended> {
        if self.keep_alive.is_zero() {
            return Ok(());
        }
        let now = Instant::now();
        if self.has_unsent() && now - self.last_sent > self.keep_alive {
            return Err(Ended::Stuck(self.keep_alive));
        }
        if !reading {
            self.pinged = self.pinged.map(|_| now);
            self.last_received = now;
        }
        if self.pinged.is_some_and(|pinged| now - pinged > self.keep_alive) {
            return Err(Ended::Silent(self.keep_alive));
        }
        let half = self.keep_alive / 2;
        let quiet =
            now - self.last_sent >= half || (self.pinged.is_none() && now - self.last_received >= half);
        if quiet && self.out.is_empty() {
            self.ping();
            self.try_flush()?;
        }
        Ok(())
    }

    /// Asks whether the broker has dealt with everything that was written: it answers in order. Returns the number of
    /// the PINGREQ, for [`Connection::pongs`].
    pub(crate) fn ping(&mut self) -> u64 {
        self.version.ping(&mut self.out);
        self.pinged.get_or_insert_with(Instant::now);
        self.pings += 1;
        self.pings
    }

    /// PINGRESP has come.
    pub(crate) fn pong(&mut self) {
        self.pongs += 1;
    }

    /// How many PINGREQs have been answered.
    pub(crate) fn pongs(&self) -> u64 {
        self.pongs
    }

    /// The largest payload held in memory from now on, in bytes.
    pub(crate) fn set_max_message_bytes(&mut self, bytes: usize) {
        self.max_message_bytes = bytes;
    }

    /// When [`Connection::keep_alive`] should be called again, at the latest.
    pub(crate) fn next_check(&self) -> Duration {
        (self.keep_alive / 4).max(Duration::from_millis(100))
    }

    /// Says goodbye. The socket is read to its end: closing it with unread data would send
    /// a reset, and the broker would throw away the acks it has not read.
    pub(crate) async fn disconnect(mut self, goodbye: Goodbye) -> bool {
        let mut has_left = false;
        let version = self.version;
        version.disconnect(&mut self.out, goodbye);
        let goodbye = async {
            self.flush().await?;
            has_left = true;
            self.transport.say_end().await?;
            while self.read().await? > 0 {
                self.inbound.clear();
            }
            io::Result::Ok(())
        };
        match timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection broke during DISCONNECT"),
            Err(_) => tracing::debug!("the broker did not close the connection after DISCONNECT"),
        }
        has_left
    }
}
