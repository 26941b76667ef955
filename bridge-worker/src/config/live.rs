//! What the lanes of a route take over while they run.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_contract::{Lanes, Live, Mapping, OnError, PayloadFormat, Subscription};
use millrace_mapping::{Filter, Mapper, MappingError};

use super::{ConfigError, LanePlan};
use crate::mqtt::Wanted;
use crate::pipeline::Mappings;

/// A filter as a lane reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// As the user wrote it.
    pub(crate) text: String,
    /// As sent: with `$share/...` when shared.
    pub(crate) path: String,
    /// Other lanes read it too, or have until now: the route has its retained messages.
    pub(crate) is_known: bool,
}

impl Reading {
    /// As it is asked for. Of a shared one every lane would get what is retained.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            path: self.path.clone(),
            retained: !self.is_known && !self.is_shared(),
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        is_shared(&self.path)
    }
}

/// Whether a filter, as sent, is a shared one.
pub(crate) fn is_shared(path: &str) -> bool {
    path.starts_with("$share/")
}

/// Filters that are read, or were, with the mapping for what comes through them.
#[derive(Clone, Debug)]
struct Group {
    is_read: bool,
    filters: Vec<Filter>,
    lanes: Lanes,
    mapping: Mapping,
    payload: PayloadFormat,
}

/// What the lanes of a route take over while they run: checked, so that a lane cannot fail on it.
#[derive(Clone, Debug)]
pub(crate) struct LivePlan {
    /// Grows with every plan of the process.
    pub(crate) revision: u64,
    /// SHA-256 of the configuration as it was read. Empty when it came with the rest of the document.
    pub(crate) hash: String,
    current: Group,
    /// What the route has no longer, or other lanes read now, and the broker may still hold.
    retired: Vec<Group>,
    pub(crate) qos: u8,
    pub(crate) on_error: OnError,
    pub(crate) max_message_bytes: u64,
    pub(crate) failover: Duration,
    pub(crate) drain: Duration,
}

impl LivePlan {
    /// The first plan of a process.
    ///
    /// # Errors
    /// What is wrong with the configuration, with its place.
    pub(crate) fn first(live: &Live, hash: String) -> Result<Self, ConfigError> {
        Self::new(live, hash, 1, Vec::new())
    }

    /// The plan that replaces this one. Filters that are no longer read keep the mapping they had, unless they have
    /// run `dry` already.
    ///
    /// # Errors
    /// What is wrong with the configuration, with its place.
    pub(crate) fn follow(
        &self,
        live: &Live,
        hash: String,
        dry: &BTreeSet<String>,
    ) -> Result<Self, ConfigError> {
        let current = std::iter::once(self.current.clone());
        let retired = self.retired.iter().cloned().map(|mut group| {
            group.filters.retain(|filter| !dry.contains(filter.text()));
            group
        });
        let own = current.chain(retired).map(|group| Group {
            is_read: false,
            ..group
        });
        Self::new(live, hash, self.revision + 1, own.collect())
    }

    /// The same plan, of a configuration that differs in nothing that a lane acts by.
    pub(crate) fn renamed(&self, hash: String) -> Self {
        Self { hash, ..self.clone() }
    }

