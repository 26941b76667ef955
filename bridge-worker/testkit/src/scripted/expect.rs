//! What a test expects of the client. Every expectation has a deadline and says what came instead.

use super::connection::{Connection, End};
use super::link::Event;
use super::{DEADLINE, transcript};
use crate::wire::{Ack, Connect, Packet, Properties, Publish, Subscribe};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// What has come and nobody has asked for yet.
#[derive(Debug)]
pub(super) struct Inbox {
    events: Receiver<Event>,
    /// Looked at, and put back.
    peeked: Option<Event>,
}

impl Inbox {
    pub(super) fn new(events: Receiver<Event>) -> Inbox {
        Inbox { events, peeked: None }
    }

    /// The next event; `None` when there is none within `span`.
    fn next(&mut self, span: Duration) -> Option<Event> {
        if self.peeked.is_some() {
            return self.peeked.take();
        }
        match self.events.recv_timeout(span) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            // The end of the connection was told before.
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(span);
                None
            }
        }
    }
}

impl Connection {
    /// The client's CONNECT.
    ///
    /// # Panics
    /// Like all expectations: when something else comes, or nothing within five seconds.
    #[track_caller]
    pub fn expect_connect(&mut self) -> Connect {
        match self.packet("CONNECT") {
            Packet::Connect(connect) => connect,
            other => unexpected("CONNECT", &Event::Packet(other)),
        }
    }

    /// A SUBSCRIBE.
    #[track_caller]
    pub fn expect_subscribe(&mut self) -> Subscribe {
        match self.packet("SUBSCRIBE") {
            Packet::Subscribe(subscribe) => subscribe,
            other => unexpected("SUBSCRIBE", &Event::Packet(other)),
        }
    }

    /// An UNSUBSCRIBE: its packet id and filters.
    #[track_caller]
    pub fn expect_unsubscribe(&mut self) -> (u16, Vec<String>) {
        match self.packet("UNSUBSCRIBE") {
            Packet::Unsubscribe { packet_id, filters } => (packet_id, filters),
            other => unexpected("UNSUBSCRIBE", &Event::Packet(other)),
        }
    }

    /// The whole beginning of a session: takes the CONNECT and one SUBSCRIBE and grants what they ask for.
    #[track_caller]
    pub fn accept_session(&mut self, session_present: bool) -> (Connect, Subscribe) {
        let connect = self.expect_connect();
        self.send_connack(session_present, 0, Properties::new());
        let subscribe = self.expect_subscribe();
        let granted: Vec<u8> = subscribe.filters.iter().map(|filter| filter.qos).collect();
        self.send_suback(subscribe.packet_id, &granted);
        (connect, subscribe)
    }

    /// The PUBACK of that packet id; returns its reason code (0 in MQTT 3.1.1).
    #[track_caller]
    pub fn expect_puback(&mut self, packet_id: u16) -> u8 {
        match self.packet(&format!("PUBACK {packet_id}")) {
            Packet::Puback(ack) if ack.packet_id == packet_id => ack.reason,
            other => unexpected(&format!("PUBACK {packet_id}"), &Event::Packet(other)),
        }
    }

    /// The PUBACKs of those packet ids, in that order and with nothing in between.
    #[track_caller]
    pub fn expect_pubacks(&mut self, packet_ids: impl IntoIterator<Item = u16>) {
        for packet_id in packet_ids {
            self.expect_puback(packet_id);
        }
    }

    /// The PUBREC of that packet id; returns its reason code (0 in MQTT 3.1.1).
    #[track_caller]
    pub fn expect_pubrec(&mut self, packet_id: u16) -> u8 {
        match self.packet(&format!("PUBREC {packet_id}")) {
            Packet::Pubrec(ack) if ack.packet_id == packet_id => ack.reason,
            other => unexpected(&format!("PUBREC {packet_id}"), &Event::Packet(other)),
        }
    }

    /// The PUBCOMP of that packet id; returns its reason code (0 in MQTT 3.1.1).
    #[track_caller]
    pub fn expect_pubcomp(&mut self, packet_id: u16) -> u8 {
        match self.packet(&format!("PUBCOMP {packet_id}")) {
            Packet::Pubcomp(ack) if ack.packet_id == packet_id => ack.reason,
            other => unexpected(&format!("PUBCOMP {packet_id}"), &Event::Packet(other)),
        }
    }

    /// A message that the client publishes.
    #[track_caller]
    pub fn expect_publish(&mut self) -> Publish {
        match self.packet("PUBLISH") {
            Packet::Publish(publish) => publish,
            other => unexpected("PUBLISH", &Event::Packet(other)),
        }
    }

