//! What one worker of a route looks at in Kafka for all: topics, and the consumer groups of others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is looked at, and what is to be done about it, by the worker that has lane 0 or, of a route from Kafka, the first
/// partition of the first topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Survey {
    /// Consumer groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<WatchedGroup>,
    /// Topics that are to have at least so many partitions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<String, u32>,
}

impl Survey {
    /// Whether nothing is to be looked at beyond the route's own topics.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A consumer group that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedGroup {
    /// Its id.
    pub group: String,
    /// Topics that count, as names or prefixes followed by `*`. Empty: all that it has committed offsets of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

/// What was seen, some seconds ago.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Surveyed {
    /// The route's topics.
    pub topics: Vec<TopicSurvey>,
    /// The consumer groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSurvey>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicSurvey {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 if there is no such topic.
    pub partitions: u32,
    /// Records per second that all producers together have written, over the last minute. Absent until that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_per_second: Option<f64>,
    /// What of it is not as the sink says of topics that it creates, but for the number of partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<String>,
    /// Why it does not have the partitions that it is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupSurvey {
    /// Its id.
    pub group: String,
    /// `Classic` or `Consumer` (KIP-848), if Kafka says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// `Stable`, `Rebalancing`, `Empty`, `Dead` or `Unknown`.
    pub state: String,
    /// Its members.
    pub members: u32,
    /// Those without any partition.
    pub idle: u32,
    /// How far behind it is, by topic.
    pub topics: Vec<GroupLag>,
    /// Why nothing can be said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How far a group is behind the end of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupLag {
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u32,
    /// Members that read it.
    pub members: u32,
    /// Records between what it has committed and the ends, over the partitions that it has committed an offset of. Absent
    /// when it has committed none: that is not known then, and not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// The lag has grown for a minute.
    pub grows: bool,
    /// It grows, and more members would not help: every partition has one already.
    pub saturated: bool,
}
