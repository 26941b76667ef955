//! The CEL rules of the definitions, each shown to hold and to break, as an API server evaluates them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kube::core::cel::{Validator, compile_schema};
use millrace_crds::crds;
use millrace_mapping::{Filter, FilterError};
use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    let crd = crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap();
    serde_json::to_value(
        crd.spec.versions[0]
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap(),
    )
    .unwrap()
}

fn broken(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate_compiled(&compile_schema(&schema(kind)), object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors
            .into_iter()
            .map(|error| format!("{}: {}", error.field_path, error.message))
            .collect(),
    }
}

fn broker() -> Value {
    json!({"metadata": {"name": "plant"}, "spec": {"urls": ["mqtt://localhost"]}})
}

fn sink() -> Value {
    json!({"metadata": {"name": "main"}, "spec": {"bootstrapServers": ["localhost:9092"]}})
}

fn route() -> Value {
    json!({"metadata": {"name": "telemetry"}, "spec": {
        "from": {"mqtt": {
            "brokerRef": {"name": "plant"}, "subscriptions": [{"filter": "a/#"}], "ordering": "PerTopic",
        }},
        "to": {"kafka": {"sinkRef": {"name": "main"}, "topic": "a"}},
    }})
}

/// `object` with `value` at the JSON pointer `place`; null removes what is there.
fn with(mut object: Value, place: &str, value: Value) -> Value {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let mut at = &mut object;
    for step in parent.split('/').skip(1) {
        at = &mut at[step];
    }
    if value.is_null() {
        at.as_object_mut().unwrap().remove(key);
    } else {
        at[key] = value;
    }
    object
}

#[test]
fn what_is_right_breaks_no_rule() {
    for (kind, object) in [
        ("MqttBroker", broker()),
        ("KafkaSink", sink()),
        ("TopicRoute", route()),
    ] {
        assert_eq!(broken(kind, &object, None), [""; 0], "{kind}");
        assert_eq!(broken(kind, &object, Some(&object)), [""; 0], "{kind}");
    }
}

#[test]
fn each_rule_breaks_where_it_should() {
    let login = json!({"secretRef": {"name": "login"}});
    let mqtt = route()["spec"]["from"]["mqtt"].clone();
    let kafka = json!({"sinkRef": {"name": "main"}, "topics": ["commands"]});
    let cases = [
        (
            "MqttBroker",
            broker(),
            "/spec/auth",
            json!({}),
            "names no way to log in",
        ),
        (
            "MqttBroker",
            with(broker(), "/spec/auth", json!({"basic": login})),
            "/spec/auth/basic",
            json!({"secretRef": {"name": "login"}, "username": "a", "usernameKey": "b"}),
            "two user names",
        ),
        (
            "MqttBroker",
            with(broker(), "/spec/auth", json!({"basic": login})),
            "/spec/auth/token",
            json!({"audience": "broker"}),
            "two ways to log in",
        ),
        ("MqttBroker", broker(), "/spec/tls", json!({}), "no url with TLS"),
        (
            "MqttBroker",
            with(broker(), "/spec/urls", json!(["mqtts://localhost"])),
            "/spec/tls",
            json!({"ca": {}}),
            "one place",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/sasl",
            json!({"mechanism": "OAUTHBEARER", "basic": login}),
            "write `oauthBearer`",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/sasl",
            json!({"mechanism": "PLAIN", "oauthBearer": {"token": {"audience": "kafka"}}}),
            "write `basic`",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/sasl",
            json!({"mechanism": "OAUTHBEARER", "oauthBearer": {}}),
            "one source of tokens",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/sasl",
            json!({"mechanism": "OAUTHBEARER", "oauthBearer": {"clientCredentials": {
                "tokenEndpointUrl": "https://idp.example/token", "secretRef": {"name": "client"},
                "clientId": "bridge", "clientIdKey": "id",
            }}}),
            "two client ids",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/librdkafka",
            json!({"acks": "1"}),
            "a setting that is not taken",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/topics",
            json!([{"pattern": "a*", "partitions": 12, "growth": {"policy": "Grow", "max": 6}}]),
            "growth.max is less than partitions",
        ),
        (
            "MqttBroker",
            broker(),
            "/spec/allowedRoutes",
            json!({"namespaces": {"from": "Selector"}}),
            "needs a selector",
        ),
        (
            "MqttBroker",
            broker(),
            "/spec/allowedRoutes",
            json!({"namespaces": {"from": "All", "selector": {"matchLabels": {"site": "a"}}}}),
            "remove `selector`",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/allowedRoutes",
            json!({"namespaces": {"from": "Selector", "selector": {}}}),
            "selects every namespace",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/allowedRoutes",
            json!({"namespaces": {"from": "Selector", "selector": {
                "matchExpressions": [{"key": "site", "operator": "NotIn"}],
            }}}),
            "write `values`",
        ),
        (
            "KafkaSink",
            sink(),
            "/spec/allowedRoutes",
            json!({"namespaces": {"from": "Selector", "selector": {
                "matchExpressions": [{"key": "site", "operator": "Exists", "values": ["a"]}],
            }}}),
            "remove `values`",
        ),
        ("TopicRoute", route(), "/spec/from", json!({}), "exactly one of"),
        (
            "TopicRoute",
            route(),
            "/spec/from",
            json!({"mqtt": mqtt, "kafka": kafka}),
            "exactly one of",
        ),
        ("TopicRoute", route(), "/spec/to", json!({}), "exactly one of"),
        (
            "TopicRoute",
            route(),
            "/spec/from",
            json!({"kafka": kafka}),
            "to the other side",
        ),
        (
            "TopicRoute",
            route(),
            "/spec/onError",
            json!({"action": "DeadLetter"}),
            "needs a topic",
        ),
        (
            "TopicRoute",
            route(),
            "/spec/onError",
            json!({"deadLetter": {"topic": "a"}}),
            "DeadLetter only",
        ),
        (
            "TopicRoute",
            route(),
            "/metadata/name",
            json!("x".repeat(41)),
            "at most 40",
        ),
        (
            "TopicRoute",
            route(),
            "/metadata/name",
            json!("a.b"),
            "at most 40",
        ),
        ("TopicRoute", route(), "/metadata/name", json!("a-"), "at most 40"),
        ("TopicRoute", route(), "/metadata/name", json!("1a"), "at most 40"),
    ];
    for (kind, right, place, wrong, message) in cases {
        assert_eq!(broken(kind, &right, None), [""; 0], "{kind} {place}");
        let found = broken(kind, &with(right, place, wrong), None);
        assert!(
            found.len() == 1 && found[0].contains(message),
            "{kind} {place}: {found:?}"
        );
    }
}

