//! However a route is deleted, its MQTT sessions are gone from the broker, and nothing is left in the cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use millrace_e2e::{Brokers, Manifests, Namespace, RouteHandle, SOON, has_session, kubectl, try_kubectl};
use millrace_testkit::{Observer, Publisher, check, wait_until};

/// Nothing is stuck for longer.
const GONE: Duration = Duration::from_secs(60);

fn start(namespace: &Namespace, name: &str) -> (Manifests, Vec<String>) {
    let manifests = Manifests::new(name);
    namespace.apply(&manifests.yaml());
    let route = RouteHandle::new(namespace, name);
    route.wait_ready();
    let sessions = route.sessions(0..4);
    (manifests, sessions)
}

/// Waits until a deleted route is gone, with its sessions and all that belonged to it.
fn assert_gone(namespace: &Namespace, brokers: &Brokers, name: &str, sessions: &[String]) {
    let since = Instant::now();
    let route = RouteHandle::new(namespace, name);
    let took = wait_until(GONE, "the route to be gone", || route.get().is_none());
    for session in sessions {
        assert!(
            !has_session(brokers.mqtt(), session),
            "the broker still has session {session}"
        );
    }
    let selector = "app.kubernetes.io/managed-by=millrace,millrace.dev/kind=topicroute";
    let kinds =
        "statefulsets,pods,jobs,configmaps,services,serviceaccounts,poddisruptionbudgets,networkpolicies";
    wait_until(
        GONE.saturating_sub(since.elapsed()),
        "its children to be gone",
        || namespace.names(kinds, selector).is_empty(),
    );
    eprintln!(
        "{name}: the route is gone after {:.1} s, all that belonged to it after {:.1} s",
        took.as_secs_f64(),
        since.elapsed().as_secs_f64()
    );
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_deleted_route_leaves_nothing_behind() {
    let brokers = Brokers::start();
    let namespace = Namespace::create("e2e-leaving");

    let (_, sessions) = start(&namespace, "running");
    namespace.kubectl(&["delete", "topicroute", "running", "--wait=false"]);
    assert_gone(&namespace, &brokers, "running", &sessions);

    let (_, sessions) = start(&namespace, "paused");
    RouteHandle::new(&namespace, "paused").pause();
    let waiting = sessions
        .iter()
        .filter(|session| has_session(brokers.mqtt(), session))
        .count();
    assert!(waiting > 0, "the check can see a session");
    namespace.kubectl(&["delete", "topicroute", "paused", "--wait=false"]);
    assert_gone(&namespace, &brokers, "paused", &sessions);

    let (_, sessions) = start(&namespace, "foreground");
    namespace.kubectl(&[
        "delete",
        "topicroute",
        "foreground",
        "--cascade=foreground",
        "--wait=false",
    ]);
    assert_gone(&namespace, &brokers, "foreground", &sessions);

    let (manifests, sessions) = start(&namespace, "everything");
    let file = std::env::temp_dir().join("millrace-e2e-everything.yaml");
    std::fs::write(&file, manifests.yaml()).unwrap();
    namespace.kubectl(&["delete", "-f", file.to_str().unwrap(), "--wait=false"]);
    assert_gone(&namespace, &brokers, "everything", &sessions);

    // Nobody is left who knows the way to the sessions.
    let (_, sessions) = start(&namespace, "orphan");
    RouteHandle::new(&namespace, "orphan").pause();
    namespace.kubectl(&["delete", "mqttbroker", "plant"]);
    namespace.kubectl(&["delete", "topicroute", "orphan", "--wait=false"]);
    assert_gone(&namespace, &brokers, "orphan", &[]);
    let said = namespace.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
    assert!(sessions.iter().all(|session| said.contains(session)), "{said}");
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_deleted_namespace_is_gone_soon_and_what_is_left_is_named() {
    let _brokers = Brokers::start();
    let namespace = Namespace::create("e2e-namespace");
    let (_, sessions) = start(&namespace, "gone");
    kubectl(&["delete", "namespace", namespace.name(), "--wait=false"]);
    let took = wait_until(GONE, "the namespace to be gone", || {
        try_kubectl(&["get", "namespace", namespace.name()]).is_err()
    });
    eprintln!("the namespace is gone after {:.1} s", took.as_secs_f64());
    let events = kubectl(&[
        "get",
        "events",
        "-n",
        "default",
        "-o",
        "jsonpath={.items[*].message}",
    ]);
    assert!(
        sessions.iter().all(|session| events.contains(session)),
        "{events}"
    );
}

/// The same mosquitto under other client ids: what the sessions of before hold is written before they end.
#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_route_that_goes_to_another_broker_reads_the_one_of_before_to_the_end() {
    let brokers = Brokers::start();
    let namespace = Namespace::create("e2e-moving");
    let (manifests, sessions) = start(&namespace, "moving");
    let route = RouteHandle::new(&namespace, "moving");
    let observer = Observer::start(&brokers.bootstrap(), &[&manifests.topic]);
    let publish = || {
        let publisher = Publisher::builder(brokers.mqtt())
            .keys(100)
            .messages(2_000)
            .topic_of(manifests.topic_of())
            .start();
        (publisher.run(), publisher.finish(SOON))
    };
    route.pause();
    let (first, held) = publish();
    assert_eq!(observer.snapshot().seen().len(), 0, "the broker holds them");

    let edge = manifests.yaml().replace(
        "name: plant}\nspec:",
        "name: edge}\nspec:\n  session: {clientIdPrefix: edge}",
    );
    namespace.apply(edge.split("---\n").next().unwrap());
    let moved = r#"{"spec":{"paused":false,"from":{"mqtt":{"brokerRef":{"name":"edge"}}}}}"#;
    namespace.kubectl(&["patch", "topicroute", "moving", "--type=merge", "-p", moved]);
    let since = Instant::now();
    route.wait_applied(GONE);
    route.wait_ready();
    eprintln!(
        "the workers read the other broker after {:.1} s",
        since.elapsed().as_secs_f64()
    );
    observer.wait_for(2_000, SOON);
    for session in &sessions {
        assert!(!has_session(brokers.mqtt(), session), "{session} is stranded");
    }

    let (second, read) = publish();
    observer.wait_for(4_000, SOON);
    let records = observer.finish();
    check(&held, &records.clone().without(&[second])).assert_nothing_lost();
    check(&read, &records.without(&[first])).assert_nothing_lost();
    namespace.kubectl(&["delete", "topicroute", "moving", "--wait=false"]);
    let sessions: Vec<String> = sessions
        .iter()
        .map(|session| session.replace("millrace-", "edge-"))
        .collect();
    assert_gone(&namespace, &brokers, "moving", &sessions);
}
