//! Which routes may refer to a broker or a sink.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::KubeSchema;
use kube::core::{Selector, SelectorExt};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{KafkaSink, MqttBroker, Named, TopicRoute};

/// The label that Kubernetes gives to each namespace, and nobody can change: its name.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Which routes may refer to the object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// In which namespaces they are.
    #[serde(default)]
    pub namespaces: RouteNamespaces,
}

/// In which namespaces routes are that may refer to the object. Those of its own always may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from != 'Selector' || has(self.selector)")
    .message("needs a selector: write `selector: {matchLabels: {kubernetes.io/metadata.name: NAMESPACE}}`, or other labels"))]
#[x_kube(validation = Rule::new("self.from == 'Selector' || !has(self.selector)")
    .message("has a `selector`, which counts with `from: Selector` alone: write that, or remove `selector`"))]
pub struct RouteNamespaces {
    /// Same: none but its own. Selector: those whose labels `selector` selects as well. All: every one.
    #[serde(default)]
    pub from: FromNamespaces,
    /// By which labels namespaces are selected, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// In which namespaces routes are that may refer to an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FromNamespaces {
    /// The object's own.
    #[default]
    Same,
    /// Those with certain labels.
    Selector,
    /// All.
    All,
}

/// Selects namespaces by their labels. All that is written must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && self.matchLabels.size() > 0) || has(self.matchExpressions)")
    .message("selects every namespace: write labels, or `from: All` if that is what is meant"))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Demands on its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelDemand>,
}

/// A demand on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.operator in ['In', 'NotIn']) || has(self.values)")
    .message("In and NotIn compare with values: write `values`"))]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] || !has(self.values)")
    .message("Exists and DoesNotExist ask for the key alone: remove `values`"))]
pub struct LabelDemand {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// In: its value is one of `values`. NotIn: it is none of them, or the label is not there. Exists: the label is there.
    /// DoesNotExist: it is not.
    pub operator: LabelOperator,
    /// Values, for In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub values: Vec<String>,
}

/// What is demanded of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// Its value is one of some.
    In,
    /// It is none of them, or the label is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

impl MqttBroker {
    /// Whether a route, whose namespace has these labels, may refer to the broker. `None` if that depends on labels which
    /// are not known.
    pub fn admits(&self, route: &TopicRoute, labels: Option<&Labels>) -> Option<bool> {
        let allowed = self.spec.allowed_routes.clone().unwrap_or_default();
        allowed.admits(self.namespace(), route.namespace(), labels)
    }
}

impl KafkaSink {
    /// Whether a route, whose namespace has these labels, may refer to the sink. `None` if that depends on labels which are
    /// not known.
    pub fn admits(&self, route: &TopicRoute, labels: Option<&Labels>) -> Option<bool> {
        let allowed = self.spec.allowed_routes.clone().unwrap_or_default();
        allowed.admits(self.namespace(), route.namespace(), labels)
    }
}

impl AllowedRoutes {
    fn admits(&self, own: &str, namespace: &str, labels: Option<&Labels>) -> Option<bool> {
        let Self { namespaces } = self;
        match (namespaces.from, &namespaces.selector) {
            _ if own == namespace => Some(true),
            (FromNamespaces::All, _) => Some(true),
            (FromNamespaces::Selector, Some(selector)) => selector.selects(namespace, labels),
            (FromNamespaces::Same | FromNamespaces::Selector, _) => Some(false),
        }
    }
}

impl NamespaceSelector {
    fn selects(&self, namespace: &str, labels: Option<&Labels>) -> Option<bool> {
        let name = (NAMESPACE_NAME_LABEL.to_owned(), namespace.to_owned());
        let keys = self.match_expressions.iter().map(|demand| &demand.key);
        if labels.is_none()
            && self
                .match_labels
                .keys()
                .chain(keys)
                .any(|key| *key != NAMESPACE_NAME_LABEL)
        {
            return None;
        }
        let mut labels = labels.cloned().unwrap_or_default();
        labels.extend([name]);
        // What cannot be understood selects nothing.
        let selector = Selector::try_from(LabelSelector::from(self));
        Some(selector.is_ok_and(|selector| selector.matches(&labels)))
    }
}

