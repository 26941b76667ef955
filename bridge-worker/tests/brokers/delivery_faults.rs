//! The fault campaign of the other direction: 100,000 commands with QoS 1 and 20,000 with QoS 2 from Kafka to the
//! sessions of 1,000 devices, while workers are killed, come and go, and everything around them is stopped, cut,
//! half-open and slow. Every record arrives, those of a partition in order, and no offset is committed before the broker
//! has confirmed all that precedes it.
//!
//! `make campaign` runs the long form: all faults four times (`MILLRACE_CAMPAIGN=long`).

use crate::support::{Commands, DEVICES, Log, SOON, last};
use millrace_contract::status::ConnectionState;
use millrace_testkit::{Kafka, Mosquitto, Proxy, Subscriber, check, wait_until};
use std::time::Duration;

/// How long Kafka is stopped.
const KAFKA_STOPPED: Duration = Duration::from_secs(10);

#[test]
fn no_fault_loses_a_command() {
    let long = std::env::var("MILLRACE_CAMPAIGN").is_ok_and(|form| form == "long");
    let rounds = if long { 4 } else { 1 };
    let mut plant = Plant::start(&[(1, 2_500.0), (2, 500.0)]);
    plant.wait_flow();
    for _ in 0..rounds {
        plant.kill_workers("the only workers are killed");
        plant.scale(4);
        plant.kill_workers("one of four is killed");
        plant.restart_mosquitto();
        plant.scale(2);
        plant.stop_kafka();
        plant.cut_mqtt();
        plant.half_open_mqtt();
        plant.kill_kafka();
        plant.kill_workers("one of two is killed");
        plant.cut_kafka();
        plant.slow_mqtt();
        plant.scale(1);
    }
    plant.finish(&[rounds * 100_000, rounds * 20_000]);
}

struct Plant {
    log: Log,
    mosquitto: Mosquitto,
    kafka: Kafka,
    devices: Subscriber,
    all: Vec<Commands>,
}

impl Plant {
    /// With commands of each QoS and rate.
    fn start(all: &[(u8, f64)]) -> Plant {
        let log = Log::start();
        let mosquitto = Mosquitto::builder().persistence(true).start();
        let kafka = Kafka::builder().with_proxy().start();
        let devices = Subscriber::start(mosquitto.port(), DEVICES, 2, |device| {
            Commands::topic("+", device)
        });
        let all = all
            .iter()
            .map(|&(qos, rate)| Commands::start(&mosquitto, &kafka, qos, rate));
        let all = all.collect();
        let plant = Plant {
            log,
            mosquitto,
            kafka,
            devices,
            all,
        };
        plant.log.say("everything runs");
        plant
    }

    fn wait_flow(&self) {
        for commands in &self.all {
            commands.wait_flow(&self.devices);
            self.log.say(&format!(
                "{}: {} have arrived, {} repeats on the wire",
                commands.route.name,
                commands.delivered(&self.devices),
                commands.witness.repeats(),
            ));
        }
    }

    /// With messages that mosquitto has not answered; of QoS 2 some that it has, and was not told to forget.
    fn kill_workers(&mut self, what: &str) {
        self.hold("the workers have messages on their way", |commands| {
            let victim = commands.workers[0].status().delivery;
            victim.is_some_and(|delivery| delivery.connection.window > 0)
                && commands.witness.open() >= 10
                && (commands.route.qos < 2 || commands.witness.unreleased() > 0)
        });
        let met = self
            .all
            .iter()
            .map(|commands| (commands.witness.open(), commands.witness.unreleased()));
        let met: Vec<_> = met.collect();
        for commands in &mut self.all {
            commands.workers[0].kill();
        }
        self.mosquitto.resume();
        for commands in &mut self.all {
            commands.workers[0].start();
        }
        self.log
            .say(&format!("{what}: {met:?} unconfirmed and unreleased"));
        for commands in &self.all {
            commands.wait_shared_out();
        }
        self.wait_flow();
    }

