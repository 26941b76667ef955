//! What workers and probes say is wrong, in their own words: every text is looked up in their source, so that one which
//! is changed there is changed here.

use std::path::Path;
use std::sync::OnceLock;

use millrace_contract::status::{Problem, Reason};

/// The source of the worker, with the texts that go over several lines in one.
fn source() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let mut text = String::new();
        read(Path::new("../bridge-worker/src"), &mut text);
        read(Path::new("../bridge-worker/mapping/src"), &mut text);
        let mut lines = text.split("\\\n");
        let first = lines.next().unwrap_or_default().to_owned();
        lines.fold(first, |text, line| text + line.trim_start())
    })
}

fn read(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// A text of the worker's source, with `values` in the places that it has for them.
fn words(template: &str, values: &[&str]) -> String {
    assert!(
        source().contains(template),
        "the worker does not say {template:?}"
    );
    let mut pieces = template.split('{');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    let mut values = values.iter();
    for piece in pieces {
        let (_, rest) = piece.split_once('}').unwrap();
        text.push_str(values.next().unwrap());
        text.push_str(rest);
    }
    assert_eq!(values.next(), None, "{template}");
    text
}

fn problem(reason: Reason, template: &str, values: &[&str]) -> Problem {
    Problem {
        reason,
        message: words(template, values),
    }
}

const BROKER: &str = "mosquitto:1883";
const KAFKA: &str = "kafka:9092";
const LOOK_AT_KAFKA: &str = "check the KafkaSink's spec.bootstrapServers and the network";
const AGAIN: &str = "a new connection is made: if none lasts, see the broker's log";

pub(crate) fn broker_unresolved() -> Problem {
    problem(
        Reason::BrokerUnreachable,
        "cannot resolve the host name of {address}: {source}; check the MqttBroker's spec.urls and the name service \
         (DNS)",
        &[
            BROKER,
            "failed to lookup address information: Name or service not known",
        ],
    )
}

pub(crate) fn broker_unreachable() -> Problem {
    problem(
        Reason::BrokerUnreachable,
        "cannot connect to {address}: {source}; check the MqttBroker's spec.urls, the port, and the network in between",
        &[BROKER, "Connection refused (os error 111)"],
    )
}

pub(crate) fn broker_is_none() -> Problem {
    problem(
        Reason::BrokerUnreachable,
        "{address} is no MQTT broker, or breaks the protocol: {source}; check host and port in the MqttBroker's \
         spec.urls",
        &[
            BROKER,
            &words("something else than CONNACK in answer to CONNECT", &[]),
        ],
    )
}

pub(crate) fn broker_closes() -> Problem {
    problem(
        Reason::BrokerUnreachable,
        "the broker closed the connection; a new connection is made: if none lasts, look for another client with this \
         client id, or see the broker's log",
        &[],
    )
}

pub(crate) fn broker_shuts_down() -> Problem {
    disconnected(Reason::BrokerUnreachable, "server shutting down", "0x8b", AGAIN)
}

pub(crate) fn broker_revokes() -> Problem {
    disconnected(
        Reason::BrokerRefused,
        "not authorized",
        "0x87",
        "check the broker's access rules for this client",
    )
}

fn disconnected(reason: Reason, meaning: &str, code: &str, advice: &str) -> Problem {
    problem(
        reason,
        "the broker ended the connection: {}{} ({reason:#04x}); {}",
        &[&words(meaning, &[]), "", code, &words(advice, &[])],
    )
}

pub(crate) fn bad_password() -> Problem {
    refused(
        "bad user name or password",
        "0x86",
        "check the MqttBroker's spec.auth, the keys of its Secret, and the user at the broker",
    )
}

pub(crate) fn bad_client_id() -> Problem {
    refused(
        "client identifier not valid",
        "0x85",
        "check the broker's rules for client ids, or create an MqttBroker with another spec.session.clientIdPrefix",
    )
}

fn refused(why: &str, code: &str, advice: &str) -> Problem {
    problem(
        Reason::BrokerRefused,
        "{address} refused the connection: {reason} ({code:#04x}); {}",
        &[BROKER, &words(why, &[]), code, &words(advice, &[])],
    )
}

pub(crate) fn no_secret_key() -> Problem {
    let place = words("file {}", &["/etc/millrace/secrets/plant-login/password"]);
    let why = words(
        "{place}: {source}",
        &[&place, "No such file or directory (os error 2)"],
    );
    problem(
        Reason::BrokerUnreachable,
        "cannot read the credentials: {0}; check the Secret that the MqttBroker's spec.auth names, and its keys",
        &[&why],
    )
}

pub(crate) fn broker_has_expired() -> Problem {
    let why = words(
        "its certificate has expired, {} ago; renew it at {who}",
        &["3 days", "the broker"],
    );
    problem(
        Reason::BrokerTlsFailed,
        "no TLS with {address}: {why}",
        &["mosquitto:8883", &why],
    )
}

pub(crate) fn protocol_broken() -> Problem {
    problem(
        Reason::ProtocolError,
        "the broker breaks the rules of MQTT: {0}; a new connection is made: if none lasts, update the broker, or try \
         another spec.protocolVersion of the MqttBroker",
        &[&words(
            "a SUBACK with {0} reason codes, not one for each filter",
            &["0"],
        )],
    )
}

pub(crate) fn subscription_refused() -> Problem {
    problem(
        Reason::SubscriptionRefused,
        "the broker refused the subscription to {filter}: {why}; check the broker's access rules for this client",
        &[
            "$share/millrace-6a3d0c1e/sensors/+/#",
            &words("not authorized", &[]),
        ],
    )
}

pub(crate) fn sharing_unsupported() -> Problem {
    problem(
        Reason::SharedSubscriptionsUnsupported,
        "the broker cannot share subscriptions ({filter} was refused): use spec.from.mqtt.ordering: PerTopic, which needs \
         none",
        &["$share/millrace-6a3d0c1e/sensors/+/#"],
    )
}

pub(crate) fn taken_over() -> Problem {
    problem(
        Reason::TakenOver,
        "another client uses the client id {client_id}: look for a second worker with the same sessionId (or millrace run \
         --instance); next attempt in {} s",
        &["millrace-6a3d0c1e-2", "17"],
    )
}

pub(crate) fn qos_downgraded() -> Problem {
    problem(
        Reason::QosDowngraded,
        "the broker grants QoS {granted_qos} where {qos} was asked{}: {way_out} set spec.from.mqtt.qos to {granted_qos}",
        &[
            "0",
            "1",
            &words(", so messages can be lost", &[]),
            &words(
                "some brokers grant less on shared subscriptions: use spec.from.mqtt.ordering: PerTopic, or",
                &[],
            ),
            "0",
        ],
    )
}

pub(crate) fn publishing_downgraded() -> Problem {
    problem(
        Reason::QosDowngraded,
        "the broker takes QoS {most} at most, and {qos} was asked{}: use a broker that takes more, or set \
         spec.to.mqtt.qos to {most}",
        &["0", "1", &words(", so messages can be lost", &[]), "0"],
    )
}

pub(crate) fn retain_unavailable() -> Problem {
    problem(
        Reason::RetainUnavailable,
        "the broker keeps no messages for devices that subscribe later: use a broker that does, or set \
         spec.to.mqtt.retain to Never",
        &[],
    )
}

pub(crate) fn session_short() -> Problem {
    problem(
        Reason::SessionExpiryShort,
        "the broker keeps the session for {seconds} s without connection, not {asked_expiry_seconds} s: after a longer \
         outage messages are lost; raise the broker's limit",
        &["3600", "86400"],
    )
}

pub(crate) fn certificate_expires() -> Problem {
    let when = words("expires in {}", &["13 days"]);
    let what = words("the client certificate for the MQTT broker", &[]);
    let fix = words(
        "renew what the MqttBroker's spec.tls.clientCertificate names",
        &[],
    );
    problem(
        Reason::CertificateExpires,
        "{what} {when}; {fix}",
        &[&what, &when, &fix],
    )
}

pub(crate) fn out_of_range() -> Problem {
    problem(
        Reason::OffsetOutOfRange,
        "records that group {} was to read next are not in Kafka any more: they are older than the topic keeps, or the \
         topic was made anew (read here: {}); what is gone cannot be delivered: set the group's offsets to where it is \
         to go on (kafka-consumer-groups.sh --reset-offsets), or name another spec.from.kafka.group, and restart the \
         workers",
        &["millrace.factory.sensors", "commands[0] up to 1042"],
    )
}

pub(crate) fn topic_unsafe() -> Problem {
    problem(
        Reason::TopicUnsafe,
        "topic {name:?} confirms records that only one broker has (replicas {replicas}, min.insync.replicas {}): a broker \
         lost is records lost; use 3 replicas and min.insync.replicas=2",
        &["\"sensors\"", "1", "1"],
    )
}

pub(crate) fn kafka_unreachable() -> Problem {
    let what = words("no Kafka broker of {servers} can be reached", &[KAFKA]);
    let text = "kafka:9092/1: Connect to ipv4#10.0.3.9:9092 failed: Connection refused";
    kafka_fails(Reason::KafkaUnreachable, &what, text, Some(LOOK_AT_KAFKA))
}

pub(crate) fn kafka_not_trusted() -> Problem {
    let cause = words(
        "its certificate comes from an authority that is not trusted; put that authority's certificate where the {kind}'s \
         {tls}.ca says",
        &["KafkaSink", "spec.tls"],
    );
    let what = words("Kafka at {servers} cannot be used", &[KAFKA]);
    kafka_fails(Reason::KafkaTlsFailed, &what, &format!("{KAFKA}: {cause}"), None)
}

pub(crate) fn no_token() -> Problem {
    problem(
        Reason::TokenUnavailable,
        "Kafka at {servers} cannot be used without a token: {why}; nothing is lost, messages wait where they come from",
        &[KAFKA, &client_unknown()],
    )
}

pub(crate) fn no_token_for_probe() -> Problem {
    problem(
        Reason::TokenUnavailable,
        "Kafka at {servers} cannot be asked without a token: {}",
        &[KAFKA, &client_unknown()],
    )
}

/// What a token endpoint says of a client, and what to do about it.
fn client_unknown() -> String {
    let field = words("the KafkaSink's spec.sasl.oauthBearer.clientCredentials", &[]);
    let fix = words(
        "check the id of the client {client} and its secret in {FIELD}.secretRef, and the client at the provider",
        &["\"bridge\"", &field],
    );
    words(
        "{place} gives no token ({what}); {}",
        &[
            "the token endpoint https://login.example/token",
            "401 Unauthorized, invalid_client: Invalid client or Invalid client credentials",
            &fix,
        ],
    )
}

/// librdkafka's words, or a cause that says what to do about it.
fn kafka_fails(reason: Reason, what: &str, text: &str, advice: Option<&str>) -> Problem {
    let rest = words("; nothing is lost, messages wait where they come from", &[]);
    let advice = advice.map_or(String::new(), |advice| format!(": {}", words(advice, &[])));
    Problem {
        reason,
        message: format!("{what}: {text}{rest}{advice}"),
    }
}

pub(crate) fn kafka_silent() -> Problem {
    let what = words("Kafka at {servers} has not answered yet{}{}", &[KAFKA, "", ""]);
    Problem {
        reason: Reason::KafkaUnreachable,
        message: format!("{what}: {}", words(LOOK_AT_KAFKA, &[])),
    }
}

pub(crate) fn kafka_refuses() -> Problem {
    problem(
        Reason::KafkaRefused,
        "Kafka at {servers} lets this client produce nothing: {reason}; nothing is lost, messages wait where they come from: \
         grant its user Write on the topics, and on Kafka before 2.8 also IdempotentWrite on the cluster",
        &[
            KAFKA,
            "Failed to acquire idempotence PID: Broker: Cluster authorization failed",
        ],
    )
}

pub(crate) fn kafka_has_no_broker() -> Problem {
    let what = words(
        "no Kafka broker of {} answers: {}",
        &[KAFKA, "kafka:9092/bootstrap: Connection refused"],
    );
    Problem {
        reason: Reason::KafkaUnreachable,
        message: format!("{what}: {}", words(LOOK_AT_KAFKA, &[])),
    }
}

pub(crate) fn kafka_knows_no_such_user() -> Problem {
    let text = "sasl_ssl://kafka:9092/bootstrap: SASL authentication error: Authentication failed: Invalid username or password";
    let what = words("no Kafka broker of {} answers: {}", &[KAFKA, text]);
    let advice = "check the user name, the password and the mechanism in the KafkaSink's spec.sasl, the keys of its \
                  Secret, and the user at Kafka";
    Problem {
        reason: Reason::KafkaRefused,
        message: format!("{what}: {}", words(advice, &[])),
    }
}

pub(crate) fn topic_missing() -> Problem {
    problem(
        Reason::TopicMissing,
        "Kafka has no topic {name:?}: create it, or allow its creation by an entry of the sink's spec.topics with a \
         matching pattern and create: IfMissing",
        &["\"sensors\""],
    )
}

pub(crate) fn topic_not_created() -> Problem {
    problem(
        Reason::TopicMissing,
        "Kafka has no topic {name:?} and refused to create it: {code}; create it by hand, or correct partitions, \
         replicationFactor and config of the sink's spec.topics entry {:?}",
        &[
            "\"sensors\"",
            "InvalidReplicationFactor (Broker: Invalid replication factor)",
            "\"sensors\"",
        ],
    )
}

pub(crate) fn partition_stalled() -> Problem {
    problem(
        Reason::PartitionStalled,
        "partition {topic}[{partition}]{others} accepts nothing: {why}; the lanes that write to it wait: check the \
         partition's leader and in-sync replicas",
        &[
            "sensors",
            "3",
            &words(" (and {more} more)", &["1"]),
            &words("it has no leader", &[]),
        ],
    )
}

/// What is said of every window: how long a message takes from receipt to ack, and how many a lane then takes.
fn pace() -> String {
    words(
        "with about {} from receipt to ack a lane takes about {} messages/s",
        &["50 ms", "400"],
    )
}

fn more_lanes() -> String {
    words(
        "spec.from.mqtt.lanes (with ordering PerTopic also the number of filters), or look for what makes Kafka slow to \
         confirm",
        &[],
    )
}

pub(crate) fn window_asked_for() -> Problem {
    problem(
        Reason::WindowLimited,
        "the window is full: {messages} messages of a lane are unacknowledged, as many as the MqttBroker's \
         spec.session.receiveMaximum allows, and the broker holds the others back; {pace}: raise that, or {lanes}",
        &["20", &pace(), &more_lanes()],
    )
}

pub(crate) fn window_of_broker() -> Problem {
    problem(
        Reason::WindowLimited,
        "the window is full: at {messages} unacknowledged messages of a lane the broker holds the others back, by a limit \
         that it does not announce; {pace}: raise mqtt.max_inflight of EMQX, max_inflight_messages of mosquitto (0: no \
         limit) or VerneMQ, or what the broker calls it, or {lanes}",
        &["32", &pace(), &more_lanes()],
    )
}

pub(crate) fn window_of_311() -> Problem {
    problem(
        Reason::WindowLimited,
        "the window is full: at {messages} unacknowledged messages of a lane the broker holds the others back, by a limit \
         that MQTT 3.1.1 cannot announce; {pace}: raise max_inflight_messages of mosquitto (0: no limit) or VerneMQ, \
         mqtt.max_inflight of EMQX, or what the broker calls it, use MQTT 5 (the MqttBroker's spec.protocolVersion), in \
         which most go by spec.session.receiveMaximum, or raise {lanes}",
        &["20", &pace(), &more_lanes()],
    )
}

pub(crate) fn sink_saturated() -> Problem {
    problem(
        Reason::SinkSaturated,
        "Kafka confirms records slower than MQTT delivers them: {limit}; the broker collects the rest: add partitions to \
         the topic or brokers to Kafka, set spec.to.kafka.producer.compression, or raise spec.to.kafka.producer.linger \
         for larger batches; more workers do not help",
        &[&words(
            "the {} MiB that a worker holds for it at most, divided among its lanes, are full, and no field raises them",
            &["64"],
        )],
    )
}

pub(crate) fn message_undeliverable() -> Problem {
    problem(
        Reason::MessageUndeliverable,
        "stopped at message {name} on topic {:?} ({} bytes, lane {}): {prefix}{}; it stays with the broker: correct the \
         route, set spec.onError.action to DeadLetter or Discard, or skip this message alone: annotation millrace.dev/skip: \
         {name}",
        &[
            "9f86d081884c7d65",
            "\"sensors/a/temperature\"",
            "17",
            "2",
            "",
            &words(
                "the payload is not JSON: {0}",
                &["expected value at line 1 column 1"],
            ),
            "9f86d081884c7d65",
        ],
    )
}

pub(crate) fn configuration_refused() -> Problem {
    problem(
        Reason::ConfigurationRefused,
        "the changed configuration cannot be used: {message}; the one before is still in use: correct the route, or use a \
         worker of the operator's release",
        &[
            "/etc/millrace/live/live.json: unknown variant `Avro`, expected one of `Bytes`, `Text`, `Json` at line 1 column \
           97",
        ],
    )
}

pub(crate) fn credentials_refused() -> Problem {
    problem(
        Reason::CredentialsRefused,
        "the changed credentials for {} do not work: {why}; connections go on with the ones before, and the new ones are \
         tried again: correct the Secret, or {}",
        &["the MQTT broker", &bad_password().message, "the MQTT broker"],
    )
}
