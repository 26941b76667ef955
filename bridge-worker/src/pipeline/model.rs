//! A lane against a model: a broker that follows MQTT, a Kafka that confirms in any order, a network that breaks
//! at any moment. The checks are the promises.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use millrace_contract::{ErrorAction, Mapping, PayloadFormat};
use millrace_mapping::{Filter, Mapper};
use proptest::prelude::*;

use super::lane::{Acks, Lane, LaneConfig, Now, Received};
use super::ring::Ack;
use crate::kafka::{Failure, FailureClass, OwnedRecord, RecordRef, Report, SendError, Sink};

/// Contents of messages. Those below are mapped.
const FILTERED: u8 = 3;
/// On a topic that maps to one the route may not write.
const FORBIDDEN: u8 = 4;
/// Larger than the route takes.
const OVERSIZED: u8 = 5;

/// One step of the world.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A device publishes one of few contents, so that equal ones meet under reused identifiers.
    Publish { qos: u8, content: u8 },
    /// The broker delivers what its window allows.
    Deliver,
    /// Kafka reports on a record it has: which one, and whether it took it.
    Confirm { nth: u8, class: u8 },
    /// The lane's acks reach the broker.
    Acknowledge,
    /// The broker sends PUBREL for what it holds after PUBREC.
    Release,
    /// The connection breaks; so many of the last acks have not reached the broker. What waited to be delivered
    /// may have been on the wire: it comes with DUP set, though the lane has never seen it.
    Lose { acks: u8, on_the_wire: bool },
    /// The broker has forgotten the session when the lane comes back.
    ForgetSession,
    /// The producer is full, or has room again.
    Full(bool),
    /// The producer is being replaced, or is there again.
    Paused(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..=2_u8, prop_oneof![9 => 0..3_u8, 1 => FILTERED..=OVERSIZED]).prop_map(|(qos, content)| Step::Publish { qos, content }),
        5 => Just(Step::Deliver),
        6 => (any::<u8>(), prop_oneof![8 => Just(0_u8), 2 => Just(1), 1 => Just(2), 1 => Just(3)])
            .prop_map(|(nth, class)| Step::Confirm { nth, class }),
        4 => Just(Step::Acknowledge),
        3 => Just(Step::Release),
        2 => (0..4_u8, any::<bool>()).prop_map(|(acks, on_the_wire)| Step::Lose { acks, on_the_wire }),
        1 => Just(Step::ForgetSession),
        1 => any::<bool>().prop_map(Step::Full),
        1 => any::<bool>().prop_map(Step::Paused),
    ]
}

/// The producer, as a list of records without report.
#[derive(Default)]
struct Producer {
    records: RefCell<Vec<(u64, OwnedRecord)>>,
    full: Cell<bool>,
    paused: Cell<bool>,
}

impl Sink for Rc<Producer> {
    fn send(&self, _: u16, sequence: u64, record: RecordRef<'_>, _: bool) -> Result<(), SendError> {
        if self.full.get() || self.paused.get() {
            return Err(SendError::Full);
        }
        self.records.borrow_mut().push((sequence, record.to_owned()));
        Ok(())
    }

    fn paused(&self) -> bool {
        self.paused.get()
    }

    fn has_known(&self, _: &str) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    /// Not sent on this connection.
    Queued,
    /// Sent, not acknowledged.
    Sent,
    /// PUBREC has come: PUBREL is due.
    Received,
}

/// A message at the broker.
#[derive(Clone, Copy, Debug)]
struct AtBroker {
    id: u16,
    qos: u8,
    content: u8,
    held: Held,
    dup: bool,
}

#[derive(Default)]
struct Outbox(VecDeque<(Ack, u16)>);

impl Acks for Outbox {
    fn ack(&mut self, ack: Ack, id: u16) {
        self.0.push_back((ack, id));
    }
}

