//! Whether two clusters are in the same state, as far as the operator is answerable for it.

#![allow(dead_code, reason = "each of the tests that share it uses a part")]

use std::collections::BTreeMap;

use millrace_contract::LaneRecord;
use millrace_operator::names::{ASSIGNMENT, NUDGE};
use millrace_operator::plan::lanes;
use serde_json::Value;

use crate::objects::uid;

/// A state without what differs from run to run: uids stand for names; versions, times and addresses are left out.
pub(crate) type State = BTreeMap<String, Value>;

/// The state of a cluster, from its objects and their names: `plural/namespace/name`.
pub(crate) fn state<'a>(all: impl Iterator<Item = (String, &'a Value)>) -> State {
    let mut objects: State = BTreeMap::new();
    let mut uids = Vec::new();
    for (name, object) in all {
        let plural = name.split('/').next().unwrap_or_default();
        // Told once, and missed by nobody but people.
        if plural == "events" {
            continue;
        }
        uids.push((uid(object).unwrap_or_default().to_owned(), name.clone()));
        let mut object = object.clone();
        if matches!(plural, "pods" | "statefulsets" | "jobs") {
            object["status"] = Value::Null;
        }
        strip(&mut object);
        objects.insert(name, object);
    }
    summarize_lanes(&mut objects, &uids);
    for object in objects.values_mut() {
        name_uids(object, &uids);
    }
    objects
}

/// Which lane is whose, and how often that has changed, depends on who was ready first: what counts is how many lanes
/// everyone has, and that every worker was told what the record says.
fn summarize_lanes(objects: &mut State, uids: &[(String, String)]) {
    const RECORD: &str = "/data/record.json";
    let mut records: BTreeMap<String, LaneRecord> = BTreeMap::new();
    for (name, object) in objects.iter_mut() {
        let Some(text) = object.pointer_mut(RECORD) else {
            continue;
        };
        let record = text.as_str().map(serde_json::from_str::<LaneRecord>);
        let Some(Ok(record)) = record else { continue };
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for owner in &record.lanes {
            *counts
                .entry(format!("{} {:?}", owner.ordinal, owner.state))
                .or_default() += 1;
        }
        *text = serde_json::to_value(counts).unwrap_or_default();
        let route = name.replacen("configmaps/", "pods/", 1);
        let route = route.strip_suffix("-lanes").unwrap_or(&route);
        records.insert(format!("{route}-worker-"), record);
    }
    for (name, object) in objects.iter_mut() {
        let ordinal = |route: &String| name.strip_prefix(route.as_str())?.parse().ok();
        let mut ordinals = records
            .iter()
            .filter_map(|(route, record)| Some((record, ordinal(route)?)));
        let Some((record, ordinal)) = ordinals.next() else {
            continue;
        };
        let uid = uids
            .iter()
            .find(|(_, named)| named == name)
            .map(|(uid, _)| uid.as_str());
        let annotation = &mut object["metadata"]["annotations"][ASSIGNMENT];
        let told = annotation
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok());
        // Of which change of the record it was told does not matter, if that still holds.
        if lanes::news(record, ordinal, uid.unwrap_or_default(), told.as_ref(), None).is_none() {
            *annotation = "as in the record".into();
        }
    }
}

/// The same without traces of a detour: a finished Job goes by itself.
pub(crate) fn without_detours(mut state: State) -> State {
    state.retain(|_, object| object["spec"]["ttlSecondsAfterFinished"].is_null());
    state
}

