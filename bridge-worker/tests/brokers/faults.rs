//! The fault campaign: 200,000 messages with QoS 1 at a steady 3,000/s, and 60,000 with QoS 2 at 900/s beside them,
//! while everything between the publishers and Kafka is killed, stopped, cut, half-open and slow. Nothing is lost,
//! little is written twice, and the order of each key is kept.
//!
//! ```text
//! publisher -> mosquitto <- tap <- network <- worker -> network -> Kafka <- observer
//! ```
//!
//! The tap counts on the wire what a connection leaves unacknowledged. Publisher and observer go past every fault but
//! the restarts of mosquitto and Kafka themselves. Each route has a broker side of its own; both share the way to
//! Kafka. `make campaign` runs the long form: all faults four times (`MILLRACE_CAMPAIGN=long`).

use crate::support::{Acks, Log, Route, SOON, Tap, Worker, last};
use millrace_contract::status::LaneState;
use millrace_testkit::{Kafka, Mosquitto, Observer, Proxy, Publisher, check, wait_until};
use std::time::Duration;

/// Of each worker.
const LANES: u16 = 2;
/// How long Kafka is stopped.
const KAFKA_STOPPED: Duration = Duration::from_secs(20);
/// Large enough a window to tell that a fault hit more than the usual messages on their way.
const HELD: u64 = 1_000;

/// mosquitto 2.0.11 reads one packet of a connection at a time: after an outage that takes it seconds.
const ACKS_READ: Duration = Duration::from_secs(60);

#[test]
fn no_fault_loses_a_message() {
    let long = std::env::var("MILLRACE_CAMPAIGN").is_ok_and(|form| form == "long");
    let rounds = if long { 4 } else { 1 };
    let mut plant = Plant::start(&[(1, rounds * 200_000, 3_000.0), (2, rounds * 60_000, 900.0)]);
    plant.wait_flow();
    for _ in 0..rounds {
        plant.kill_workers("the workers are killed");
        plant.wait_flow();
        plant.stop_kafka();
        plant.restart_mosquitto();
        plant.kill_workers("the workers are killed again");
        plant.wait_flow();
        plant.kill_kafka();
        plant.cut_mqtt();
        plant.cut_kafka();
        plant.half_open_mqtt();
        plant.kill_workers("the workers are killed a fourth time");
        plant.wait_flow();
        plant.half_open_kafka();
        plant.slow_mqtt();
        plant.slow_kafka();
    }
    plant.finish(5 * rounds);
}

/// One way through the plant: a publisher with one QoS, and the worker that moves its messages.
struct Flow {
    name: String,
    messages: u64,
    network: Proxy,
    tap: Tap,
    worker: Worker,
    kills: u64,
    observer: Observer,
    publisher: Publisher,
}

struct Plant {
    log: Log,
    mosquitto: Mosquitto,
    kafka: Kafka,
    flows: Vec<Flow>,
}

impl Plant {
    /// With a flow for each QoS, number of messages, and rate.
    fn start(flows: &[(u8, u64, f64)]) -> Plant {
        let log = Log::start();
        let mosquitto = Mosquitto::builder().persistence(true).start();
        let kafka = Kafka::builder().with_proxy().start();
        let flows = flows.iter().map(|&(qos, messages, rate)| {
            let name = format!("qos{qos}");
            kafka.create_topic(&name, 6, &[]);
            let tap = Tap::to(mosquitto.address(), Acks::OfTheWorker);
            let network = Proxy::to(tap.address());
            let route = Route {
                qos,
                lanes: LANES,
                // So long that there is always something on its way when a fault comes.
                linger_ms: 20,
                ..Route::new(&name, network.port(), &kafka.bootstrap_through_proxy(), &name)
            };
            let mut worker = Worker::new(&route.document());
            worker.start_and_wait();
            Flow {
                messages,
                network,
                tap,
                worker,
                kills: 0,
                observer: Observer::start(&kafka.bootstrap(), &[&name]),
                // Endless: a slow machine takes longer for the faults, and each of them must meet messages.
                publisher: Publisher::builder(mosquitto.port())
                    .qos(qos)
                    .connections(2)
                    .keys(100)
                    .rate(rate)
                    .topic_of(Route::topic_of(&name))
                    .start(),
                name,
            }
        });
        let flows = flows.collect();
        let plant = Plant {
            log,
            mosquitto,
            kafka,
            flows,
        };
        plant.log.say("everything runs");
        plant
    }

