//! The messages of a connection that are not acknowledged yet. Pure: no clock, no socket.

use crate::wire::Ack;
use std::collections::VecDeque;

/// "No matching subscribers": the broker has taken the message and given it to nobody.
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The key's place among those of the connection.
    pub(super) key: usize,
    pub(super) sequence: u32,
    /// Microseconds since the Unix epoch, of the first time it was sent.
    pub(super) sent_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    message: Message,
    /// Ascends in the order of sending.
    order: u64,
    /// QoS 2: PUBREC has come. `refused` when nobody wanted the message.
    received: Option<Refused>,
}

type Refused = bool;

/// What an acknowledgement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged(Message),
    /// To be sent anew.
    Refused(Message),
    /// A PUBREL is due.
    Release,
    /// Of no message that is on its way.
    Unknown,
}

/// What to send when a session is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resend {
    Publish(u16, Message),
    Pubrel(u16),
}

/// Packet ids and what they stand for.
#[derive(Debug)]
pub(super) struct Window {
    /// By packet id less one.
    slots: Vec<Option<Slot>>,
    free: VecDeque<u16>,
    next_order: u64,
}

impl Window {
    pub(super) fn new(size: u16) -> Window {
        Window {
            slots: vec![None; usize::from(size)],
            free: (1..=size).collect(),
            next_order: 0,
        }
    }

    /// How many messages are on their way.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A packet id for a message; `None` when the window is full.
    pub(super) fn push(&mut self, message: Message) -> Option<u16> {
        let packet_id = self.free.pop_front()?;
        self.slots[usize::from(packet_id) - 1] = Some(Slot {
            message,
            order: self.next_order,
            received: None,
        });
        self.next_order += 1;
        Some(packet_id)
    }

    pub(super) fn puback(&mut self, ack: Ack) -> Outcome {
        match self.take(ack.packet_id) {
            Some(slot) => Self::outcome(slot.message, ack.reason),
            None => Outcome::Unknown,
        }
    }

    /// A reason of 0x80 or more ends the exchange here; after any other a PUBREL must follow.
    pub(super) fn pubrec(&mut self, ack: Ack) -> Outcome {
        if ack.reason >= 0x80 {
            return self.puback(ack);
        }
        match self.slot(ack.packet_id) {
            Some(slot) => {
                slot.received = Some(ack.reason == NO_MATCHING_SUBSCRIBERS);
                Outcome::Release
            }
            None => Outcome::Unknown,
        }
    }

    pub(super) fn pubcomp(&mut self, ack: Ack) -> Outcome {
        match self.take(ack.packet_id) {
            Some(Slot {
                message,
                received: Some(true),
                ..
            }) => Outcome::Refused(message),
            Some(slot) => Self::outcome(slot.message, ack.reason),
            None => Outcome::Unknown,
        }
    }

    /// What a resumed session must be sent again, in the order of the first sending [MQTT-4.6.0-1].
    pub(super) fn resume(&self) -> Vec<Resend> {
        let resend = |(packet_id, slot): (u16, &Slot)| match slot.received {
            None => Resend::Publish(packet_id, slot.message),
            Some(_) => Resend::Pubrel(packet_id),
        };
        self.in_order().into_iter().map(resend).collect()
    }

    /// Empties the window when the broker has lost the session; returns the messages in order.
    pub(super) fn restart(&mut self) -> Vec<Message> {
        let messages = self
            .in_order()
            .into_iter()
            .map(|(_, slot)| slot.message)
            .collect();
        let size = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
        *self = Window {
            next_order: self.next_order,
            ..Window::new(size)
        };
        messages
    }

    fn in_order(&self) -> Vec<(u16, &Slot)> {
        let mut slots: Vec<_> = (1_u16..)
            .zip(&self.slots)
            .filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
            .collect();
        slots.sort_by_key(|(_, slot)| slot.order);
        slots
    }

    fn outcome(message: Message, reason: u8) -> Outcome {
        if reason == 0 {
            Outcome::Acknowledged(message)
        } else {
            Outcome::Refused(message)
        }
    }

    fn slot(&mut self, packet_id: u16) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::from(packet_id).checked_sub(1)?)?
            .as_mut()
    }

    fn take(&mut self, packet_id: u16) -> Option<Slot> {
        let slot = self
            .slots
            .get_mut(usize::from(packet_id).checked_sub(1)?)?
            .take()?;
        self.free.push_back(packet_id);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u32) -> Message {
        Message {
            key: 0,
            sequence,
            sent_at: 0,
        }
    }

    fn ack(packet_id: u16, reason: u8) -> Ack {
        Ack { packet_id, reason }
    }

    #[test]
    fn a_full_window_takes_a_message_after_an_ack() {
        let mut window = Window::new(2);
        assert_eq!(window.push(message(0)), Some(1));
        assert_eq!(window.push(message(1)), Some(2));
        assert_eq!(window.push(message(2)), None);
        assert_eq!(window.puback(ack(2, 0)), Outcome::Acknowledged(message(1)));
        assert_eq!(window.puback(ack(2, 0)), Outcome::Unknown);
        assert_eq!(window.push(message(2)), Some(2));
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn no_matching_subscribers_is_no_acknowledgement() {
        let mut window = Window::new(2);
        window.push(message(0));
        assert_eq!(window.puback(ack(1, 0x10)), Outcome::Refused(message(0)));
        let id = window.push(message(1)).unwrap();
        assert_eq!(window.pubrec(ack(id, 0x10)), Outcome::Release);
        assert_eq!(window.pubcomp(ack(id, 0)), Outcome::Refused(message(1)));
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn qos_2_is_acknowledged_by_pubcomp() {
        let mut window = Window::new(4);
        for sequence in 0..2 {
            window.push(message(sequence));
        }
        assert_eq!(window.pubrec(ack(1, 0)), Outcome::Release);
        assert_eq!(window.pubrec(ack(1, 0)), Outcome::Release);
        assert_eq!(window.pubcomp(ack(1, 0)), Outcome::Acknowledged(message(0)));
        assert_eq!(window.pubrec(ack(2, 0x97)), Outcome::Refused(message(1)));
        assert_eq!(window.pubcomp(ack(2, 0)), Outcome::Unknown);
        assert_eq!(window.pubrec(ack(0, 0)), Outcome::Unknown);
    }

    #[test]
    fn a_resumed_session_gets_everything_in_the_order_of_sending() {
        let mut window = Window::new(3);
        for sequence in 0..3 {
            window.push(message(sequence));
        }
        window.puback(ack(1, 0));
        window.push(message(3));
        window.pubrec(ack(2, 0));
        let expected = [
            Resend::Pubrel(2),
            Resend::Publish(3, message(2)),
            Resend::Publish(1, message(3)),
        ];
        assert_eq!(window.resume(), expected);
        assert_eq!(window.restart(), [1, 2, 3].map(message));
        assert_eq!(window.len(), 0);
    }
}