struct World {
    lane: Lane<Rc<Producer>>,
    producer: Rc<Producer>,
    outbox: Outbox,
    broker: Vec<AtBroker>,
    /// Acks the broker has processed since the connection broke last, newest last: what `Lose` can undo.
    processed: Vec<AtBroker>,
    /// Records that Kafka has, and messages that were acknowledged, by content.
    in_kafka: BTreeMap<u8, usize>,
    acknowledged: BTreeMap<u8, usize>,
    clock: u64,
    /// Acks early, as a bridge does that trusts its buffers.
    acks_early: bool,
}

impl World {
    fn new(action: ErrorAction, acks_early: bool) -> Self {
        let mapping = Mapping {
            when: Some("message.topic != 'in/filtered'".into()),
            topic: "{kind}".into(),
            allowed_topics: vec!["out".into()],
            key: "{message.topic}".into(),
            headers: BTreeMap::new(),
            propagate: Vec::new(),
            value: None,
        };
        let filters = [Filter::parse("in/+kind").unwrap()];
        let mapper = Mapper::compile(&mapping, &filters, PayloadFormat::Bytes).unwrap();
        let producer = Rc::<Producer>::default();
        let config = LaneConfig {
            lane: 0,
            route: "default/model".into(),
            action,
            dead_letter_topic: (action == ErrorAction::DeadLetter).then(|| "dead".into()),
            skip: Vec::new(),
            max_buffered: 1 << 20,
        };
        Self {
            lane: Lane::new(config, mapper, Rc::clone(&producer), 7),
            producer,
            outbox: Outbox::default(),
            broker: Vec::new(),
            processed: Vec::new(),
            in_kafka: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            clock: 0,
            acks_early,
        }
    }

    fn now(&mut self) -> Now {
        self.clock += 1_000_000;
        Now {
            us: self.clock,
            epoch_ms: 0,
        }
    }

    fn publish(&mut self, qos: u8, content: u8) {
        let used: BTreeSet<u16> = self.broker.iter().map(|message| message.id).collect();
        // The lowest free identifier: reused as soon as it can be.
        let id = if qos == 0 {
            0
        } else {
            (1..).find(|id| !used.contains(id)).unwrap()
        };
        self.broker.push(AtBroker {
            id,
            qos,
            content,
            held: Held::Queued,
            dup: false,
        });
    }

    fn deliver(&mut self) {
        for index in 0..self.broker.len() {
            if !self.lane.can_take() {
                break;
            }
            let now = self.now();
            let message = &mut self.broker[index];
            if message.held != Held::Queued {
                continue;
            }
            message.held = Held::Sent;
            let message = *message;
            let received = Received {
                id: message.id,
                ack: [Ack::None, Ack::PubAck, Ack::PubRec][usize::from(message.qos)],
                dup: message.dup,
                retain: false,
                topic: match message.content {
                    FILTERED => "in/filtered",
                    FORBIDDEN => "in/forbidden",
                    _ => "in/out",
                },
                payload: &[message.content],
                properties: None,
            };
            match message.content {
                OVERSIZED => self.lane.receive_oversized(received, 1 << 30, String::new(), now),
                _ => self.lane.receive(received, now),
            }
        }
        self.broker
            .retain(|message| message.qos > 0 || message.held == Held::Queued);
    }

    fn confirm(&mut self, nth: u8, class: u8) {
        let count = self.producer.records.borrow().len();
        if count == 0 {
            return;
        }
        let (sequence, record) = self
            .producer
            .records
            .borrow_mut()
            .remove(usize::from(nth) % count);
        let content = record.value.as_ref().expect("a value")[0];
        let failure = |class, record| {
            Err(Box::new(Failure {
                class,
                at_once: true,
                message: "no".into(),
                record,
            }))
        };
        let result = match class {
            0 => {
                *self.in_kafka.entry(content).or_default() += 1;
                Ok(())
            }
            1 => failure(FailureClass::Retry, record),
            2 => failure(FailureClass::Batch, record),
            // Written, but the report says otherwise: the producer was purged in flight.
            _ => {
                *self.in_kafka.entry(content).or_default() += 1;
                failure(FailureClass::Retry, record)
            }
        };
        let now = self.now();
        self.lane.report(Report { sequence, result }, now);
        self.lane.resend(now);
    }