    fn new(live: &Live, hash: String, revision: u64, own: Vec<Group>) -> Result<Self, ConfigError> {
        if live.source.qos > 2 {
            return Err(ConfigError::Qos(live.source.qos));
        }
        if live.source.subscriptions.is_empty() {
            return Err(ConfigError::Empty("source.subscriptions"));
        }
        let filters = parse(&live.source.subscriptions)
            .map_err(|(index, message)| ConfigError::Filter { index, message })?;
        let current = Group {
            is_read: true,
            filters,
            lanes: live.lanes,
            mapping: live.mapping.clone(),
            payload: live.source.payload,
        };
        current.compile().map_err(ConfigError::Mapping)?;
        let mut groups = Vec::new();
        for (index, retired) in live.retired.iter().enumerate() {
            let bad = |message| ConfigError::Retired { index, message };
            groups.push(Group {
                is_read: retired.is_read,
                filters: parse(&retired.subscriptions)
                    .map_err(|(at, message)| bad(format!("subscriptions[{at}].filter: {message}")))?,
                lanes: retired.lanes,
                mapping: retired.mapping.clone(),
                payload: retired.payload,
            });
        }
        groups.extend(own);
        let retired = still_retired(&current, groups);
        for (index, group) in retired.iter().enumerate() {
            group.compile().map_err(|errors| ConfigError::Retired {
                index,
                message: ConfigError::Mapping(errors).to_string(),
            })?;
        }
        Ok(Self {
            revision,
            hash,
            current,
            retired,
            qos: live.source.qos,
            on_error: live.on_error.clone(),
            max_message_bytes: live.max_message_bytes,
            failover: Duration::from_millis(live.timeouts.failover_ms),
            drain: Duration::from_millis(live.timeouts.drain_ms),
        })
    }

    /// The mappings, compiled for one lane: mapping needs scratch space that is not shared.
    pub(crate) fn mappings(&self) -> Result<Mappings, ConfigError> {
        let retired = self.retired.iter().map(Group::compile);
        Ok(Mappings::new(
            self.current.compile().map_err(ConfigError::Mapping)?,
            retired.collect::<Result<_, _>>().map_err(ConfigError::Mapping)?,
        ))
    }

    /// The filters a lane reads.
    pub(crate) fn readings(&self, plan: &LanePlan) -> Vec<Reading> {
        let mut readings = self.current.readings(plan);
        for reading in &mut readings {
            reading.is_known = self.was_read(&reading.text);
        }
        for group in self.retired.iter().filter(|group| group.is_read) {
            add(&mut readings, group.readings(plan));
        }
        readings
    }

    fn was_read(&self, text: &str) -> bool {
        let groups = self.retired.iter().filter(|group| group.is_read);
        let mut filters = groups.flat_map(|group| &group.filters);
        filters.any(|filter| filter.text() == text)
    }

    /// The filters a lane has read before and is to unsubscribe from.
    pub(crate) fn retired(&self, plan: &LanePlan) -> Vec<Reading> {
        let mine = self.readings(plan);
        let mut retired = Vec::new();
        for group in self.retired.iter().filter(|group| !group.is_read) {
            add(&mut retired, group.readings(plan));
        }
        retired.retain(|reading| mine.iter().all(|mine| mine.path != reading.path));
        retired
    }

    /// Filters, as the user wrote them, that are not to be read any more, by whatever lane.
    pub(crate) fn unread(&self) -> BTreeSet<String> {
        let groups = self.retired.iter().filter(|group| !group.is_read);
        let filters = groups.flat_map(|group| &group.filters);
        filters.map(|filter| filter.text().to_owned()).collect()
    }

    /// All that a session of the route may be subscribed to, as sent, whatever lane reads it.
    pub(crate) fn paths(&self, plan: &LanePlan) -> BTreeSet<String> {
        let groups = std::iter::once(&self.current).chain(&self.retired);
        let paths = groups.flat_map(|group| {
            let filters = group.filters.iter();
            filters.map(|filter| plan.path(filter.wire(), group.lanes.ordering))
        });
        paths.collect()
    }
}

impl Group {
    fn compile(&self) -> Result<Mapper, Vec<MappingError>> {
        Mapper::compile(&self.mapping, &self.filters, self.payload)
    }

    fn readings(&self, plan: &LanePlan) -> Vec<Reading> {
        let filters = self.filters.iter();
        let mine = filters.filter(|filter| plan.reads(filter.wire(), self.lanes));
        mine.map(|filter| Reading {
            text: filter.text().to_owned(),
            path: plan.path(filter.wire(), self.lanes.ordering),
            is_known: true,
        })
        .collect()
    }
}

/// Adds what is not there.
fn add(readings: &mut Vec<Reading>, more: Vec<Reading>) {
    for reading in more {
        if readings.iter().all(|known| known.path != reading.path) {
            readings.push(reading);
        }
    }
}

