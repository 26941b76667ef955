//! The thread that talks to the broker: publishes what has been read, and says what has arrived.

mod answers;
mod connecting;
mod ending;
mod letters;
mod serving;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_contract::status::ConnectionState;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

use super::outgoing::{Failed, Outgoing, Step};
use super::plan::{LivePlan, Plan};
use super::shared::{Command, Orders, Shared};
use super::window::Window;
use crate::credentials::Credentials;
use crate::mqtt::Attempts;
use ending::{Ended, Way};
pub(super) use letters::Letters;

/// What the thread works with.
pub(super) struct Publisher {
    pub(super) plan: Plan,
    pub(super) shared: Arc<Shared>,
    pub(super) credentials: Arc<Credentials>,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) steps: mpsc::UnboundedReceiver<Vec<Step>>,
    pub(super) letters: Letters,
}

/// The thread at work.
struct Runner {
    task: Publisher,
    command: Command,
    live: Arc<LivePlan>,
    /// Published, and not answered for good.
    window: Window<Outgoing>,
    /// Published with QoS 0, and perhaps not written to the socket.
    unflushed: VecDeque<Outgoing>,
    /// To be published, in the order they were read.
    unsent: VecDeque<Step>,
    /// Whose way has ended, until that is entered in the books.
    ended: Vec<Ended>,
    /// When what the broker did not take is published again.
    retry_at: Option<Instant>,
    drain_until: Option<Instant>,
    /// The next connection begins a new session: what the one of an earlier process has unfinished is none of this one's.
    begins: bool,
    attempts: Attempts,
    /// The revision of the configuration that was compared with what the broker of this connection takes.
    judged: Option<u64>,
    /// The revision of the credentials that the connection was made with.
    login: u64,
    /// How often the connection was to have been made again by then.
    again: u64,
    /// Since when either is not so any more: the connection is to be made again.
    outdated: Option<Instant>,
}

impl Publisher {
    /// Runs until the delivery is told to end and everything has arrived, or the time for it is over.
    pub(super) async fn run(mut self) {
        let orders = self.orders.borrow_and_update().clone();
        let mut runner = Runner {
            command: orders.command,
            live: orders.live,
            window: Window::new(self.plan.window),
            unflushed: VecDeque::new(),
            unsent: VecDeque::new(),
            ended: Vec::new(),
            retry_at: None,
            drain_until: None,
            begins: true,
            attempts: Attempts::new(self.plan.protocol),
            judged: None,
            login: 0,
            again: 0,
            outdated: None,
            task: self,
        };
        runner.run().await;
        runner.give_up();
        let shared = &runner.task.shared;
        {
            let mut view = shared.view();
            view.connection.state = ConnectionState::Down;
            view.broker = None;
            view.shortfalls.clear();
        }
        shared.part();
    }
}

impl Runner {
    async fn run(&mut self) {
        let mut wait = Duration::ZERO;
        while self.rest(wait).await {
            wait = match self.connect().await {
                Err(wait) => wait,
                Ok((connection, granted)) => {
                    let connected = Instant::now();
                    self.task.shared.set_connected(true);
                    let served = self.serve(connection, &granted).await;
                    self.task.shared.set_connected(false);
                    self.take_back_unflushed();
                    match served {
                        Ok(()) => Duration::ZERO,
                        Err(ended) => self.after(&ended, connected.elapsed()),
                    }
                }
            };
        }
    }

