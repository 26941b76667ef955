//! What the operator must never do, whatever it has seen or missed.

use millrace_contract::{Assignment, LaneRecord};
use millrace_operator::names;
use serde_json::Value;

use super::call::{Call, Verb};
use super::rest::World;
use super::store::Key;
use crate::kubelet::mounted;
use crate::objects::{annotation, is_deleting, uid};

/// The rule that a write breaks which is about to be done.
pub(crate) fn broken(world: &World, call: &Call) -> Option<String> {
    let rule = match (call.verb, call.key.plural.as_str()) {
        (Verb::Delete, _) => delete(world, call),
        (Verb::Apply, "statefulsets") => stateful_set(world, call),
        (Verb::Merge, "pods") => tell(world, call),
        (Verb::Create | Verb::Replace, "configmaps") => record(world, call),
        _ => None,
    };
    rule.map(|rule| {
        let Key {
            plural,
            namespace,
            name,
        } = &call.key;
        format!("{:?} {plural} {namespace}/{name}: {rule}", call.verb)
    })
}

fn delete(world: &World, call: &Call) -> Option<&'static str> {
    let object = world.store.get(&call.key)?;
    let Some(wanted) = call.body["preconditions"]["uid"].as_str() else {
        return Some("it is not said which object of that name is to go");
    };
    // Refused: the object has been replaced.
    if uid(object) != Some(wanted) {
        return None;
    }
    let route = object["metadata"]["labels"][names::INSTANCE]
        .as_str()
        .unwrap_or_default();
    let route = world
        .store
        .get(&Key::new("topicroutes", &call.key.namespace, route));
    if route.is_none_or(|route| is_deleting(route)) {
        return None;
    }
    let name = &call.key.name;
    let uses = |spec: &Value| mounted(spec).contains(name);
    match call.key.plural.as_str() {
        "statefulsets" => Some("its route needs it"),
        "pods"
            if object["metadata"]["labels"][names::COMPONENT] == names::component::WORKER
                && !is_misplaced(world, object) =>
        {
            Some("it is the StatefulSet's, and works")
        }
        "configmaps" if world.store.all("pods").any(|(_, pod)| uses(&pod["spec"])) => Some("a pod mounts it"),
        "configmaps"
            if world
                .store
                .all("statefulsets")
                .any(|(_, set)| uses(&set["spec"]["template"]["spec"])) =>
        {
            Some("the next pod mounts it")
        }
        "configmaps" if name.ends_with("-lanes") => Some("it says who owns which lane"),
        _ => None,
    }
}

/// Whether a worker reads elsewhere than its StatefulSet says: it owns nothing there, and is not waited for.
fn is_misplaced(world: &World, pod: &Value) -> bool {
    let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
    let (meta, route) = (&pod["metadata"], &pod["metadata"]["labels"][names::INSTANCE]);
    let set = names::workers(&text(route));
    let set = world
        .store
        .get(&Key::new("statefulsets", &text(&meta["namespace"]), &set));
    set.is_some_and(|set| {
        let told = &set["spec"]["template"]["metadata"]["annotations"][names::WHEREABOUTS];
        meta["annotations"][names::WHEREABOUTS] != *told
    })
}

fn stateful_set(world: &World, call: &Call) -> Option<&'static str> {
    let template = &call.body["spec"]["template"];
    let route = &call.body["metadata"]["labels"][names::INSTANCE];
    let owner = Key::new(
        "topicroutes",
        &call.key.namespace,
        route.as_str().unwrap_or_default(),
    );
    // What is made for a route that is gone goes with its mounts.
    world.store.get(&owner)?;
    let exists = |map: &String| {
        let key = Key::new("configmaps", &call.key.namespace, map);
        world.store.get(&key).is_some()
    };
    if !mounted(&template["spec"]).iter().all(exists) {
        return Some("a pod of it would mount what is not there");
    }
    let is_second =
        |key: &Key, set: &Value| *key != call.key && set["metadata"]["labels"][names::INSTANCE] == *route;
    if world
        .store
        .all("statefulsets")
        .any(|(key, set)| is_second(key, set))
    {
        return Some("the route has another one");
    }
    let wanted = annotation(template, names::SETTINGS).unwrap_or_default();
    let has = world.store.get(&call.key);
    let has = has.and_then(|set| annotation(&set["spec"]["template"], names::SETTINGS));
    // With a word behind it where it was tried to share subscriptions as well.
    let is_tried = world.tried.contains(wanted) || world.tried.contains(&format!("{wanted}-shared"));
    if has != Some(wanted) && !is_tried {
        return Some("no probe has tried what its workers would do");
    }
    None
}

/// A worker is told nothing that is not in the record.
fn tell(world: &World, call: &Call) -> Option<&'static str> {
    let told: Assignment = serde_json::from_str(annotation(&call.body, names::ASSIGNMENT)?).ok()?;
    let pod = world.store.get(&call.key)?;
    // Refused: the pod has been replaced.
    if uid(pod) != call.body["metadata"]["uid"].as_str() {
        return None;
    }
    let route = pod["metadata"]["labels"][names::INSTANCE].as_str()?;
    let key = Key::new("configmaps", &call.key.namespace, &names::lanes(route));
    let record = world.store.get(&key).and_then(|map| generation(map));
    (record.is_none_or(|record| record < told.generation)).then_some("the record does not say so yet")
}

fn record(world: &World, call: &Call) -> Option<&'static str> {
    let new = generation(&call.body)?;
    let old = world.store.get(&call.key).and_then(|map| generation(map))?;
    (new <= old).then_some("the generation of the lane record only grows")
}

fn generation(map: &Value) -> Option<u64> {
    let record: LaneRecord = serde_json::from_str(map["data"]["record.json"].as_str()?).ok()?;
    Some(record.generation)
}
