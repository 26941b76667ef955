//! The ConfigMaps of a route.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use millrace_contract::{LaneRecord, Lanes, Live, Retired, Settings};
use serde::Serialize;

use super::meta::Family;
use super::{Desired, Uptake};
use crate::names;
use crate::observed::ChildKind;

/// The key of a worker's settings.
pub const SETTINGS_KEY: &str = "settings.json";
/// The key of what a worker takes over while it runs.
pub const LIVE_KEY: &str = "live.json";
/// The key of the lane record.
pub const RECORD_KEY: &str = "record.json";
/// Filters that a route no longer has are remembered up to so many.
const MAX_RETIRED: usize = 32;

/// The settings: never changed, another content has another name.
pub(super) fn settings(family: &Family, version: &str, json: String) -> Desired {
    let mut map = map(
        family,
        names::settings(&family.owner.name, version),
        SETTINGS_KEY,
        json,
    );
    map.immutable = Some(true);
    Desired::of(ChildKind::ConfigMap, &map)
}

/// What a worker takes over while it runs.
pub(super) fn live(family: &Family, hash: &str, json: String) -> Desired {
    let mut map = map(family, names::live(&family.owner.name), LIVE_KEY, json);
    map.metadata.annotations = Some([(names::LIVE.to_owned(), hash.to_owned())].into());
    Desired::of(ChildKind::ConfigMap, &map)
}

/// The lane record. Written with the resource version it was read at, so that no writer overrules another.
pub fn record(family: &Family, record: &LaneRecord, resource_version: Option<&str>) -> ConfigMap {
    let json = serde_json::to_string(record).unwrap_or_default();
    let mut map = map(family, names::lanes(&family.owner.name), RECORD_KEY, json);
    map.metadata.resource_version = resource_version.map(str::to_owned);
    map
}

fn map(family: &Family, name: String, key: &str, content: String) -> ConfigMap {
    ConfigMap {
        metadata: family.child(name, names::component::WORKER),
        data: Some(BTreeMap::from([(key.to_owned(), content)])),
        ..ConfigMap::default()
    }
}

/// `new`, which also remembers the filters that `old` had and it has not, or that other lanes are to read, with the
/// mapping they had: read until all lanes have taken over what is new, and known until they have run dry.
pub(super) fn retiring(mut new: Live, old: Option<&Live>, uptake: &Uptake) -> Live {
    let Some(old) = old else { return new };
    let gone = Retired {
        is_read: true,
        subscriptions: old.source.subscriptions.clone(),
        lanes: old.lanes,
        payload: old.source.payload,
        mapping: old.mapping.clone(),
    };
    let mut taken: BTreeSet<(Lanes, String)> = BTreeSet::new();
    for one in &new.source.subscriptions {
        taken.insert((new.lanes, one.filter.clone()));
    }
    let mut known = |mut retired: Retired| {
        let lanes = retired.lanes;
        retired
            .subscriptions
            .retain(|one| taken.insert((lanes, one.filter.clone())));
        (!retired.subscriptions.is_empty()).then_some(retired)
    };
    let before = old.retired.iter().map(|retired| further(retired, uptake));
    let all = std::iter::once(gone).chain(before);
    new.retired = all.filter_map(&mut known).take(MAX_RETIRED).collect();
    new
}

/// What of retired filters is left.
fn further(retired: &Retired, uptake: &Uptake) -> Retired {
    let mut retired = retired.clone();
    if retired.is_read {
        retired.is_read = !uptake.complete;
    } else if let Some(late) = &uptake.late {
        retired.subscriptions.retain(|one| late.contains(&one.filter));
    }
    retired
}

/// The settings as JSON, and the version of workers with these settings and what is the same for all routes
/// ([`crate::settings::Settings::of_workers`]): both have to be tried.
pub(super) fn settings_json(settings: &Settings, of_all: &str) -> (String, String) {
    let json = serde_json::to_string(settings).unwrap_or_default();
    let version = names::hash(format!("{json}{of_all}").as_bytes());
    (json, version)
}

/// The live configuration as JSON and its hash, which is the one that workers report.
pub(super) fn live_json(live: &impl Serialize) -> (String, String) {
    let json = serde_json::to_string(live).unwrap_or_default();
    let hash = names::full_hash(json.as_bytes());
    (json, hash)
}

