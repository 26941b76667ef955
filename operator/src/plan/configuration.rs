//! The ConfigMaps of a route.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use millrace_contract::{LaneRecord, Live, Retired, Settings};

use super::Desired;
use super::meta::Family;
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

/// `new`, which also remembers the filters that `old` had and it has not, with the mapping they had, but for those
/// that have run `dry`.
pub(super) fn retiring(mut new: Live, old: Option<&Live>, dry: &BTreeSet<String>) -> Live {
    let Some(old) = old else { return new };
    let is_wanted = |filter: &str| new.source.subscriptions.iter().any(|one| one.filter == filter);
    let still = |retired: &Retired| {
        let mut retired = retired.clone();
        retired
            .subscriptions
            .retain(|one| !is_wanted(&one.filter) && !dry.contains(&one.filter));
        (!retired.subscriptions.is_empty()).then_some(retired)
    };
    let gone = still(&Retired {
        subscriptions: old.source.subscriptions.clone(),
        payload: old.source.payload,
        mapping: old.mapping.clone(),
    });
    let retired: Vec<Retired> = gone
        .into_iter()
        .chain(old.retired.iter().filter_map(still))
        .take(MAX_RETIRED)
        .collect();
    new.retired = retired;
    new
}

/// The settings as JSON, and the version of workers with these settings and what is the same for all routes
/// ([`crate::settings::Settings::of_workers`]): both have to be tried.
pub(super) fn settings_json(settings: &Settings, of_all: &str) -> (String, String) {
    let json = serde_json::to_string(settings).unwrap_or_default();
    let version = names::hash(format!("{json}{of_all}").as_bytes());
    (json, version)
}

/// The live configuration as JSON and its hash, which is the one that workers report.
pub(super) fn live_json(live: &Live) -> (String, String) {
    let json = serde_json::to_string(live).unwrap_or_default();
    let hash = names::full_hash(json.as_bytes());
    (json, hash)
}

#[cfg(test)]
mod tests {
    use millrace_contract::{ErrorAction, Mapping, OnError, PayloadFormat, Source, Subscription, Timeouts};

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
            },
            max_message_bytes: 1,
            timeouts: Timeouts {
                drain_ms: 1,
                failover_ms: 1,
            },
        }
    }

    fn retired(live: &Live) -> Vec<(&str, &str)> {
        let each = |one: &'_ Retired| {
            one.subscriptions
                .iter()
                .map(|s| s.filter.clone())
                .collect::<Vec<_>>()
                .len()
        };
        assert!(live.retired.iter().all(|one| each(one) > 0), "no empty entries");
        live.retired
            .iter()
            .flat_map(|one| {
                one.subscriptions
                    .iter()
                    .map(|s| (s.filter.as_str(), one.mapping.topic.as_str()))
            })
            .collect()
    }

    #[test]
    fn a_filter_that_goes_keeps_its_mapping_until_it_has_run_dry_or_comes_back() {
        let none = BTreeSet::new();
        let first = live(&["a", "b"], "one");
        let second = retiring(live(&["b"], "two"), Some(&first), &none);
        assert_eq!(retired(&second), [("a", "one")]);
        let third = retiring(live(&["c"], "three"), Some(&second), &none);
        assert_eq!(retired(&third), [("b", "two"), ("a", "one")]);
        let back = retiring(live(&["a", "c"], "four"), Some(&third), &none);
        assert_eq!(retired(&back), [("b", "two")]);
        let dry = retiring(live(&["c"], "three"), Some(&third), &["a".to_owned()].into());
        assert_eq!(retired(&dry), [("b", "two")]);
        assert_eq!(
            retiring(live(&["c"], "three"), Some(&third), &none),
            third,
            "said once, it stays"
        );
    }
}