    /// Waits without a connection until there is to be one, after `wait` at the earliest. False: this is the end.
    async fn rest(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            // Steps first: none is judged by a configuration older than its own.
            self.take_steps();
            self.take_orders();
            let now = self.take_reports();
            self.purge();
            self.settle();
            if self.is_over(now) {
                return false;
            }
            if now >= until {
                return true;
            }
            let mut next = until;
            next = next.min(self.drain_until.unwrap_or(next));
            next = next.min(self.task.letters.next_retry().unwrap_or(next));
            tokio::select! {
                () = self.task.letters.arrived() => {}
                Some(steps) = self.task.steps.recv() => self.unsent.extend(steps),
                () = self.task.shared.yielding.notified() => {}
                changed = self.task.orders.changed() => if changed.is_err() { return false },
                () = sleep_until(next.max(now + Duration::from_millis(1)).into()) => {}
            }
        }
    }

    fn take_orders(&mut self) {
        let orders = self.task.orders.borrow_and_update();
        self.command = orders.command;
        if !Arc::ptr_eq(&orders.live, &self.live) {
            self.live = Arc::clone(&orders.live);
            self.task.shared.view().hash.clone_from(&self.live.hash);
        }
    }

    fn take_steps(&mut self) {
        while let Ok(steps) = self.task.steps.try_recv() {
            self.unsent.extend(steps);
        }
    }

    /// Whether nothing more is published: what has been may still arrive.
    fn has_stopped(&self) -> bool {
        self.command != Command::Run || self.task.shared.is_stopped()
    }

    /// Drops what is not to be published any more.
    fn purge(&mut self) {
        let all = self.has_stopped();
        let progress = self.task.shared.progress();
        let keeps = |outgoing: &Outgoing, waits| progress.may_go(outgoing.ticket) && !(all && waits);
        let gone = self.window.retain(keeps);
        let ended = &mut self.ended;
        ended.extend(
            gone.iter()
                .map(|outgoing| Ended::of_outgoing(outgoing, Way::Dropped)),
        );
        self.unsent.retain(|step| {
            let keeps = !all && progress.may_go(step.ticket());
            if !keeps {
                ended.push(Ended::of_step(step, Way::Dropped));
            }
            keeps
        });
    }

    /// Whether the delivery is to end, and nothing more can be expected to arrive.
    fn is_over(&mut self, now: Instant) -> bool {
        match self.command {
            Command::Run if !self.task.shared.has_ended_itself() => false,
            Command::Abort => true,
            Command::Run | Command::Drain => {
                let drain = self.live.drain;
                let until = *self.drain_until.get_or_insert_with(|| now + drain);
                let has_arrived =
                    self.window.len() == 0 && self.unflushed.is_empty() && self.task.letters.is_empty();
                has_arrived || now >= until
            }
        }
    }

    /// A record cannot be delivered.
    fn undeliverable(&mut self, failed: Failed) {
        use millrace_contract::ErrorAction::{DeadLetter, Discard, Stop};
        if !self.is_ours(&failed) {
            return;
        }
        *self.task.shared.view().errors.entry(failed.reason).or_default() += 1;
        match (self.live.action, &self.live.dead_letter_topic) {
            (Discard, _) => self.ended.push(Ended::of_failed(&failed, Way::Discarded)),
            (DeadLetter, Some(topic)) if failed.record.is_some() => {
                let topic = topic.clone();
                self.task.letters.add(failed, &topic, &self.task.plan);
            }
            (Stop | DeadLetter, _) => self.stop_at(&failed, ""),
        }
    }

    /// Whether the partition of a record has not gone meanwhile: then it is for others to judge it.
    fn is_ours(&mut self, failed: &Failed) -> bool {
        let is_ours = self.task.shared.progress().is_under_way(failed.ticket);
        if !is_ours {
            self.ended.push(Ended::of_failed(failed, Way::Dropped));
        }
        is_ours
    }

    /// Stops the route, unless the record is one that is to be skipped.
    fn stop_at(&mut self, failed: &Failed, prefix: &str) {
        if !self.is_ours(failed) {
            return;
        }
        let source = failed.source;
        let topic = &self.task.plan.consumer.topics[source.topic];
        let name = format!("{topic}[{}]@{}", source.partition, source.offset);
        if self.live.skip.contains(&name) {
            tracing::warn!(
                route = &*self.task.plan.route,
                reason = failed.reason,
                "skipped record {name}, as the route asks: {}",
                failed.message
            );
            self.ended.push(Ended::of_failed(failed, Way::Discarded));
            return;
        }
        self.task.shared.stop(super::shared::Stop {
            reason: failed.reason,
            revision: failed.revision,
            message: format!(
                "stopped at record {name}: {prefix}{}; it stays in Kafka, and is not committed: correct the route, set \
                 spec.onError.action to DeadLetter or Discard, or skip this record alone: annotation millrace.dev/skip: {name}",
                failed.message
            ),
        });
        self.ended.push(Ended::of_failed(failed, Way::Dropped));
    }

    /// What is left is read again by whoever gets its partition.
    fn give_up(&mut self) {
        self.take_steps();
        let mut published = self.window.clear();
        published.extend(self.unflushed.drain(..));
        let published = published.iter();
        self.ended
            .extend(published.map(|outgoing| Ended::of_outgoing(outgoing, Way::Dropped)));
        self.ended.extend(
            self.unsent
                .drain(..)
                .map(|step| Ended::of_step(&step, Way::Dropped)),
        );
        self.ended.extend(
            self.task
                .letters
                .give_up()
                .map(|failed| Ended::of_failed(&failed, Way::Dropped)),
        );
        self.settle();
    }
}
