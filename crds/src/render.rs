//! From the objects of a route to the document that its workers run.

mod fields;
mod security;
mod session;
mod words;

use millrace_contract as contract;
use millrace_mapping::{Template, TopicPattern};

use crate::api::{
    KafkaDestination, KafkaSink, KafkaSource, MqttBroker, MqttDestination, MqttSource, Named, Retain,
    TopicPolicy, TopicRoute, TopicRouteSpec,
};
use crate::places::Place;
use fields::Fields;
pub use session::session_id;

/// What a document needs that is not in the objects.
pub struct RenderOptions<'a> {
    /// Where the session id of a route without `spec.sessionId` comes from.
    pub session: SessionSource<'a>,
    /// Where the worker finds a value that is in no object of these.
    pub places: &'a dyn Fn(&Place<'_>) -> contract::Value,
}

/// Where the session id of a route without `spec.sessionId` comes from.
#[derive(Clone, Copy, Debug)]
pub enum SessionSource<'a> {
    /// The first 8 letters and digits of `metadata.uid`: in a cluster.
    Uid,
    /// A hash of namespace, name and this instance name: without a cluster. The same three give the same
    /// sessions.
    Instance(&'a str),
}

/// Why a document cannot be made. Objects that [`crate::validate`] accepts render, but for a route without uid
/// under [`SessionSource::Uid`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {message}")]
pub struct RenderError {
    /// Kind, namespace and name: `TopicRoute default/telemetry`.
    pub object: String,
    /// Path of the field.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

/// The document that runs `route`, which must refer to `broker` and `sink`.
///
/// # Errors
/// If a field cannot be read, which [`crate::validate`] would have reported.
pub fn document(
    route: &TopicRoute,
    broker: &MqttBroker,
    sink: &KafkaSink,
    options: &RenderOptions<'_>,
) -> Result<contract::AnyDocument, RenderError> {
    let fields = Fields::of(route);
    // Workers are given what is in their own namespace, wherever the objects are that name it.
    let within = |place: &Place<'_>| (options.places)(&place.within(route.namespace()));
    let options = &RenderOptions {
        places: &within,
        ..*options
    };
    let settings = |sink, consumer| {
        Ok(contract::Settings {
            version: contract::VERSION,
            route: contract::RouteId {
                namespace: route.namespace().to_owned(),
                name: route.name().to_owned(),
                uid: route.metadata.uid.clone(),
                session_id: session_id(route, options.session).ok_or_else(|| {
                    fields.error("metadata.uid", "is missing: name a session with spec.sessionId")
                })?,
            },
            broker: broker_document(broker, options)?,
            sink,
            consumer,
        })
    };
    let spec = &route.spec;
    if let Some(from) = &spec.from.kafka {
        let to = fields.present("spec.to.mqtt", spec.to.mqtt.as_ref())?;
        return Ok(contract::AnyDocument::ToMqtt(Box::new(contract::Document {
            settings: settings(
                sink_document(sink, options)?,
                Some(consumer_document(route, from)),
            )?,
            live: contract::LiveToMqtt {
                survey: survey_document(route, sink),
                ..to_mqtt_document(&fields, route, from, to)?
            },
        })));
    }
    let mqtt = fields.present("spec.from.mqtt", spec.from.mqtt.as_ref())?;
    let kafka = fields.present("spec.to.kafka", spec.to.kafka.as_ref())?;
    Ok(contract::AnyDocument::ToKafka(Box::new(contract::Document {
        settings: settings(route_sink_document(sink, &fields, kafka, options)?, None)?,
        live: contract::Live {
            source: source_document(&fields, mqtt)?,
            lanes: contract::Lanes {
                count: fields.narrow("spec.from.mqtt.lanes", mqtt.lanes)?,
                ordering: mqtt.ordering.into(),
            },
            mapping: mapping_document(&fields, spec, kafka)?,
            retired: Vec::new(),
            on_error: on_error_document(route),
            max_message_bytes: fields.read("spec.maxMessageBytes", spec.max_message_bytes.bytes())?,
            timeouts: timeouts_document(&fields, spec)?,
            survey: survey_document(route, sink),
        },
    })))
}

/// What a worker of the route looks at in Kafka for all. Groups are watched by one route of a sink, where somebody has
/// said which; partitions are added by the routes that read or write the topic.
fn survey_document(route: &TopicRoute, sink: &KafkaSink) -> contract::survey::Survey {
    let status = sink.status.as_ref();
    let watches = status
        .and_then(|status| status.watched_by.as_deref())
        .is_none_or(|watcher| watcher == name_at(route, sink));
    let groups = sink.spec.watched_groups.iter().filter(|_| watches);
    let known = known_topics(route);
    let patterns: Vec<TopicPattern> = route
        .spec
        .to
        .kafka
        .iter()
        .flat_map(|kafka| &kafka.allowed_topics)
        .filter_map(|pattern| TopicPattern::parse(pattern).ok())
        .collect();
    let is_ours =
        |topic: &str| known.iter().any(|one| one == topic) || patterns.iter().any(|one| one.matches(topic));
    let topics = status.iter().flat_map(|status| &status.topics);
    let targets = topics.filter(|topic| is_ours(&topic.name)).filter_map(|topic| {
        let target = u32::try_from(topic.target_partitions?).ok()?;
        Some((topic.name.clone(), target))
    });
    contract::survey::Survey {
        groups: groups
            .map(|watched| contract::survey::WatchedGroup {
                group: watched.group.clone(),
                topics: watched.topics.clone(),
            })
            .collect(),
        partitions: targets.collect(),
    }
}

/// What a route is called in the status of its sink: its name, with the namespace before it if that is another than the
/// sink's.
pub fn name_at(route: &TopicRoute, sink: &KafkaSink) -> String {
    match route.namespace() == sink.namespace() {
        true => route.name().to_owned(),
        false => format!("{}/{}", route.namespace(), route.name()),
    }
}

/// The consumer group of a route from Kafka.
pub fn group(route: &TopicRoute) -> Option<String> {
    let from = route.spec.from.kafka.as_ref()?;
    let default = || format!("millrace.{}.{}", route.namespace(), route.name());
    Some(from.group.clone().unwrap_or_else(default))
}

/// Whether two routes from Kafka would share the records of one consumer group.
pub fn shares_group(one: &TopicRoute, other: &TopicRoute) -> bool {
    let own = group(one);
    let sinks = one.sink_ref().zip(other.sink_ref());
    own.is_some() && own == group(other) && sinks.is_some_and(|(one, other)| one.is_as(&other))
}

fn consumer_document(route: &TopicRoute, from: &KafkaSource) -> contract::Consumer {
    contract::Consumer {
        topics: from.topics.clone(),
        group: group(route).unwrap_or_default(),
        start: from.start.into(),
    }
}

fn to_mqtt_document(
    fields: &Fields,
    route: &TopicRoute,
    from: &KafkaSource,
    to: &MqttDestination,
) -> Result<contract::LiveToMqtt, RenderError> {
    let spec = &route.spec;
    let expiry = to.message_expiry_interval.as_ref();
    let expiry = expiry
        .map(|expiry| fields.seconds("spec.to.mqtt.messageExpiryInterval", expiry))
        .transpose()?;
    Ok(contract::LiveToMqtt {
        payload: from.payload.format.into(),
        publishing: contract::Publishing {
            qos: fields.narrow("spec.to.mqtt.qos", to.qos)?,
            ..publishing_document(spec, to, expiry)
        },
        on_error: on_error_document(route),
        max_message_bytes: fields.read("spec.maxMessageBytes", spec.max_message_bytes.bytes())?,
        timeouts: timeouts_document(fields, spec)?,
        survey: contract::survey::Survey::default(),
    })
}

/// How records become messages; with QoS 0 where it is out of range.
pub(crate) fn publishing_document(
    spec: &TopicRouteSpec,
    to: &MqttDestination,
    message_expiry_seconds: Option<u32>,
) -> contract::Publishing {
    contract::Publishing {
        when: spec.when.clone(),
        topic: to.topic.clone(),
        allowed_topics: to.allowed_topics.clone(),
        value: to.value.clone(),
        qos: u8::try_from(to.qos).unwrap_or_default(),
        retain: to.retain == Retain::Always,
        message_expiry_seconds,
        content_type: to.content_type.clone(),
        response_topic: to.response_topic.clone(),
        correlation_data: to.correlation_data.clone(),
        user_properties: to.user_properties.clone(),
        no_matching_subscribers: to.no_matching_subscribers.into(),
    }
}

fn on_error_document(route: &TopicRoute) -> contract::OnError {
    let on_error = &route.spec.on_error;
    contract::OnError {
        action: on_error.action.into(),
        dead_letter_topic: on_error.dead_letter.as_ref().map(|d| d.topic.clone()),
        skip: route.skipped().map(str::to_owned).collect(),
    }
}

fn timeouts_document(fields: &Fields, spec: &TopicRouteSpec) -> Result<contract::Timeouts, RenderError> {
    Ok(contract::Timeouts {
        drain_ms: fields.millis("spec.timeouts.drain", &spec.timeouts.drain)?,
        failover_ms: fields.millis("spec.timeouts.failover", &spec.timeouts.failover)?,
    })
}

/// The Kafka topic that a route to Kafka writes, if it names it without an expression.
pub fn written_topic(route: &TopicRoute) -> Option<String> {
    let template = Template::parse(&route.spec.to.kafka.as_ref()?.topic).ok()?;
    template
        .is_literal()
        .then(|| template.literal_prefix().to_owned())
}

/// The Kafka topics that a route is known to need before its first message: those it names without an expression.
pub fn known_topics(route: &TopicRoute) -> Vec<String> {
    let spec = &route.spec;
    let read = spec.from.kafka.iter().flat_map(|kafka| kafka.topics.clone());
    let dead_letters = spec.on_error.dead_letter.as_ref();
    let dead_letters = dead_letters.map(|letter| letter.topic.clone());
    read.chain(written_topic(route)).chain(dead_letters).collect()
}

/// The part of a document that says how to reach a broker; for a probe, which needs no route.
///
/// # Errors
/// As [`document`].
pub fn broker_document(
    broker: &MqttBroker,
    options: &RenderOptions<'_>,
) -> Result<contract::Broker, RenderError> {
    let fields = Fields::of(broker);
    let (spec, session) = (&broker.spec, &broker.spec.session);
    let keep_alive = fields.seconds("spec.session.keepAlive", &session.keep_alive)?;
    Ok(contract::Broker {
        urls: spec.urls.iter().map(|url| security::complete(url)).collect(),
        failback_ms: contract::FAILBACK_MS,
        tls: spec
            .tls
            .as_ref()
            .map(|tls| security::of_broker(broker.namespace(), tls, options)),
        protocol_version: spec.protocol_version.into(),
        credentials: spec
            .auth
            .as_ref()
            .and_then(|auth| security::login(broker.namespace(), auth, options)),
        client_id_prefix: session.client_id_prefix.clone(),
        session_expiry_seconds: fields.seconds("spec.session.expiryInterval", &session.expiry_interval)?,
        keep_alive_seconds: fields.narrow("spec.session.keepAlive", keep_alive)?,
        receive_maximum: fields.narrow("spec.session.receiveMaximum", session.receive_maximum)?,
        shared_subscriptions: spec.shared_subscriptions.into(),
    })
}

fn source_document(fields: &Fields, mqtt: &MqttSource) -> Result<contract::Source, RenderError> {
    Ok(contract::Source {
        subscriptions: mqtt
            .subscriptions
            .iter()
            .map(|subscription| contract::Subscription {
                filter: subscription.filter.clone(),
            })
            .collect(),
        qos: fields.narrow("spec.from.mqtt.qos", mqtt.qos)?,
        payload: mqtt.payload.format.into(),
    })
}

fn mapping_document(
    fields: &Fields,
    spec: &TopicRouteSpec,
    kafka: &KafkaDestination,
) -> Result<contract::Mapping, RenderError> {
    let allowed_topics = match kafka.allowed_topics.as_slice() {
        [] => vec![fields.read("spec.to.kafka.topic", default_allowed_topic(&kafka.topic))?],
        written => written.to_vec(),
    };
    Ok(contract::Mapping {
        when: spec.when.clone(),
        topic: kafka.topic.clone(),
        allowed_topics,
        key: kafka.key.clone(),
        headers: kafka.headers.clone(),
        propagate: kafka.propagate.iter().copied().map(Into::into).collect(),
        value: kafka.value.clone(),
    })
}

/// The pattern that `allowedTopics` has where a route does not write it: what the template of the topic begins
/// with. It is the other half of the promise that a device does not choose where it writes, so a template that
/// begins with an expression has none.
fn default_allowed_topic(template: &str) -> Result<String, String> {
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    match template.literal_prefix() {
        literal if template.is_literal() => Ok(literal.to_owned()),
        "" => Err("begins with an expression: write spec.to.kafka.allowedTopics".into()),
        prefix => Ok(format!("{prefix}*")),
    }
}

fn route_sink_document(
    sink: &KafkaSink,
    route: &Fields,
    kafka: &KafkaDestination,
    options: &RenderOptions<'_>,
) -> Result<contract::Sink, RenderError> {
    Ok(contract::Sink {
        producer: contract::Producer {
            linger_ms: route.millis("spec.to.kafka.producer.linger", &kafka.producer.linger)?,
            compression: kafka.producer.compression.into(),
        },
        ..sink_document(sink, options)?
    })
}

/// The part of a document that says how to reach Kafka; for a probe, which needs no route.
///
/// # Errors
/// As [`document`].
pub fn sink_document(sink: &KafkaSink, options: &RenderOptions<'_>) -> Result<contract::Sink, RenderError> {
    let fields = Fields::of(sink);
    let policies = sink.spec.topics.iter().enumerate();
    Ok(contract::Sink {
        bootstrap_servers: sink.spec.bootstrap_servers.clone(),
        tls: sink
            .spec
            .tls
            .as_ref()
            .map(|tls| security::of_kafka(sink.namespace(), tls, options)),
        sasl: sink
            .spec
            .sasl
            .as_ref()
            .and_then(|sasl| security::sasl(sink.namespace(), sasl, options)),
        librdkafka: sink.spec.librdkafka.clone(),
        topics: policies
            .map(|(index, policy)| topic_policy(&fields, index, policy))
            .collect::<Result<_, _>>()?,
        producer: contract::Producer {
            linger_ms: 0,
            compression: contract::Compression::None,
        },
    })
}

fn topic_policy(
    fields: &Fields,
    index: usize,
    policy: &TopicPolicy,
) -> Result<contract::TopicPolicy, RenderError> {
    Ok(contract::TopicPolicy {
        pattern: policy.pattern.clone(),
        create: policy.create.into(),
        max_topics: fields.narrow(&format!("spec.topics[{index}].maxTopics"), policy.max_topics)?,
        partitions: policy.partitions,
        replication_factor: policy.replication_factor,
        config: policy.config.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_does_not_choose_where_it_writes() {
        assert_eq!(default_allowed_topic("telemetry"), Ok("telemetry".into()));
        assert_eq!(
            default_allowed_topic("telemetry.{plant}"),
            Ok("telemetry.*".into())
        );
        assert!(
            default_allowed_topic("{plant}")
                .unwrap_err()
                .contains("allowedTopics")
        );
    }
}
