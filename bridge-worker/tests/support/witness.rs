//! A look at the wire right in front of the broker, for messages on their way to it: which were published, and which
//! the broker has confirmed.

use super::tap::{read, split, write};
use bytes::{BufMut, BytesMut};
use millrace_testkit::wire::{Packet, Publish, Version};
use millrace_testkit::{MessageId, Port, Stamp};
use std::collections::{BTreeSet, HashMap};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Where the worker's confirmations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmations {
    /// From the broker: everything passes unchanged.
    OfTheBroker,
    /// From the witness itself, as soon as a message of QoS 1 has come; the broker's own are thrown away. The worker
    /// commits too early then: the negative control of these tests.
    Early,
}

/// Where a message is in Kafka: its partition, and its offset.
type PlaceOf = dyn Fn(MessageId) -> (usize, u64) + Send + Sync;

/// Passes on MQTT 5 between the workers of one route and a broker, packet by packet, and keeps account.
///
/// It stands next to the broker, behind every fault of the network. A confirmation is counted before any worker can see
/// it, so what is confirmed here is never less than what a worker may know.
pub struct Witness {
    port: Port,
    shared: Arc<Shared>,
}

struct Shared {
    confirmations: Confirmations,
    place_of: Box<PlaceOf>,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    partitions: Vec<Partition>,
    /// By client id.
    sessions: HashMap<String, Session>,
    /// Messages that were published, repeats included.
    published: u64,
    /// What was published before something that precedes it in its partition.
    out_of_order: Vec<MessageId>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Records before this one have been published at least once.
    published: u64,
    /// Records before this one have been confirmed.
    confirmed: u64,
    /// Those behind it that have been confirmed as well.
    beyond: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Session {
    /// Grows with every connection: what comes on an older one no worker sees.
    connection: u64,
    open: HashMap<u16, Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: MessageId,
    qos: u8,
    /// QoS 2: the broker has it, and has not been told to forget its identifier.
    received: bool,
}

impl Witness {
    /// A witness in front of the broker at `target`, which need not be there yet. It works until the test process ends.
    #[track_caller]
    pub fn to(
        target: SocketAddr,
        confirmations: Confirmations,
        place_of: impl Fn(MessageId) -> (usize, u64) + Send + Sync + 'static,
    ) -> Witness {
        let port = Port::free();
        let listener = port.listen();
        let shared = Arc::new(Shared {
            confirmations,
            place_of: Box::new(place_of),
            account: Mutex::default(),
        });
        thread::spawn({
            let shared = shared.clone();
            move || {
                for client in listener.incoming().filter_map(Result::ok) {
                    let shared = shared.clone();
                    thread::spawn(move || serve(&client, target, &shared));
                }
            }
        });
        Witness { port, shared }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The end of what has been published of each partition.
    pub fn published(&self) -> Vec<u64> {
        self.of_each_partition(|partition| partition.published)
    }

    /// The end of the longest prefix of each partition whose records have all been confirmed.
    pub fn confirmed(&self) -> Vec<u64> {
        self.of_each_partition(|partition| partition.confirmed)
    }

    fn of_each_partition(&self, count: impl Fn(&Partition) -> u64) -> Vec<u64> {
        self.shared.lock().partitions.iter().map(count).collect()
    }

    /// Times a message was published that had been before.
    pub fn repeats(&self) -> u64 {
        let account = self.shared.lock();
        let first: u64 = account
            .partitions
            .iter()
            .map(|partition| partition.published)
            .sum();
        account.published - first
    }

    /// Messages that the newest connection of each worker has published, and that are not confirmed.
    pub fn open(&self) -> u64 {
        let account = self.shared.lock();
        account
            .sessions
            .values()
            .map(|session| session.open.len() as u64)
            .sum()
    }

    /// Those with QoS 2 among them whose identifiers the broker keeps.
    pub fn unreleased(&self) -> u64 {
        let account = self.shared.lock();
        let open = account
            .sessions
            .values()
            .flat_map(|session| session.open.values());
        open.filter(|open| open.received).count() as u64
    }

    /// What was published before something that precedes it in its partition.
    pub fn out_of_order(&self) -> Vec<MessageId> {
        self.shared.lock().out_of_order.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// A client begins a connection, whose number among its own is returned.
    fn connected(&mut self, client_id: &str, clean_start: bool) -> u64 {
        let session = self.sessions.entry(client_id.to_owned()).or_default();
        session.connection += 1;
        if clean_start {
            session.open.clear();
        }
        session.connection
    }

    fn published(
        &mut self,
        client: &Client,
        publish: &Publish,
        (partition, offset): (usize, u64),
        id: MessageId,
    ) {
        self.published += 1;
        if self.partitions.len() <= partition {
            self.partitions.resize_with(partition + 1, Partition::default);
        }
        let place = &mut self.partitions[partition];
        if offset == place.published {
            place.published += 1;
        } else if offset > place.published {
            self.out_of_order.push(id);
        }
        if let Some(session) = self.session(client)
            && publish.qos > 0
        {
            let open = Open {
                id,
                qos: publish.qos,
                received: false,
            };
            session.open.insert(publish.packet_id, open);
        }
    }

    /// What the broker has confirmed, if the worker can still see it.
    fn confirmed(&mut self, client: &Client, packet: &Packet) -> Option<MessageId> {
        let session = self.session(client)?;
        let (Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack)) = packet else {
            return None;
        };
        let open = session.open.get_mut(&ack.packet_id)?;
        match (packet, open.qos) {
            (Packet::Puback(_), 1) | (Packet::Pubcomp(_), 2) if ack.reason == 0 => {
                session.open.remove(&ack.packet_id).map(|open| open.id)
            }
            (Packet::Pubrec(_), 2) => {
                open.received = true;
                None
            }
            _ => None,
        }
    }

    fn count(&mut self, (partition, offset): (usize, u64)) {
        let place = &mut self.partitions[partition];
        if offset >= place.confirmed {
            place.beyond.insert(offset);
        }
        while place.beyond.remove(&place.confirmed) {
            place.confirmed += 1;
        }
    }

    fn session(&mut self, client: &Client) -> Option<&mut Session> {
        let session = self.sessions.get_mut(&client.id)?;
        (session.connection == client.connection).then_some(session)
    }
}

/// Whose connection it is.
#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    connection: u64,
}

/// One connection until both sides have ended.
fn serve(client: &TcpStream, target: SocketAddr, shared: &Shared) {
    // A broker that is away looks the same through the witness: nobody answers.
    let Ok(broker) = TcpStream::connect(target) else {
        return;
    };
    for stream in [client, &broker] {
        // A socket that takes no settings is closed already; the first read says so.
        stream.set_nodelay(true).ok();
    }
    let connection = Connection {
        client,
        broker: &broker,
        who: Mutex::default(),
        writing: Mutex::new(()),
        shared,
    };
    thread::scope(|scope| {
        scope.spawn(|| connection.up());
        connection.down();
        // Ends `up` when the broker was first.
        client.shutdown(Shutdown::Both).ok();
    });
}

struct Connection<'a> {
    client: &'a TcpStream,
    broker: &'a TcpStream,
    who: Mutex<Client>,
    /// Held while something is written to the worker.
    writing: Mutex<()>,
    shared: &'a Shared,
}

