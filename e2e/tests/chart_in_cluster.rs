//! The chart in a cluster: its test, its removal before the routes, and another release that takes them over.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millrace_e2e::{Brokers, Manifests, Namespace, Release, RouteHandle, SOON, helm, kubectl};
use millrace_testkit::{Observer, Publisher, check, wait_until};

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn helm_test_moves_a_message_through_a_route() {
    let text = helm(&["test", "millrace", "--timeout", "3m"]);
    assert!(text.contains("Succeeded"), "{text}");
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn routes_outlive_the_chart_and_another_release_takes_them_over() {
    let brokers = Brokers::start();
    let namespace = Namespace::create("e2e-chart");
    let release = Release::to_be_changed();
    let manifests = Manifests::new("kept");
    namespace.apply(&manifests.yaml());
    let route = RouteHandle::new(&namespace, "kept");
    route.wait_ready();
    let uids = || {
        let selector = "app.kubernetes.io/component=worker";
        namespace.kubectl(&[
            "get",
            "pods",
            "-l",
            selector,
            "-o",
            "jsonpath={.items[*].metadata.uid}",
        ])
    };
    let before = uids();
    let observer = Observer::start(&brokers.bootstrap(), &[&manifests.topic]);
    let publisher = Publisher::builder(brokers.mqtt())
        .qos(1)
        .keys(10)
        .rate(200.0)
        .topic_of(manifests.topic_of())
        .start();

    helm(&["uninstall", "millrace", "--wait"]);
    let goal = publisher.acknowledged() + 1_000;
    observer.wait_for(goal, SOON);
    let left = route.get().unwrap();
    assert_eq!(left.metadata.finalizers.unwrap_or_default(), [""; 0]);

    release.upgrade("other", &[]);
    wait_until(SOON, "the other release to hold the route", || {
        route
            .get()
            .is_some_and(|route| !route.metadata.finalizers.unwrap_or_default().is_empty())
    });
    route.wait_ready();
    assert_eq!(uids(), before, "the workers are the same");
    let report = publisher.finish(SOON);
    observer.wait_for(report.acknowledged(), SOON);
    check(&report, &observer.finish()).assert_nothing_lost();

    // Without an operator nothing holds a route back, nor what belongs to it.
    helm(&["uninstall", "other", "--wait"]);
    namespace.kubectl(&["delete", "topicroute", "kept", "--timeout=60s"]);
    wait_until(Duration::from_secs(60), "its workers to be gone", || {
        route.pods().is_empty()
    });
    let told = kubectl(&[
        "get",
        "events",
        "-n",
        namespace.name(),
        "-o",
        "jsonpath={.items[*].reason}",
    ]);
    assert!(told.contains("SessionsLeft"), "{told}");
    drop(release);
}