    /// The PUBREL of that packet id.
    #[track_caller]
    pub fn expect_pubrel(&mut self, packet_id: u16) {
        match self.packet(&format!("PUBREL {packet_id}")) {
            Packet::Pubrel(ack) if ack.packet_id == packet_id => {}
            other => unexpected(&format!("PUBREL {packet_id}"), &Event::Packet(other)),
        }
    }

    /// A PINGREQ that was not answered by itself, see [`Connection::answer_pings`].
    #[track_caller]
    pub fn expect_pingreq(&mut self) {
        self.expect_pingreq_within(DEADLINE);
    }

    /// A PINGREQ within `deadline`, for keep-alives longer than the usual five seconds.
    #[track_caller]
    pub fn expect_pingreq_within(&mut self, deadline: Duration) {
        match self.inbox.next(deadline) {
            Some(Event::Packet(Packet::Pingreq)) => {}
            Some(other) => unexpected("PINGREQ", &other),
            None => panic!("expected PINGREQ, nothing came within {deadline:?}"),
        }
    }

    /// A DISCONNECT; returns its reason code (0 in MQTT 3.1.1).
    #[track_caller]
    pub fn expect_disconnect(&mut self) -> u8 {
        match self.packet("DISCONNECT") {
            Packet::Disconnect { reason, .. } => reason,
            other => unexpected("DISCONNECT", &Event::Packet(other)),
        }
    }

    /// Any packet.
    #[track_caller]
    pub fn expect_packet(&mut self) -> Packet {
        self.packet("a packet")
    }

    /// The end of the connection by the client.
    #[track_caller]
    pub fn expect_end(&mut self) -> End {
        self.expect_end_within(DEADLINE)
    }

    /// The end of the connection by the client within `deadline`; packets before it are passed over.
    #[track_caller]
    pub fn expect_end_within(&mut self, deadline: Duration) -> End {
        let start = std::time::Instant::now();
        loop {
            match self.inbox.next(deadline.saturating_sub(start.elapsed())) {
                Some(Event::Closed) => return End::Closed,
                Some(Event::Reset) => return End::Reset,
                Some(Event::Packet(_)) => {}
                Some(other) => unexpected("the end of the connection", &other),
                None => panic!("expected the end of the connection, it is open after {deadline:?}"),
            }
        }
    }

    /// All acknowledgements (PUBACK, PUBREC, PUBCOMP) in the order in which they come, until none has come for `idle`,
    /// something else has, or the connection has ended.
    pub fn acks_until_idle(&mut self, idle: Duration) -> Vec<Packet> {
        let mut acks = Vec::new();
        while let Some(event) = self.inbox.next(idle) {
            match event {
                Event::Packet(ack @ (Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubcomp(_))) => {
                    acks.push(ack)
                }
                other => {
                    self.inbox.peeked = Some(other);
                    break;
                }
            }
        }
        acks
    }

    /// The packet ids of the PUBACKs that come, in their order, until none has come for `idle`.
    ///
    /// # Panics
    /// When another acknowledgement comes, or one with a reason code of 0x80 or more.
    #[track_caller]
    pub fn pubacks_until_idle(&mut self, idle: Duration) -> Vec<u16> {
        let puback = |packet| match packet {
            Packet::Puback(Ack {
                packet_id,
                reason: 0..0x80,
            }) => packet_id,
            other => unexpected("PUBACKs", &Event::Packet(other)),
        };
        self.acks_until_idle(idle).into_iter().map(puback).collect()
    }

    /// # Panics
    /// When the client sends anything or ends the connection within `span`.
    #[track_caller]
    pub fn assert_silent(&mut self, span: Duration) {
        if let Some(event) = self.inbox.next(span) {
            unexpected(&format!("silence for {span:?}"), &event);
        }
    }

    #[track_caller]
    fn packet(&mut self, what: &str) -> Packet {
        match self.inbox.next(DEADLINE) {
            Some(Event::Packet(packet)) => packet,
            Some(other) => unexpected(what, &other),
            None => panic!("expected {what}, nothing came within {DEADLINE:?}"),
        }
    }
}

#[track_caller]
fn unexpected(what: &str, event: &Event) -> ! {
    match event {
        Event::Packet(packet) => {
            let (kind, detail) = transcript::describe(packet);
            panic!("expected {what}, got {kind} {detail}")
        }
        Event::Closed => panic!("expected {what}, the client closed the connection"),
        Event::Reset => panic!("expected {what}, the client reset the connection"),
        Event::Malformed(malformed) => panic!("expected {what}, got a {malformed}"),
    }
}
