//! What becomes of a route: the document that its workers run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_contract::{AnyDocument, Document, Value};
use millrace_crds::{
    ManifestFile, Objects, Place, RenderError, RenderOptions, SessionSource, document, validate,
};
use serde_json::json;

const ALL_FIELDS: &str = r#"
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: plant, namespace: plants}
spec:
  urls: [mqtt://localhost, "mqtt://[::1]:1884/"]
  protocolVersion: V311
  auth: {basic: {secretRef: {name: login}, usernameKey: user, passwordKey: pass}}
  session: {clientIdPrefix: bridge, expiryInterval: 1h500ms, keepAlive: 1m, receiveMaximum: 100}
  sharedSubscriptions: Supported
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {name: main, namespace: plants}
spec:
  bootstrapServers: ["localhost:9092", "localhost:9093"]
  librdkafka: {debug: broker}
  topics:
  - {pattern: telemetry.*, create: IfMissing, maxTopics: 7, partitions: 2, replicationFactor: 1, config: {retention.ms: "1"}}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: telemetry, namespace: plants}
spec:
  replicas: 3
  sessionId: north
  from:
    mqtt:
      brokerRef: {name: plant}
      subscriptions: [{filter: a/+x}, {filter: b/+x}]
      qos: 2
      ordering: Unordered
      lanes: 3
      payload: {format: JSON}
  when: payload.ok
  to:
    kafka:
      sinkRef: {name: main}
      topic: telemetry.{x}
      allowedTopics: [telemetry.a, telemetry.b]
      key: "{x}"
      headers: {site: "{x}"}
      propagate: [Qos, UserProperties]
      value: payload.value
      producer: {linger: 1s1ms, compression: Zstd}
  onError: {action: DeadLetter, deadLetter: {topic: dead}}
  maxMessageBytes: 64Ki
  timeouts: {drain: 5s, failover: 1m}
"#;

const DEFAULTS: &str = r#"
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: plant}
spec: {urls: [mqtt://localhost:1883], auth: {basic: {secretRef: {name: login}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {name: main}
spec: {bootstrapServers: ["localhost:9092"], topics: [{pattern: a}]}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: telemetry}
spec:
  from: {mqtt: {brokerRef: {name: plant}, subscriptions: [{filter: a/+x}], ordering: PerTopic}}
  to: {kafka: {sinkRef: {name: main}, topic: "telemetry.{x}"}}
"#;

fn objects(text: &str) -> Objects {
    let report = validate(&[ManifestFile {
        path: "test.yaml".into(),
        text: text.into(),
    }]);
    assert_eq!(report.findings, []);
    report.objects
}

fn rendered(objects: &Objects, session: SessionSource<'_>) -> Result<Document, RenderError> {
    let places = |place: &Place<'_>| match place {
        Place::Secret(key) | Place::ConfigMap(key) => {
            Value::File(format!("/{}/{}/{}", key.namespace, key.name, key.key).into())
        }
        Place::Token { audience, .. } => Value::File(format!("/token/{audience}").into()),
    };
    let route = &objects.routes[0];
    let (broker, sink) = (objects.broker_of(route).unwrap(), objects.sink_of(route).unwrap());
    let rendered = document(
        route,
        broker,
        sink,
        &RenderOptions {
            session,
            places: &places,
        },
    )?;
    match rendered {
        AnyDocument::ToKafka(document) => Ok(*document),
        AnyDocument::ToMqtt(_) => panic!("the other way"),
    }
}