#[test]
fn all_settings_of_the_allow_list_are_taken() {
    for name in millrace_crds::api::LIBRDKAFKA_SETTINGS {
        let object = with(sink(), "/spec/librdkafka", json!({*name: "1"}));
        assert_eq!(broken("KafkaSink", &object, None), [""; 0], "{name}");
    }
}

#[test]
fn what_client_ids_are_made_of_never_changes() {
    let prefix = "/spec/session";
    let (old, new) = (
        broker(),
        with(broker(), prefix, json!({"clientIdPrefix": "other"})),
    );
    assert!(broken("MqttBroker", &new, Some(&old))[0].contains("immutable"));
    assert!(broken("MqttBroker", &old, Some(&new))[0].contains("immutable"));
    assert_eq!(broken("MqttBroker", &new, Some(&new)), [""; 0]);
    assert_eq!(broken("MqttBroker", &new, None), [""; 0]);

    let id = "/spec/sessionId";
    let (none, one, two) = (
        route(),
        with(route(), id, json!("one")),
        with(route(), id, json!("two")),
    );
    for (new, old) in [(&one, &none), (&none, &one), (&two, &one)] {
        assert!(broken("TopicRoute", new, Some(old))[0].contains("immutable"));
    }
    assert_eq!(broken("TopicRoute", &one, Some(&one)), [""; 0]);
}

#[test]
fn the_direction_of_a_route_never_changes() {
    let kafka = json!({"kafka": {"sinkRef": {"name": "main"}, "topics": ["commands"]}});
    let mqtt = json!({"mqtt": {"brokerRef": {"name": "plant"}, "topic": "all"}});
    let back = with(with(route(), "/spec/from", kafka), "/spec/to", mqtt);
    assert_eq!(broken("TopicRoute", &back, None), [""; 0]);
    assert_eq!(broken("TopicRoute", &back, Some(&back)), [""; 0]);
    for (new, old) in [(&route(), &back), (&back, &route())] {
        assert!(broken("TopicRoute", new, Some(old))[0].contains("immutable"));
    }
}

#[test]
fn scaling_breaks_no_rule() {
    for replicas in [0, 1, 8, 1000] {
        let scaled = with(route(), "/spec/replicas", json!(replicas));
        assert_eq!(
            broken("TopicRoute", &scaled, Some(&route())),
            [""; 0],
            "{replicas}"
        );
    }
}

/// The rules about a filter and its parser agree, but for names that need all of a filter or a list of words to judge.
#[test]
fn rules_and_parser_take_the_same_filters() {
    let levels = [
        "", "a", "$share", "$SYS", "+", "+a", "+_9", "+9", "+a-b", "+ä", "a+", "++", "#", "#a", "#9", "a#",
        "#a+", "ä",
    ];
    let filters = levels.iter().flat_map(|one| {
        let of_two = levels.iter().map(move |two| format!("{one}/{two}"));
        std::iter::once((*one).to_owned())
            .chain(of_two)
            .chain([format!("x/{one}/y"), format!("$share/g/{one}")])
    });
    let (mut taken, mut refused) = (0, 0);
    for filter in filters.filter(|filter| !filter.is_empty()) {
        let parsed = Filter::parse(&filter);
        if matches!(parsed, Err(FilterError::DuplicateName(_))) {
            continue;
        }
        let object = with(
            route(),
            "/spec/from/mqtt/subscriptions",
            json!([{"filter": filter}]),
        );
        let broken = broken("TopicRoute", &object, None);
        assert_eq!(
            parsed.is_ok(),
            broken.is_empty(),
            "{filter:?}: {parsed:?}, {broken:?}"
        );
        *if broken.is_empty() {
            &mut taken
        } else {
            &mut refused
        } += 1;
    }
    assert!(taken > 50 && refused > 200, "{taken} taken, {refused} refused");
}