#[cfg(test)]
mod tests {
    use millrace_contract::{
        ErrorAction, Mapping, OnError, Ordering, PayloadFormat, Source, Subscription, Timeouts,
    };

    use super::*;

    fn live(filters: &[&str], topic: &str) -> Live {
        Live {
            source: Source {
                subscriptions: filters
                    .iter()
                    .map(|filter| Subscription {
                        filter: (*filter).into(),
                    })
                    .collect(),
                qos: 1,
                payload: PayloadFormat::Bytes,
            },
            lanes: Lanes {
                count: 2,
                ordering: Ordering::PerTopic,
            },
            mapping: Mapping {
                when: None,
                topic: topic.into(),
                allowed_topics: vec![topic.into()],
                key: String::new(),
                headers: BTreeMap::new(),
                propagate: Vec::new(),
                value: None,
            },
            retired: Vec::new(),
            on_error: OnError {
                action: ErrorAction::Stop,
                dead_letter_topic: None,
                skip: Vec::new(),
            },
            max_message_bytes: 1,
            timeouts: Timeouts {
                drain_ms: 1,
                failover_ms: 1,
            },
            survey: Default::default(),
        }
    }

    /// Filters, topics they are written to, and whether they are read.
    fn retired(live: &Live) -> Vec<(&str, &str, bool)> {
        let each = |one: &'_ Retired| (one.mapping.topic.clone(), one.is_read);
        assert!(
            live.retired.iter().all(|one| !one.subscriptions.is_empty()),
            "{:?}",
            live.retired.iter().map(each).collect::<Vec<_>>()
        );
        let filters = live
            .retired
            .iter()
            .flat_map(|one| one.subscriptions.iter().map(move |filter| (one, filter)));
        filters
            .map(|(one, filter)| (filter.filter.as_str(), one.mapping.topic.as_str(), one.is_read))
            .collect()
    }

    fn late(filters: &[&str]) -> Uptake {
        Uptake {
            complete: true,
            late: Some(filters.iter().map(|filter| (*filter).to_owned()).collect()),
        }
    }

    #[test]
    fn a_filter_that_goes_is_read_until_all_lanes_know_and_mapped_until_it_has_run_dry() {
        let unknown = Uptake::default();
        let first = live(&["a", "b"], "one");
        let second = retiring(live(&["b"], "two"), Some(&first), &unknown);
        assert_eq!(retired(&second), [("a", "one", true)]);
        let third = retiring(live(&["c"], "three"), Some(&second), &unknown);
        assert_eq!(retired(&third), [("b", "two", true), ("a", "one", true)]);
        let again = || live(&["c"], "three");
        assert_eq!(
            retiring(again(), Some(&third), &unknown),
            third,
            "said once, it stays"
        );
        let known = retiring(again(), Some(&third), &late(&[]));
        assert_eq!(retired(&known), [("b", "two", false), ("a", "one", false)]);
        assert_eq!(retiring(again(), Some(&known), &late(&["a", "b"])), known);
        assert_eq!(retiring(again(), Some(&known), &unknown), known);
        let dry = retiring(again(), Some(&known), &late(&["b"]));
        assert_eq!(retired(&dry), [("b", "two", false)]);
        let back = retiring(live(&["a", "c"], "four"), Some(&known), &unknown);
        assert_eq!(retired(&back), [("b", "two", false)]);
    }

    #[test]
    fn other_lanes_read_a_filter_beside_those_of_before_until_all_have_it() {
        let first = live(&["a"], "one");
        let mut more = first.clone();
        more.lanes.count = 4;
        let second = retiring(more.clone(), Some(&first), &late(&[]));
        assert_eq!(
            (second.retired[0].lanes, second.retired[0].is_read),
            (first.lanes, true)
        );
        assert_eq!(second.lanes_read(), 4);
        let third = retiring(more.clone(), Some(&second), &late(&[]));
        assert!(!third.retired[0].is_read);
        let last = retiring(more.clone(), Some(&third), &late(&[]));
        assert_eq!(last, more);
        // Fewer again: those that are to go read until the others do.
        let fewer = retiring(first.clone(), Some(&second), &Uptake::default());
        assert_eq!((fewer.retired.len(), fewer.lanes_read()), (1, 4));
        let fewer = retiring(first.clone(), Some(&fewer), &late(&[]));
        assert_eq!((fewer.retired.len(), fewer.lanes_read()), (1, 2));
    }
}
