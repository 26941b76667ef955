//! How a publisher is set up.

use super::account::Account;
use super::connection::Connection;
use super::{Publisher, Shared};
use crate::address::Address;
use crate::stamp::MessageId;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

type TopicOf = Arc<dyn Fn(u32) -> String + Send + Sync>;
type SizeOf = Arc<dyn Fn(MessageId) -> usize + Send + Sync>;

/// How a [`Publisher`] is set up. By default: 100 keys over one connection with QoS 1, payloads of 100 bytes, topic
/// `bench/<run>/<key>`, at most 500 messages unacknowledged, as fast as that allows, until it is told to stop.
#[derive(Clone)]
pub struct PublisherBuilder {
    pub(super) broker: Address,
    pub(super) run: u32,
    pub(super) qos: u8,
    keys: u32,
    connections: u32,
    messages: Option<u64>,
    rate: Option<f64>,
    pub(super) window: u16,
    pub(super) login: Option<(String, String)>,
    topic_of: TopicOf,
    pub(super) size_of: SizeOf,
}

impl fmt::Debug for PublisherBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherBuilder")
            .field("broker", &self.broker)
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl PublisherBuilder {
    pub(super) fn new(broker: Address) -> PublisherBuilder {
        let run = new_run();
        PublisherBuilder {
            broker,
            run,
            qos: 1,
            keys: 100,
            connections: 1,
            messages: None,
            rate: None,
            window: 500,
            login: None,
            topic_of: Arc::new(move |key| format!("bench/{run:08x}/{key}")),
            size_of: Arc::new(|_| 100),
        }
    }

    /// 0, 1 or 2.
    pub fn qos(mut self, qos: u8) -> Self {
        assert!(qos <= 2, "there is no QoS {qos}");
        self.qos = qos;
        self
    }

    /// Over how many keys, and so topics, the messages go round.
    pub fn keys(mut self, keys: u32) -> Self {
        self.keys = keys.max(1);
        self
    }

    /// Over how many connections the keys are spread.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// How many messages there are in all; endless otherwise.
    pub fn messages(mut self, messages: u64) -> Self {
        self.messages = Some(messages);
        self
    }

    /// Messages per second in all. What cannot be sent in time (window full, no connection) is made up for with at
    /// most a quarter of a second's worth.
    pub fn rate(mut self, messages_per_second: f64) -> Self {
        self.rate = Some(messages_per_second);
        self
    }

    /// The most unacknowledged messages of each connection.
    pub fn window(mut self, messages: u16) -> Self {
        self.window = messages.max(1);
        self
    }

    /// Bytes of each payload, at least [`crate::Stamp::SIZE`].
    pub fn size(self, bytes: usize) -> Self {
        self.size_of(move |_| bytes)
    }

    /// Bytes of the payload of each message; asked again when it is sent again.
    pub fn size_of(mut self, size_of: impl Fn(MessageId) -> usize + Send + Sync + 'static) -> Self {
        self.size_of = Arc::new(size_of);
        self
    }

    /// The topic of each key.
    pub fn topic_of(mut self, topic_of: impl Fn(u32) -> String + Send + Sync + 'static) -> Self {
        self.topic_of = Arc::new(topic_of);
        self
    }

    /// User name and password.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }

    /// The run its messages will belong to; part of the default topics.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Begins to publish. The broker need not be there yet.
    pub fn start(self) -> Publisher {
        let connections = self.connections.min(self.keys);
        let shared = Arc::new(Shared::default());
        let sockets = Arc::new((0..connections).map(|_| Mutex::new(None)).collect::<Vec<_>>());
        let threads = (0..connections).map(|index| {
            let keys: Vec<u32> = (index..self.keys).step_by(connections as usize).collect();
            let share = keys.len() as f64 / f64::from(self.keys);
            let connection = Connection::new(
                index,
                self.clone(),
                keys.iter().map(|&key| (self.topic_of)(key)).collect(),
                self.messages.map(|messages| share_of(messages, &keys, self.keys)),
                self.rate.map(|rate| rate * share),
                Account::new(keys),
                (shared.clone(), sockets.clone()),
            );
            std::thread::spawn(move || connection.run())
        });
        let threads = threads.collect();
        Publisher {
            run: self.run,
            is_counted: self.messages.is_some(),
            shared,
            threads,
            sockets,
        }
    }
}

/// A number that no other run has.
pub(crate) fn new_run() -> u32 {
    // The state of a hasher is what the standard library has of randomness.
    (RandomState::new().hash_one(0) >> 32) as u32
}

/// How many of `messages`, dealt to `all` keys in turn, fall on `keys`.
fn share_of(messages: u64, keys: &[u32], all: u32) -> u64 {
    let (rounds, rest) = (messages / u64::from(all), messages % u64::from(all));
    keys.iter()
        .map(|&key| rounds + u64::from(u64::from(key) < rest))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let shares = [vec![0, 3, 6], vec![1, 4], vec![2, 5]].map(|keys| share_of(100, &keys, 7));
        assert_eq!(shares, [15 + 14 + 14, 15 + 14, 14 + 14]);
        assert_eq!(shares.iter().sum::<u64>(), 100);
    }
}
