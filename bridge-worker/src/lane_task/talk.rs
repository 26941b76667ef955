//! What a lane and its broker have told each other on a connection, beside messages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::quiet::Quiet;
use crate::mqtt::{Connection, Ended, Granted, Wanted, write_subscribe, write_unsubscribe};

/// How long the broker may take for SUBACK and UNSUBACK.
const ANSWER: Duration = Duration::from_secs(10);

/// What a lane and its broker have told each other on a connection, beside messages.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) granted: Granted,
    /// The login that the connection was made with.
    pub(super) login: u64,
    /// What the lane had been told of connections to be made again.
    pub(super) again: u64,
    /// The connection is there to end the session.
    pub(super) is_leaving: bool,
    last_id: u16,
    subscribe: Option<Asked>,
    unsubscribe: Option<Asked>,
    /// To be unsubscribed once what is new has been granted.
    later: Vec<String>,
    /// Unsubscribed on this connection.
    gone: BTreeSet<String>,
    /// Whether anything more comes for filters the route no longer has.
    pub(super) late: Option<Quiet>,
    /// Whether anything more comes at all, for a lane that leaves.
    pub(super) last: Option<Quiet>,
}

/// A request without answer.
#[derive(Debug)]
struct Asked {
    id: u16,
    filters: Vec<String>,
    /// The first of a connection names all filters.
    is_first: bool,
    until: Instant,
}

/// What has been granted or refused: the filters of a SUBSCRIBE.
pub(crate) struct Answered {
    pub(crate) filters: Vec<String>,
    /// Whether it is about all filters of the lane.
    pub(crate) all: bool,
}

impl Talk {
    pub(super) fn new(granted: Granted, login: u64, again: u64, is_leaving: bool) -> Self {
        Self {
            granted,
            login,
            again,
            is_leaving,
            last_id: 0,
            subscribe: None,
            unsubscribe: None,
            later: Vec::new(),
            gone: BTreeSet::new(),
            late: None,
            last: None,
        }
    }

    /// Subscribes to what is wanted, and when that is granted unsubscribes from `then`.
    pub(super) fn ask(&mut self, connection: &mut Connection, wanted: &[Wanted], then: Vec<String>, qos: u8) {
        let filters: Vec<String> = wanted.iter().map(|wanted| wanted.path.clone()).collect();
        self.gone.retain(|gone| !filters.contains(gone));
        self.later = then;
        self.later.retain(|path| !self.gone.contains(path));
        if filters.is_empty() {
            self.unsubscribe_later(connection);
            return;
        }
        let is_first = self.last_id == 0;
        let id = self.id();
        write_subscribe(self.granted.version, id, wanted, qos, connection.out());
        self.subscribe = Some(Asked {
            id,
            filters,
            is_first,
            until: Instant::now() + ANSWER,
        });
    }

    /// SUBACK has come: what it answers. Once its codes have been looked at, [`Talk::unsubscribe_later`] follows.
    pub(super) fn suback(&mut self, id: u16) -> Option<Answered> {
        let asked = self.subscribe.take_if(|asked| asked.id == id)?;
        Some(Answered {
            filters: asked.filters,
            all: asked.is_first,
        })
    }

    /// Unsubscribes from what is no longer used.
    pub(super) fn unsubscribe_later(&mut self, connection: &mut Connection) {
        let filters = std::mem::take(&mut self.later);
        if filters.is_empty() {
            return;
        }
        let id = self.id();
        write_unsubscribe(self.granted.version, id, &filters, connection.out());
        self.unsubscribe = Some(Asked {
            id,
            filters,
            is_first: false,
            until: Instant::now() + ANSWER,
        });
    }

    /// UNSUBACK has come.
    pub(super) fn unsuback(&mut self, id: u16) {
        if let Some(asked) = self.unsubscribe.take_if(|asked| asked.id == id) {
            self.gone.extend(asked.filters);
        }
    }

    /// Whether the broker has answered everything: only then something else is asked.
    pub(super) fn is_settled(&self) -> bool {
        self.subscribe.is_none() && self.unsubscribe.is_none()
    }

    /// Whether a SUBSCRIBE waits for its answer.
    pub(super) fn is_subscribing(&self) -> bool {
        self.subscribe.is_some()
    }

    /// What a resumed session holds comes before the answers, and on a slow network it takes its time.
    pub(super) fn extend(&mut self, at: Instant) {
        for asked in [&mut self.subscribe, &mut self.unsubscribe].into_iter().flatten() {
            asked.until = at + ANSWER;
        }
    }

    /// # Errors
    /// When the broker takes too long for an answer.
    pub(super) fn check(&self, at: Instant) -> Result<(), Ended> {
        let late = |asked: &Option<Asked>| asked.as_ref().is_some_and(|asked| at > asked.until);
        if late(&self.subscribe) {
            return Err(Ended::NoSubAck(ANSWER));
        }
        if late(&self.unsubscribe) {
            return Err(Ended::NoUnsubAck(ANSWER));
        }
        Ok(())
    }

    /// The next packet identifier. Only SUBSCRIBE and UNSUBSCRIBE have one of the lane's own, one at a time.
    fn id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }
}
