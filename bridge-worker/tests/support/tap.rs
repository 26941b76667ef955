//! A look at the wire right in front of the broker: which messages it has sent, and which were acknowledged.

use bytes::{BufMut, BytesMut};
use millrace_testkit::Port;
use std::collections::{HashMap, VecDeque};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Where the broker's acknowledgements come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// From the worker: everything passes unchanged.
    OfTheWorker,
    /// From the tap itself, as soon as a QoS 1 message has been handed on; the worker's own are thrown away. What many
    /// bridges do, and the negative control of these tests.
    Early,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Messages that were on their way on it, and whose PUBACK (QoS 1) or PUBCOMP (QoS 2) the broker has not been seen
    /// to read: what MQTT 5 counts against the receive maximum.
    pub unacknowledged: u64,
    /// Whether the broker ended it, and not the worker or the network.
    pub by_broker: bool,
}

/// Passes on MQTT between one worker and a broker, packet by packet, and counts.
///
/// It stands next to the broker, behind every fault of the network. That an acknowledgement was written to a socket
/// does not mean that the broker has read it: mosquitto 2.0.11 reads one packet of a connection at a time, and ends
/// with tens of thousands unread when it is stopped after a backlog. So the tap sends PINGREQs of its own in between,
/// and counts an acknowledgement when a later PINGRESP has come. When the worker's side of a connection ends, it lets
/// the broker read what it has passed on before the broker sees the end.
#[derive(Debug)]
pub struct Tap {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    acks: Acks,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: u64,
    unacknowledged: u64,
    redelivered: u64,
    lost: Vec<Lost>,
}

