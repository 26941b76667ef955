//! A lane with a connection: turn by turn, reports become acks and packets become records.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::{Command, Runner};
use crate::mqtt::{Connection, Ended, Granted, Inbound, Packet, PacketError, Publish, SUBSCRIBE_ID};
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
/// How long the broker may take for SUBACK.
const SUBACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Malformed packet and protocol error [MQTT-3.14.2.1].
const PROTOCOL_ERROR: u8 = 0x82;

impl Runner {
    /// Serves a connection until it ends or the lane does.
    pub(super) async fn serve(&mut self, mut connection: Connection, granted: Granted) -> Served {
        let session = &self.task.plan.session;
        if session.shared && !granted.shared_subscriptions && !session.assume_shared {
            return Served::Ended(Ended::SharedUnsupported {
                filter: session.filters.join(", "),
            });
        }
        let mut subscribed = Some(Instant::now() + SUBACK_TIMEOUT);
        loop {
            match self.turn(&mut connection, &granted, &mut subscribed).await {
                Ok(true) => {}
                Ok(false) => {
                    self.serve_reports(false);
                    // What the last turn has settled is not to wait for the goodbye.
                    self.publish(Instant::now());
                    connection.disconnect(0).await;
                    return Served::Finished;
                }
                Err(ended) => {
                    if matches!(ended, Ended::Protocol(_)) {
                        connection.disconnect(PROTOCOL_ERROR).await;
                    }
                    return Served::Ended(ended);
                }
            }
        }
    }

    /// Reports, acks, packets, timers; then waits for any of them. False: all is done, and the lane is to end.
    async fn turn(
        &mut self,
        connection: &mut Connection,
        granted: &Granted,
        subscribed: &mut Option<Instant>,
    ) -> Result<bool, Ended> {
        if self.serving {
            self.task.producer.serve(self.task.plan.lane.lane);
        }
        let at = self.take_reports();
        self.task.lane.acks(connection);
        connection.try_flush()?;
        let command = self.task.commands.borrow_and_update().clone();
        match command {
            Command::Abort => return Ok(false),
            Command::Drain if self.drained() => return Ok(false),
            Command::Drain | Command::Run => {}
        }
        let reading = command == Command::Run && self.task.lane.can_take() && !connection.is_backed_up();
        let bytes = if reading {
            self.intake(connection, granted, subscribed, at)?
        } else {
            0
        };
        connection.keep_alive(reading)?;
        if bytes > 0
            && let Some(deadline) = subscribed
        {
            // What a resumed session holds comes first, and on a slow network it takes its time.
            *deadline = at + SUBACK_TIMEOUT;
        }
        if reading && subscribed.is_some_and(|deadline| at > deadline) {
            return Err(Ended::NoSubAck(SUBACK_TIMEOUT));
        }
        self.publish(at);
        self.quiet_turns = if bytes > 0 {
            0
        } else {
            self.quiet_turns.saturating_add(1)
        };
        self.serve_reports(bytes >= SERVING_READ || (self.serving && self.quiet_turns < QUIET_TURNS));
        if bytes >= BUSY_READ {
            return Ok(true);
        }
        if bytes > 0 || self.serving {
            // Nothing else runs on this runtime.
            std::thread::sleep(NAP);
            // Only the runtime's driver learns that the socket has more.
            tokio::task::yield_now().await;
            return Ok(true);
        }
        let mut next = at + connection.next_check();
        if let Some(retry) = self.next_retry(at) {
            next = next.min(retry);
        }
        if let Some(drain) = self.drain_until {
            next = next.min(drain);
        }
        let index = self.index();
        tokio::select! {
            biased;
            () = self.task.mailboxes[index].arrived() => {}
            readable = connection.readable(), if reading && self.task.lane.can_take() => readable?,
            writable = connection.writable(), if connection.has_unsent() => writable?,
            _ = self.task.commands.changed() => {}
            () = sleep_until(next.into()) => {}
        }
        Ok(true)
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
    fn intake(
        &mut self,
        connection: &mut Connection,
        granted: &Granted,
        subscribed: &mut Option<Instant>,
        at: Instant,
    ) -> Result<usize, Ended> {
        let now = self.now(at);
        let mut total = 0;
        loop {
            while self.task.lane.can_take() {
                let Some(packet) = connection.next_packet()? else {
                    break;
                };
                self.packet(packet, connection, granted, subscribed, now)?;
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
        granted: &Granted,
        subscribed: &mut Option<Instant>,
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
            Packet::Inbound(Inbound::SubAck {
                id: SUBSCRIBE_ID,
                granted: codes,
            }) => {
                self.task
                    .report
                    .subscribed(granted, &self.task.plan.session, &codes)?;
                *subscribed = None;
            }
            Packet::Inbound(Inbound::Disconnect { reason, text }) => {
                return Err(Ended::Disconnected { reason, text });
            }
            Packet::Inbound(Inbound::ConnAck(_)) => return Err(PacketError::Unexpected(2).into()),
            Packet::Inbound(Inbound::PingResp | Inbound::SubAck { .. } | Inbound::Other) => {}
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
