//! A route with its broker and its sink, as a user writes them.

use millrace_operator::plan::Desired;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const MANIFESTS: &str = "
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: plant}
spec:
  urls: [mqtt://mosquitto:1883]
  auth: {basic: {secretRef: {name: plant-login}, username: bridge}}
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {name: main}
spec:
  bootstrapServers: [kafka:9092]
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: sensors}
spec:
  replicas: 2
  from:
    mqtt:
      brokerRef: {name: plant}
      lanes: 4
      ordering: Unordered
      subscriptions:
      - filter: sensors/+line/#
  to:
    kafka:
      sinkRef: {name: main}
      topic: sensors
      key: '{line}'
";

/// The namespace of all of them.
pub(crate) const NAMESPACE: &str = "factory";

/// One of the manifests, as the API server has it.
pub(crate) fn object(kind: &str) -> Value {
    let mut objects = MANIFESTS
        .split("---\n")
        .map(|text| serde_yaml::from_str::<Value>(text).unwrap());
    let mut object = objects.find(|object| object["kind"] == kind).unwrap();
    let meta = &mut object["metadata"];
    meta["namespace"] = NAMESPACE.into();
    meta["generation"] = 1.into();
    meta["uid"] = json!("6a3d0c1e-0000-4000-8000-000000000001");
    meta["creationTimestamp"] = json!("2026-03-01T03:00:00Z");
    object
}

/// A manifest that the user has changed.
pub(crate) fn edited(mut object: Value, edit: impl FnOnce(&mut Value)) -> Value {
    edit(&mut object["spec"]);
    object["metadata"]["generation"] = (generation(&object) + 1).into();
    object
}

/// The generation of an object.
pub(crate) fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap()
}

/// What the operator has made, as the API server keeps it.
pub(crate) fn json_of(made: &Desired) -> Value {
    serde_json::from_str(made.body.get()).unwrap()
}

/// An object of its type.
pub(crate) fn typed<K: DeserializeOwned>(object: &Value) -> K {
    serde_json::from_value(object.clone()).unwrap()
}
