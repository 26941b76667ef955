//! Messages that have been published and that the broker has not answered for good.

use std::collections::VecDeque;

use crate::mqtt::Answer;

/// Packet identifiers that there are.
const IDS: u64 = 65_535;

/// No matching subscribers, in PUBACK and PUBREC [MQTT-3.4.2.1].
const NO_SUBSCRIBERS: u8 = 0x10;
/// The first reason that says no.
const FAILURE: u8 = 0x80;
/// Packet identifier not found, in PUBCOMP: the broker has completed the exchange before.
const NOT_FOUND: u8 = 0x92;
/// Quota exceeded: it will take the message later.
const QUOTA: u8 = 0x97;

/// Messages that have been published, or are to be, and that the broker has not answered for good, in the order of their
/// first publication.
#[derive(Debug)]
pub(crate) struct Window<T> {
    /// The number of the first of `entries`.
    first: u64,
    entries: VecDeque<Entry<T>>,
    /// How many may be there at once.
    limit: usize,
    /// Entries that the broker owes an answer for.
    in_flight: usize,
    /// Entries that are to be published as soon as the broker takes one.
    due: usize,
    /// Entries that the broker takes later.
    waiting: usize,
    /// The one of those that is published to see whether it does.
    probe: Option<u64>,
    open: usize,
}

#[derive(Debug)]
struct Entry<T> {
    /// Gone when its way has ended and others before it have not.
    item: Option<T>,
    qos: u8,
    stage: Stage,
    /// The broker may have it from an earlier connection of the session.
    dup: bool,
    /// The broker said that nobody is subscribed.
    unheard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// To be published.
    Due,
    /// PUBLISH has been sent.
    Published,
    /// QoS 2: PUBREC has come and PUBREL has been sent.
    Released,
    /// The broker takes it later.
    Waiting,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// The broker has the message, and at least one client is subscribed as far as it says.
    Delivered(T),
    /// The broker had no subscriber for it.
    Unheard(T),
    /// The broker does not take it, for this reason.
    Refused(T, u8),
    /// PUBREL is to be sent.
    Release(u16),
    /// It is to be published again later.
    Later,
    /// It answers nothing that was asked.
    Stray,
}

/// What became of an attempt to publish a message that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It was published with this quality of service.
    As(u8),
    /// There is no room in the socket.
    NotNow,
    /// It is too late for it.
    Expired,
    /// The broker does not take it, for this reason.
    Never(String),
}

impl<T> Window<T> {
    pub(crate) fn new(limit: u16) -> Self {
        Self {
            first: 0,
            entries: VecDeque::new(),
            limit: limit.into(),
            in_flight: 0,
            due: 0,
            waiting: 0,
            probe: None,
            open: 0,
        }
    }

