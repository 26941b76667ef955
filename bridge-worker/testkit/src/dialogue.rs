//! Devices that ask, and an application behind Kafka that answers.

use crate::address::Address;
use crate::client::Connection;
use crate::kafka::client;
use crate::publisher::new_run;
use crate::wait::{holds_within, wait_until};
use crate::wire::{Packet, Properties, Publish, Value, id};
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use std::collections::HashMap;
use std::fmt;
use std::io::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep_until;

/// The size of a question, which its answer repeats.
const SIZE: usize = 100;
/// For all devices to have their subscriptions, and for the application to have its partitions.
const READY: Duration = Duration::from_secs(60);
const RESPONSE_TOPIC: &str = "mqtt.responseTopic";
const CORRELATION_DATA: &str = "mqtt.correlationData";

/// Devices, each with a connection of MQTT 5, and an application that reads their questions from one Kafka topic and writes
/// the answers to another. A question names a response topic of its own and has correlation data that are no text; the
/// application copies the headers of those from the record that it reads to the one that it writes, and nothing else.
///
/// ```no_run
/// use millrace_testkit::{Dialogue, Kafka, Mosquitto};
/// use std::time::Duration;
///
/// let (mosquitto, kafka) = (Mosquitto::builder().start(), Kafka::shared());
/// let (questions, answers) = (kafka.unique_topic("questions", 3), kafka.unique_topic("answers", 3));
/// // ... start a route from `devices/+device/questions` to the topic of questions, and one back ...
/// let dialogue = Dialogue::start(mosquitto.port(), &kafka.bootstrap(), [&questions, &answers], "devices", 50, 1_000.0);
/// dialogue.wait_asked(10_000, Duration::from_secs(30));
/// let heard = dialogue.finish(Duration::from_secs(10));
/// assert_eq!((heard.asked, heard.wrong.len()), (heard.answered, 0));
/// ```
#[derive(Debug)]
pub struct Dialogue {
    shared: Arc<Shared>,
    /// Devices are to ask; then to end.
    stage: watch::Sender<Stage>,
    threads: Vec<JoinHandle<()>>,
}

/// What the devices have heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Questions that were asked.
    pub asked: u64,
    /// Questions that were answered.
    pub answered: u64,
    /// Answers that came again.
    pub repeated: u64,
    /// The first answers that were not what they should be, and how.
    pub wrong: Vec<String>,
    /// When each question was asked that was answered, since the first one, and how long that took; the shortest first.
    pub times: Vec<(Duration, Duration)>,
}

impl Heard {
    /// So many in a hundred answers took at most so long.
    ///
    /// # Panics
    /// Without answers.
    pub fn percentile(&self, percent: f64) -> Duration {
        let at = (self.times.len() as f64 * percent / 100.0).ceil() as usize;
        self.times[at.clamp(1, self.times.len()) - 1].1
    }

    /// Of the questions that were asked later than that only.
    pub fn later_than(&self, start: Duration) -> Heard {
        let mut later = self.clone();
        later.times.retain(|(asked, _)| *asked > start);
        later
    }
}

