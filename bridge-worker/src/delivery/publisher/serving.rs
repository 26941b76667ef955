//! A connection at work: turn by turn, records become messages and answers become offsets.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::Runner;
use super::answers::failed;
use super::ending::{Ended as Entry, Way};
use crate::clock::epoch_ms;
use crate::delivery::outgoing::{Outgoing, Step};
use crate::delivery::window::Sent;
use crate::mqtt::{Connection, Ended, Goodbye, Granted, Outbound, publishing_shortfalls, pubrel};

/// How long the thread rests after a turn in which something moved: a broker that answers one by one would wake it for
/// each.
const NAP: Duration = Duration::from_micros(200);
/// How long the broker may take to answer what was published, before a connection is made again.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Messages that are taken from the reader before they can be published.
const AHEAD: usize = 4096;

impl Runner {
    /// Serves a connection until it ends, or everything has arrived and this side has said goodbye.
    pub(super) async fn serve(&mut self, mut connection: Connection, granted: &Granted) -> Result<(), Ended> {
        self.window
            .resend(granted.session_present, |id| pubrel(connection.out(), id));
        // Partitions may have gone while there was no connection.
        self.purge();
        if self.window.is_waiting() {
            self.retry_at.get_or_insert_with(Instant::now);
        }
        self.judged = None;
        loop {
            match self.turn(&mut connection, granted).await {
                Ok(None) => {}
                Ok(Some(goodbye)) => {
                    self.settle();
                    if connection.disconnect(goodbye).await {
                        self.flushed();
                    }
                    return Ok(());
                }
                Err(ended) => {
                    if matches!(ended, Ended::Protocol(_)) {
                        connection.disconnect(Goodbye::ProtocolError).await;
                    }
                    return Err(ended);
                }
            }
        }
    }

    /// Orders, answers, messages, timers; then waits for any of them. Returns how this side is to say goodbye, when it is.
    async fn turn(
        &mut self,
        connection: &mut Connection,
        granted: &Granted,
    ) -> Result<Option<Goodbye>, Ended> {
        self.take_steps();
        self.take_orders();
        self.judge(granted);
        let at = self.take_reports();
        let read = self.answers(connection)?;
        if self.has_stopped() {
            self.purge();
        }
        if self.retry_at.is_some_and(|retry| at >= retry) {
            self.retry_at = None;
            // What was answered after its partition had begun to go is nobody's to wait for.
            self.purge();
            self.window.retry();
        }
        let sent = self.publish_again(connection, granted) + self.publish(connection, granted);
        connection.try_flush()?;
        if !connection.has_unsent() {
            self.flushed();
        }
        self.settle();
        self.show(at);
        connection.keep_alive(true)?;
        if self.is_over(at) {
            return Ok(Some(Goodbye::End));
        }
        if self.is_to_come_again(at) {
            return Ok(Some(Goodbye::Keep));
        }
        if read > 0 || sent > 0 {
            // Nothing else runs on this runtime.
            std::thread::sleep(NAP);
            // Only the runtime's driver learns that the socket has more.
            tokio::task::yield_now().await;
            return Ok(None);
        }
        let parts_at = self.outdated.map(|since| since + LAST_ANSWERS);
        let moments = [
            self.retry_at,
            self.drain_until,
            parts_at,
            self.task.letters.next_retry(),
        ];
        let next = moments
            .into_iter()
            .flatten()
            .fold(at + connection.next_check(), Instant::min);
        tokio::select! {
            biased;
            readable = connection.readable() => readable?,
            Some(steps) = self.task.steps.recv(), if self.unsent.len() < AHEAD => self.unsent.extend(steps),
            () = self.task.letters.arrived() => {}
            writable = connection.writable(), if connection.has_unsent() => writable?,
            () = self.task.shared.yielding.notified() => {
                // What is on its way here as well.
                self.take_steps();
                self.purge();
            }
            _ = self.task.orders.changed() => {}
            () = sleep_until(next.max(at + Duration::from_millis(1)).into()) => {}
        }
        Ok(None)
    }

    /// All that was written has left: with QoS 0 that is an arrival.
    fn flushed(&mut self) {
        while let Some(outgoing) = self.unflushed.pop_front() {
            self.delivered(&outgoing);
        }
    }

    /// Says what the broker takes less of than is published.
    fn judge(&mut self, granted: &Granted) {
        let live = &self.live;
        if self.judged.replace(live.revision) != Some(live.revision) {
            let shortfalls = publishing_shortfalls(granted, live.qos, live.retain);
            self.task.shared.view().falls_short(shortfalls);
        }
    }

