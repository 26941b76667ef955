//! Validation of a set of manifests, offline: as the API server would, and then what it cannot.
//!
//! `yaml` reads documents, `kinds` finds the kind of each, `structural` and `rules` check it as an API server
//! does, `broker`, `sink` and `route` check what one object says, `set` what objects say of each other.

mod bounds;
mod broker;
mod kinds;
mod locate;
mod path;
mod report;
mod route;
#[cfg(feature = "cel")]
mod rules;
mod set;
mod sink;
mod structural;
mod suggest;
mod yaml;

use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{KafkaSink, Labels, MqttBroker, TopicRoute};
use kinds::{Found, Identity, Kinds};
use path::FieldPath;
pub use report::{Finding, ManifestFile, Objects, Report, Severity};

/// Checks a set of manifests: YAML, the schemas, the CEL rules (feature `cel`), filters, templates and
/// expressions, and what the objects say of each other.
///
/// Never panics and does no I/O. An object with an error is reported and left out of [`Report::objects`]; the
/// others are still checked. Secrets are read for their keys; their values are never shown. Namespaces are read for
/// their labels. Objects of other kinds are ignored with a warning.
pub fn validate(files: &[ManifestFile]) -> Report {
    // To make them takes longer than most files take.
    static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::new);
    let mut report = Report::default();
    let mut manifests = Vec::new();
    for file in files {
        let documents = yaml::documents(&file.text);
        if documents.is_empty() {
            report.findings.push(nothing_in(&file.path));
        }
        manifests.extend(
            documents
                .into_iter()
                .map(|document| Manifest::read(file, document, &KINDS)),
        );
    }
    set::check(&mut manifests);
    for manifest in manifests {
        report.findings.extend(manifest.findings());
        if !manifest.has_errors() {
            manifest.object.file_into(&mut report.objects);
        }
    }
    report
}

fn nothing_in(file: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        file: file.to_owned(),
        line: 1,
        object: String::new(),
        field: String::new(),
        message: "has no object in it: write one, or remove the file".to_owned(),
    }
}

/// One document of one file, and what was found in it.
struct Manifest<'f> {
    file: &'f str,
    text: &'f str,
    first_line: usize,
    /// What it says it is.
    identity: Identity,
    object: Object,
    notes: Vec<Note>,
}

/// What a document is.
enum Object {
    Broker(Box<MqttBroker>),
    Sink(Box<KafkaSink>),
    Route(Box<TopicRoute>),
    /// A Secret or ConfigMap.
    Keys(Value),
    /// A Namespace: its labels.
    Namespace(Labels),
    /// Not one of these, or not readable as such.
    Unknown,
}

/// A finding, before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    severity: Severity,
    place: Place,
    message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Field(FieldPath),
    /// Line of the document, from 0: there is no object to speak of.
    Line(usize),
}

impl Note {
    fn error(path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: Place::Field(path),
            message: message.into(),
        }
    }

    fn warning(path: FieldPath, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, message)
        }
    }
}

impl<'f> Manifest<'f> {
    fn read(file: &'f ManifestFile, document: yaml::Document<'f>, kinds: &Kinds) -> Self {
        let mut manifest = Self {
            file: &file.path,
            text: document.text,
            first_line: document.first_line,
            identity: Identity::default(),
            object: Object::Unknown,
            notes: Vec::new(),
        };
        match document.value {
            Ok(value) => manifest.interpret(value, kinds),
            Err(problem) => manifest.notes.push(Note {
                severity: Severity::Error,
                place: Place::Line(problem.line),
                message: problem.message,
            }),
        }
        manifest
    }

    fn interpret(&mut self, mut value: Value, kinds: &Kinds) {
        let kind_path = FieldPath::parse("kind");
        self.identity = Identity::of(&value);
        let kind = match kinds.find(&value) {
            Found::Ours(kind) => kind,
            Found::Keys => {
                self.object = Object::Keys(value);
                return;
            }
            Found::Namespace => {
                let labels = Labels::deserialize(&value["metadata"]["labels"]);
                self.object = Object::Namespace(labels.unwrap_or_default());
                return;
            }
            Found::Foreign => {
                let message = match self.identity.kind.as_str() {
                    "List" => {
                        "is a list, which is ignored: write each of its items as a document, separated by `---`"
                    }
                    _ => {
                        "is not a kind of Millrace: the object is ignored, and can be removed from these files"
                    }
                };
                self.notes.push(Note::warning(kind_path, message));
                return;
            }
            Found::Wrong { field, message } => {
                self.notes.push(Note::error(FieldPath::parse(field), message));
                return;
            }
        };
        self.add_all(kind.check_schema(&mut value));
        match kind.name.as_str() {
            "MqttBroker" => self.typed(&value, |object| (broker::check(&object), Object::Broker(object))),
            "KafkaSink" => self.typed(&value, |object| (sink::check(&object), Object::Sink(object))),
            _ => self.typed(&value, |object| (route::check(&object), Object::Route(object))),
        }
        // Last, because a rule about a map or list knows less well what is wrong in it.
        if !matches!(self.object, Object::Unknown) {
            self.add_all(kind.check_rules(&value));
        }
    }

    /// Checks what the schema cannot, as far as the object can be read.
    fn typed<K: DeserializeOwned>(
        &mut self,
        value: &Value,
        check: impl FnOnce(Box<K>) -> (Vec<Note>, Object),
    ) {
        match K::deserialize(value) {
            Ok(object) => {
                let (notes, object) = check(Box::new(object));
                self.object = object;
                self.add_all(notes);
            }
            // Its schema has complained already: a test holds schemas and types together.
            Err(error) if self.notes.is_empty() => {
                self.notes.push(Note::error(
                    FieldPath::default(),
                    format!("cannot be read: {error}"),
                ));
            }
            Err(_) => {}
        }
    }

    fn add_all(&mut self, notes: Vec<Note>) {
        notes.into_iter().for_each(|note| self.add(note));
    }

    /// Adds a note, unless something is known to be wrong with the same field already: the first check to
    /// complain is the simplest.
    fn add(&mut self, note: Note) {
        let Place::Field(path) = &note.place else { return };
        let is_known = self.notes.iter().any(|known| match &known.place {
            Place::Field(other) => {
                known.severity == Severity::Error && (other.encloses(path) || path.encloses(other))
            }
            Place::Line(_) => false,
        });
        if !is_known {
            self.notes.push(note);
        }
    }

    fn has_errors(&self) -> bool {
        self.notes.iter().any(|note| note.severity == Severity::Error)
    }

    fn findings(&self) -> Vec<Finding> {
        let finding = |note: &Note| {
            let (line, field) = match &note.place {
                Place::Line(line) => (*line, String::new()),
                Place::Field(path) => (locate::line_of(self.text, path), path.to_string()),
            };
            Finding {
                severity: note.severity,
                file: self.file.to_owned(),
                line: self.first_line + line + 1,
                object: self.identity.title(),
                field,
                message: note.message.clone(),
            }
        };
        let mut findings: Vec<Finding> = self.notes.iter().map(finding).collect();
        findings.sort_by_key(|finding| finding.line);
        findings
    }
}

impl Object {
    fn file_into(self, objects: &mut Objects) {
        match self {
            Self::Broker(broker) => objects.brokers.push(*broker),
            Self::Sink(sink) => objects.sinks.push(*sink),
            Self::Route(route) => objects.routes.push(*route),
            Self::Keys(_) | Self::Namespace(_) | Self::Unknown => {}
        }
    }
}
