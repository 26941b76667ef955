//! Another image, and changes that do not work, under a constant load of 2,000 QoS 1 messages a second. What was
//! acknowledged is in Kafka, and the first occurrences of each key are in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::Arc;

use millrace_contract::status::LaneState;
use millrace_e2e::{Brokers, Plant, Release, SOON};
use millrace_testkit::wait_until;

const IMAGE: &str = ".spec.containers[0].image";

/// Gives the image another name, in the cluster too.
fn retag(image: &str) {
    let command = format!("docker tag millrace.dev/millrace:local {image} && ../e2e/kind/load {image}");
    let output = Command::new("bash").args(["-ec", &command]).output().unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn another_image_replaces_the_workers_one_by_one_and_loses_nothing() {
    let image = "millrace.dev/millrace:other";
    retag(image);
    let release = Release::to_be_changed();
    let plant = Plant::start("image", |_| {});
    let uids = plant.uids();

    release.upgrade("millrace", &["image.tag=other"]);
    let mut fewest = uids.len();
    wait_until(SOON, "all workers to have the other image", || {
        let ready = plant.of_workers(".status.conditions[?(@.type==\"Ready\")].status");
        fewest = fewest.min(ready.iter().filter(|ready| *ready == "True").count());
        plant.of_workers(IMAGE) == [image, image] && ready == ["True", "True"]
    });
    assert_eq!(fewest, 1, "one by one");
    plant.route().wait_applied(SOON);
    plant.route().wait_ready();
    plant.wait_flow("all workers have another image");
    let statuses = plant.statuses();
    assert_eq!(statuses.len(), 2, "every worker answers");
    for status in statuses {
        let mut lanes = status
            .lanes
            .iter()
            .filter(|lane| lane.state == LaneState::Up)
            .peekable();
        assert!(lanes.peek().is_some(), "every worker reads something");
        assert!(lanes.all(|lane| lane.session_present), "{:?}", status.lanes);
    }

    release.put_back();
    let now = plant.uids();
    wait_until(SOON, "all workers to have the image of before", || {
        plant.uids().iter().all(|uid| !now.contains(uid))
    });
    plant.route().wait_applied(SOON);
    plant.route().wait_ready();
    plant.wait_flow("all workers have the image of before");
    plant.finish();
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn what_does_not_work_leaves_one_worker_and_four_as_they_were() {
    let release = Release::to_be_changed();
    let brokers = Arc::new(Brokers::start());
    let plants = [1, 4].map(|replicas| {
        Plant::start_at(&brokers, &format!("broken-{replicas}"), |manifests| {
            manifests.spec = format!("  replicas: {replicas}\n");
        })
    });
    let uids = plants.each_ref().map(|plant| plant.uids());
    let is_untouched = |what: &str| {
        for (plant, uids) in plants.iter().zip(&uids) {
            let ready = plant.route().condition("Ready").unwrap();
            assert_eq!(ready.status, "True", "{}", ready.message);
            plant.wait_flow(what);
            assert_eq!(plant.uids(), *uids, "no worker was replaced");
        }
    };

    release.upgrade("millrace", &["worker.image.tag=no-such-tag"]);
    for plant in &plants {
        let said = plant
            .route()
            .wait_for("ConfigurationApplied", "False", "ProbeFailed", SOON);
        assert!(said.message.contains("no-such-tag"), "{}", said.message);
    }
    is_untouched("the image does not exist");
    release.put_back();
    for plant in &plants {
        plant.route().wait_applied(SOON);
    }

    for plant in &plants {
        let mut broken = plant.manifests().clone();
        broken.port = 1;
        plant.namespace().apply(&broken.yaml());
    }
    for plant in &plants {
        let said = plant
            .route()
            .wait_for("ConfigurationApplied", "False", "BrokerUnreachable", SOON);
        assert!(said.message.contains(":1"), "{}", said.message);
    }
    is_untouched("nothing listens at the broker's address");
    for plant in &plants {
        plant.namespace().apply(&plant.manifests().yaml());
        plant.route().wait_applied(SOON);
        plant.route().wait_ready();
    }
    is_untouched("all is as it was");
    for plant in plants {
        plant.finish();
    }
}
