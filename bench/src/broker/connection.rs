//! One client: a thread that reads acks and one that writes messages.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BytesMut};
use rumqttc::v5::mqttbytes::v5::{ConnAck, ConnectReturnCode, Packet, PingResp, SubAck, SubscribeReasonCode};

use super::window::{Ack, AckOrder, Window};
use super::{Block, Options, Tally, nanos};
use crate::pace::Pacer;

/// A writer that has filled the window waits until this many messages fit: a broker that batches, not one that
/// answers each ack with one message. Kinder to a client that acks one by one than the alternative.
const BATCH: u64 = 256;

/// The batch that is waited for: [`BATCH`], or less in a small window.
fn batch(window: &Window) -> u64 {
    BATCH.min(window.limit() / 4).max(1)
}

/// What the two threads of a connection share.
struct Shared {
    window: Window,
    /// Control packets to be written by the writer, so that none lands inside a batch.
    replies: Mutex<BytesMut>,
    /// SUBACK is among the replies: messages may follow.
    subscribed: AtomicBool,
    closed: AtomicBool,
}

/// Serves one client until it goes.
pub(super) fn serve(
    stream: TcpStream,
    options: &Options,
    block: Block,
    tally: &Arc<Tally>,
    start: Instant,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    tally.connections.fetch_add(1, Ordering::Relaxed);
    let shared = Arc::new(Shared {
        window: Window::new(options.overrun.unwrap_or(u16::MAX)),
        replies: Mutex::default(),
        subscribed: AtomicBool::new(false),
        closed: AtomicBool::new(false),
    });
    let sender = Sender {
        stream: stream.try_clone()?,
        shared: Arc::clone(&shared),
        tally: Arc::clone(tally),
        block,
        qos: options.qos,
        next_id: 1,
        start,
    };
    let rate = options.rate;
    let writer = std::thread::spawn(move || sender.run(rate));
    let reader = Receiver {
        shared: &shared,
        tally,
        order: AckOrder::default(),
        start,
        options,
    };
    let result = reader.run(&stream, writer.thread());
    shared.closed.store(true, Ordering::Release);
    stream.shutdown(Shutdown::Both).ok(); // the client may have closed it already
    writer.thread().unpark();
    if writer.join().is_err() {
        bail!("the writer panicked");
    }
    result
}

struct Sender {
    stream: TcpStream,
    shared: Arc<Shared>,
    tally: Arc<Tally>,
    block: Block,
    qos: u8,
    next_id: u16,
    start: Instant,
}

impl Sender {
    /// Writes until the connection is closed or a write fails.
    fn run(mut self, rate: Option<u64>) {
        let mut pacer = rate.map(Pacer::new);
        let mut begun = None;
        while !self.shared.closed.load(Ordering::Acquire) {
            // Read before the replies are taken, so that SUBACK goes first.
            let subscribed = self.shared.subscribed.load(Ordering::Acquire);
            if self.write_replies().is_err() {
                return;
            }
            if !subscribed || rate == Some(0) {
                std::thread::park();
                continue;
            }
            let elapsed = begun.get_or_insert_with(Instant::now).elapsed();
            let due = pacer.as_ref().map_or(u64::MAX, |pacer| pacer.due(elapsed));
            let Ok(sent) = self.write_messages(due) else {
                return;
            };
            match &mut pacer {
                Some(pacer) => {
                    pacer.take(sent);
                    if sent == due || sent == 0 {
                        std::thread::sleep(Pacer::until_next_tick(elapsed));
                    }
                }
                None if sent == 0 => std::thread::park(),
                None => {}
            }
        }
    }

    fn write_replies(&mut self) -> std::io::Result<()> {
        let replies = self
            .shared
            .replies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .split();
        if replies.is_empty() {
            Ok(())
        } else {
            self.stream.write_all(&replies)
        }
    }

    /// Writes one batch of at most `due` messages. Returns how many there were room for.
    fn write_messages(&mut self, due: u64) -> std::io::Result<u64> {
        let window = &self.shared.window;
        let room = if self.qos == 0 { u64::MAX } else { window.room() };
        if due == u64::MAX && room < batch(window) {
            return Ok(0);
        }
        let mut count = self
            .block
            .available()
            .min(usize::try_from(room.min(due)).unwrap_or(usize::MAX));
        if self.qos > 0 {
            count = window.free_ids(self.next_id, count);
            window.send(self.next_id, count, nanos(self.start));
        }
        if count == 0 {
            return Ok(0);
        }
        self.stream
            .write_all(self.block.take(count, &mut self.next_id, |_| {}))?;
        self.tally.sent.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count as u64)
    }
}