#[test]
fn every_field_of_the_objects_reaches_the_document() {
    let document = rendered(&objects(ALL_FIELDS), SessionSource::Uid).unwrap();
    let expected = json!({
        "version": 1,
        "route": {"namespace": "plants", "name": "telemetry", "sessionId": "north"},
        "broker": {
            "urls": ["mqtt://localhost:1883", "mqtt://[::1]:1884"],
            "protocolVersion": "V311",
            "credentials": {
                "username": {"file": "/plants/login/user"},
                "password": {"file": "/plants/login/pass"},
            },
            "clientIdPrefix": "bridge",
            "sessionExpirySeconds": 3601,
            "keepAliveSeconds": 60,
            "receiveMaximum": 100,
            "sharedSubscriptions": "Supported",
        },
        "lanes": {"count": 3, "ordering": "Unordered"},
        "source": {
            "subscriptions": [{"filter": "a/+x"}, {"filter": "b/+x"}],
            "qos": 2,
            "payload": "Json",
        },
        "mapping": {
            "when": "payload.ok",
            "topic": "telemetry.{x}",
            "allowedTopics": ["telemetry.a", "telemetry.b"],
            "key": "{x}",
            "headers": {"site": "{x}"},
            "propagate": ["Qos", "UserProperties"],
            "value": "payload.value",
        },
        "sink": {
            "bootstrapServers": ["localhost:9092", "localhost:9093"],
            "librdkafka": {"debug": "broker"},
            "topics": [{
                "pattern": "telemetry.*", "create": "IfMissing", "maxTopics": 7, "partitions": 2,
                "replicationFactor": 1, "config": {"retention.ms": "1"},
            }],
            "producer": {"lingerMs": 1001, "compression": "Zstd"},
        },
        "onError": {"action": "DeadLetter", "deadLetterTopic": "dead"},
        "maxMessageBytes": 65536,
        "timeouts": {"drainMs": 5000, "failoverMs": 60000},
    });
    assert_eq!(serde_json::to_value(&document).unwrap(), expected);
}

#[test]
fn what_is_not_written_has_the_defaults_of_the_schema() {
    let document = rendered(&objects(DEFAULTS), SessionSource::Instance("local")).unwrap();
    let expected = json!({
        "version": 1,
        // A hash of namespace, name and instance.
        "route": {"namespace": "default", "name": "telemetry", "sessionId": "61946afa"},
        "broker": {
            "urls": ["mqtt://localhost:1883"],
            "protocolVersion": "Auto",
            "credentials": {
                "username": {"file": "/default/login/username"},
                "password": {"file": "/default/login/password"},
            },
            "clientIdPrefix": "millrace",
            "sessionExpirySeconds": 86400,
            "keepAliveSeconds": 30,
            "receiveMaximum": 10000,
            "sharedSubscriptions": "Auto",
        },
        "lanes": {"count": 8, "ordering": "PerTopic"},
        "source": {
            "subscriptions": [{"filter": "a/+x"}],
            "qos": 1,
            "payload": "Bytes",
        },
        // A device does not choose where it writes.
        "mapping": {"topic": "telemetry.{x}", "allowedTopics": ["telemetry.*"], "key": "{message.topic}"},
        "sink": {
            "bootstrapServers": ["localhost:9092"],
            "topics": [{
                "pattern": "a", "create": "Never", "maxTopics": 100, "partitions": 6, "replicationFactor": 3,
            }],
            "producer": {"lingerMs": 5, "compression": "Lz4"},
        },
        "onError": {"action": "Stop"},
        "maxMessageBytes": 1048576,
        "timeouts": {"drainMs": 60000, "failoverMs": 15000},
    });
    assert_eq!(serde_json::to_value(&document).unwrap(), expected);
}

#[test]
fn a_user_name_may_stand_in_the_manifest() {
    let text = DEFAULTS.replace(
        "secretRef: {name: login}",
        "secretRef: {name: login}, username: bridge",
    );
    let credentials = rendered(&objects(&text), SessionSource::Instance("a"))
        .unwrap()
        .settings
        .broker
        .credentials
        .unwrap();
    assert_eq!(credentials.username, Value::Literal("bridge".into()));
    assert_eq!(
        credentials.password,
        Value::File("/default/login/password".into())
    );
}

#[test]
fn in_a_cluster_the_uid_names_the_sessions() {
    let mut objects = objects(DEFAULTS);
    let missing = rendered(&objects, SessionSource::Uid).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("TopicRoute default/telemetry: metadata.uid: is missing"),
        "{missing}"
    );
    objects.routes[0].metadata.uid = Some("3F2A9C1E-77aa-4c8e-9d6e-1b2c3d4e5f60".into());
    assert_eq!(
        rendered(&objects, SessionSource::Uid)
            .unwrap()
            .settings
            .route
            .session_id,
        "3f2a9c1e"
    );
}

