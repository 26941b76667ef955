//! Which packet ids are outstanding, and whether acks are what they should be.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The id is free.
const FREE: u64 = 0;
/// QoS 2: PUBREC has come, PUBCOMP has not.
const RELEASING: u64 = 1;
/// Times are stored with this added, so that none looks like a state.
const OFFSET: u64 = 2;

/// The packets of one connection that the client has not acknowledged. The writer takes ids, the reader frees
/// them; neither waits for the other.
#[derive(Debug)]
pub struct Window {
    slots: Box<[AtomicU64]>,
    limit: AtomicU32,
    sent: AtomicU64,
    freed: AtomicU64,
}

/// What an ack of an id was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// Of a message sent at this time, in nanoseconds of the caller's clock.
    Sent(u64),
    /// PUBCOMP of an id whose PUBREC had come.
    Released,
    /// Of an id that was not outstanding: a violation.
    Unknown,
}

impl Window {
    /// A window of `limit` messages.
    pub fn new(limit: u16) -> Self {
        Self {
            slots: (0..=u16::MAX).map(|_| AtomicU64::new(FREE)).collect(),
            limit: AtomicU32::new(u32::from(limit)),
            sent: AtomicU64::new(0),
            freed: AtomicU64::new(0),
        }
    }

    /// Changes the limit: the client has named its Receive Maximum.
    pub fn set_limit(&self, limit: u16) {
        self.limit.store(u32::from(limit), Ordering::Release);
    }

    /// The largest number of outstanding messages.
    pub fn limit(&self) -> u64 {
        u64::from(self.limit.load(Ordering::Acquire))
    }

    /// How many more messages may be sent.
    pub fn room(&self) -> u64 {
        let outstanding = self.sent.load(Ordering::Acquire) - self.freed.load(Ordering::Acquire);
        self.limit().saturating_sub(outstanding)
    }

    /// How many ids from `first` on are free, at most `wanted`. A client that acks out of order can leave an old
    /// id outstanding: sending waits for it.
    pub fn free_ids(&self, first: u16, wanted: usize) -> usize {
        let mut id = first;
        for count in 0..wanted {
            if self.slots[usize::from(id)].load(Ordering::Acquire) != FREE {
                return count;
            }
            id = following(id);
        }
        wanted
    }

    /// Notes that `count` messages from id `first` on are sent now.
    pub fn send(&self, first: u16, count: usize, now: u64) {
        let mut id = first;
        for _ in 0..count {
            self.slots[usize::from(id)].store(now + OFFSET, Ordering::Release);
            id = following(id);
        }
        self.sent.fetch_add(count as u64, Ordering::AcqRel);
    }

    /// PUBACK.
    pub fn acknowledge(&self, id: u16) -> Ack {
        match self.slots[usize::from(id)].load(Ordering::Acquire) {
            FREE | RELEASING => Ack::Unknown,
            time => {
                self.free(id);
                Ack::Sent(time - OFFSET)
            }
        }
    }

    /// PUBREC: the id stays outstanding.
    pub fn receive(&self, id: u16) -> Ack {
        let slot = &self.slots[usize::from(id)];
        match slot.load(Ordering::Acquire) {
            FREE | RELEASING => Ack::Unknown,
            time => {
                slot.store(RELEASING, Ordering::Release);
                Ack::Sent(time - OFFSET)
            }
        }
    }

    /// PUBCOMP.
    pub fn complete(&self, id: u16) -> Ack {
        if self.slots[usize::from(id)].load(Ordering::Acquire) != RELEASING {
            return Ack::Unknown;
        }
        self.free(id);
        Ack::Released
    }

    fn free(&self, id: u16) {
        self.slots[usize::from(id)].store(FREE, Ordering::Release);
        self.freed.fetch_add(1, Ordering::AcqRel);
    }
}

/// The id after `id`; 0 is not an id.
pub fn following(id: u16) -> u16 {
    id.checked_add(1).unwrap_or(1)
}

/// Counts acks that do not follow their predecessor: ids are given in ascending order, so acks in the order of
/// receipt ([MQTT-4.6.0-2]) ascend by one.
#[derive(Debug, Default)]
pub struct AckOrder {
    last: Option<u16>,
}

impl AckOrder {
    /// Whether `id` is the one that must come now.
    pub fn follows(&mut self, id: u16) -> bool {
        let expected = self.last.map_or(1, following);
        self.last = Some(id);
        id == expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_until_acks_come() {
        let window = Window::new(3);
        window.send(1, 3, 10);
        assert_eq!(window.room(), 0);
        assert_eq!(window.acknowledge(2), Ack::Sent(10));
        assert_eq!(window.room(), 1);
        assert_eq!(window.acknowledge(2), Ack::Unknown);
        assert_eq!(window.room(), 1, "an ack of nothing frees nothing");
        assert_eq!(window.free_ids(2, 5), 1, "3 is still outstanding");
    }

    #[test]
    fn a_qos_2_id_is_free_only_after_pubcomp() {
        let window = Window::new(3);
        window.send(65_535, 2, 0);
        assert_eq!(window.complete(65_535), Ack::Unknown);
        assert_eq!(window.receive(65_535), Ack::Sent(0));
        assert_eq!(window.receive(65_535), Ack::Unknown);
        assert_eq!(window.room(), 1);
        assert_eq!(window.complete(65_535), Ack::Released);
        assert_eq!(window.room(), 2);
        assert_eq!(window.acknowledge(1), Ack::Sent(0), "ids go round without 0");
    }

    #[test]
    fn order_is_judged_by_the_predecessor() {
        let mut order = AckOrder::default();
        let verdicts: Vec<bool> = [1, 2, 4, 3, 4].into_iter().map(|id| order.follows(id)).collect();
        assert_eq!(verdicts, [true, true, false, false, true]);
        let mut order = AckOrder { last: Some(65_535) };
        assert!(order.follows(1));
    }
}