/// The same for states of clusters that differ in the name of the namespace, and so in all hashes: those are numbered
/// in the order in which they occur.
pub(crate) fn without_tokens(state: State, namespace: &str) -> State {
    let named = [(namespace.to_owned(), "NAMESPACE".to_owned())];
    let mut masked: Vec<(String, String, Value)> = Vec::new();
    for (name, mut object) in state {
        name_uids(&mut object, &named);
        for field in REVISIONS {
            object["metadata"]["labels"][field].take();
        }
        let name = name.replace(namespace, "NAMESPACE");
        let text = format!("{name} {object}");
        masked.push((mask(&text, &mut |_| "#".to_owned()), name, object));
    }
    // By what is the same everywhere.
    masked.sort_by(|(one, ..), (two, ..)| one.cmp(two));
    let mut tokens: Vec<String> = Vec::new();
    let mut number = |token: &str| {
        let known = tokens.iter().position(|one| one == token);
        let index = known.unwrap_or_else(|| {
            tokens.push(token.to_owned());
            tokens.len() - 1
        });
        format!("#{index}")
    };
    masked
        .into_iter()
        .map(|(_, name, object)| {
            let name = mask(&name, &mut number);
            let text = mask(&object.to_string(), &mut number);
            (name, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
        .collect()
}

/// Labels by which controllers of Kubernetes name a hash in letters of their own.
const REVISIONS: &[&str] = &["controller-revision-hash"];

/// Replaces what looks like a hash of ours, or like the beginning of a uid: 8, 10 or 64 hexadecimal digits.
fn mask(text: &str, by: &mut dyn FnMut(&str) -> String) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphanumeric()) {
        let (before, word) = rest.split_at(start);
        let end = word
            .find(|letter: char| !letter.is_ascii_alphanumeric())
            .unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        masked += before;
        let is_hash = matches!(word.len(), 8 | 10 | 64)
            && word
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        masked += &if is_hash { by(word) } else { word.to_owned() };
        rest = after;
    }
    masked + rest
}

/// What differs, one line for each object.
pub(crate) fn difference(wanted: &State, is: &State) -> String {
    let mut lines = Vec::new();
    for (name, object) in wanted {
        match is.get(name) {
            None => lines.push(format!("{name} is missing")),
            Some(its) if its != object => lines.push(format!("{name}: {}", fields(object, its, ""))),
            Some(_) => {}
        }
    }
    let surplus = is.keys().filter(|name| !wanted.contains_key(*name));
    lines.extend(surplus.map(|name| format!("{name} should not be there")));
    lines.join("\n")
}

fn fields(wanted: &Value, is: &Value, path: &str) -> String {
    match (wanted, is) {
        (Value::Object(wanted), Value::Object(is)) => {
            let names = wanted
                .keys()
                .chain(is.keys().filter(|name| !wanted.contains_key(*name)));
            let null = Value::Null;
            let differ = names
                .map(|name| {
                    (
                        name,
                        wanted.get(name).unwrap_or(&null),
                        is.get(name).unwrap_or(&null),
                    )
                })
                .filter(|(_, one, two)| one != two);
            let texts: Vec<String> = differ
                .map(|(name, one, two)| fields(one, two, &format!("{path}.{name}")))
                .collect();
            texts.join("; ")
        }
        (Value::Array(wanted), Value::Array(is)) if wanted.len() == is.len() => {
            let differ = wanted
                .iter()
                .zip(is)
                .enumerate()
                .filter(|(_, (one, two))| one != two);
            let texts: Vec<String> = differ
                .map(|(index, (one, two))| fields(one, two, &format!("{path}[{index}]")))
                .collect();
            texts.join("; ")
        }
        _ => format!("{path} is {is} and should be {wanted}"),
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for field in [
                "uid",
                "resourceVersion",
                "creationTimestamp",
                "generation",
                "lastTransitionTime",
                // How often a worker had to be told.
                NUDGE,
                // Given by the API server.
                "clusterIP",
                "clusterIPs",
            ] {
                // Owners are told apart by their uid.
                if field != "uid" || fields.contains_key("creationTimestamp") || fields.contains_key("labels")
                {
                    fields.remove(field);
                }
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

fn name_uids(value: &mut Value, uids: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (uid, name) in uids {
                if text.contains(uid.as_str()) {
                    *text = text.replace(uid, name);
                }
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|value| name_uids(value, uids)),
        Value::Array(values) => values.iter_mut().for_each(|value| name_uids(value, uids)),
        _ => {}
    }
}