#[test]
fn what_was_never_validated_is_an_error_and_no_panic() {
    let right = objects(DEFAULTS);
    let mut wrong = right.clone();
    wrong.brokers[0].spec.session.receive_maximum = 70_000;
    let error = rendered(&wrong, SessionSource::Instance("a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MqttBroker default/plant: spec.session.receiveMaximum: is out of range"
    );
    let mut wrong = right.clone();
    wrong.routes[0].spec.timeouts.drain = millrace_crds::units::GepDuration::new("soon");
    let error = rendered(&wrong, SessionSource::Instance("a")).unwrap_err();
    assert_eq!(
        (error.object.as_str(), error.field.as_str()),
        ("TopicRoute default/telemetry", "spec.timeouts.drain")
    );
    let mut wrong = right;
    wrong.routes[0].spec.to.kafka.as_mut().unwrap().topic = "{x}".into();
    assert!(
        rendered(&wrong, SessionSource::Instance("a"))
            .unwrap_err()
            .message
            .contains("allowedTopics")
    );
}

/// What a worker is told to read has to be mounted.
#[test]
fn the_places_of_objects_are_those_that_their_documents_name() {
    let bearer = "mechanism: OAUTHBEARER\n    oauthBearer: {token: {audience: kafka, expiration: 30m}}";
    let secured = std::fs::read_to_string("../examples/secured.yaml").unwrap();
    let with_token = secured
        .replace("  tls:\n    ca: {configMap", "  auth: {token: {audience: broker}}\n  tls:\n    ca: {configMap")
        .replace(
            "mechanism: SCRAM-SHA-512\n    basic:\n      username: bridge-user\n      secretRef: {name: bridge-user}\n      \
             passwordKey: password",
            bearer,
        );
    assert!(with_token.contains(bearer) && with_token.contains("audience: broker"));
    let with_login = secured.replace(
        "  tls:\n    ca: {configMap",
        "  auth: {basic: {secretRef: {name: login}}}\n  tls:\n    ca: {configMap",
    );
    let with_client = std::fs::read_to_string("../examples/tokens.yaml").unwrap();
    let with_all_of_a_client = with_client.replace("clientId: bridge", "clientIdKey: id");
    assert!(with_all_of_a_client != with_client);
    for (text, count) in [
        (secured, 5),
        (with_token, 6),
        (with_login, 7),
        (with_client, 3),
        (with_all_of_a_client, 4),
    ] {
        let objects = objects(&text);
        let route = &objects.routes[0];
        let (broker, sink) = (objects.broker_of(route).unwrap(), objects.sink_of(route).unwrap());
        let named = std::cell::RefCell::new(Vec::new());
        let places = |place: &Place<'_>| {
            named.borrow_mut().push(format!("{place:?}"));
            Value::Literal(String::new())
        };
        let options = RenderOptions {
            session: SessionSource::Instance("a"),
            places: &places,
        };
        document(route, broker, sink, &options).unwrap();
        let mut named = named.into_inner();
        let mounted = millrace_crds::broker_places(broker).into_iter();
        let mounted = mounted.chain(millrace_crds::sink_places(sink));
        let mut mounted: Vec<_> = mounted.map(|place| format!("{place:?}")).collect();
        named.sort();
        mounted.sort();
        assert_eq!(named, mounted);
        assert_eq!(named.len(), count, "{named:?}");
    }
}

#[test]
fn messages_that_the_annotation_names_are_skipped() {
    let text = DEFAULTS.replace(
        "metadata: {name: telemetry}",
        r#"metadata: {name: telemetry, annotations: {millrace.dev/skip: "9f86d081884c7d65,0123456789abcdef, "}}"#,
    );
    let document = rendered(&objects(&text), SessionSource::Instance("a")).unwrap();
    assert_eq!(
        document.live.on_error.skip,
        ["9f86d081884c7d65", "0123456789abcdef"]
    );
}