struct Receiver<'a> {
    shared: &'a Shared,
    tally: &'a Tally,
    order: AckOrder,
    start: Instant,
    options: &'a Options,
}

impl Receiver<'_> {
    /// Reads until the client goes.
    fn run(mut self, mut stream: &TcpStream, writer: &Thread) -> anyhow::Result<()> {
        let mut chunk = vec![0; 64 * 1024];
        let mut buffer = BytesMut::new();
        loop {
            let read = match stream.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            buffer.extend_from_slice(&chunk[..read]);
            let replied = self.take_acks(&mut buffer)?;
            let refill =
                self.options.rate.is_none() && self.shared.window.room() >= batch(&self.shared.window);
            if replied || refill {
                writer.unpark();
            }
        }
    }

    /// Handles every whole packet in `buffer`. Returns whether there are replies to write.
    fn take_acks(&mut self, buffer: &mut BytesMut) -> anyhow::Result<bool> {
        let now = nanos(self.start);
        let mut replied = false;
        let mut acks = self.tally.acks();
        acks.reads += 1;
        while let [kind, length, rest @ ..] = buffer.as_ref() {
            let length = usize::from(*length);
            let is_ack = matches!(kind >> 4, 4 | 5 | 7) && (2..128).contains(&length);
            if !is_ack {
                match Packet::read(buffer, None) {
                    Ok(packet) => replied |= self.reply(packet)?,
                    Err(rumqttc::v5::mqttbytes::Error::InsufficientBytes(_)) => break,
                    Err(error) => return Err(error).context("the client sent a malformed packet"),
                }
                continue;
            }
            if rest.len() < length {
                break;
            }
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            let (kind, failed) = (kind >> 4, length > 2 && rest[2] >= 0x80);
            let ack = match kind {
                4 => self.shared.window.acknowledge(id),
                5 => self.shared.window.receive(id),
                _ => self.shared.window.complete(id),
            };
            match ack {
                Ack::Sent(time) => {
                    acks.acked += 1;
                    acks.out_of_order += u64::from(!self.order.follows(id));
                    acks.latency_us
                        .saturating_record((now.saturating_sub(time)) / 1000);
                }
                Ack::Released => {}
                Ack::Unknown => acks.unknown += 1,
            }
            if kind == 5 && !failed {
                let [high, low] = id.to_be_bytes();
                self.push(&[0x62, 2, high, low]);
                replied = true;
            }
            buffer.advance(2 + length);
        }
        Ok(replied)
    }

    /// Answers a packet that is not an ack. Returns whether there is a reply to write.
    fn reply(&self, packet: Packet) -> anyhow::Result<bool> {
        let answer = match packet {
            Packet::Connect(connect, _, _) => {
                if let (Some(properties), None) = (connect.properties, self.options.overrun) {
                    self.shared
                        .window
                        .set_limit(properties.receive_maximum.unwrap_or(u16::MAX));
                }
                Packet::ConnAck(ConnAck {
                    session_present: false,
                    code: ConnectReturnCode::Success,
                    properties: None,
                })
            }
            Packet::Subscribe(subscribe) => Packet::SubAck(SubAck {
                pkid: subscribe.pkid,
                return_codes: subscribe
                    .filters
                    .iter()
                    .map(|f| SubscribeReasonCode::Success(f.qos))
                    .collect(),
                properties: None,
            }),
            Packet::PingReq(_) => Packet::PingResp(PingResp),
            Packet::Disconnect(_) => return Ok(false),
            other => bail!("the client sent what a broker does not expect here: {other:?}"),
        };
        let mut bytes = BytesMut::new();
        answer.write(&mut bytes, None).context("cannot encode a reply")?;
        self.push(&bytes);
        if matches!(answer, Packet::SubAck(_)) {
            self.shared.subscribed.store(true, Ordering::Release);
            self.tally.subscribed.store(true, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn push(&self, bytes: &[u8]) {
        self.shared
            .replies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }
}