impl fmt::Display for Heard {
    /// How long answers took.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, slowest] = [50.0, 99.0, 100.0].map(|percent| self.percentile(percent));
        let count = self.times.len();
        write!(
            f,
            "{count} answers: p50 {half:.1?}, p99 {most:.1?}, the slowest {slowest:.1?}"
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ask,
    Listen,
    End,
}

#[derive(Debug, Default)]
struct Shared {
    subscribed: AtomicU64,
    /// The application has its partitions.
    listens: AtomicBool,
    end: AtomicBool,
    asked: AtomicU64,
    heard: Mutex<Heard>,
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialogue {
    /// Starts `devices` that together ask `rate` questions per second, at `<level>/<number>/questions`, and listen at
    /// `<level>/<number>/answers`; and the application, which reads the first topic and writes the second one.
    ///
    /// # Panics
    /// When not all of them are ready within a minute.
    #[track_caller]
    pub fn start(
        broker: impl Into<Address>,
        bootstrap: &str,
        [questions, answers]: [&str; 2],
        level: &str,
        devices: u32,
        rate: f64,
    ) -> Dialogue {
        let broker = broker.into();
        let shared = Arc::new(Shared::default());
        let (stage, staged) = watch::channel(Stage::Listen);
        let run = new_run();
        let application = Application {
            consumer: client(bootstrap)
                .set("group.id", format!("testkit-{run:08x}"))
                .set("auto.offset.reset", "earliest")
                .set("fetch.wait.max.ms", "10")
                .create()
                .expect("a consumer"),
            producer: client(bootstrap)
                // As Apache Kafka's own producers have it by default.
                .set("linger.ms", "5")
                .create()
                .expect("a producer"),
            answers: answers.to_owned(),
            shared: shared.clone(),
        };
        application
            .consumer
            .subscribe(&[questions])
            .expect("a subscription");
        let pause = Duration::from_secs_f64(f64::from(devices) / rate);
        let start = Instant::now();
        let all: Vec<Device> = (0..devices)
            .map(|number| Device {
                broker,
                client_id: format!("testkit-{run:08x}-{number}"),
                questions: format!("{level}/{number}/questions"),
                answers: format!("{level}/{number}/answers"),
                pause,
                // All devices take turns.
                first: pause * number / devices,
                start,
                stage: staged.clone(),
                shared: shared.clone(),
            })
            .collect();
        let threads = vec![
            thread::spawn(move || application.run()),
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                let local = LocalSet::new();
                for device in all {
                    local.spawn_local(async move { device.run().await.expect("the connection of a device") });
                }
                runtime.block_on(local);
            }),
        ];
        let dialogue = Dialogue {
            shared,
            stage,
            threads,
        };
        wait_until(READY, "devices and application to be ready", || {
            dialogue.shared.listens.load(Ordering::Relaxed)
                && dialogue.shared.subscribed.load(Ordering::Relaxed) == u64::from(devices)
        });
        dialogue.stage.send_replace(Stage::Ask);
        dialogue
    }

    /// Waits until so many questions were asked.
    ///
    /// # Panics
    /// When there are fewer after `deadline`.
    #[track_caller]
    pub fn wait_asked(&self, count: u64, deadline: Duration) {
        wait_until(deadline, &format!("{count} questions to be asked"), || {
            self.shared.asked.load(Ordering::Relaxed) >= count
        });
    }

    /// Asks nothing more, waits until everything was answered, at most so long, and returns what was heard.
    pub fn finish(mut self, deadline: Duration) -> Heard {
        self.stage.send_replace(Stage::Listen);
        holds_within(deadline, || {
            self.shared.heard().answered == self.shared.asked.load(Ordering::Relaxed)
        });
        self.end();
        let mut heard = std::mem::take(&mut *self.shared.heard());
        heard.asked = self.shared.asked.load(Ordering::Relaxed);
        heard.times.sort_unstable_by_key(|(_, took)| *took);
        heard
    }

    fn end(&mut self) {
        self.stage.send_replace(Stage::End);
        self.shared.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there was printed, and this one may be panicking itself.
            thread.join().ok();
        }
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        self.end();
    }
}

struct Device {
    broker: Address,
    client_id: String,
    questions: String,
    answers: String,
    /// Between two questions.
    pause: Duration,
    /// Before the first.
    first: Duration,
    /// When the dialogue began.
    start: Instant,
    stage: watch::Receiver<Stage>,
    shared: Arc<Shared>,
}

