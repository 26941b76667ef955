//! Consumer groups and their offsets, as somebody sees them who is no member. Reads only.

mod ffi;

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub name: String,
    /// Which protocol its members speak.
    pub kind: Kind,
    /// What it is doing.
    pub state: State,
    /// Its members, in no order.
    pub members: Vec<Member>,
}

/// Which protocol the members of a group speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The members assign partitions among themselves.
    Classic,
    /// Kafka assigns them (KIP-848).
    Consumer,
    /// Kafka does not say.
    Unknown,
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Members come or go.
    Rebalancing,
    /// Every member has what is its own.
    Stable,
    /// It has offsets, and no members.
    Empty,
    /// There is no such group.
    Dead,
    /// Kafka does not say, or not in words known here.
    Unknown,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name that its client gives itself.
    pub client_id: String,
    /// Topics and partitions that it reads.
    pub partitions: Vec<(String, i32)>,
}

/// An offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset; `None` when there is none, or Kafka does not tell it.
    pub offset: Option<i64>,
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// A consumer group. Blocks.
///
/// # Errors
/// When Kafka does not answer in time, or does not let this client see the group.
///
/// ```no_run
/// # let consumer: rdkafka::consumer::BaseConsumer = unimplemented!();
/// use rdkafka::consumer::Consumer;
/// use std::time::Duration;
///
/// let group = millrace_librdkafka::groups::describe(consumer.client(), "analytics", Duration::from_secs(5))?;
/// # Ok::<(), rdkafka::error::KafkaError>(())
/// ```
pub fn describe<C: ClientContext>(client: &Client<C>, name: &str, timeout: Duration) -> KafkaResult<Group> {
    settled(timeout, || ffi::describe(client, name, timeout))
}

/// What a group has committed: of every partition that it has ever committed an offset of. Blocks.
///
/// The consumer has to have a `group.id`, any: librdkafka (2.12) ends the process when a broker answers a client without
/// one that it is no longer the group's coordinator, because it then looks for the coordinator of the client's own group.
///
/// # Errors
/// When Kafka does not answer in time, or does not let this client see the group; and when the consumer has no `group.id`.
pub fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    timeout: Duration,
) -> KafkaResult<Vec<Position>> {
    if consumer.group_metadata().is_none() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::UnknownGroup));
    }
    settled(timeout, || ffi::committed(consumer.client(), group, timeout))
}

/// Asks until the coordinator of a group can answer: it may be on its way to another broker, or reading what it is to know.
fn settled<T>(timeout: Duration, mut question: impl FnMut() -> KafkaResult<T>) -> KafkaResult<T> {
    let end = Instant::now() + timeout;
    loop {
        let answer = question();
        let passes = match &answer {
            Err(KafkaError::AdminOp(code)) => matches!(
                code,
                RDKafkaErrorCode::CoordinatorLoadInProgress
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::NotCoordinator
            ),
            _ => false,
        };
        if !passes || Instant::now() >= end {
            return answer;
        }
        thread::sleep(PAUSE);
    }
}

/// The ends of partitions: the offsets that the next records get. Blocks.
///
/// # Errors
/// When Kafka does not answer in time.
pub fn ends<C: ClientContext>(
    client: &Client<C>,
    partitions: &[(&str, i32)],
    timeout: Duration,
) -> KafkaResult<Vec<Position>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    ffi::ends(client, partitions, timeout)
}
