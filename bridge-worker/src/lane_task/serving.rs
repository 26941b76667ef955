//! A lane with a connection: turn by turn, reports become acks and packets become records.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::taking::paths;
use super::talk::Talk;
use super::{Command, Runner};
use crate::mqtt::{Connection, Ended, Goodbye, Inbound, Packet, PacketError, Publish};
use crate::pipeline::{Now, Received};

/// How long the lane rests after it has read something. A broker that sends a packet per segment would wake it
/// for each: with this rest a read takes many, for a third of the CPU.
const NAP: Duration = Duration::from_micros(200);
/// A read of so many bytes means there is more: no rest.
const BUSY_READ: usize = 64 * 1024;
/// A turn that reads so many bytes makes the lane serve the producer's reports itself.
const SERVING_READ: usize = 1024;
/// After so many turns without anything to read it leaves them to the poll thread again.
const QUIET_TURNS: u32 = 10;
/// At most so much is read before acks get their turn, in bytes.
const TURN_BYTES: usize = 256 * 1024;

impl Runner {
    /// Serves a connection until it ends or the lane has said goodbye.
    pub(super) async fn serve(&mut self, mut connection: Connection, mut talk: Talk) -> Served {
        if talk.is_subscribing() && !talk.granted.shared_subscriptions && !self.task.plan.assume_shared {
            let shared = self.readings.iter().filter(|reading| reading.is_shared());
            let shared = paths(shared);
            if !shared.is_empty() {
                return Served::Ended(Ended::SharedUnsupported {
                    filter: shared.join(", "),
                });
            }
        }
        loop {
            match self.turn(&mut connection, &mut talk).await {
                Ok(None) => {}
                Ok(Some(goodbye)) => {
                    self.serve_reports(false);
                    // What the last turn has settled is not to wait for the goodbye.
                    self.publish(Instant::now());
                    connection.disconnect(goodbye).await;
                    return Served::Finished;
                }
                Err(ended) => {
                    if matches!(ended, Ended::Protocol(_)) {
                        connection.disconnect(Goodbye::ProtocolError).await;
                    }
                    return Served::Ended(ended);
                }
            }
        }
    }

    /// Reports, acks, packets, timers; then waits for any of them. Returns how to say goodbye when all is done.
    async fn turn(&mut self, connection: &mut Connection, talk: &mut Talk) -> Result<Option<Goodbye>, Ended> {
        if self.serving {
            self.task.producer.serve(self.task.plan.lane);
        }
        let at = self.take_reports();
        self.take_orders(Some((connection, talk)));
        let parts = self.is_to_part(talk);
        if !parts {
            // The time for a goodbye runs from when it is to be said: one that was overtaken by the end of the connection
            // leaves nothing behind.
            self.drain_until = None;
        }
        self.task.lane.acks(connection, parts);
        connection.try_flush()?;
        if self.command == Command::Abort {
            return Ok(Some(Goodbye::Keep));
        }
        if parts && self.drained() {
            return Ok(Some(Goodbye::Keep));
        }
        if let Some(goodbye) = self.leave(connection, talk, at) {
            return Ok(Some(goodbye));
        }
        let reading = !parts && self.task.lane.can_take() && !connection.is_backed_up();
        let bytes = if reading {
            self.intake(connection, talk, at)?
        } else {
            0
        };
        connection.keep_alive(reading)?;
        if bytes > 0 {
            talk.extend(at);
        }
        if reading {
            talk.check(at)?;
        }
        self.watch_what_is_late(connection, talk, at, reading);
        self.limits.turn(self.task.lane.seen(at, reading));
        self.publish(at);
        self.quiet_turns = if bytes > 0 {
            0
        } else {
            self.quiet_turns.saturating_add(1)
        };
        self.serve_reports(bytes >= SERVING_READ || (self.serving && self.quiet_turns < QUIET_TURNS));
        if bytes >= BUSY_READ {
            return Ok(None);
        }
        if bytes > 0 || self.serving {
            // Nothing else runs on this runtime.
            std::thread::sleep(NAP);
            // Only the runtime's driver learns that the socket has more.
            tokio::task::yield_now().await;
            return Ok(None);
        }
        let mut next = at + connection.next_check();
        let quiet = [talk.late, talk.last]
            .into_iter()
            .flatten()
            .filter_map(|quiet| quiet.next());
        for moment in self
            .next_retry(at)
            .into_iter()
            .chain(self.drain_until)
            .chain(quiet)
        {
            next = next.min(moment);
        }
        let next = next.max(at + Duration::from_millis(1));
        let index = self.index();
        tokio::select! {
            biased;
            () = self.task.mailboxes[index].arrived() => {}
            readable = connection.readable(), if reading && self.task.lane.can_take() => readable?,
            writable = connection.writable(), if connection.has_unsent() => writable?,
            _ = self.task.orders.changed() => {}
            () = sleep_until(next.into()) => {}
        }
        Ok(None)
    }