    /// Waits until every flow has caught up: all its lanes are connected again, which each does at a time of its own, what
    /// is acknowledged to its publisher by now, and more, is in Kafka, and mosquitto has read the acknowledgements.
    fn wait_flow(&self) {
        for flow in &self.flows {
            wait_until(SOON, "a connection of each lane", || {
                flow.tap.open() == u64::from(LANES)
            });
            flow.worker.wait_up();
            let goal = flow.publisher.acknowledged() + 100;
            flow.observer.wait_for(goal, SOON);
            let name = &flow.name;
            wait_until(
                ACKS_READ,
                &format!("mosquitto to read the acks of {name}"),
                || flow.tap.unacknowledged() < HELD,
            );
            self.log.say(&format!(
                "{name}: {} written twice so far, {} sent again, {} were unacknowledged",
                flow.observer.count() - flow.observer.distinct(),
                flow.tap.redelivered(),
                flow.tap.unacknowledged_when_lost(),
            ));
        }
    }

    /// Waits until every flow has messages on their way, and returns how many.
    fn wait_windows(&self, least: u64) -> Vec<u64> {
        for flow in &self.flows {
            let name = &flow.name;
            wait_until(SOON, &format!("a window of {least} of {name}"), || {
                flow.tap.unacknowledged() >= least
            });
        }
        self.flows.iter().map(|flow| flow.tap.unacknowledged()).collect()
    }

    /// What each worker says it has received and not acknowledged: Kafka does not confirm it.
    fn windows(&self) -> Vec<u64> {
        self.flows.iter().map(|flow| flow.worker.window()).collect()
    }

    /// How many connections each flow has lost so far.
    fn lost(&self) -> Vec<usize> {
        self.flows.iter().map(|flow| flow.tap.lost().len()).collect()
    }

    /// Waits until each flow has lost all its connections since `before`, asserts that messages were on their way,
    /// and returns how many.
    fn assert_lost(&self, before: &[usize]) -> Vec<u64> {
        let lost = self.flows.iter().zip(before).map(|(flow, &before)| {
            wait_until(SOON, "all lanes to lose their connections", || {
                flow.tap.lost().len() >= before + usize::from(LANES)
            });
            let unacknowledged = flow.tap.lost()[before..]
                .iter()
                .map(|lost| lost.unacknowledged)
                .sum();
            assert!(unacknowledged > 0, "the fault met no message of {}", flow.name);
            unacknowledged
        });
        lost.collect()
    }

    fn kill_workers(&mut self, what: &str) {
        let before = self.lost();
        self.wait_windows(1);
        for flow in &mut self.flows {
            flow.worker.kill();
            flow.kills += 1;
            flow.worker.start();
        }
        let lost = self.assert_lost(&before);
        self.log.say(&format!("{what}: {lost:?} unacknowledged"));
    }

    /// SIGSTOP for [`KAFKA_STOPPED`]; half-way through, the workers are killed as well.
    fn stop_kafka(&mut self) {
        self.kafka.pause();
        last(KAFKA_STOPPED / 2);
        self.wait_windows(HELD);
        let before = self.lost();
        for flow in &mut self.flows {
            flow.worker.kill();
            flow.kills += 1;
            flow.worker.start_and_wait();
        }
        let lost = self.assert_lost(&before);
        last(KAFKA_STOPPED / 2);
        let windows = self.windows();
        assert!(windows.iter().all(|&window| window >= HELD), "{windows:?}");
        self.kafka.resume();
        self.log.say(&format!(
            "Kafka was stopped, {lost:?} unacknowledged at the kill in it, {windows:?} at its end"
        ));
        self.wait_flow();
    }

    /// SIGKILL; it comes back as soon as a JVM can.
    fn kill_kafka(&mut self) {
        self.wait_windows(1);
        self.kafka.kill();
        self.wait_windows(HELD);
        let windows = self.windows();
        assert!(windows.iter().all(|&window| window > 0), "{windows:?}");
        self.kafka.start();
        self.log
            .say(&format!("Kafka was killed, {windows:?} unacknowledged"));
        self.wait_flow();
    }

    /// SIGTERM: mosquitto saves, and loses nothing.
    fn restart_mosquitto(&mut self) {
        let before = self.lost();
        self.wait_windows(1);
        self.mosquitto.restart();
        let lost = self.assert_lost(&before);
        self.log
            .say(&format!("mosquitto was restarted, {lost:?} unacknowledged"));
        self.wait_flow();
    }

    fn cut_mqtt(&mut self) {
        let before = self.lost();
        self.wait_windows(1);
        self.networks(Proxy::cut);
        let lost = self.assert_lost(&before);
        last(Duration::from_secs(2));
        self.networks(Proxy::pass);
        self.log.say(&format!("MQTT was cut, {lost:?} unacknowledged"));
        self.wait_flow();
    }

