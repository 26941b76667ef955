//! What a test sends on a connection, and how it ends one.

use super::link::{Event, Link};
use super::transcript::describe_publish;
use super::{DEADLINE, expect::Inbox};
use crate::wait::{holds_within, wait_until};
use crate::wire::{Properties, Publish, Version, put_packet, put_publish};
use bytes::{BufMut, Bytes, BytesMut};
use socket2::SockRef;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How the client has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has closed its side (FIN).
    Closed,
    /// It has reset the connection (RST).
    Reset,
}

/// A connection of a [`super::ScriptedBroker`]. Everything sent is written in the background, so that a client that
/// does not read holds nobody up. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    pub(super) link: Arc<Link>,
    pub(super) inbox: Inbox,
    /// `None` once the connection was ended.
    outbox: Option<Sender<Bytes>>,
    reader: Option<JoinHandle<()>>,
    writer: Option<JoinHandle<()>>,
}

impl Connection {
    pub(super) fn new(stream: std::net::TcpStream, number: u32) -> Connection {
        let link = Link::new(stream, format!("connection {number}"));
        let (event_sender, events) = channel::<Event>();
        let (outbox, queue) = channel();
        let reader = thread::spawn({
            let (link, outbox) = (link.clone(), outbox.clone());
            move || link.read(&event_sender, &outbox)
        });
        let writer = thread::spawn({
            let link = link.clone();
            move || link.write(&queue)
        });
        let inbox = Inbox::new(events);
        Connection {
            link,
            inbox,
            outbox: Some(outbox),
            reader: Some(reader),
            writer: Some(writer),
        }
    }

    /// The version the client speaks; 5 before its CONNECT has come.
    pub fn version(&self) -> Version {
        self.link.version.get().copied().unwrap_or(Version::V5)
    }

    /// Sends a CONNACK; properties go out with MQTT 5 only.
    pub fn send_connack(&mut self, session_present: bool, reason: u8, properties: Properties) {
        let mut body = BytesMut::new();
        body.put_u8(u8::from(session_present));
        body.put_u8(reason);
        self.put_properties(&properties, &mut body);
        self.send(
            "CONNACK",
            format!("session present {session_present} reason {reason:#04x}"),
            0x20,
            &body,
        );
    }

    /// Sends a SUBACK with those reason codes.
    pub fn send_suback(&mut self, packet_id: u16, reasons: &[u8]) {
        let mut body = BytesMut::new();
        body.put_u16(packet_id);
        self.put_properties(&Properties::new(), &mut body);
        body.put_slice(reasons);
        self.send("SUBACK", format!("{packet_id} reasons {reasons:x?}"), 0x90, &body);
    }

    /// Sends an UNSUBACK; reason codes go out with MQTT 5 only.
    pub fn send_unsuback(&mut self, packet_id: u16, reasons: &[u8]) {
        let mut body = BytesMut::new();
        body.put_u16(packet_id);
        self.put_properties(&Properties::new(), &mut body);
        if self.version() == Version::V5 {
            body.put_slice(reasons);
        }
        self.send(
            "UNSUBACK",
            format!("{packet_id} reasons {reasons:x?}"),
            0xb0,
            &body,
        );
    }

    /// Sends a message.
    pub fn publish(&mut self, publish: Publish) {
        self.publish_all([publish]);
    }

    /// Sends messages, as few pieces on the wire as may be.
    pub fn publish_all(&mut self, publishes: impl IntoIterator<Item = Publish>) {
        let version = self.version();
        let mut buffer = BytesMut::new();
        for publish in publishes {
            self.link.note_sent("PUBLISH", describe_publish(&publish));
            put_publish(&mut buffer, version, &publish);
        }
        self.queue(buffer.freeze());
    }

    /// Sends a PUBREL.
    pub fn pubrel(&mut self, packet_id: u16) {
        self.send("PUBREL", packet_id.to_string(), 0x62, &packet_id.to_be_bytes());
    }

    /// Sends a PUBACK; a reason other than 0 goes out with MQTT 5 only.
    pub fn puback(&mut self, packet_id: u16, reason: u8) {
        self.answer("PUBACK", 0x40, packet_id, reason);
    }

    /// Sends a PUBREC; a reason other than 0 goes out with MQTT 5 only.
    pub fn pubrec(&mut self, packet_id: u16, reason: u8) {
        self.answer("PUBREC", 0x50, packet_id, reason);
    }

