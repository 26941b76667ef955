//! One way for commands through a plant: from a topic in Kafka to the sessions of devices.

use super::{Audit, Confirmations, Log, Route, SOON, Witness, Worker};
use millrace_testkit::{
    Kafka, MessageId, Mosquitto, Observer, Proxy, Report, Subscriber, Writer, committed, wait_until,
};
use std::sync::Arc;

/// Each has a session of its own.
pub const DEVICES: u32 = 1_000;
/// Of the topic with the commands.
pub const PARTITIONS: u32 = 6;

/// Commands of one QoS: who writes them, the workers that publish them, and who looks on.
///
/// ```text
/// writer -> Kafka <- network <- workers -> network -> witness -> mosquitto -> devices
/// ```
pub struct Commands {
    pub route: Route,
    /// Between the workers and the broker.
    pub network: Proxy,
    pub witness: Arc<Witness>,
    pub workers: Vec<Worker>,
    pub writer: Writer,
    audit: Audit,
}

impl Commands {
    /// The topic of a device.
    pub fn topic(name: &str, device: u32) -> String {
        format!("{name}/{device}")
    }

    /// Begins to write, and to publish with one worker.
    #[track_caller]
    pub fn start(mosquitto: &Mosquitto, kafka: &Kafka, qos: u8, rate: f64) -> Commands {
        let name = format!("commands{qos}");
        kafka.create_topic(&name, PARTITIONS as i32, &[]);
        let witness = Arc::new(Witness::to(
            mosquitto.address(),
            Confirmations::OfTheBroker,
            place_of,
        ));
        let network = Proxy::to(witness.address());
        let route = Route {
            qos,
            ..Route::new(&name, network.port(), &kafka.bootstrap_through_proxy(), &name)
        };
        let audit = Audit::start(kafka.bootstrap(), route.group(), name.clone(), witness.clone());
        let writer = Writer::start(&kafka.bootstrap(), &name, PARTITIONS, DEVICES, rate);
        let mut commands = Commands {
            route,
            network,
            witness,
            workers: Vec::new(),
            writer,
            audit,
        };
        commands.scale(1);
        commands
    }

    /// Starts workers, or ends those with the highest numbers in order, one after the other; waits until the others
    /// have all partitions between them.
    #[track_caller]
    pub fn scale(&mut self, workers: usize) {
        while self.workers.len() < workers {
            let mut worker = Worker::numbered(&self.route.delivery(), self.workers.len() as u32);
            worker.start();
            self.workers.push(worker);
        }
        while self.workers.len() > workers {
            self.workers.pop().expect("a worker").terminate();
        }
        self.wait_shared_out();
    }

    /// Waits until each worker has partitions, and all of them are somebody's.
    #[track_caller]
    pub fn wait_shared_out(&self) {
        wait_until(SOON, "all partitions to be shared out", || {
            let partitions = self.workers.iter().map(Worker::partitions);
            let partitions: Vec<usize> = partitions.collect();
            partitions.iter().all(|count| *count > 0)
                && partitions.iter().sum::<usize>() == PARTITIONS as usize
        });
    }

    /// Everything that Kafka has by now, and more, has come to the devices, and every worker has repeated what it has to:
    /// each connects again at a time of its own.
    #[track_caller]
    pub fn wait_flow(&self, devices: &Subscriber) {
        let _standing = Standing(self);
        // In a partition what is repeated comes before what is new.
        let published = self.witness.published();
        wait_until(SOON, "something new in every partition", || {
            let confirmed = self.witness.confirmed();
            published
                .iter()
                .zip(confirmed)
                .all(|(published, confirmed)| confirmed > *published)
        });
        let goal = self.writer.confirmed() + 100;
        wait_until(SOON, &format!("{goal} messages of {}", self.route.name), || {
            self.delivered(devices) >= goal
        });
    }

    /// Different messages that have come to the devices.
    pub fn delivered(&self, devices: &Subscriber) -> u64 {
        devices.distinct_of(self.writer.run())
    }

    /// Stops writing, waits for the rest, ends the workers, and returns what was written; everything but what has come
    /// to the devices is checked.
    #[track_caller]
    pub fn finish(mut self, log: &Log, devices: &Subscriber, kafka: &Kafka) -> Report {
        let run = self.writer.run();
        let report = self.writer.finish(SOON);
        let all = report.sent();
        let name = self.route.name.clone();
        wait_until(SOON, &format!("all {all} messages of {name}"), || {
            devices.distinct_of(run) >= all
        });
        let topic = self.route.topic.clone();
        let group = self.route.group();
        wait_until(SOON, "all offsets to be committed", || {
            committed(&kafka.bootstrap(), &group, &topic)
                .is_some_and(|offsets| offsets.values().sum::<i64>() as u64 == all)
        });
        let findings = self.audit.finish();
        for worker in &mut self.workers {
            worker.settled();
            worker.assert_memory_in_bounds();
        }
        let peak = self.workers.iter_mut().map(Worker::peak_memory).max();
        for mut worker in self.workers {
            worker.terminate();
        }
        // What the witness takes for a record's place is where it is.
        let observer = Observer::start(&kafka.bootstrap(), &[&topic]);
        observer.wait_for(all, SOON);
        for seen in observer.finish().seen() {
            let place = (seen.partition as usize, seen.offset as u64);
            assert_eq!(place, place_of(seen.id), "{}", seen.id);
        }
        log.say(&format!(
            "{name}: {} repeats on the wire; {findings:?}; a worker took at most {} MiB",
            self.witness.repeats(),
            peak.unwrap_or_default() >> 20
        ));
        assert_eq!(self.witness.out_of_order(), [], "out of order on the wire");
        assert!(findings.looks > 100 && findings.moved > 20, "{findings:?}");
        assert_eq!(findings.ahead, 0, "{findings:?}");
        report
    }
}

/// Says where everybody stands when a test fails meanwhile.
struct Standing<'a>(&'a Commands);

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Standing(commands) = self;
        eprintln!(
            "{}: {} records confirmed to the writer; the witness has seen {:?} published, {:?} confirmed",
            commands.route.name,
            commands.writer.confirmed(),
            commands.witness.published(),
            commands.witness.confirmed(),
        );
        for (number, worker) in commands.workers.iter().enumerate() {
            eprintln!("worker {number}: {:?}", worker.try_status());
        }
    }
}

/// Where a record of the writer is: its partition and its offset there.
pub fn place_of(id: MessageId) -> (usize, u64) {
    let partition = id.key % PARTITIONS;
    let keys = (DEVICES - partition).div_ceil(PARTITIONS);
    let offset = u64::from(id.sequence) * u64::from(keys) + u64::from(id.key / PARTITIONS);
    (partition as usize, offset)
}
