//! An MQTT broker: one connection for each client id, and a session that stays until it is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::FAILOVER;

#[derive(Debug)]
pub(crate) struct Broker {
    /// It says so to whom it closes because another has connected (MQTT 5).
    pub(crate) speaks: bool,
    readers: BTreeMap<u16, u64>,
    /// Lanes that it holds messages for.
    sessions: BTreeSet<u16>,
    /// Connections it has closed, until their workers notice.
    kicked: BTreeSet<(u64, u16)>,
    /// When a worker learnt that its lane was taken over, and the generation it acted by.
    told: BTreeMap<(u64, u16), (Instant, u64)>,
    complaint: Option<String>,
}

impl Broker {
    pub(crate) fn new(speaks: bool) -> Self {
        Self {
            speaks,
            readers: BTreeMap::new(),
            sessions: BTreeSet::new(),
            kicked: BTreeSet::new(),
            told: BTreeMap::new(),
            complaint: None,
        }
    }

    /// The pod whose worker reads a lane.
    pub(crate) fn reader(&self, lane: u16) -> Option<u64> {
        self.readers.get(&lane).copied()
    }

    /// A lane subscribes: from now on messages are held for it.
    pub(crate) fn subscribe(&mut self, lane: u16) {
        self.sessions.insert(lane);
    }

    /// True: somebody else's connection ended by this.
    pub(crate) fn connect(&mut self, uid: u64, lane: u16, generation: u64, now: Instant) -> bool {
        if let Some((at, known)) = self.told.get(&(uid, lane))
            && *known == generation
            && now.duration_since(*at) < FAILOVER
        {
            let after = now.duration_since(*at);
            self.complain(format!(
                "{uid} takes lane {lane} back {after:?} after it was told that another has it"
            ));
        }
        self.kicked.remove(&(uid, lane));
        match self.readers.insert(lane, uid).filter(|reader| *reader != uid) {
            Some(other) => {
                self.kicked.insert((other, lane));
                true
            }
            None => false,
        }
    }

    pub(crate) fn disconnect(&mut self, uid: u64, lane: u16) {
        if self.reader(lane) == Some(uid) {
            self.readers.remove(&lane);
        }
    }

    /// Lanes that it holds messages for.
    pub(crate) fn sessions(&self) -> &BTreeSet<u16> {
        &self.sessions
    }

    /// The lane has no session any more. Not by somebody who has lost it.
    pub(crate) fn end(&mut self, uid: u64, lane: u16) -> bool {
        let is_reader = self.reader(lane) == Some(uid);
        if is_reader {
            self.readers.remove(&lane);
            self.sessions.remove(&lane);
        }
        is_reader
    }

    /// A process is gone, with all its connections.
    pub(crate) fn gone(&mut self, uid: u64) {
        self.readers.retain(|_, reader| *reader != uid);
        self.kicked.retain(|(kicked, _)| *kicked != uid);
        self.told.retain(|(told, _), _| *told != uid);
    }

    /// Whether a connection was closed; it is noticed once.
    pub(crate) fn notice(&mut self, uid: u64, lane: u16) -> bool {
        self.kicked.remove(&(uid, lane))
    }

    /// The worker knows now that another has its lane.
    pub(crate) fn knows(&mut self, uid: u64, lane: u16, generation: u64, now: Instant) {
        self.told.insert((uid, lane), (now, generation));
    }

    pub(crate) fn complain(&mut self, of: String) {
        self.complaint.get_or_insert(of);
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.complaint.clone().map_or(Ok(()), Err)
    }
}