    /// Whether the lane is to stop reading, confirm what is in flight and disconnect: for good, for as long as it is
    /// told to, or to come back at once: with a changed login, to an earlier url, or with a message to be mapped anew.
    fn is_to_part(&self, talk: &Talk) -> bool {
        let told = matches!(self.command, Command::Drain | Command::Hold | Command::Release);
        // A lane that left and is to read again, or the other way round, begins anew.
        let other_way = talk.is_leaving != (self.command == Command::Leave);
        told || other_way
            || self.task.lane.stopped().is_some()
            || self.login > talk.login
            || self.again > talk.again
            || (self.command == Command::Run && self.has_nothing_to_read() && talk.is_settled())
    }

    /// Takes the producer's reports in this thread, or leaves them to the poll thread.
    pub(super) fn serve_reports(&mut self, serve: bool) {
        if serve != self.serving {
            self.serving = serve;
            if serve {
                self.task.producer.begin_serving();
            } else {
                self.task.producer.end_serving();
            }
        }
    }

    /// Reads what is there and takes the packets in it, until nothing is left, the lane is full, or acks should
    /// have a turn. Returns how many bytes were read.
    fn intake(&mut self, connection: &mut Connection, talk: &mut Talk, at: Instant) -> Result<usize, Ended> {
        let now = self.now(at);
        let mut total = 0;
        loop {
            while self.task.lane.can_take() {
                let Some(packet) = connection.next_packet()? else {
                    break;
                };
                self.packet(packet, connection, talk, now)?;
            }
            if !self.task.lane.can_take() || total >= TURN_BYTES {
                return Ok(total);
            }
            match connection.try_read()? {
                Some(0) => return Err(Ended::Closed),
                Some(bytes) => total += bytes,
                None => return Ok(total),
            }
        }
    }

    fn packet(
        &mut self,
        packet: Packet,
        connection: &mut Connection,
        talk: &mut Talk,
        now: Now,
    ) -> Result<(), Ended> {
        let lane = &mut self.task.lane;
        match packet {
            Packet::Plain(plain) => lane.receive(connection.plain(&plain)?, now),
            Packet::Inbound(Inbound::Publish(publish)) => lane.receive(received(&publish)?, now),
            Packet::Oversized(publish, size, sha256) => {
                lane.receive_oversized(received(&publish)?, size, sha256, now);
            }
            Packet::Inbound(Inbound::PubRel { id }) => {
                lane.pubrel(id);
                connection.pubcomp(id);
            }
            Packet::Inbound(Inbound::SubAck { id, granted }) => {
                self.suback(connection, talk, id, &granted)?;
            }
            Packet::Inbound(Inbound::UnsubAck { id }) => {
                talk.unsuback(id);
                self.has_settled(talk);
            }
            Packet::Inbound(Inbound::PingResp) => connection.pong(),
            Packet::Inbound(Inbound::Disconnect { reason, text }) => {
                return Err(Ended::Disconnected { reason, text });
            }
            Packet::Answer(answer) => return Err(PacketError::Unexpected(answer.packet_type()).into()),
            Packet::Inbound(Inbound::ConnAck(_)) => return Err(PacketError::Unexpected(2).into()),
        }
        Ok(())
    }
}

/// How serving a connection ended.
pub(super) enum Served {
    /// The lane has said goodbye.
    Finished,
    /// The connection is gone.
    Ended(Ended),
}

fn received(publish: &Publish) -> Result<Received<'_>, PacketError> {
    let topic = std::str::from_utf8(&publish.topic)
        .ok()
        .filter(|topic| !topic.is_empty());
    Ok(Received {
        id: publish.id,
        ack: publish.ack,
        dup: publish.dup,
        retain: publish.retain,
        topic: topic.ok_or(PacketError::Topic)?,
        payload: &publish.payload,
        properties: publish.properties.as_ref(),
    })
}
