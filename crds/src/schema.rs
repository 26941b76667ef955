//! The CustomResourceDefinitions, made from the API types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::{KafkaSink, MqttBroker, TopicRoute};

/// The version of the CustomResourceDefinitions, which they carry as annotation [`CRD_VERSION_ANNOTATION`]. It grows by
/// one with every release that changes them, and never falls. A definition with a higher version serves all that one
/// with a lower version does: fields are only added. So the operator runs against newer definitions than its own, and
/// refuses older ones, which would drop fields it writes.
pub const CRD_VERSION: u32 = 1;

/// See [`CRD_VERSION`]. A definition without it is older than all that have it.
pub const CRD_VERSION_ANNOTATION: &str = "millrace.dev/crd-version";

const HEADER: &str = "# Generated from the API types: `millrace crds` prints it. Do not edit.\n";

/// A definition cannot be written as text.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Not as JSON.
    #[error("cannot write a CustomResourceDefinition as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not as YAML.
    #[error("cannot write a CustomResourceDefinition as YAML: {0}")]
    Yaml(#[from] serde_yaml::Error),
}

/// The CustomResourceDefinitions of all kinds, sorted by name.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [KafkaSink::crd(), MqttBroker::crd(), TopicRoute::crd()]
        .map(tidied)
        .into()
}

/// The files of the repository's folder `crds/`, as file name and content: one for each kind.
///
/// # Errors
/// If a definition cannot be written as YAML, which a test excludes.
pub fn crd_files() -> Result<Vec<(String, String)>, SchemaError> {
    crds()
        .iter()
        .map(|crd| {
            let value = serde_json::to_value(crd)?;
            let yaml = serde_yaml::to_string(&with_whole_numbers(value))?;
            Ok((
                format!("{}.yaml", crd.spec.names.plural),
                format!("{HEADER}{yaml}"),
            ))
        })
        .collect()
}

/// The CustomResourceDefinitions of all kinds as one YAML text, as `kubectl apply -f -` takes it.
///
/// # Errors
/// If a definition cannot be written as YAML, which a test excludes.
pub fn crd_yaml() -> Result<String, SchemaError> {
    let files = crd_files()?;
    Ok(files
        .into_iter()
        .map(|(_, yaml)| yaml)
        .collect::<Vec<_>>()
        .join("---\n"))
}

/// What schemars writes otherwise than an API server, or a reader, would like it.
fn tidied(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata
        .annotations
        .get_or_insert_default()
        .insert(CRD_VERSION_ANNOTATION.to_owned(), CRD_VERSION.to_string());
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        {
            schema.title = None;
            tidy(schema);
        }
    }
    crd
}

fn tidy(schema: &mut JSONSchemaProps) {
    // schemars calls an optional field nullable. Here it is not: a null would count as present in CEL rules, and
    // `when:` with nothing behind it is more likely a slip than a wish.
    schema.nullable = None;
    // The lines of a doc comment are those of the source; `kubectl explain` breaks its own.
    schema.description = schema.description.take().map(|text| text.replace('\n', " "));
    schema
        .properties
        .iter_mut()
        .flat_map(|p| p.values_mut())
        .for_each(tidy);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
}

/// `minimum: 1` instead of `minimum: 1.0`: bounds are floats in the definition's types.
fn with_whole_numbers(mut value: Value) -> Value {
    match &mut value {
        Value::Number(number) => {
            let float = number.as_f64().unwrap_or_default();
            if number.is_f64() && float.fract() == 0.0 && float.abs() < f64::from(u32::MAX) {
                return Value::from(float as i64);
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = with_whole_numbers(item.take())),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| *field = with_whole_numbers(field.take())),
        _ => {}
    }
    value
}