    /// Whether the connection is to be made again, with credentials that have changed or to an earlier url: once nothing is
    /// unanswered, so that nothing has to be sent twice.
    fn is_to_come_again(&mut self, at: Instant) -> bool {
        let is_current = self.login >= self.task.credentials.known().revision();
        if is_current && self.again >= self.task.shared.again() {
            return false;
        }
        let since = *self.outdated.get_or_insert(at);
        let is_answered = self.window.len() == 0 && self.unflushed.is_empty();
        is_answered || at >= since + LAST_ANSWERS
    }

    /// Publishes what waits, as far as the broker and the socket take it. Returns how many messages.
    fn publish(&mut self, connection: &mut Connection, granted: &Granted) -> usize {
        if self.unsent.is_empty() || self.has_stopped() || self.outdated.is_some() {
            return 0;
        }
        let now_ms = epoch_ms();
        let mut sent = 0;
        while let Some(step) = self.unsent.front() {
            if connection.is_backed_up() || !self.window.has_room() {
                break;
            }
            // Looked at one by one: a partition that is about to go waits for no more than this message.
            let may_go = self.task.shared.progress().may_go(step.ticket());
            let Some(step) = self.unsent.pop_front() else {
                break;
            };
            if !may_go {
                self.ended.push(Entry::of_step(&step, Way::Dropped));
                continue;
            }
            let outgoing = match step {
                Step::Publish(outgoing) => outgoing,
                Step::Undeliverable(failed) => {
                    self.undeliverable(failed);
                    if self.has_stopped() {
                        break;
                    }
                    continue;
                }
            };
            if outgoing.expires_at_ms.is_some_and(|at| at <= now_ms) {
                self.ended.push(Entry::of_outgoing(&outgoing, Way::Expired));
                continue;
            }
            let message = as_granted(&outgoing, granted, now_ms);
            if let Some(why) = too_large(&message, granted) {
                self.undeliverable(failed(outgoing, "MessageTooLarge", why));
                if self.has_stopped() {
                    break;
                }
                continue;
            }
            let (id, qos) = (self.window.next_id(), message.qos);
            message.write(granted.version, id, false, connection.out());
            sent += 1;
            match qos {
                0 => self.unflushed.push_back(outgoing),
                _ => self.window.push(outgoing, qos),
            }
        }
        sent
    }

    /// Publishes what has been before and is due. Returns how many messages.
    fn publish_again(&mut self, connection: &mut Connection, granted: &Granted) -> usize {
        let now_ms = epoch_ms();
        let mut sent = 0;
        let others = self.window.publish_due(|id, outgoing, dup| {
            if connection.is_backed_up() {
                return Sent::NotNow;
            }
            // What the broker may have already has to be completed.
            if !dup && outgoing.expires_at_ms.is_some_and(|at| at <= now_ms) {
                return Sent::Expired;
            }
            let message = as_granted(outgoing, granted, now_ms);
            if let Some(why) = too_large(&message, granted) {
                return Sent::Never(why);
            }
            message.write(granted.version, id, dup, connection.out());
            sent += 1;
            Sent::As(message.qos)
        });
        for (outgoing, how) in others {
            match how {
                Sent::Never(why) => self.undeliverable(failed(outgoing, "MessageTooLarge", why)),
                Sent::Expired => self.ended.push(Entry::of_outgoing(&outgoing, Way::Expired)),
                // Never answered.
                Sent::As(_) | Sent::NotNow => self.unflushed.push_back(outgoing),
            }
        }
        sent
    }

    /// Lets others see how the connection does.
    fn show(&self, at: Instant) {
        let oldest = self.window.oldest().map(|oldest| oldest.read_us);
        let shared = &self.task.shared;
        let mut view = shared.view();
        view.connection.window = self.window.len() as u64;
        view.oldest = oldest
            .map(|us| shared.started + Duration::from_micros(us))
            .filter(|oldest| *oldest <= at);
    }
}

/// Why the broker would not take a message, if its packet is larger than it says.
fn too_large(message: &Outbound<'_>, granted: &Granted) -> Option<String> {
    let most = granted.maximum_packet_bytes? as usize;
    let length = message.packet_length(granted.version);
    (length > most).then(|| format!("the packet has {length} bytes, and the broker takes {most}"))
}

/// The message as this broker takes it.
fn as_granted<'o>(outgoing: &'o Outgoing, granted: &Granted, now_ms: i64) -> Outbound<'o> {
    let left = outgoing.expires_at_ms.map(|at| {
        // 0 is no time to a broker, or for ever.
        let seconds = (at - now_ms).max(1) as u64;
        u32::try_from(seconds.div_ceil(1000)).unwrap_or(u32::MAX)
    });
    let mut message = outgoing.message(left);
    message.qos = message.qos.min(granted.maximum_qos);
    message.retain &= granted.retain_available;
    message
}