impl Tap {
    /// A tap in front of the broker at `target`, which need not be there yet. It works until the test process ends.
    #[track_caller]
    pub fn to(target: SocketAddr, acks: Acks) -> Tap {
        let port = Port::free();
        let listener = port.listen();
        let shared = Arc::new(Shared {
            acks,
            counts: Mutex::default(),
        });
        thread::spawn({
            let shared = shared.clone();
            move || {
                for client in listener.incoming().filter_map(Result::ok) {
                    let shared = shared.clone();
                    thread::spawn(move || serve(client, target, &shared));
                }
            }
        });
        Tap { port, shared }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Messages on open connections that the broker has sent and that are not acknowledged to it.
    pub fn unacknowledged(&self) -> u64 {
        self.shared.lock().unacknowledged
    }

    /// Messages the broker has marked as sent before (DUP): what was unacknowledged when their connection was lost.
    pub fn redelivered(&self) -> u64 {
        self.shared.lock().redelivered
    }

    /// Messages that were unacknowledged when their connection ended, over all connections.
    pub fn unacknowledged_when_lost(&self) -> u64 {
        self.shared
            .lock()
            .lost
            .iter()
            .map(|lost| lost.unacknowledged)
            .sum()
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.shared.lock().open
    }

    /// The connections that have ended, in the order of their ends.
    pub fn lost(&self) -> Vec<Lost> {
        self.shared.lock().lost.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection until both sides have ended.
fn serve(client: TcpStream, target: SocketAddr, shared: &Arc<Shared>) {
    // A broker that is away looks the same through the tap: nobody answers.
    let Ok(broker) = TcpStream::connect(target) else {
        return;
    };
    for stream in [&client, &broker] {
        // A socket that takes no settings is closed already; the first read says so.
        stream.set_nodelay(true).ok();
    }
    shared.lock().open += 1;
    let connection = Connection {
        client,
        broker,
        client_has_ended: AtomicBool::new(false),
        broker_has_ended: AtomicBool::new(false),
        books: Mutex::default(),
        shared,
    };
    let by_broker = thread::scope(|scope| {
        scope.spawn(|| connection.up());
        scope.spawn(|| connection.ping());
        connection.down();
        let by_broker = !connection.client_has_ended.load(Ordering::SeqCst);
        connection.broker_has_ended.store(true, Ordering::SeqCst);
        // Ends `up` when the broker was first.
        connection.client.shutdown(Shutdown::Both).ok();
        by_broker
    });
    let unacknowledged = connection.books().unacknowledged();
    let mut counts = shared.lock();
    counts.open -= 1;
    counts.unacknowledged -= unacknowledged;
    counts.lost.push(Lost {
        unacknowledged,
        by_broker,
    });
}

struct Connection<'a> {
    client: TcpStream,
    broker: TcpStream,
    client_has_ended: AtomicBool,
    broker_has_ended: AtomicBool,
    /// Held while something is written to the broker.
    books: Mutex<Books>,
    shared: &'a Shared,
}

/// What has passed on a connection.
#[derive(Debug, Default)]
struct Books {
    /// QoS 1 and 2 messages from the broker, by PUBLISH, or by a PUBREL that continues an earlier connection.
    sent: u64,
    /// QoS 2 messages among them without PUBCOMP, by packet identifier. mosquitto 2.0.11 may have several under one.
    open: HashMap<u16, u32>,
    /// Acknowledgements written to the broker, and how many of them it has read.
    written: u64,
    read: u64,
    /// PINGREQs without answer: the worker's, or, with the acknowledgements written before, the tap's.
    pings: VecDeque<Option<u64>>,
}

impl Books {
    fn unacknowledged(&self) -> u64 {
        self.sent - self.read
    }

    /// A PUBACK, or a PUBCOMP of a message that is open, is written to the broker.
    fn acknowledge(&mut self, packet: &[u8]) {
        if packet[0] >> 4 == PUBCOMP {
            match self.open.get_mut(&id_of_ack(packet)) {
                Some(open) if *open > 0 => *open -= 1,
                _ => return,
            }
        }
        self.written += 1;
    }
}

impl Connection<'_> {
    /// Towards the broker, until the worker's side ends; then the broker may read the rest and close.
    fn up(&self) {
        let mut input = BytesMut::new();
        let mut output = BytesMut::new();
        while read(&self.client, &mut input).is_ok() {
            let mut books = self.books();
            while let Some(packet) = split(&mut input) {
                match packet[0] >> 4 {
                    PUBACK if self.shared.acks == Acks::Early => continue,
                    PUBACK | PUBCOMP => books.acknowledge(&packet),
                    PINGREQ => books.pings.push_back(None),
                    _ => {}
                }
                output.put(packet);
            }
            if write(&self.broker, &mut output).is_err() {
                break;
            }
        }
        self.client_has_ended.store(true, Ordering::SeqCst);
        self.broker.shutdown(Shutdown::Write).ok();
    }

    /// Asks the broker again and again whether it has read what was written.
    fn ping(&self) {
        while !self.broker_has_ended.load(Ordering::SeqCst) && !self.client_has_ended.load(Ordering::SeqCst) {
            thread::sleep(PING_PAUSE);
            let mut books = self.books();
            let is_asked = books.pings.iter().any(Option::is_some);
            if books.written > books.read
                && !is_asked
                && write(&self.broker, &mut [0xc0, 0][..].into()).is_ok()
            {
                let written = books.written;
                books.pings.push_back(Some(written));
            }
        }
    }

    /// Towards the worker, until the broker's side ends.
    fn down(&self) {
        let mut input = BytesMut::new();
        let mut output = BytesMut::new();
        let mut is_open = true;
        while read(&self.broker, &mut input).is_ok() {
            let mut early = BytesMut::new();
            while let Some(packet) = split(&mut input) {
                match packet[0] >> 4 {
                    PUBLISH if packet[0] >> 1 & 3 > 0 => {
                        let id = packet_id(&packet);
                        self.sent(packet[0] & DUP != 0, (packet[0] >> 1 & 3 == 2).then_some(id));
                        if self.shared.acks == Acks::Early {
                            early.put_slice(&[0x40, 2]);
                            early.put_u16(id);
                        }
                    }
                    PUBREL => self.released(id_of_ack(&packet)),
                    PINGRESP if self.answered() => continue,
                    _ => {}
                }
                output.put(packet);
            }
            // Without a worker the broker is still read to its end, or it would not read the last acks either.
            is_open = is_open && write(&self.client, &mut output).is_ok();
            output.clear();
            if is_open {
                let mut books = self.books();
                books.written += early.len() as u64 / 4;
                // The next read says that the broker is gone.
                write(&self.broker, &mut early).ok();
            }
        }
    }

    /// A message was sent; `qos2` is its packet identifier if it is one with QoS 2.
    fn sent(&self, again: bool, qos2: Option<u16>) {
        let mut books = self.books();
        books.sent += 1;
        if let Some(id) = qos2 {
            *books.open.entry(id).or_default() += 1;
        }
        let mut counts = self.shared.lock();
        counts.unacknowledged += 1;
        counts.redelivered += u64::from(again);
    }

    /// A PUBREL was sent: one whose PUBLISH went over an earlier connection continues that message.
    fn released(&self, id: u16) {
        let is_open = self.books().open.get(&id).is_some_and(|open| *open > 0);
        if !is_open {
            self.sent(false, Some(id));
        }
    }

    /// The broker has answered a PINGREQ; true when it was the tap's.
    fn answered(&self) -> bool {
        let mut books = self.books();
        let Some(written) = books.pings.pop_front().flatten() else {
            return false;
        };
        self.shared.lock().unacknowledged -= written - books.read;
        books.read = written;
        true
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between an answer and the next question.
const PING_PAUSE: Duration = Duration::from_millis(10);

const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const PINGREQ: u8 = 12;
const PINGRESP: u8 = 13;
const DUP: u8 = 0x08;

/// The packet identifier of a PUBLISH with QoS 1 or 2: it follows the topic.
fn packet_id(packet: &[u8]) -> u16 {
    let length = packet[1..]
        .iter()
        .position(|byte| byte & 0x80 == 0)
        .expect("a length")
        + 2;
    let topic = usize::from(u16::from_be_bytes([packet[length], packet[length + 1]]));
    u16::from_be_bytes([packet[length + 2 + topic], packet[length + 3 + topic]])
}

/// The packet identifier of a PUBACK, PUBREL or PUBCOMP.
fn id_of_ack(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

/// Takes the first whole packet, fixed header included.
pub(super) fn split(input: &mut BytesMut) -> Option<BytesMut> {
    let mut length = 0;
    for at in 0..4 {
        let byte = *input.get(1 + at)?;
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let whole = 2 + at + length;
            return (input.len() >= whole).then(|| input.split_to(whole));
        }
    }
    panic!("not MQTT: {:?}", &input[..5]);
}

pub(super) fn read(mut stream: &TcpStream, input: &mut BytesMut) -> Result<(), Error> {
    let mut piece = [0; 64 * 1024];
    match stream.read(&mut piece)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        read => {
            input.put_slice(&piece[..read]);
            Ok(())
        }
    }
}

pub(super) fn write(mut stream: &TcpStream, output: &mut BytesMut) -> Result<(), Error> {
    stream.write_all(output)?;
    output.clear();
    Ok(())
}
