//! What a user does with a route from its creation to its end.

use millrace_operator::names;
use serde_json::{Value, json};

use crate::objects::{is, is_deleting};

pub(crate) const MANIFEST: &str = "
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: plant}
spec:
  urls: [mqtt://mqtt.plant:1883]
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {name: main}
spec:
  bootstrapServers: [kafka:9092]
  topics:
  - {pattern: telemetry, create: IfMissing}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: telemetry}
spec:
  replicas: 2
  from:
    mqtt:
      brokerRef: {name: plant}
      subscriptions:
      - filter: plants/+plant/telemetry
      - filter: plants/+plant/events
      ordering: PerTopic
      lanes: 4
  to:
    kafka:
      sinkRef: {name: main}
      topic: telemetry
      key: '{plant}'
";

const EDGE: &str = "
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: edge}
spec:
  urls: [mqtt://mqtt.edge:1883]
";

/// Something that a user does.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The image of workers from then on.
    pub(crate) image: &'static str,
    pub(crate) act: fn(&dyn Hands),
}

/// All that a user does.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "create",
        image: "worker:1",
        act: |hands| hands.create(MANIFEST),
    },
    Step {
        name: "change the mapping",
        image: "worker:1",
        act: |hands| {
            edit_route(hands, |spec| {
                spec["to"]["kafka"]["key"] = "{message.topic}".into();
                spec["from"]["mqtt"]["subscriptions"][1]["filter"] = "plants/+plant/alarms".into();
            });
        },
    },
    Step {
        name: "change the connection",
        image: "worker:1",
        act: |hands| {
            hands.edit("mqttbrokers", "plant", &|broker| {
                broker["spec"]["urls"] = json!(["mqtt://other.plant:1883"]);
            });
        },
    },
    Step {
        name: "other lanes",
        image: "worker:1",
        act: |hands| {
            edit_route(hands, |spec| {
                spec["from"]["mqtt"]["lanes"] = 3.into();
                spec["from"]["mqtt"]["ordering"] = "Unordered".into();
            });
        },
    },
    Step {
        name: "go to another broker",
        image: "worker:1",
        act: |hands| {
            hands.create(EDGE);
            edit_route(hands, |spec| {
                spec["from"]["mqtt"]["brokerRef"]["name"] = "edge".into();
                spec["from"]["mqtt"]["lanes"] = 4.into();
            });
        },
    },
    Step {
        name: "upgrade",
        image: "worker:2",
        act: |_| {},
    },
    Step {
        name: "2 to 4 workers",
        image: "worker:2",
        act: |hands| edit_route(hands, |spec| spec["replicas"] = 4.into()),
    },
    Step {
        name: "4 to 1 workers",
        image: "worker:2",
        act: |hands| edit_route(hands, |spec| spec["replicas"] = 1.into()),
    },
    Step {
        name: "delete",
        image: "worker:2",
        act: |hands| hands.delete("topicroutes", "telemetry"),
    },
];

fn edit_route(hands: &dyn Hands, edit: fn(&mut Value)) {
    hands.edit("topicroutes", "telemetry", &|route| edit(&mut route["spec"]));
}

/// What a user does to a cluster.
pub(crate) trait Hands {
    /// Creates the objects of a manifest.
    fn create(&self, manifest: &str);
    /// Changes an object.
    fn edit(&self, plural: &str, name: &str, edit: &dyn Fn(&mut Value));
    /// Deletes an object.
    fn delete(&self, plural: &str, name: &str);
}

/// Whether all objects say that they are as they were last written, and are what they say.
pub(crate) fn is_settled<'a>(all: impl Iterator<Item = (String, &'a Value)>) -> bool {
    let is_set = |object: &Value| {
        let (wanted, status) = (&object["spec"]["replicas"], &object["status"]);
        ["replicas", "readyReplicas", "updatedReplicas"]
            .iter()
            .all(|count| status[count] == *wanted)
    };
    let is_ours = |object: &Value| {
        let wanted = &object["spec"]["replicas"];
        let replicas = wanted.is_null() || object["status"]["replicas"] == *wanted;
        let lanes = &object["spec"]["from"]["mqtt"]["lanes"];
        let up = lanes.is_null() || object["status"]["lanes"] == json!({"total": lanes, "up": lanes});
        !is_deleting(object)
            && replicas
            && up
            && is(object, "Ready", "True")
            && is(object, "Reconciling", "False")
    };
    let all: Vec<(String, &Value)> = all.collect();
    let routes: Vec<&Value> = all
        .iter()
        .filter(|(name, _)| name.starts_with("topicroutes/"))
        .map(|(_, route)| &route["metadata"]["name"])
        .collect();
    // A Job that has ended goes by itself, in its time.
    let is_orphan = |object: &Value| {
        let labels = &object["metadata"]["labels"];
        labels[names::OWNER_KIND] == names::kind::ROUTE
            && labels[names::COMPONENT] != names::component::LEAVE
            && !routes.contains(&&labels[names::INSTANCE])
    };
    all.iter().all(|(name, object)| match name.split('/').next() {
        Some("statefulsets") => is_set(object) && !is_orphan(object),
        Some("mqttbrokers" | "kafkasinks" | "topicroutes") => is_ours(object),
        _ => !is_orphan(object),
    })
}