    /// The broker has said how many it takes.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        self.limit = limit.into();
    }

    /// Whether another message may be published. While others are to go before it none may, or they would be overtaken.
    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < self.limit && self.due == 0 && self.waiting == 0 && self.probe.is_none()
    }

    /// Messages without a final answer.
    pub(crate) fn len(&self) -> usize {
        self.open
    }

    /// Whether the broker is to take some later.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// The oldest of them.
    pub(crate) fn oldest(&self) -> Option<&T> {
        self.entries.front()?.item.as_ref()
    }

    /// The identifier of the next message.
    pub(crate) fn next_id(&self) -> u16 {
        id(self.first + self.entries.len() as u64)
    }

    /// A message is published with [`Window::next_id`].
    pub(crate) fn push(&mut self, item: T, qos: u8) {
        self.open += 1;
        self.in_flight += 1;
        self.entries.push_back(Entry {
            item: Some(item),
            qos,
            stage: Stage::Published,
            dup: false,
            unheard: false,
        });
    }

    /// The broker has answered. With `waits`, a message that nobody is subscribed to waits for somebody.
    pub(crate) fn answered(&mut self, answer: Answer, waits: bool) -> Outcome<T> {
        let Some(index) = self.index(answer.id()) else {
            return Outcome::Stray;
        };
        let entry = &mut self.entries[index];
        let verdict = match (answer, entry.qos, entry.stage) {
            (Answer::PubAck { code, .. }, 1, Stage::Published) => match code {
                NO_SUBSCRIBERS if waits => Verdict::Later,
                NO_SUBSCRIBERS => Verdict::Unheard,
                QUOTA => Verdict::Later,
                FAILURE.. => Verdict::Refused(code),
                _ => Verdict::Delivered,
            },
            (Answer::PubRec { id, code }, 2, Stage::Published) => match code {
                QUOTA => Verdict::Later,
                FAILURE.. => Verdict::Refused(code),
                _ => {
                    entry.unheard = code == NO_SUBSCRIBERS;
                    entry.stage = Stage::Released;
                    return Outcome::Release(id);
                }
            },
            // It has not seen the PUBREL.
            (Answer::PubRec { id, .. }, 2, Stage::Released) => return Outcome::Release(id),
            (Answer::PubComp { code, .. }, 2, Stage::Released) => match code {
                FAILURE.. if code != NOT_FOUND => Verdict::Refused(code),
                _ if entry.unheard && waits => Verdict::Later,
                _ if entry.unheard => Verdict::Unheard,
                _ => Verdict::Delivered,
            },
            _ => return Outcome::Stray,
        };
        let was_probe = self
            .probe
            .take_if(|probe| *probe == self.first + index as u64)
            .is_some();
        if let Verdict::Later = verdict {
            let entry = &mut self.entries[index];
            (entry.stage, entry.unheard, entry.dup) = (Stage::Waiting, false, false);
            self.in_flight -= 1;
            self.waiting += 1;
            return Outcome::Later;
        }
        if was_probe {
            self.go_on();
        }
        let Some(item) = self.take(index) else {
            return Outcome::Stray;
        };
        match verdict {
            Verdict::Refused(code) => Outcome::Refused(item, code),
            Verdict::Unheard => Outcome::Unheard(item),
            Verdict::Delivered | Verdict::Later => Outcome::Delivered(item),
        }
    }

    /// It is time to see whether the broker takes what it did not take before: the first of it is due, the others follow
    /// when it is taken, so that they keep their order.
    pub(crate) fn retry(&mut self) {
        if self.probe.is_some() {
            return;
        }
        let mut entries = (self.first..).zip(&mut self.entries);
        if let Some((number, entry)) =
            entries.find(|(_, entry)| entry.stage == Stage::Waiting && entry.item.is_some())
        {
            entry.stage = Stage::Due;
            self.probe = Some(number);
            self.waiting -= 1;
            self.due += 1;
        }
    }

    /// The broker takes messages again.
    fn go_on(&mut self) {
        for entry in &mut self.entries {
            if entry.stage == Stage::Waiting && entry.item.is_some() {
                entry.stage = Stage::Due;
            }
        }
        self.due += std::mem::take(&mut self.waiting);
    }

    /// There is a new connection: releases are sent again, and everything else without a final answer is due. What the
    /// broker has forgotten with the session is published as new.
    pub(crate) fn resend(&mut self, session_present: bool, mut release: impl FnMut(u16)) {
        (self.in_flight, self.due, self.probe) = (0, 0, None);
        for (number, entry) in (self.first..).zip(&mut self.entries) {
            if entry.item.is_none() {
                continue;
            }
            match entry.stage {
                Stage::Waiting => {}
                Stage::Released if session_present => {
                    self.in_flight += 1;
                    release(id(number));
                }
                stage => {
                    entry.dup = session_present && (stage != Stage::Due || entry.dup);
                    entry.stage = Stage::Due;
                    entry.unheard = false;
                    self.due += 1;
                }
            }
        }
    }

    /// Publishes what is due, in order, as far as the broker takes it. `publish` is given identifier, message and whether
    /// the broker may have it already. Returns what goes another way: what was published with QoS 0, which is never
    /// answered, and what the broker does not take.
    pub(crate) fn publish_due(&mut self, mut publish: impl FnMut(u16, &T, bool) -> Sent) -> Vec<(T, Sent)> {
        let mut others = Vec::new();
        let mut index = 0;
        while self.due > 0 && self.in_flight < self.limit && index < self.entries.len() {
            let number = self.first + index as u64;
            let is_probe = self.probe == Some(number);
            let entry = &mut self.entries[index];
            // Nothing overtakes what the broker does not take now.
            let holds = entry.stage == Stage::Waiting || (is_probe && entry.stage != Stage::Due);
            if holds && entry.item.is_some() {
                break;
            }
            let item = entry.item.as_ref().filter(|_| entry.stage == Stage::Due);
            let sent = item.map(|item| publish(id(number), item, entry.dup));
            match sent {
                None => index += 1,
                Some(Sent::NotNow) => break,
                Some(Sent::As(qos @ 1..)) => {
                    (entry.qos, entry.stage) = (qos, Stage::Published);
                    self.due -= 1;
                    self.in_flight += 1;
                    index += 1;
                }
                Some(sent) => {
                    if self.probe.take_if(|probe| *probe == number).is_some() {
                        self.go_on();
                    }
                    others.extend(self.take(index).map(|item| (item, sent)));
                    // Those in front may have gone with it.
                    index = (number + 1).saturating_sub(self.first) as usize;
                }
            }
        }
        others
    }

    /// Gives up what is not to be published any more. What the broker may have of a QoS 2 exchange stays: its identifier
    /// would be taken for a repeat of it.
    /// `keeps` is told whether the broker is to take a message later.
    pub(crate) fn retain(&mut self, keeps: impl Fn(&T, bool) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        let mut index = 0;
        while index < self.entries.len() {
            let number = self.first + index as u64;
            let entry = &self.entries[index];
            let may_go = match entry.stage {
                Stage::Waiting => true,
                Stage::Due => !(entry.qos == 2 && entry.dup),
                Stage::Published | Stage::Released => false,
            };
            let waits = entry.stage == Stage::Waiting;
            if may_go && entry.item.as_ref().is_some_and(|item| !keeps(item, waits)) {
                if self.probe.take_if(|probe| *probe == number).is_some() {
                    self.go_on();
                }
                gone.extend(self.take(index));
                index = (number + 1).saturating_sub(self.first) as usize;
            } else {
                index += 1;
            }
        }
        gone
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self) -> Vec<T> {
        self.first += self.entries.len() as u64;
        (self.in_flight, self.due, self.waiting, self.open) = (0, 0, 0, 0);
        self.probe = None;
        self.entries.drain(..).filter_map(|entry| entry.item).collect()
    }

    fn take(&mut self, index: usize) -> Option<T> {
        let entry = &mut self.entries[index];
        let item = entry.item.take()?;
        match entry.stage {
            Stage::Due => self.due -= 1,
            Stage::Published | Stage::Released => self.in_flight -= 1,
            Stage::Waiting => self.waiting -= 1,
        }
        self.open -= 1;
        while self.entries.front().is_some_and(|entry| entry.item.is_none()) {
            self.entries.pop_front();
            self.first += 1;
        }
        Some(item)
    }

    /// Where the message with this identifier is.
    fn index(&self, of: u16) -> Option<usize> {
        let ahead = (u64::from(of) + IDS - u64::from(id(self.first))) % IDS;
        let index = usize::try_from(ahead).ok()?;
        let entry = self.entries.get(index)?;
        (of != 0 && entry.item.is_some()).then_some(index)
    }
}

