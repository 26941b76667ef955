//! The kinds of the API, ready to check objects.

use serde_json::{Value, json};

use super::path::FieldPath;
use super::suggest;
use super::{Note, structural};
use crate::api::{GROUP, VERSION, patterns};
use crate::schema;

/// One kind.
pub(super) struct Kind {
    pub(super) name: String,
    /// Schema of the whole object.
    schema: Value,
    #[cfg(feature = "cel")]
    rules: super::rules::Rules,
}

/// All kinds.
pub(super) struct Kinds(Vec<Kind>);

/// What a document is, by its `apiVersion` and `kind`.
pub(super) enum Found<'k> {
    /// One of ours.
    Ours(&'k Kind),
    /// A Secret or ConfigMap, which a broker or a sink may refer to.
    Keys,
    /// A Namespace, whose labels may grant something.
    Namespace,
    /// Something of Kubernetes or another API.
    Foreign,
    /// Meant to be one of ours.
    Wrong { field: &'static str, message: String },
}

impl Kinds {
    pub(super) fn new() -> Self {
        let definitions = schema::crds().into_iter().map(|crd| {
            let version = crd.spec.versions.into_iter().next();
            let schema = version.and_then(|v| v.schema).and_then(|s| s.open_api_v3_schema);
            Kind::new(
                crd.spec.names.kind,
                serde_json::to_value(schema).unwrap_or_default(),
            )
        });
        Self(definitions.collect())
    }

    pub(super) fn find(&self, document: &Value) -> Found<'_> {
        let wrong = |field, message| Found::Wrong { field, message };
        let expected = format!("{GROUP}/{VERSION}");
        let names = || self.0.iter().map(|kind| kind.name.as_str());
        let list = || names().collect::<Vec<_>>().join(", ");
        if !document.is_object() {
            return wrong(
                "",
                format!("is not an object: write apiVersion: {expected}, kind, metadata and spec"),
            );
        }
        let Some(version) = document["apiVersion"].as_str() else {
            return wrong("apiVersion", format!("is missing: write apiVersion: {expected}"));
        };
        let Some(kind) = document["kind"].as_str() else {
            return wrong("kind", format!("is missing: write one of {}", list()));
        };
        let known = self.0.iter().find(|known| known.name == kind);
        let close = suggest::closest(kind, names());
        let is_our_group = version.split('/').next().is_some_and(|group| group == GROUP);
        match (known, close) {
            (Some(known), _) if version == expected => Found::Ours(known),
            (Some(_), _) => {
                let written = structural::shown(&document["apiVersion"]);
                wrong(
                    "apiVersion",
                    format!("{written} is not the version of {kind}: write {expected}"),
                )
            }
            (None, Some(close)) => wrong(
                "kind",
                format!(
                    "{} is not a kind; did you mean {close}?",
                    structural::shown(&document["kind"])
                ),
            ),
            (None, None) if is_our_group => {
                let written = structural::shown(&document["kind"]);
                wrong(
                    "kind",
                    format!("{written} is not a kind of {GROUP}: write one of {}", list()),
                )
            }
            (None, None) if version == "v1" && ["Secret", "ConfigMap"].contains(&kind) => Found::Keys,
            (None, None) if version == "v1" && kind == "Namespace" => Found::Namespace,
            (None, None) => Found::Foreign,
        }
    }
}

impl Kind {
    fn new(name: String, mut schema: Value) -> Self {
        #[cfg(feature = "cel")]
        let rules = super::rules::Rules::new(&schema);
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        schema["properties"]["metadata"] = metadata();
        schema["required"] = json!(["metadata", "spec"]);
        Self {
            name,
            schema,
            #[cfg(feature = "cel")]
            rules,
        }
    }

    /// Checks an object against the schema, and fills in the schema's defaults.
    pub(super) fn check_schema(&self, object: &mut Value) -> Vec<Note> {
        structural::check(&self.schema, object)
    }

    /// Checks an object that can be read as its type against the CEL rules in the schema.
    #[cfg(feature = "cel")]
    pub(super) fn check_rules(&self, object: &Value) -> Vec<Note> {
        self.rules.check(object)
    }

    /// Without feature `cel` rules are left to the API server.
    #[cfg(not(feature = "cel"))]
    pub(super) fn check_rules(&self, _: &Value) -> Vec<Note> {
        Vec::new()
    }
}

/// The metadata of any object: an API server knows them without a schema.
fn metadata() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let mut schema = json!({
        "type": "object",
        "description": "What the object is called.",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "description": "The name by which others refer to the object.",
                "minLength": 1,
                "maxLength": 253,
                "pattern": patterns::OBJECT_NAME,
            },
            "namespace": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": patterns::NAMESPACE},
            "labels": texts,
            "annotations": texts,
            "uid": {"type": "string"},
        },
    });
    // What an API server adds: files made by `kubectl get -o yaml` have it.
    for name in [
        "creationTimestamp",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
    ] {
        schema["properties"][name] = json!({});
    }
    schema
}

/// What a document says it is, whatever else is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Identity {
    pub(super) fn of(document: &Value) -> Self {
        let metadata = &document["metadata"];
        Self {
            kind: document["kind"].as_str().unwrap_or_default().to_owned(),
            namespace: metadata["namespace"].as_str().unwrap_or("default").to_owned(),
            name: metadata["name"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// What a finding calls the object.
    pub(super) fn title(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        match (kind.as_str(), name.as_str()) {
            (kind, "") => kind.to_owned(),
            ("", name) => format!("{namespace}/{name}"),
            (kind, name) => format!("{kind} {namespace}/{name}"),
        }
    }
}

/// Path of the name that schemas and rules speak of.
pub(super) fn name_path() -> FieldPath {
    FieldPath::parse("metadata.name")
}