    /// The acks that may leave reach the broker, in the order they left.
    fn acknowledge(&mut self) {
        self.lane.acks(&mut self.outbox, false);
        if self.acks_early {
            let early: Vec<(Ack, u16)> = self
                .broker
                .iter()
                .filter(|message| message.held == Held::Sent && message.qos == 1)
                .map(|message| (Ack::PubAck, message.id))
                .collect();
            self.outbox.0 = early.into();
        }
        while let Some((ack, id)) = self.outbox.0.pop_front() {
            // Receive order: the first message sent and not acknowledged is the one this is for.
            let index = self.broker.iter().position(|message| message.held == Held::Sent);
            let index = index.unwrap_or_else(|| panic!("an ack for {id} that nothing waits for"));
            let message = &mut self.broker[index];
            assert_eq!(message.id, id, "acks leave in receive order");
            match ack {
                Ack::PubAck => assert_eq!(message.qos, 1),
                Ack::PubRec => assert_eq!(message.qos, 2),
                Ack::None => panic!("QoS 0 is not acknowledged"),
            }
            self.processed.push(*message);
            *self.acknowledged.entry(message.content).or_default() += 1;
            if ack == Ack::PubRec {
                message.held = Held::Received;
            } else {
                self.broker.remove(index);
            }
        }
    }

    fn release(&mut self) {
        for message in self
            .broker
            .iter()
            .filter(|message| message.held == Held::Received)
        {
            self.lane.pubrel(message.id);
        }
        self.broker.retain(|message| message.held != Held::Received);
        self.processed.retain(|message| message.qos == 1);
    }

    /// The connection breaks. The broker has not seen the last acks: it sends those messages again.
    fn lose(&mut self, acks: u8, on_the_wire: bool) {
        for _ in 0..acks {
            let Some(message) = self.processed.pop() else {
                break;
            };
            // An identifier that has been given away since was certainly acknowledged.
            let taken = self
                .broker
                .iter()
                .any(|other| other.id == message.id && other.held != Held::Received);
            if taken {
                break;
            }
            self.broker.retain(|other| other.id != message.id);
            self.broker.insert(0, message);
            *self.acknowledged.entry(message.content).or_default() -= 1;
        }
        self.processed.clear();
        self.outbox.0.clear();
        for message in &mut self.broker {
            match message.held {
                Held::Sent => {
                    message.held = Held::Queued;
                    message.dup = true;
                }
                Held::Queued => message.dup |= on_the_wire && message.qos > 0,
                Held::Received => {}
            }
        }
        self.lane.connection_lost();
        self.lane.connected(true);
    }