impl Connection<'_> {
    /// Towards the broker, until the worker's side ends; then the broker may read the rest and close.
    fn up(&self) {
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        while read(self.client, &mut input).is_ok() {
            let mut early = BytesMut::new();
            while let Some(frame) = split(&mut input) {
                match decode(&frame) {
                    Some(Packet::Connect(connect)) => {
                        let connection =
                            (self.shared.lock()).connected(&connect.client_id, connect.clean_start);
                        *self.who() = Client {
                            id: connect.client_id,
                            connection,
                        };
                    }
                    Some(Packet::Publish(publish)) => {
                        if let Ok(stamp) = Stamp::read(&publish.payload) {
                            let place = (self.shared.place_of)(stamp.id);
                            self.shared
                                .lock()
                                .published(&self.who(), &publish, place, stamp.id);
                        }
                        if self.is_early() && publish.qos == 1 {
                            early.put_slice(&[0x40, 2]);
                            early.put_u16(publish.packet_id);
                        }
                    }
                    _ => {}
                }
                output.put(frame);
            }
            self.answer(&mut early);
            // A broker that does not read must not keep the worker from being answered early.
            if write(self.broker, &mut output).is_err() {
                break;
            }
        }
        self.broker.shutdown(Shutdown::Write).ok();
    }

    /// Towards the worker, until the broker's side ends.
    fn down(&self) {
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        while read(self.broker, &mut input).is_ok() {
            while let Some(frame) = split(&mut input) {
                let packet = decode(&frame);
                if let Some(packet) = &packet {
                    let mut account = self.shared.lock();
                    if let Some(id) = account.confirmed(&self.who(), packet) {
                        account.count((self.shared.place_of)(id));
                    }
                }
                if !(self.is_early() && matches!(packet, Some(Packet::Puback(_)))) {
                    output.put(frame);
                }
            }
            self.answer(&mut output);
        }
    }

    /// Tells the worker something, if it is still there.
    fn answer(&self, output: &mut BytesMut) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        write(self.client, output).ok();
        output.clear();
    }

    fn is_early(&self) -> bool {
        self.shared.confirmations == Confirmations::Early
    }

    fn who(&self) -> MutexGuard<'_, Client> {
        self.who.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The packet, if it is one that matters here.
fn decode(frame: &[u8]) -> Option<Packet> {
    match frame[0] >> 4 {
        1 | 3 | 4 | 5 | 7 => Packet::take(Version::V5, &mut frame.into()).expect("MQTT 5"),
        _ => None,
    }
}