    /// Sends a PUBCOMP; a reason other than 0 goes out with MQTT 5 only.
    pub fn pubcomp(&mut self, packet_id: u16, reason: u8) {
        self.answer("PUBCOMP", 0x70, packet_id, reason);
    }

    fn answer(&mut self, kind: &str, first: u8, packet_id: u16, reason: u8) {
        let [high, low] = packet_id.to_be_bytes();
        let body = [high, low, reason];
        let length = if reason > 0 && self.version() == Version::V5 {
            3
        } else {
            2
        };
        self.send(
            kind,
            format!("{packet_id} reason {reason:#04x}"),
            first,
            &body[..length],
        );
    }

    /// Sends a PINGRESP.
    pub fn send_pingresp(&mut self) {
        self.send("PINGRESP", String::new(), 0xd0, &[]);
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.link.note_sent("raw", format!("{} bytes", bytes.len()));
        self.queue(bytes);
    }

    /// Sends a DISCONNECT (MQTT 5) with that reason, then closes.
    pub fn disconnect(mut self, reason: u8) {
        self.send("DISCONNECT", format!("reason {reason:#04x}"), 0xe0, &[reason, 0]);
        self.close();
    }

    /// Waits until the kernel has taken everything sent so far.
    ///
    /// # Panics
    /// When the client has not made room for it within `deadline`.
    #[track_caller]
    pub fn flush(&self, deadline: Duration) {
        wait_until(deadline, "the client to read", || self.pending() == 0);
    }

    /// Bytes sent that the kernel has not taken yet: more than its buffers hold, and the client does not read.
    pub fn pending(&self) -> u64 {
        self.link.pending.load(Ordering::Relaxed)
    }

    /// Whether PINGREQs are answered, as they are at first. If not, [`Connection::expect_pingreq`] sees them.
    pub fn answer_pings(&mut self, answer: bool) {
        self.link.answer_pings.store(answer, Ordering::Relaxed);
    }

    /// Reads nothing more, until the kernel's buffers are full and the client's writes block.
    pub fn stop_reading(&mut self) {
        self.link.note_sent("(stops reading)", String::new());
        self.link.reading.store(false, Ordering::Relaxed);
        let reader_is_gone = || self.reader.as_ref().is_none_or(JoinHandle::is_finished);
        wait_until(DEADLINE, "the reading thread to pause", || {
            self.link.parked.load(Ordering::Relaxed) || reader_is_gone()
        });
    }

    /// Reads again after [`Connection::stop_reading`].
    pub fn resume_reading(&mut self) {
        self.link.note_sent("(reads again)", String::new());
        self.link.reading.store(true, Ordering::Relaxed);
    }

    /// Closes in order: everything sent is written, then FIN.
    pub fn close(mut self) {
        self.end("(closes)");
    }

    /// Ends the connection with RST; what is not written yet is lost.
    pub fn reset(mut self) {
        self.link.note_sent("(resets)", String::new());
        // Fails only on a socket that is gone.
        SockRef::from(&self.link.stream)
            .set_linger(Some(Duration::ZERO))
            .ok();
        self.stop();
    }

    fn send(&mut self, kind: &str, detail: String, first: u8, body: &[u8]) {
        let mut buffer = BytesMut::new();
        put_packet(&mut buffer, first, body);
        self.link.note_sent(kind, detail);
        self.queue(buffer.freeze());
    }

    fn queue(&self, bytes: Bytes) {
        if let Some(outbox) = &self.outbox {
            self.link.queue(outbox, bytes);
        }
    }

    fn put_properties(&self, properties: &Properties, body: &mut BytesMut) {
        if self.version() == Version::V5 {
            properties.write(body);
        }
    }

    fn end(&mut self, how: &str) {
        self.link.note_sent(how, String::new());
        let writer_is_gone = || self.writer.as_ref().is_none_or(JoinHandle::is_finished);
        holds_within(DEADLINE, || self.pending() == 0 || writer_is_gone());
        // Closed by the client already if that fails.
        self.link.stream.shutdown(Shutdown::Write).ok();
        self.stop();
    }

    fn stop(&mut self) {
        self.link.over.store(true, Ordering::Relaxed);
        self.outbox = None;
        for thread in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            // A panic in there was printed, and this one may be panicking itself.
            thread.join().ok();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if thread::panicking() {
            eprint!(
                "{}",
                self.link
                    .transcript
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
            );
            self.link.over.store(true, Ordering::Relaxed);
        }
        if self.outbox.is_some() {
            self.end("(dropped)");
        }
    }
}