    /// Stops mosquitto at a moment at which something holds for all commands: it goes on again as long as it does not.
    fn hold(&mut self, what: &str, holds: impl Fn(&Commands) -> bool) {
        wait_until(SOON, what, || {
            self.mosquitto.pause();
            // For what is on its way to come to rest.
            last(Duration::from_millis(20));
            let is_there = self.all.iter().all(&holds);
            if !is_there {
                self.mosquitto.resume();
                last(Duration::from_micros(self.log.micros() % 5_000));
            }
            is_there
        });
    }

    /// Nothing is repeated when workers come and go.
    fn scale(&mut self, workers: usize) {
        for commands in &mut self.all {
            let before = commands.witness.repeats();
            commands.scale(workers);
            commands.wait_flow(&self.devices);
            assert_eq!(
                commands.witness.repeats(),
                before,
                "repeats with {workers} workers"
            );
        }
        self.log.say(&format!("{workers} workers"));
        self.wait_flow();
    }

    /// SIGTERM: mosquitto saves, and loses nothing.
    fn restart_mosquitto(&mut self) {
        self.mosquitto.restart();
        self.log.say("mosquitto was restarted");
        self.wait_flow();
    }

    fn cut_mqtt(&mut self) {
        self.networks(Proxy::cut);
        last(Duration::from_secs(2));
        self.networks(Proxy::pass);
        self.log.say("MQTT was cut");
        self.wait_flow();
    }

    /// Until the workers notice by themselves.
    fn half_open_mqtt(&mut self) {
        self.networks(Proxy::half_open);
        for commands in &self.all {
            wait_until(SOON, "the workers to notice", || {
                commands.workers.iter().all(|worker| {
                    let delivery = worker.status().delivery.expect("the status of a delivery");
                    delivery.connection.state != ConnectionState::Up
                })
            });
            assert!(
                commands.network.counts().lost_to_target > 0,
                "nothing was swallowed"
            );
        }
        self.networks(Proxy::pass);
        self.log.say("MQTT was half-open");
        self.wait_flow();
    }

    fn slow_mqtt(&mut self) {
        self.networks(|network| network.slow(150_000, Duration::from_millis(20)));
        last(Duration::from_secs(4));
        self.networks(Proxy::pass);
        self.log.say("MQTT was slow");
        self.wait_flow();
    }

    /// SIGSTOP for longer than a member of a group may be silent.
    fn stop_kafka(&mut self) {
        self.kafka.pause();
        last(KAFKA_STOPPED);
        self.kafka.resume();
        self.log.say("Kafka was stopped");
        self.wait_flow();
    }

    /// SIGKILL; it comes back as soon as a JVM can.
    fn kill_kafka(&mut self) {
        self.kafka.kill();
        self.kafka.start();
        self.log.say("Kafka was killed");
        self.wait_flow();
    }

    fn cut_kafka(&mut self) {
        let before = self.kafka.proxy().counts();
        self.kafka.proxy().cut();
        last(Duration::from_secs(3));
        self.kafka.proxy().pass();
        assert!(
            self.kafka.proxy().counts().reset > before.reset,
            "nothing was reset"
        );
        self.log.say("Kafka was cut off");
        self.wait_flow();
    }

    fn networks(&self, fault: impl Fn(&Proxy)) {
        self.all.iter().for_each(|commands| fault(&commands.network));
    }

    /// Waits for the rest, and compares the accounts.
    fn finish(self, least: &[u64]) {
        self.log.say("all faults are over");
        for (commands, least) in self.all.iter().zip(least) {
            commands.writer.wait_confirmed(*least, Duration::from_secs(600));
        }
        let reports = self
            .all
            .into_iter()
            .map(|commands| commands.finish(&self.log, &self.devices, &self.kafka));
        let reports: Vec<_> = reports.collect();
        let records = self.devices.finish();
        let runs: Vec<u32> = reports.iter().map(|report| report.run()).collect();
        for report in reports {
            let others: Vec<u32> = runs.iter().copied().filter(|run| *run != report.run()).collect();
            let verdict = check(&report, &records.clone().without(&others));
            self.log.say(&verdict.to_string());
            verdict.assert_nothing_lost();
        }
    }
}