enum Verdict {
    Delivered,
    Unheard,
    Refused(u8),
    Later,
}

/// The identifier of a message, by its number: no two of a window have the same, because it holds at most as many as
/// there are.
fn id(number: u64) -> u16 {
    (number % IDS) as u16 + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ack(id: u16, code: u8) -> Answer {
        Answer::PubAck { id, code }
    }

    #[test]
    fn a_message_of_qos_1_ends_with_puback() {
        let mut window = Window::new(10);
        for item in ["a", "b", "c", "d"] {
            window.push(item, 1);
        }
        assert_eq!(window.answered(ack(2, 0), false), Outcome::Delivered("b"));
        assert_eq!(window.answered(ack(2, 0), false), Outcome::Stray);
        assert_eq!(window.answered(ack(1, 0x10), false), Outcome::Unheard("a"));
        assert_eq!(window.answered(ack(3, 0x87), false), Outcome::Refused("c", 0x87));
        assert_eq!(window.answered(ack(9, 0), false), Outcome::Stray);
        assert_eq!(window.answered(ack(0, 0), false), Outcome::Stray);
        assert_eq!(
            window.answered(Answer::PubRec { id: 4, code: 0 }, false),
            Outcome::Stray,
            "an answer to QoS 2"
        );
        assert_eq!((window.len(), window.next_id()), (1, 5));
    }

    #[test]
    fn a_message_of_qos_2_ends_with_pubcomp_or_a_pubrec_that_says_no() {
        let mut window = Window::new(10);
        window.push("a", 2);
        window.push("b", 2);
        let rec = |id, code| Answer::PubRec { id, code };
        let comp = |id, code| Answer::PubComp { id, code };
        assert_eq!(window.answered(comp(1, 0), false), Outcome::Stray);
        assert_eq!(window.answered(rec(1, 0), false), Outcome::Release(1));
        assert_eq!(window.answered(rec(1, 0), false), Outcome::Release(1), "again");
        assert_eq!(window.answered(rec(2, 0x99), false), Outcome::Refused("b", 0x99));
        // Completed before the connection was lost.
        assert_eq!(window.answered(comp(1, 0x92), false), Outcome::Delivered("a"));
        assert_eq!(window.len(), 0);
    }

    /// Publishes all that is due, with QoS 1; returns identifiers, messages and whether each is marked as sent before.
    fn due(window: &mut Window<&'static str>, qos: u8) -> Vec<(u16, &'static str, bool)> {
        let mut sent = Vec::new();
        let others = window.publish_due(|id, item, dup| {
            sent.push((id, *item, dup));
            Sent::As(qos)
        });
        assert_eq!(others.len(), if qos == 0 { sent.len() } else { 0 });
        sent
    }

    #[test]
    fn what_the_broker_takes_later_holds_what_follows_and_keeps_its_order() {
        let mut window = Window::new(10);
        window.push("a", 1);
        window.push("b", 1);
        window.push("c", 1);
        assert_eq!(window.answered(ack(1, 0x97), false), Outcome::Later);
        assert_eq!(window.answered(ack(2, 0x10), true), Outcome::Later);
        assert_eq!(window.answered(ack(3, 0), true), Outcome::Delivered("c"));
        assert!(!window.has_room());
        window.retry();
        assert_eq!(due(&mut window, 1), [(1, "a", false)], "one goes to see");
        assert!(!window.has_room());
        assert_eq!(window.answered(ack(1, 0x97), false), Outcome::Later);
        window.retry();
        assert_eq!(due(&mut window, 1), [(1, "a", false)]);
        assert_eq!(window.answered(ack(1, 0), false), Outcome::Delivered("a"));
        assert_eq!(due(&mut window, 1), [(2, "b", false)], "the others follow");
        assert!(window.has_room());
        assert_eq!(window.answered(ack(2, 0), false), Outcome::Delivered("b"));
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn a_new_connection_gets_what_the_old_one_was_not_answered_for() {
        let mut window = Window::new(10);
        window.push("a", 2);
        window.push("b", 2);
        window.answered(Answer::PubRec { id: 1, code: 0 }, false);
        let mut released = Vec::new();
        window.resend(true, |id| released.push(id));
        assert_eq!((released, due(&mut window, 2)), (vec![1], vec![(2, "b", true)]));
        window.resend(false, |_| panic!("the broker knows of no exchange"));
        assert_eq!(due(&mut window, 2), [(1, "a", false), (2, "b", false)]);
    }

    #[test]
    fn a_new_connection_that_grants_less_gets_no_more_than_it_takes() {
        let mut window = Window::new(10);
        ["a", "b", "c"].into_iter().for_each(|item| window.push(item, 2));
        window.resend(false, |_| {});
        window.set_limit(2);
        assert_eq!(due(&mut window, 1), [(1, "a", false), (2, "b", false)]);
        assert_eq!(due(&mut window, 1), []);
        assert_eq!(
            window.answered(ack(1, 0), false),
            Outcome::Delivered("a"),
            "it has QoS 1 now"
        );
        assert_eq!(due(&mut window, 1), [(3, "c", false)]);
        window.resend(true, |_| {});
        let too_large = Sent::Never("too large".into());
        let others = window.publish_due(|_, item, dup| match (*item, dup) {
            ("b", true) => too_large.clone(),
            _ => Sent::NotNow,
        });
        assert_eq!(others, [("b", too_large)]);
        assert_eq!(due(&mut window, 0), [(3, "c", true)], "never answered");
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn what_is_not_to_be_published_any_more_goes_unless_the_broker_has_half_of_it() {
        let mut window = Window::new(10);
        window.push("a", 2);
        window.push("b", 1);
        window.push("c", 1);
        assert_eq!(window.answered(ack(3, 0x97), false), Outcome::Later);
        assert_eq!(
            window.retain(|item, _| *item == "x"),
            ["c"],
            "the others are on their way"
        );
        window.resend(true, |_| {});
        assert_eq!(window.retain(|item, _| *item == "x"), ["b"]);
        assert_eq!(due(&mut window, 2), [(1, "a", true)]);
        window.resend(false, |_| {});
        assert_eq!(window.retain(|item, _| *item == "x"), ["a"]);
        assert!(window.has_room() && window.len() == 0);
    }

    proptest! {
        /// Against a map: identifiers of open messages differ, each message ends once, and there are never more than
        /// the limit.
        #[test]
        fn it_agrees_with_a_map(
            limit in 1_u16..8,
            start in prop_oneof![Just(0_u64), 65_500..65_560_u64, 131_000..131_100_u64],
            steps in prop::collection::vec((any::<bool>(), 0_usize..8, prop_oneof![Just(0_u8), Just(0x87), Just(0x97)]), 1..120),
        ) {
            let mut window = Window::new(limit);
            window.first = start;
            let (mut open, mut next) = (BTreeMap::new(), 0);
            for (publish, which, code) in steps {
                if publish {
                    if window.has_room() {
                        let id = window.next_id();
                        prop_assert!(open.insert(id, next).is_none(), "id {} is taken", id);
                        window.push(next, 1);
                        next += 1;
                    }
                } else if let Some((id, item)) = open.iter().nth(which % open.len().max(1)).map(|(id, item)| (*id, *item)) {
                    let waits = window.is_waiting();
                    match window.answered(ack(id, code), false) {
                        Outcome::Delivered(done) | Outcome::Refused(done, _) => {
                            prop_assert_eq!(done, item);
                            open.remove(&id);
                        }
                        Outcome::Later => {}
                        // It waits to be published again.
                        Outcome::Stray if waits => {}
                        other => prop_assert!(false, "{:?}", other),
                    }
                    window.retry();
                    prop_assert!(window.publish_due(|_, _, _| Sent::As(1)).is_empty());
                }
                prop_assert_eq!(window.len(), open.len());
                prop_assert!(window.entries.len() <= usize::from(limit));
            }
        }
    }
}
