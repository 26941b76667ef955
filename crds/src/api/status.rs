use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What became of the route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicRouteStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How many workers there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// The label selector that matches exactly the route's workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// The route's MQTT sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<LaneCounts>,
    /// What the workers of a route from Kafka read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerCounts>,
    /// Where the messages went that the workers of now have received, over all of them. Written when a condition
    /// changes, else once a minute while it moves; a worker's `/metrics` has it at every moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// What is known about the route, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// The route's MQTT sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneCounts {
    /// Lanes that read, or wait for the broker.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Lanes that are subscribed.
    #[schemars(range(min = 0))]
    pub up: i32,
}

/// What the workers of a route from Kafka read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerCounts {
    /// The consumer group.
    #[schemars(length(max = 249))]
    pub group: String,
    /// Partitions of the topics that are read.
    #[schemars(range(min = 0))]
    pub partitions: i32,
    /// Those that a worker reads.
    #[schemars(range(min = 0))]
    pub assigned: i32,
}

/// Where the messages went that the workers have received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Messages received from the broker.
    #[schemars(range(min = 0))]
    pub received: i64,
    /// Records that Kafka has confirmed.
    #[schemars(range(min = 0))]
    pub written: i64,
    /// Messages for which `when` was false.
    #[schemars(range(min = 0))]
    pub filtered: i64,
    /// Dead letters that Kafka has confirmed.
    #[schemars(range(min = 0))]
    pub dead_lettered: i64,
    /// Messages given up, because `onError.action` is Discard.
    #[schemars(range(min = 0))]
    pub discarded: i64,
    /// Messages whose expiry interval ended before they could be written.
    #[schemars(range(min = 0))]
    pub expired: i64,
    /// Messages received again after Kafka had confirmed them, and not written a second time.
    #[schemars(range(min = 0))]
    pub repeats: i64,
    /// Messages whose connection was lost before the ack: the broker sends them again.
    #[schemars(range(min = 0))]
    pub returned: i64,
    /// Messages of QoS 0 known to be lost.
    #[schemars(range(min = 0))]
    pub dropped: i64,
    /// Messages received and not yet in another count.
    #[schemars(range(min = 0))]
    pub in_flight: i64,
    /// Messages received per second, when this was written.
    #[schemars(range(min = 0))]
    pub received_per_second: i64,
    /// Records confirmed per second, when this was written.
    #[schemars(range(min = 0))]
    pub written_per_second: i64,
}

/// What is known about the broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttBrokerStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// What the broker can do, as it said when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<BrokerCapabilities>,
    /// What is known about the broker, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// What a broker can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerCapabilities {
    /// The MQTT version it speaks: `5` or `3.1.1`.
    #[schemars(length(max = 8))]
    pub protocol_version: String,
    /// Whether it granted a shared subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_subscriptions: Option<bool>,
    /// The highest quality of service it granted.
    #[schemars(range(min = 0, max = 2))]
    pub maximum_qos: i32,
    /// How many messages it takes unacknowledged from a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub receive_maximum: Option<i32>,
    /// How long it keeps a session, when asked for `spec.session.expiryInterval`, in seconds. Absent: it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub session_expiry_seconds: Option<i64>,
    /// The largest packet it takes, in bytes. Absent: it names no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub maximum_packet_bytes: Option<i64>,
}

/// What is known about the Kafka cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSinkStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The cluster's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub cluster_id: Option<String>,
    /// How many brokers the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub brokers: Option<i32>,
    /// The topics that routes name, as far as they are known beforehand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub topics: Vec<TopicStatus>,
    /// The route whose workers watch consumer groups; with its namespace, `NAMESPACE/NAME`, if that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub watched_by: Option<String>,
    /// The consumer groups that are watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["group"])
    )]
    pub watched_groups: Vec<WatchedGroupStatus>,
    /// What is known about the cluster, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// What is known about a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// The topic's name.
    #[schemars(length(max = 249))]
    pub name: String,
    /// How many partitions it has; 0 if it does not exist.
    #[schemars(range(min = 0))]
    pub partitions: i32,
    /// How many it is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub recommended_partitions: Option<i32>,
    /// Why so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The most records per second that all producers together have written over a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub peak_records_per_second: Option<i64>,
    /// How many Millrace sees to, where it adds partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub target_partitions: Option<i32>,
    /// When the target was raised last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_raised: Option<Time>,
    /// Why it does not exist or cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub problem: Option<String>,
}

/// What is known about a consumer group that is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchedGroupStatus {
    /// The group's id.
    #[schemars(length(max = 249))]
    pub group: String,
    /// `Stable`, `Rebalancing`, `Empty`, `Dead` (there is no such group) or `Unknown`.
    #[schemars(length(max = 32))]
    pub state: String,
    /// Its members.
    #[schemars(range(min = 0))]
    pub members: i32,
    /// Records between what it has committed and the ends of the topics. Absent: it has committed nothing, and that is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub lag: Option<i64>,
    /// The lag grows, and every partition of a topic has a member already: more partitions would help.
    pub saturated: bool,
    /// The topics that are watched of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub topics: Vec<TopicLagStatus>,
    /// Why nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub problem: Option<String>,
}

/// How far behind a consumer group is in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicLagStatus {
    /// The topic.
    #[schemars(length(max = 249))]
    pub topic: String,
    /// Records between what the group has committed and the end. Absent: it has committed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub lag: Option<i64>,
    /// It has grown for a minute.
    pub growing: bool,
    /// It grows, and every partition has a member already.
    pub saturated: bool,
}

/// The list of conditions with the bounds of Kubernetes' own API, which k8s-openapi's schema leaves out.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One thing that is known about the object.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When `status` last changed.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "What it means for the user, and what to do about it.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that this condition is about.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word that a program can act on.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether the condition holds.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "What the condition is about: Ready, for instance.",
                },
            },
        },
    })
}
