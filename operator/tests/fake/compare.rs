//! Whether two clusters are in the same state, as far as the operator is answerable for it.

use std::collections::BTreeMap;

use millrace_operator::names::NUDGE;
use serde_json::Value;

use super::rest::World;
use super::store::uid;

/// A state without what differs from run to run: uids stand for names; versions, times and addresses are left out.
pub(crate) type State = BTreeMap<String, Value>;

/// How many objects the state of a cluster has.
pub(crate) fn count(world: &World) -> usize {
    let counted = world.store.objects().filter(|(key, _)| key.plural != "events");
    counted.count()
}

/// The state of a cluster.
pub(crate) fn state(world: &World) -> State {
    let mut objects: State = BTreeMap::new();
    let mut uids = Vec::new();
    for (key, object) in world.store.objects() {
        // Told once, and missed by nobody but people.
        if key.plural == "events" {
            continue;
        }
        let name = format!("{}/{}/{}", key.plural, key.namespace, key.name);
        uids.push((uid(object).unwrap_or_default(), name.clone()));
        let mut object = Value::clone(object);
        if matches!(key.plural.as_str(), "pods" | "statefulsets" | "jobs") {
            object["status"] = Value::Null;
        }
        strip(&mut object);
        objects.insert(name, object);
    }
    for object in objects.values_mut() {
        name_uids(object, &uids);
    }
    objects
}

/// Where a pod is told its lanes: `names::ASSIGNMENT`, as a JSON pointer.
const ASSIGNMENT: &str = "/metadata/annotations/millrace.dev~1assignment";

/// The same without traces of a detour: the generation of the lane record counts it, and a finished Job goes by itself.
pub(crate) fn without_detours(mut state: State) -> State {
    state.retain(|_, object| object["spec"]["ttlSecondsAfterFinished"].is_null());
    let keep = |mut object: Value| {
        for path in ["/data/record.json", ASSIGNMENT] {
            let Some(text) = object.pointer_mut(path) else {
                continue;
            };
            let json = text.as_str().map(serde_json::from_str::<Value>);
            if let Some(Ok(mut json)) = json {
                json["generation"] = Value::Null;
                *text = json.to_string().into();
            }
        }
        object
    };
    state
        .into_iter()
        .map(|(name, object)| (name, keep(object)))
        .collect()
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

fn name_uids(value: &mut Value, uids: &[(&str, String)]) {
    match value {
        Value::String(text) => {
            for (uid, name) in uids {
                if text.contains(uid) {
                    *text = text.replace(uid, name);
                }
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(|value| name_uids(value, uids)),
        Value::Array(values) => values.iter_mut().for_each(|value| name_uids(value, uids)),
        _ => {}
    }
}
