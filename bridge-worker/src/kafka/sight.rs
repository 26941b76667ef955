//! Whether a client still knows a broker to ask.

use std::sync::atomic::{AtomicU32, Ordering};

use millrace_librdkafka::add_brokers;
use rdkafka::ClientContext;
use rdkafka::client::Client;

use super::state::Statistics;

/// So many statistics in a row without a broker that is tried: the client will not find the cluster again.
const LOST_AFTER: u32 = 2;

/// So many without one that answers: all may have other addresses by now. librdkafka begins again by itself then, but not
/// once it has cancelled its own return.
const AWAY_AFTER: u32 = 150;

/// What a client's statistics say of its brokers, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// Statistics in a row that named no broker that is tried.
    without: AtomicU32,
    /// Statistics in a row that named no broker that answers.
    away: AtomicU32,
}

impl Sight {
    /// Takes the newest statistics. Those that cannot be read say nothing against it.
    pub(crate) fn look(&self, statistics: Option<&Statistics>) {
        let count = |count: &AtomicU32, is_well: bool| match is_well {
            true => count.store(0, Ordering::Release),
            false => {
                count.fetch_add(1, Ordering::AcqRel);
            }
        };
        count(&self.without, statistics.is_none_or(Statistics::name_a_broker));
        count(&self.away, statistics.is_none_or(Statistics::name_one_that_is_up));
    }

    fn is_lost(&self) -> bool {
        self.without.load(Ordering::Acquire) >= LOST_AFTER || self.away.load(Ordering::Acquire) >= AWAY_AFTER
    }

    /// A client that has lost all of its brokers begins again at `servers`: see [`add_brokers`]. What it holds stays where it
    /// is, and goes on from there.
    pub(crate) fn restore<C: ClientContext>(&self, client: &Client<C>, servers: &str) {
        if !self.is_lost() {
            return;
        }
        self.without.store(0, Ordering::Release);
        self.away.store(0, Ordering::Release);
        match add_brokers(client, servers) {
            Ok(()) => tracing::warn!(
                servers,
                "a Kafka client has lost sight of the cluster: it begins again at the bootstrap servers"
            ),
            Err(error) => {
                tracing::error!(%error, servers, "a Kafka client that has lost sight of the cluster cannot begin again")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(json: &str) -> Option<Statistics> {
        Statistics::read(json.as_bytes())
    }

    #[test]
    fn it_is_lost_after_two_looks_in_a_row_without_any_broker() {
        let none = r#"{"brokers":{"GroupCoordinator":{"state":"UP","source":"logical"}}}"#;
        let away = r#"{"brokers":{"b":{"state":"DOWN","stateage":1999000,"source":"learned"}}}"#;
        let forgotten = r#"{"brokers":{"b":{"state":"DOWN","stateage":5000000,"source":"learned"}}}"#;
        let sight = Sight::default();
        for (json, lost) in [
            (none, false),
            (away, false),
            (none, false),
            ("", false),
            (none, false),
            (forgotten, true),
        ] {
            sight.look(statistics(json).as_ref());
            assert_eq!(sight.is_lost(), lost, "{json}");
        }
    }

    #[test]
    fn it_begins_again_when_no_broker_has_answered_for_five_minutes() {
        let tried = r#"{"brokers":{"b":{"state":"CONNECT","stateage":100,"source":"learned"}}}"#;
        let sight = Sight::default();
        for _ in 1..AWAY_AFTER {
            sight.look(statistics(tried).as_ref());
        }
        assert!(!sight.is_lost());
        sight.look(statistics(tried).as_ref());
        assert!(sight.is_lost());
    }
}
