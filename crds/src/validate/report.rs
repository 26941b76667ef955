use std::fmt;

use crate::api::{KafkaSink, MqttBroker, TopicRoute};

/// A file of manifests: any number of YAML documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// What the file is called in findings.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// What [`crate::validate`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What is wrong or suspicious, in the order of the files.
    pub findings: Vec<Finding>,
    /// The objects without errors, with the defaults of their schemas.
    pub objects: Objects,
}

impl Report {
    /// Whether any finding is an error.
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }
}

/// A set of objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// All MqttBroker objects.
    pub brokers: Vec<MqttBroker>,
    /// All KafkaSink objects.
    pub sinks: Vec<KafkaSink>,
    /// All TopicRoute objects.
    pub routes: Vec<TopicRoute>,
}

impl Objects {
    /// The broker that a route reads or publishes to, if it is in the set.
    pub fn broker_of(&self, route: &TopicRoute) -> Option<&MqttBroker> {
        let reference = route.broker_ref()?;
        self.brokers.iter().find(|broker| reference.is_to(*broker))
    }

    /// The sink that a route reads or writes, if it is in the set.
    pub fn sink_of(&self, route: &TopicRoute) -> Option<&KafkaSink> {
        let reference = route.sink_ref()?;
        self.sinks.iter().find(|sink| reference.is_to(*sink))
    }
}

/// Something that is wrong or suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the object is refused.
    pub severity: Severity,
    /// The file, as [`ManifestFile::path`] calls it.
    pub file: String,
    /// Line of the field in the file, from 1; of what encloses it, if it is not written there.
    pub line: usize,
    /// Kind, namespace and name: `TopicRoute default/telemetry`. Empty, if it is not known what it is.
    pub object: String,
    /// Exact path, `spec.from.mqtt.subscriptions[1].filter`. Empty, if it is about the whole document.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but perhaps not as meant.
    Warning,
    /// It cannot work.
    Error,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            file,
            line,
            object,
            field,
            message,
        } = self;
        write!(f, "{severity}: {file}:{line}: ")?;
        if !object.is_empty() {
            write!(f, "{object}: ")?;
        }
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(message)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