    /// Until the workers notice by themselves.
    fn half_open_mqtt(&mut self) {
        let before = self.lost();
        self.networks(Proxy::half_open);
        for flow in &self.flows {
            wait_until(SOON, "the worker to notice", || {
                let status = flow.worker.status();
                status.lanes.iter().all(|lane| {
                    lane.state != LaneState::Up
                        && lane
                            .last_error
                            .as_deref()
                            .is_some_and(|error| error.contains("does not answer"))
                })
            });
            assert!(flow.network.counts().lost_to_client > 0, "nothing was swallowed");
        }
        self.networks(Proxy::pass);
        let lost = self.assert_lost(&before);
        self.log
            .say(&format!("MQTT was half-open, {lost:?} unacknowledged"));
        self.wait_flow();
    }

    /// Slower than messages come; the workers are killed in it.
    fn slow_mqtt(&mut self) {
        self.networks(|network| network.slow(150_000, Duration::from_millis(20)));
        last(Duration::from_secs(4));
        let windows = self.wait_windows(1);
        self.log.say(&format!("MQTT is slow, {windows:?} unacknowledged"));
        self.kill_workers("the workers are killed a fifth time");
        // What is sent again comes first, and takes its time.
        last(Duration::from_secs(2));
        self.networks(Proxy::pass);
        self.wait_flow();
    }

    fn cut_kafka(&mut self) {
        let before = self.kafka.proxy().counts();
        self.kafka.proxy().cut();
        last(Duration::from_secs(3));
        let windows = self.windows();
        self.kafka.proxy().pass();
        assert!(
            self.kafka.proxy().counts().reset > before.reset,
            "nothing was reset"
        );
        assert!(windows.iter().all(|&window| window >= HELD), "{windows:?}");
        self.log
            .say(&format!("Kafka was cut off, {windows:?} unacknowledged"));
        self.wait_flow();
    }

    fn half_open_kafka(&mut self) {
        let before = self.kafka.proxy().counts();
        self.kafka.proxy().half_open();
        last(Duration::from_secs(4));
        let windows = self.windows();
        let swallowed = self.kafka.proxy().counts().lost_to_target - before.lost_to_target;
        self.kafka.proxy().pass();
        assert!(swallowed > 0, "nothing was swallowed");
        assert!(windows.iter().all(|&window| window >= HELD), "{windows:?}");
        self.log.say(&format!(
            "Kafka was half-open, {windows:?} unacknowledged, {swallowed} bytes gone"
        ));
        self.wait_flow();
    }

    fn slow_kafka(&mut self) {
        self.kafka.proxy().slow(100_000, Duration::from_millis(50));
        last(Duration::from_secs(4));
        let windows = self.windows();
        assert!(windows.iter().all(|&window| window >= HELD), "{windows:?}");
        self.kafka.proxy().pass();
        self.log
            .say(&format!("Kafka was slow, {windows:?} unacknowledged"));
        self.wait_flow();
    }

    fn networks(&self, fault: impl Fn(&Proxy)) {
        self.flows.iter().for_each(|flow| fault(&flow.network));
    }

    /// Waits for the rest of the messages, and compares the accounts.
    fn finish(self, kills: u64) {
        self.log.say("all faults are over");
        for flow in &self.flows {
            flow.publisher
                .wait_acknowledged(flow.messages, Duration::from_secs(600));
        }
        self.flows.iter().for_each(|flow| flow.publisher.stop());
        for mut flow in self.flows {
            assert_eq!(flow.kills, kills);
            let report = flow.publisher.finish(SOON);
            flow.observer.wait_for(report.acknowledged(), SOON);
            let ledger = flow.worker.settled();
            flow.worker.assert_memory_in_bounds();
            flow.worker.terminate();
            wait_until(SOON, "the last connections to end", || flow.tap.open() == 0);
            let (redelivered, unacknowledged) = (flow.tap.redelivered(), flow.tap.unacknowledged_when_lost());
            let peak = flow.worker.peak_memory() >> 20;
            let verdict = check(&report, &flow.observer.finish());
            self.log.say(&format!(
                "{}: {unacknowledged} were unacknowledged when their connection was lost, {redelivered} sent again; the \
                 worker took at most {peak} MiB\n{ledger:?}\n{verdict}",
                flow.name,
            ));
            verdict.assert_nothing_lost();
            assert_eq!(verdict.split_keys, 0, "{verdict}");
            verdict.assert_duplicates_at_most(unacknowledged);
            // The count is right: mosquitto marks what it sends again, and that is never more.
            assert!(redelivered <= unacknowledged, "{redelivered} sent again");
        }
    }
}
