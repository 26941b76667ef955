//! What keeps a lane from taking more than it takes: the window of its connection, or the producer's buffer. Judges what
//! the lane's turns show, does no I/O.

mod buffer;
mod lasting;
mod said;
mod window;

use std::time::{Duration, Instant};

pub(crate) use buffer::{Buffer, Held};
pub(crate) use lasting::Lasting;
pub(crate) use said::{saturated, window_full};
pub(crate) use window::Full;
use window::Window;

/// What a lane's turn has shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// When it began.
    pub(crate) at: Instant,
    /// Messages of this connection that the broker still counts after the turn: not yet acknowledged for good.
    pub(crate) outstanding: u64,
    /// Those that it counts no more, since the lane began.
    pub(crate) released: u64,
    /// Records confirmed by Kafka, since the lane began.
    pub(crate) written: u64,
    /// The lane has read what there was.
    pub(crate) reads: bool,
    /// It takes no more because it holds so much for Kafka.
    pub(crate) held: Option<Held>,
}

/// What limits a lane.
#[derive(Debug)]
pub(crate) struct Limits {
    window: Window,
    buffer: Buffer,
    view: LimitsView,
}

/// What others see of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LimitsView {
    /// For how long the broker has held messages back, because the window was full.
    pub(crate) window_limited: Duration,
    /// For how long the lane has been held, because Kafka was slow.
    pub(crate) sink_saturated: Duration,
    pub(crate) window: Lasting<Full>,
    pub(crate) sink: Lasting<Held>,
}

impl Limits {
    /// A lane without connection, which has shown this.
    pub(crate) fn new(turn: Turn) -> Self {
        Self {
            window: Window::new(None, Duration::ZERO, turn),
            buffer: Buffer::new(turn),
            view: LimitsView::default(),
        }
    }

    /// A connection is up on which the broker was asked to keep to `receive_maximum` (MQTT 5), and that answered CONNECT
    /// after `round_trip`. Before its first turn the lane has shown this.
    pub(crate) fn connected(&mut self, receive_maximum: Option<u16>, round_trip: Duration, turn: Turn) {
        self.window = Window::new(receive_maximum.map(u64::from), round_trip, turn);
        self.buffer = Buffer::new(turn);
        self.view.window.interrupt();
        self.view.sink.interrupt();
    }

    /// Takes what a turn has shown.
    pub(crate) fn turn(&mut self, turn: Turn) {
        if let Some(period) = self.window.turn(turn) {
            if period.shown.is_some() {
                self.view.window_limited += period.until - period.from;
            }
            self.view.window.take(period);
        }
        if let Some(period) = self.buffer.turn(turn) {
            if period.shown.is_some() {
                self.view.sink_saturated += period.until - period.from;
            }
            self.view.sink.take(period);
        }
    }

    pub(crate) fn view(&self) -> LimitsView {
        self.view
    }
}