/// What of `groups` is still retired: a filter that the same lanes read again is not, and of two groups the first
/// counts.
fn still_retired(current: &Group, groups: Vec<Group>) -> Vec<Group> {
    let mut taken = BTreeSet::new();
    let mut take = |lanes: Lanes, filter: &Filter| taken.insert((lanes, filter.wire().to_owned()));
    for filter in &current.filters {
        take(current.lanes, filter);
    }
    let mut left = Vec::new();
    for mut group in groups {
        let lanes = group.lanes;
        group.filters.retain(|filter| take(lanes, filter));
        if !group.filters.is_empty() {
            left.push(group);
        }
    }
    left
}

/// The index of a filter that is not one comes with what is wrong with it.
fn parse(subscriptions: &[Subscription]) -> Result<Vec<Filter>, (usize, String)> {
    let subscriptions = subscriptions.iter().enumerate();
    subscriptions
        .map(|(index, subscription)| {
            Filter::parse(&subscription.filter).map_err(|error| (index, error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_contract::{Document, Retired};
    use serde_json::{Value, json};

    use super::*;
    use crate::config::RoutePlan;

    fn document(filters: &[String], ordering: &str) -> Document {
        let subscriptions: Vec<Value> = filters.iter().map(|filter| json!({"filter": filter})).collect();
        serde_json::from_value(json!({
            "version": 1,
            "route": {"namespace": "plants", "name": "telemetry", "sessionId": "0a1b2c3d"},
            "broker": {
                "urls": ["mqtt://plant"], "protocolVersion": "Auto", "clientIdPrefix": "millrace",
                "sessionExpirySeconds": 1, "keepAliveSeconds": 1, "receiveMaximum": 1, "sharedSubscriptions": "Auto",
            },
            "lanes": {"count": 4, "ordering": ordering},
            "sink": {"bootstrapServers": ["kafka:9092"], "producer": {"lingerMs": 0, "compression": "None"}},
            "source": {"subscriptions": subscriptions, "qos": 1, "payload": "Bytes"},
            "mapping": {"topic": "out", "allowedTopics": ["out"], "key": ""},
            "onError": {"action": "Stop"},
            "maxMessageBytes": 1,
            "timeouts": {"drainMs": 1, "failoverMs": 1},
        }))
        .unwrap()
    }

    fn lanes(filters: &[String]) -> BTreeMap<String, u16> {
        let document = document(filters, "PerTopic");
        let live = LivePlan::first(&document.live, String::new()).unwrap();
        let plan = RoutePlan::of(&document.settings).unwrap();
        let readings = (0..4).flat_map(|lane| {
            let readings = live.readings(&plan.lane(lane)).into_iter();
            readings.map(move |reading| (reading.text, lane))
        });
        let lanes: Vec<_> = readings.collect();
        assert_eq!(lanes.len(), filters.len(), "each filter is read by one lane");
        lanes.into_iter().collect()
    }

    #[test]
    fn a_filter_that_comes_or_goes_moves_no_other() {
        let filters: Vec<String> = (0..40).map(|n| format!("plants/{n}/+line/#")).collect();
        let all = lanes(&filters);
        assert!((0..4).all(|lane| all.values().any(|found| *found == lane)));
        for gone in 0..filters.len() {
            let mut fewer = filters.clone();
            fewer.remove(gone);
            assert!(lanes(&fewer).iter().all(|(filter, lane)| all[filter] == *lane));
        }
    }

    #[test]
    fn what_is_no_longer_read_is_retired_until_it_is_read_again_or_has_run_dry() {
        let of = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
            document(&filters, "Unordered")
        };
        let plan = RoutePlan::of(&of(&["a/+x"]).settings).unwrap();
        let retired = |live: &LivePlan| -> Vec<String> {
            let retired = live.retired(&plan.lane(0)).into_iter();
            retired.map(|reading| reading.path).collect()
        };
        let path = |wire: &str| format!("$share/millrace-0a1b2c3d/{wire}");
        let none = BTreeSet::new();
        let first = LivePlan::first(&of(&["a/+x", "b"]).live, String::new()).unwrap();
        let second = first.follow(&of(&["b", "c"]).live, String::new(), &none).unwrap();
        assert_eq!(retired(&second), [path("a/+")]);
        let third = second.follow(&of(&["c"]).live, String::new(), &none).unwrap();
        assert_eq!(retired(&third), [path("b"), path("a/+")]);
        // The names of wildcards are the route's own affair.
        let again = third.follow(&of(&["a/+y"]).live, String::new(), &none).unwrap();
        assert_eq!(retired(&again), [path("c"), path("b")]);
        let dry = BTreeSet::from(["b".to_owned()]);
        let later = third.follow(&of(&["c"]).live, String::new(), &dry).unwrap();
        assert_eq!(retired(&later), [path("a/+")]);
    }

    #[test]
    fn other_lanes_read_a_filter_before_those_of_before_unsubscribe() {
        let all: Vec<String> = (0..20).map(|n| format!("plants/{n}/#")).collect();
        let (before, mut after) = (document(&all, "PerTopic"), document(&all, "PerTopic"));
        after.live.lanes.count = 6;
        let retired = |is_read| Retired {
            is_read,
            subscriptions: before.live.source.subscriptions.clone(),
            lanes: before.live.lanes,
            payload: before.live.source.payload,
            mapping: before.live.mapping.clone(),
        };
        let plan = RoutePlan::of(&after.settings).unwrap();
        let paths = |readings: Vec<Reading>| -> BTreeSet<String> {
            readings.into_iter().map(|reading| reading.path).collect()
        };
        let mut moved = 0;
        for lane in (0..6).map(|lane| plan.lane(lane)) {
            let of = |live: &Live| LivePlan::first(live, String::new()).unwrap();
            let old = paths(of(&before.live).readings(&lane));
            let new = paths(of(&after.live).readings(&lane));
            let both = |is_read| {
                of(&Live {
                    retired: vec![retired(is_read)],
                    ..after.live.clone()
                })
            };
            assert_eq!(paths(both(true).readings(&lane)), &old | &new);
            assert!(both(true).retired(&lane).is_empty());
            // What is retained comes to the route once.
            assert!(both(true).readings(&lane).iter().all(|reading| reading.is_known));
            assert_eq!(paths(both(false).readings(&lane)), new);
            assert_eq!(paths(both(false).retired(&lane)), &old - &new);
            moved += (&old - &new).len();
        }
        assert!(moved > 0);
    }

    #[test]
    fn another_ordering_is_another_subscription_of_every_lane() {
        let filters = ["a/#".to_owned()];
        let (before, mut after) = (document(&filters, "PerTopic"), document(&filters, "Unordered"));
        after.live.retired = vec![Retired {
            is_read: true,
            subscriptions: before.live.source.subscriptions.clone(),
            lanes: before.live.lanes,
            payload: before.live.source.payload,
            mapping: before.live.mapping.clone(),
        }];
        let plan = RoutePlan::of(&after.settings).unwrap();
        let live = LivePlan::first(&after.live, String::new()).unwrap();
        let shared = "$share/millrace-0a1b2c3d/a/#";
        let owners = (0..4).filter(|lane| {
            let readings = live.readings(&plan.lane(*lane)).into_iter();
            let paths: Vec<String> = readings.map(|reading| reading.path).collect();
            assert_eq!(paths[0], shared);
            paths.contains(&"a/#".to_owned())
        });
        assert_eq!(owners.count(), 1);
        // A process that takes it over remembers what it has read.
        let first = LivePlan::first(&before.live, String::new()).unwrap();
        after.live.retired.clear();
        let next = first
            .follow(&after.live, String::new(), &BTreeSet::new())
            .unwrap();
        let gone = (0..4).flat_map(|lane| next.retired(&plan.lane(lane)));
        let gone: Vec<String> = gone.map(|reading| reading.path).collect();
        assert_eq!(gone, ["a/#"]);
    }
}
