//! What the broker says to what was published.

use std::time::{Duration, Instant};

use millrace_contract::NoMatchingSubscribers;

use super::Runner;
use super::ending::{Ended as Entry, Way};
use crate::delivery::outgoing::{Failed, Outgoing};
use crate::delivery::window::Outcome;
use crate::mqtt::{Answer, Connection, Ended, Inbound, Packet, PacketError, pubrel, refusal};

/// How long what the broker does not take for now waits.
const LATER: Duration = Duration::from_secs(1);
/// At most so much is read before what waits is published, in bytes.
const TURN_BYTES: usize = 64 * 1024;

impl Runner {
    /// Reads what is there and takes the answers in it. Returns how many bytes were read.
    pub(super) fn answers(&mut self, connection: &mut Connection) -> Result<usize, Ended> {
        let mut total = 0;
        loop {
            while let Some(packet) = connection.next_packet()? {
                match packet {
                    Packet::Answer(answer) => self.answer(answer, connection),
                    Packet::Inbound(Inbound::PingResp) => connection.pong(),
                    Packet::Inbound(Inbound::Disconnect { reason, text }) => {
                        return Err(Ended::Disconnected { reason, text });
                    }
                    // Nothing has been subscribed to.
                    Packet::Plain(_) | Packet::Oversized(..) | Packet::Inbound(Inbound::Publish(_)) => {
                        return Err(PacketError::Unexpected(3).into());
                    }
                    Packet::Inbound(Inbound::ConnAck(_)) => return Err(PacketError::Unexpected(2).into()),
                    Packet::Inbound(Inbound::PubRel { .. }) => return Err(PacketError::Unexpected(6).into()),
                    Packet::Inbound(Inbound::SubAck { .. }) => return Err(PacketError::Unexpected(9).into()),
                    Packet::Inbound(Inbound::UnsubAck { .. }) => {
                        return Err(PacketError::Unexpected(11).into());
                    }
                }
            }
            if total >= TURN_BYTES {
                return Ok(total);
            }
            match connection.try_read()? {
                Some(0) => return Err(Ended::Closed),
                Some(bytes) => total += bytes,
                None => return Ok(total),
            }
        }
    }

    fn answer(&mut self, answer: Answer, connection: &mut Connection) {
        let waits = self.live.no_subscribers == NoMatchingSubscribers::Wait;
        match self.window.answered(answer, waits) {
            Outcome::Delivered(outgoing) => self.delivered(&outgoing),
            Outcome::Unheard(outgoing) => match self.live.no_subscribers {
                NoMatchingSubscribers::DeadLetter => {
                    let message = "the broker has no subscriber for it".to_owned();
                    self.undeliverable(failed(outgoing, "NoMatchingSubscribers", message));
                }
                NoMatchingSubscribers::Ignore | NoMatchingSubscribers::Wait => self.delivered(&outgoing),
            },
            Outcome::Refused(outgoing, code) => {
                let message = refusal(code);
                self.undeliverable(failed(outgoing, "PublishRefused", message));
            }
            Outcome::Release(id) => pubrel(connection.out(), id),
            Outcome::Later => self.retry_at = Some(Instant::now() + LATER),
            Outcome::Stray => tracing::debug!(?answer, "the broker answers what was not asked"),
        }
    }

    pub(super) fn delivered(&mut self, outgoing: &Outgoing) {
        let bytes = outgoing.payload_bytes() as u64;
        self.ended.push(Entry::of_outgoing(outgoing, Way::Written(bytes)));
    }
}

/// A message that cannot be delivered, named by its topic.
pub(super) fn failed(outgoing: Outgoing, reason: &'static str, message: String) -> Failed {
    let topic = String::from_utf8_lossy(outgoing.topic()).into_owned();
    Failed {
        ticket: outgoing.ticket,
        reason,
        message: format!("topic {topic:?}: {message}"),
        source: outgoing.source,
        revision: outgoing.revision,
        charge: outgoing.charge(),
        record: outgoing.record,
    }
}
