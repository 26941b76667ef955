//! Requests to an API server, as they are meant.

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;

use super::store::Key;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Apply,
    Merge,
    Create,
    Replace,
    Delete,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
    /// With empty name: all objects; with empty namespace: of all namespaces.
    pub(crate) key: Key,
    /// It is about the status.
    pub(crate) status: bool,
    /// Only the metadata is wanted.
    pub(crate) partial: bool,
    /// Labels that objects are to have.
    pub(crate) labels: Vec<(String, String)>,
    /// Where a watch begins.
    pub(crate) version: u64,
    pub(crate) manager: String,
    pub(crate) body: Value,
}

impl Call {
    /// Reads a request.
    pub(crate) async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let body: Bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => panic!("the body of a request cannot be read: {error}"),
        };
        let path: Vec<&str> = head
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let rest = match path.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => panic!("the fake API server knows no {}", head.uri),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, status) = match rest {
            [plural] => (*plural, "", false),
            [plural, name] => (*plural, *name, false),
            [plural, name, "status"] => (*plural, *name, true),
            _ => panic!("the fake API server knows no {}", head.uri),
        };
        let header = |name| {
            let value = head.headers.get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let query = |name: &str| {
            let query = head.uri.query().unwrap_or_default().split('&');
            let value = query
                .filter_map(|pair| pair.split_once('='))
                .find(|(its, _)| *its == name);
            value.map(|(_, value)| decoded(value)).unwrap_or_default()
        };
        let verb = match (head.method.as_str(), header("content-type")) {
            ("GET", _) if !name.is_empty() => Verb::Get,
            ("GET", _) if matches!(query("watch").as_str(), "true" | "1") => Verb::Watch,
            ("GET", _) => Verb::List,
            ("POST", _) => Verb::Create,
            ("PUT", _) => Verb::Replace,
            ("DELETE", _) => Verb::Delete,
            ("PATCH", kind) if kind.contains("apply-patch") => Verb::Apply,
            ("PATCH", kind) if kind.contains("merge-patch") => Verb::Merge,
            (method, kind) => panic!("the fake API server knows no {method} of {kind}"),
        };
        let labels = query("labelSelector");
        let labels = labels.split(',').filter_map(|pair| pair.split_once('='));
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let name = match verb {
            Verb::Create => body["metadata"]["name"].as_str().unwrap_or_default(),
            _ => name,
        };
        Self {
            verb,
            key: Key::new(plural, namespace, name),
            status,
            partial: header("accept").contains("PartialObjectMetadata"),
            labels: labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            version: query("resourceVersion").parse().unwrap_or_default(),
            manager: query("fieldManager"),
            body,
        }
    }

    /// Whether it changes something.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// Whether an object is among those that are asked for.
    pub(crate) fn is_about(&self, key: &Key, object: &Value) -> bool {
        self.key.plural == key.plural
            && (self.key.namespace.is_empty() || self.key.namespace == key.namespace)
            && super::store::is_selected(object, &self.labels)
    }
}

/// Percent-encoding undone.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
