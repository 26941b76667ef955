//! Lanes come and go.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use millrace_contract::Assignment;
use tokio::sync::watch;

use super::lanes::{Handle, Lanes};
use super::start::join;
use super::{Route, Worker, lock};
use crate::config::LanePlan;
use crate::kafka::LaneSink;
use crate::lane_report::LaneReport;
use crate::lane_task::{Command, LaneTask, Orders, texts};
use crate::pipeline::{Lane, LaneConfig, Stop};

impl Worker {
    /// Runs these lanes and no others from now on. A lane that is not named any more stops reading, has Kafka confirm
    /// what is in flight, sends the last acks and disconnects, keeping its session; one that leaves ends it. Returns
    /// at once: see `/status`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn assign(&self, assignment: &Assignment) -> io::Result<()> {
        self.route.assign(
            assignment.generation,
            assignment.lanes.clone(),
            assignment.leaving.clone(),
        )
    }
}

impl Route {
    pub(super) fn assign(
        self: &Arc<Self>,
        generation: u64,
        owned: Vec<u16>,
        leaving: Vec<u16>,
    ) -> io::Result<()> {
        let mut lanes = lock(&self.lanes);
        if lanes.end.is_some() {
            return Ok(());
        }
        lanes.generation = generation;
        lanes.owned = self.existing(owned);
        lanes.leaving = self.existing(leaving);
        self.surveys.set_on_duty(lanes.owned.contains(&0));
        let over = lanes.take_idle();
        let named: Vec<u16> = lanes.owned.iter().chain(&lanes.leaving).copied().collect();
        let mut outcome = Ok(());
        for lane in named {
            if !lanes.handles.contains_key(&lane) {
                match self.spawn(&lanes, lane) {
                    Ok(handle) => drop(lanes.handles.insert(lane, handle)),
                    Err(error) => outcome = Err(error),
                }
            }
        }
        self.tell(&lanes);
        drop(lanes);
        for mut handle in over {
            handle
                .orders
                .send_modify(|orders| orders.command = Command::Abort);
            handle.thread.take().into_iter().for_each(join);
        }
        outcome
    }

    /// Without lanes that no route has.
    fn existing(&self, mut lanes: Vec<u16>) -> Vec<u16> {
        lanes.retain(|lane| {
            let exists = usize::from(*lane) < self.mailboxes.len();
            if !exists {
                tracing::error!(lane, "the assignment names a lane that no route has");
            }
            exists
        });
        lanes
    }

    /// Gives every lane its orders, where they have changed.
    pub(super) fn tell(&self, lanes: &Lanes) {
        lanes.tell(self.is_operated, self.busy(lanes));
    }

    /// Lanes among which the buffer is shared: those with something to read.
    fn busy(&self, lanes: &Lanes) -> usize {
        let plans = lanes.owned.iter().chain(&lanes.leaving);
        plans
            .map(|lane| self.plan.lane(*lane))
            .filter(|plan| !lanes.live.readings(plan).is_empty() || !lanes.live.retired(plan).is_empty())
            .count()
    }

    fn spawn(self: &Arc<Self>, lanes: &Lanes, lane: u16) -> io::Result<Handle> {
        let plan = self.plan.lane(lane);
        let orders = lanes.orders(lane, self.is_operated, self.busy(lanes), (0, 0));
        let late = lanes.live.retired(&plan);
        let report = Arc::new(LaneReport::new(
            lane,
            &plan.session.client_id,
            lanes.live.revision,
            texts(&late),
        ));
        let (sender, receiver) = watch::channel(orders);
        let task = self.task(plan, receiver, Arc::clone(&report))?;
        Ok(Handle {
            report,
            orders: sender,
            thread: Some(spawn(task)?),
            login: 0,
            again: 0,
        })
    }

    fn task(
        self: &Arc<Self>,
        plan: LanePlan,
        orders: watch::Receiver<Orders>,
        report: Arc<LaneReport>,
    ) -> io::Result<LaneTask> {
        let (live, max_buffered) = {
            let orders = orders.borrow();
            (Arc::clone(&orders.live), orders.max_buffered)
        };
        let config = LaneConfig {
            lane: plan.lane,
            route: Arc::clone(&plan.route),
            action: live.on_error.action,
            dead_letter_topic: live.on_error.dead_letter_topic.clone(),
            skip: live.on_error.skip.clone(),
            max_buffered,
        };
        let mappings = live.mappings().map_err(io::Error::other)?;
        let sink = LaneSink::new(Arc::clone(&self.producer));
        let route = Arc::downgrade(self);
        Ok(LaneTask {
            lane: Lane::new(config, mappings, sink, self.seed),
            plan,
            mailboxes: Arc::clone(&self.mailboxes),
            producer: Arc::clone(&self.producer),
            credentials: Arc::clone(&self.credentials),
            orders,
            on_stop: Box::new(move |stop, revision| {
                if let Some(route) = route.upgrade() {
                    route.stop_at(stop, revision);
                }
            }),
            report,
            started: self.started,
        })
    }

    /// A message stops the route: says so, and has all lanes confirm what they have and leave. One that was mapped by
    /// a configuration that has been replaced meanwhile is mapped anew instead.
    fn stop_at(&self, stop: Stop, revision: u64) {
        let mut lanes = lock(&self.lanes);
        if revision < lanes.live.revision {
            return;
        }
        let (namespace, name) = (&self.settings.route.namespace, &self.settings.route.name);
        tracing::error!(
            route = format!("{namespace}/{name}"),
            reason = stop.reason,
            "{}",
            stop.message
        );
        lanes.stopped.get_or_insert(stop);
        self.tell(&lanes);
        if !self.is_operated {
            lanes.hand_over();
        }
    }

    /// Ends the route.
    pub(super) fn end(&self, command: Command) {
        let mut lanes = lock(&self.lanes);
        if lanes.end != Some(Command::Abort) {
            lanes.end = Some(command);
        }
        self.tell(&lanes);
        lanes.hand_over();
    }
}

fn spawn(task: LaneTask) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let name = format!("lane-{}", task.plan.lane);
    std::thread::Builder::new()
        .name(name)
        .spawn(move || runtime.block_on(task.run()))
}
