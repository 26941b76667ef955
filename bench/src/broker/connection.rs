//! One client: a thread that reads acks and one that writes messages.

mod receiver;

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::bail;
use bytes::BytesMut;

use super::window::{AckOrder, Window};
use super::{Block, Options, Tally, nanos};
use crate::pace::Pacer;
use receiver::Receiver;

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