impl Device {
    async fn run(mut self) -> Result<(), Error> {
        let (mut connection, _) =
            Connection::open(self.broker, &self.client_id, true, Properties::new()).await?;
        connection.subscribe(&self.answers, 1).await?;
        self.shared.subscribed.fetch_add(1, Ordering::Relaxed);
        let mut open: HashMap<Bytes, (Instant, Bytes)> = HashMap::new();
        let mut number = 0_u32;
        let mut next = None;
        loop {
            let stage = *self.stage.borrow_and_update();
            match stage {
                Stage::End => return Ok(()),
                Stage::Listen => next = None,
                Stage::Ask => {
                    next.get_or_insert_with(|| Instant::now() + self.first);
                }
            }
            let due = next.unwrap_or_else(|| Instant::now() + READY);
            tokio::select! {
                packet = connection.next() => match packet? {
                    Packet::Publish(answer) => {
                        connection.answer(0x40, answer.packet_id);
                        self.hear(&answer, &mut open);
                    }
                    Packet::Puback(_) => {}
                    other => return Err(Error::other(format!("nobody asked for {other:?}"))),
                },
                () = sleep_until(due.into()), if next.is_some() => {
                    number += 1;
                    let question = self.question(number);
                    let data = correlation(number);
                    open.insert(data, (Instant::now(), question.payload.clone()));
                    connection.publish(&question);
                    connection.flush().await?;
                    self.shared.asked.fetch_add(1, Ordering::Relaxed);
                    next = Some(due + self.pause);
                }
                changed = self.stage.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    fn question(&self, number: u32) -> Publish {
        let mut payload = format!("{} {number} ", self.client_id).into_bytes();
        payload.resize(SIZE, b'.');
        let properties = Properties::new()
            .with(id::RESPONSE_TOPIC, Value::Text(self.answers.clone()))
            .with(id::CORRELATION_DATA, Value::Data(correlation(number)));
        // An id that is not in use: there are never so many questions without an answer.
        let packet_id = (number % 65_535) as u16 + 1;
        Publish::new(&self.questions, payload)
            .qos(1, packet_id)
            .properties(properties)
    }

    fn hear(&self, answer: &Publish, open: &mut HashMap<Bytes, (Instant, Bytes)>) {
        let mut heard = self.shared.heard();
        let data = match answer.properties.get(id::CORRELATION_DATA) {
            Some(Value::Data(data)) => data.clone(),
            other => return heard.wrong.push(format!("correlation data {other:?}")),
        };
        match open.get_mut(&data) {
            Some((at, question)) if !question.is_empty() => {
                let is_right = answer.topic == self.answers && answer.payload == *question;
                if !is_right {
                    heard.wrong.push(format!("an answer that is {answer:?}"));
                }
                question.clear();
                heard.answered += 1;
                heard.times.push((at.duration_since(self.start), at.elapsed()));
            }
            Some(_) => heard.repeated += 1,
            None => heard.wrong.push(format!("nobody asked for {answer:?}")),
        }
    }
}

/// Bytes that are no text, others for each question of a device.
fn correlation(number: u32) -> Bytes {
    let mut data = vec![0xff, 0x00, 0xfe];
    data.extend(number.to_be_bytes());
    data.into()
}

struct Application {
    consumer: BaseConsumer,
    producer: ThreadedProducer<DefaultProducerContext>,
    answers: String,
    shared: Arc<Shared>,
}

impl Application {
    fn run(self) {
        while !self.shared.end.load(Ordering::Relaxed) {
            let record = self.consumer.poll(Duration::from_millis(50));
            if !self.shared.listens.load(Ordering::Relaxed) {
                let assigned = self.consumer.assignment().expect("an assignment").count() > 0;
                self.shared.listens.store(assigned, Ordering::Relaxed);
            }
            let Some(Ok(record)) = record else { continue };
            let mut headers = OwnedHeaders::new();
            for header in record.headers().into_iter().flat_map(|headers| headers.iter()) {
                if [RESPONSE_TOPIC, CORRELATION_DATA].contains(&header.key) {
                    headers = headers.insert(header);
                }
            }
            let answer = BaseRecord::to(&self.answers)
                .key(record.key().unwrap_or_default())
                .payload(record.payload().unwrap_or_default())
                .headers(headers);
            self.producer
                .send(answer)
                .map_err(|(error, _)| error)
                .expect("room for a record");
        }
        self.producer.flush(READY).expect("all answers to be written");
    }
}
