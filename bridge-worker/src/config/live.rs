//! What the lanes of a route take over while they run.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_contract::{Live, Mapping, OnError, PayloadFormat, Subscription};
use millrace_mapping::{Filter, Mapper, MappingError};

use super::{ConfigError, LanePlan};
use crate::pipeline::Mappings;

/// A filter as a lane reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// As the user wrote it.
    pub(crate) text: String,
    /// As sent: with `$share/...` when shared.
    pub(crate) path: String,
}

/// Filters that are read, or were, with the mapping for what comes through them.
#[derive(Clone, Debug)]
struct Group {
    filters: Vec<Filter>,
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
    /// What the route has no longer and the broker may still hold.
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
        let own = std::iter::once(&self.current)
            .chain(self.retired.iter())
            .cloned()
            .map(|mut group| {
                group.filters.retain(|filter| !dry.contains(filter.text()));
                group
            });
        Self::new(live, hash, self.revision + 1, own.collect())
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
            filters,
            mapping: live.mapping.clone(),
            payload: live.source.payload,
        };
        current.compile().map_err(ConfigError::Mapping)?;
        let mut groups = Vec::new();
        for (index, retired) in live.retired.iter().enumerate() {
            let bad = |message| ConfigError::Retired { index, message };
            groups.push(Group {
                filters: parse(&retired.subscriptions)
                    .map_err(|(at, message)| bad(format!("subscriptions[{at}].filter: {message}")))?,
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
        readings(plan, &self.current.filters)
    }

    /// The filters a lane has read before.
    pub(crate) fn retired(&self, plan: &LanePlan) -> Vec<Reading> {
        let filters = self.retired.iter().flat_map(|group| &group.filters);
        readings(plan, filters)
    }

    /// Every filter of the route, whatever lane reads it, as this one would subscribe to it.
    pub(crate) fn paths(&self, plan: &LanePlan) -> Vec<String> {
        let groups = std::iter::once(&self.current).chain(&self.retired);
        let filters = groups.flat_map(|group| &group.filters);
        filters.map(|filter| plan.path(filter.wire())).collect()
    }
}

impl Group {
    fn compile(&self) -> Result<Mapper, Vec<MappingError>> {
        Mapper::compile(&self.mapping, &self.filters, self.payload)
    }
}

/// What of `groups` is still retired: a filter that is read again is not, and of two groups the first counts.
fn still_retired(current: &Group, groups: Vec<Group>) -> Vec<Group> {
    let mut taken: BTreeSet<String> = current
        .filters
        .iter()
        .map(|filter| filter.wire().to_owned())
        .collect();
    let mut left = Vec::new();
    for mut group in groups {
        group
            .filters
            .retain(|filter| taken.insert(filter.wire().to_owned()));
        if !group.filters.is_empty() {
            left.push(group);
        }
    }
    left
}

fn readings<'a>(plan: &LanePlan, filters: impl IntoIterator<Item = &'a Filter>) -> Vec<Reading> {
    let filters = filters.into_iter().filter(|filter| plan.reads(filter.wire()));
    filters
        .map(|filter| Reading {
            text: filter.text().to_owned(),
            path: plan.path(filter.wire()),
        })
        .collect()
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

    use millrace_contract::Document;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::plan;

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
        let plans = plan(&document.settings).unwrap();
        let readings = plans.iter().flat_map(|plan| {
            let readings = live.readings(plan).into_iter();
            readings.map(|reading| (reading.text, plan.lane))
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
        let plans = plan(&of(&["a/+x"]).settings).unwrap();
        let retired = |live: &LivePlan| -> Vec<String> {
            let retired = live.retired(&plans[0]).into_iter();
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
}