    fn forget_session(&mut self) {
        self.lane.connection_lost();
        self.lane.connected(false);
        self.outbox.0.clear();
        self.processed.clear();
        self.broker.clear();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { qos, content } => self.publish(qos, content),
            Step::Deliver => self.deliver(),
            Step::Confirm { nth, class } => self.confirm(nth, class),
            Step::Acknowledge => self.acknowledge(),
            Step::Release => self.release(),
            Step::Lose { acks, on_the_wire } => self.lose(acks, on_the_wire),
            Step::ForgetSession => self.forget_session(),
            Step::Full(full) => self.producer.full.set(full),
            Step::Paused(paused) => self.producer.paused.set(paused),
        }
    }

    /// Calm: everything gets through.
    fn settle(&mut self) {
        self.producer.full.set(false);
        self.producer.paused.set(false);
        for _ in 0..200 {
            let now = self.now();
            self.lane.resend(now);
            self.deliver();
            while !self.producer.records.borrow().is_empty() {
                self.confirm(0, 0);
            }
            self.acknowledge();
            self.release();
        }
    }

    /// Acknowledged messages that have no record of their own in Kafka, be it a dead letter, and should.
    fn missing(&self) -> usize {
        let in_kafka = |content: &u8| self.in_kafka.get(content).copied().unwrap_or(0);
        self.acknowledged
            .iter()
            .filter(|(content, _)| **content != FILTERED)
            .map(|(content, count)| count.saturating_sub(in_kafka(content)))
            .sum()
    }

    /// Messages given up as the route says: they are acknowledged without a record.
    fn discarded(&self) -> usize {
        usize::try_from(self.lane.ledger().discarded).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_acks_follow_kafka_and_the_ledger_balances(
        action in prop_oneof![Just(ErrorAction::Discard), Just(ErrorAction::DeadLetter), Just(ErrorAction::Stop)],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(action, false);
        for step in &steps {
            world.take(*step);
            prop_assert_eq!(world.lane.ledger().balance(), 0);
            prop_assert!(
                world.missing() <= world.discarded(),
                "{:?} acknowledged, {:?} in Kafka, {} discarded",
                world.acknowledged, world.in_kafka, world.discarded()
            );
        }
        world.settle();
        let ledger = world.lane.ledger();
        prop_assert_eq!(ledger.balance(), 0);
        prop_assert!(world.missing() <= world.discarded());
        prop_assert!(action == ErrorAction::Discard || ledger.discarded == 0, "{:?}", ledger);
        prop_assert!(action == ErrorAction::DeadLetter || ledger.dead_lettered == 0, "{:?}", ledger);
        if world.lane.stopped().is_some() {
            prop_assert!(action != ErrorAction::Discard, "nothing can stop it");
            return Ok(());
        }
        prop_assert_eq!(ledger.in_flight, 0, "everything has an outcome");
        prop_assert_eq!(world.lane.waiting(), 0);
        prop_assert_eq!(world.lane.buffered(), 0, "every charge has been given back");
        prop_assert!(world.broker.is_empty(), "the broker holds nothing: {:?}", world.broker);
    }
}

/// A plain break: Kafka confirms everything, nothing is refused, no session is forgotten.
#[test]
fn a_lost_connection_with_records_in_the_producer_writes_nothing_twice() {
    let mut world = World::new(ErrorAction::Discard, false);
    (0..50).for_each(|n| world.publish(1 + n % 2, 100 + n));
    world.deliver();
    (0..20).for_each(|_| world.confirm(0, 0));
    world.lose(0, false);
    (0..10).for_each(|_| world.confirm(3, 0));
    world.settle();
    assert!(
        world.in_kafka.values().all(|count| *count == 1),
        "{:?}",
        world.in_kafka
    );
    assert_eq!(world.acknowledged.len(), 50);
}

/// What each outcome is, and that the steps reach it: they are random.
#[test]
fn every_outcome_of_a_message_is_in_its_bucket() {
    for action in [ErrorAction::Discard, ErrorAction::DeadLetter, ErrorAction::Stop] {
        let mut world = World::new(action, false);
        for content in [0, FILTERED, FORBIDDEN, OVERSIZED, 1] {
            world.publish(1, content);
        }
        world.settle();
        let ledger = world.lane.ledger();
        let counts = [
            ledger.written,
            ledger.filtered,
            ledger.discarded,
            ledger.dead_lettered,
            ledger.in_flight,
        ];
        let (expected, left) = match action {
            ErrorAction::Discard => ([2, 1, 2, 0, 0], 0),
            ErrorAction::DeadLetter => ([2, 1, 0, 2, 0], 0),
            // Nothing is taken behind the message that stopped it.
            ErrorAction::Stop => ([1, 1, 0, 0, 1], 3),
        };
        assert_eq!((counts, world.broker.len()), (expected, left), "{action:?}");
        assert_eq!(world.lane.stopped().is_some(), action == ErrorAction::Stop);
    }
}

/// The negative control: a lane that acknowledges what Kafka does not have is seen.
#[test]
fn the_model_sees_a_lane_that_acknowledges_early() {
    let mut world = World::new(ErrorAction::Discard, true);
    world.publish(1, 1);
    world.deliver();
    world.acknowledge();
    assert_eq!(world.missing(), 1);
}