impl From<&NamespaceSelector> for LabelSelector {
    fn from(selector: &NamespaceSelector) -> Self {
        let demands = selector.match_expressions.iter();
        let demands = demands.map(|demand| LabelSelectorRequirement {
            key: demand.key.clone(),
            operator: format!("{:?}", demand.operator),
            values: Some(demand.values.clone()),
        });
        Self {
            match_expressions: Some(demands.collect()),
            match_labels: Some(selector.match_labels.clone()),
        }
    }
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63},
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn admits(namespaces: Value, namespace: &str, labels: Option<&[(&str, &str)]>) -> Option<bool> {
        let allowed: AllowedRoutes = serde_json::from_value(json!({"namespaces": namespaces})).unwrap();
        let labels = labels.map(|labels| {
            labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        });
        allowed.admits("hub", namespace, labels.as_ref())
    }

    #[test]
    fn routes_of_the_same_namespace_always_may_and_others_if_it_is_granted() {
        for from in ["Same", "Selector", "All"] {
            assert_eq!(admits(json!({"from": from}), "hub", None), Some(true), "{from}");
        }
        assert_eq!(admits(json!({}), "north", Some(&[])), Some(false));
        assert_eq!(admits(json!({"from": "Same"}), "north", Some(&[])), Some(false));
        assert_eq!(admits(json!({"from": "All"}), "north", None), Some(true));
        assert_eq!(
            admits(json!({"from": "Selector"}), "north", Some(&[])),
            Some(false)
        );
        // Without `from: Selector` a selector says nothing.
        let same = json!({"from": "Same", "selector": {"matchLabels": {"plant": "yes"}}});
        assert_eq!(admits(same, "north", Some(&[("plant", "yes")])), Some(false));
    }

    #[test]
    fn labels_decide_as_in_kubernetes() {
        let by_label = json!({"from": "Selector", "selector": {"matchLabels": {"plant": "yes"}}});
        let demand = |operator: &str, values: Value| {
            let mut demand = json!({"key": "site", "operator": operator});
            if !values.is_null() {
                demand["values"] = values;
            }
            json!({"from": "Selector", "selector": {"matchExpressions": [demand]}})
        };
        let (a, b, other): (&[_], &[_], &[_]) = (&[("site", "a")], &[("site", "b")], &[("plant", "yes")]);
        for (namespaces, labels, expected) in [
            (by_label.clone(), other, true),
            (by_label.clone(), a, false),
            (demand("In", json!(["a", "c"])), a, true),
            (demand("In", json!(["a", "c"])), b, false),
            (demand("In", json!(["a", "c"])), other, false),
            (demand("NotIn", json!(["a"])), a, false),
            (demand("NotIn", json!(["a"])), b, true),
            (demand("NotIn", json!(["a"])), other, true),
            (demand("Exists", Value::Null), a, true),
            (demand("Exists", Value::Null), other, false),
            (demand("DoesNotExist", Value::Null), a, false),
            (demand("DoesNotExist", Value::Null), other, true),
        ] {
            assert_eq!(
                admits(namespaces.clone(), "north", Some(labels)),
                Some(expected),
                "{namespaces} {labels:?}"
            );
        }
        // It is not known without the labels.
        assert_eq!(admits(by_label, "north", None), None);
    }

    #[test]
    fn a_namespace_is_known_by_its_name_and_cannot_take_anothers() {
        let by_name = json!({"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "north"}}});
        assert_eq!(admits(by_name.clone(), "north", None), Some(true));
        assert_eq!(admits(by_name.clone(), "south", None), Some(false));
        let claims: &[_] = &[("kubernetes.io/metadata.name", "north")];
        assert_eq!(admits(by_name, "south", Some(claims)), Some(false));
    }
}
