//! Who asks. The API server, which passes on what it has authenticated itself: it shows a certificate of an authority that
//! it has published beforehand, and names the user in headers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::HeaderMap;
use k8s_openapi::api::core::v1::ConfigMap;
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where every cluster publishes it: a ConfigMap in `kube-system`, for all who serve a part of the API.
pub(super) const CONFIG_MAP: &str = "extension-apiserver-authentication";
/// Its namespace.
pub(super) const NAMESPACE: &str = "kube-system";

/// The cluster does not say who its API server is.
#[derive(Debug, thiserror::Error)]
#[error("ConfigMap {NAMESPACE}/{CONFIG_MAP}, {key}: {why}")]
pub(super) struct NoFrontProxy {
    key: &'static str,
    why: String,
}

/// How the API server is told from others.
#[derive(Clone, Debug)]
pub(super) struct FrontProxy {
    /// Who signs its certificate.
    pub(super) roots: RootCertStore,
    /// Common names that its certificate may have. Empty: any.
    names: Vec<String>,
    user: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

/// Who has asked, as the API server says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

impl FrontProxy {
    /// As the cluster publishes it.
    pub(super) fn of(map: &ConfigMap) -> Result<Self, NoFrontProxy> {
        let text = |key: &str| map.data.as_ref().and_then(|data| data.get(key));
        let list = |key: &'static str| match text(key).map(String::as_str) {
            None | Some("") => Ok(Vec::new()),
            Some(json) => serde_json::from_str::<Vec<String>>(json).map_err(|error| NoFrontProxy {
                key,
                why: error.to_string(),
            }),
        };
        Ok(Self {
            roots: roots(text("requestheader-client-ca-file").map_or("", String::as_str))?,
            names: list("requestheader-allowed-names")?,
            user: list("requestheader-username-headers")?,
            group: list("requestheader-group-headers")?,
            extra: list("requestheader-extra-headers-prefix")?,
        })
    }

    /// Whether the holder of a certificate that one of [`FrontProxy::roots`] has signed may name users.
    pub(super) fn admits(&self, certificate: &CertificateDer<'_>) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let names: Vec<&str> = certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .collect();
        names.iter().any(|name| self.names.iter().any(|one| one == name))
    }

    /// The user whom the headers of a request name.
    pub(super) fn user(&self, headers: &HeaderMap) -> Option<User> {
        let values = |name: &str| {
            let all = headers.get_all(name).into_iter();
            all.filter_map(|value| value.to_str().ok().map(str::to_owned))
        };
        let name = self.user.iter().flat_map(|header| values(header)).next()?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for header in headers.keys() {
            let key = self.extra.iter().find_map(|prefix| {
                let prefix = prefix.to_ascii_lowercase();
                header.as_str().strip_prefix(&prefix).map(decoded)
            });
            if let Some(key) = key {
                extra.entry(key).or_default().extend(values(header.as_str()));
            }
        }
        Some(User {
            name,
            groups: self.group.iter().flat_map(|header| values(header)).collect(),
            extra,
        })
    }
}

/// A key of the user's extra fields out of a header's name, which has what no name may have as `%2f`.
fn decoded(key: &str) -> String {
    let decoded = percent_decode_str(key).decode_utf8();
    decoded.map_or_else(|_| key.to_owned(), Cow::into_owned)
}

fn roots(pem: &str) -> Result<RootCertStore, NoFrontProxy> {
    let no = |why: String| NoFrontProxy {
        key: "requestheader-client-ca-file",
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| no(error.to_string()))?;
        roots.add(certificate).map_err(|error| no(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(no(
            "no certificate: the API server has no aggregation layer".into()
        ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use serde_json::{from_value, json};

    use super::*;

    fn published(change: impl FnOnce(&mut serde_json::Value)) -> Result<FrontProxy, NoFrontProxy> {
        let authority = rcgen::generate_simple_self_signed(["front-proxy-ca".to_owned()]).unwrap();
        let mut data = json!({
            "requestheader-client-ca-file": pem::encode(&pem::Pem::new("CERTIFICATE", authority.cert.der().to_vec())),
            "requestheader-allowed-names": r#"["front-proxy-client"]"#,
            "requestheader-username-headers": r#"["X-Remote-User"]"#,
            "requestheader-group-headers": r#"["X-Remote-Group"]"#,
            "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
        });
        change(&mut data);
        FrontProxy::of(&from_value(json!({"data": data})).unwrap())
    }

    #[test]
    fn a_user_is_whom_the_headers_name() {
        let proxy = published(|_| ()).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-remote-user", "system:serviceaccount:kube-system:hpa"),
            ("x-remote-group", "system:serviceaccounts"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-scopes", "a"),
            ("x-remote-extra-authentication.kubernetes.io%2fnode-name", "n1"),
            ("x-remote-extra-%ff", "b"),
            ("accept", "application/json"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(
            proxy.user(&headers),
            Some(User {
                name: "system:serviceaccount:kube-system:hpa".into(),
                groups: vec!["system:serviceaccounts".into(), "system:authenticated".into()],
                extra: [
                    ("scopes", "a"),
                    ("authentication.kubernetes.io/node-name", "n1"),
                    // Not UTF-8: taken as it is.
                    ("%ff", "b"),
                ]
                .map(|(key, value)| (key.to_owned(), vec![value.to_owned()]))
                .into(),
            })
        );
        headers.remove("x-remote-user");
        assert_eq!(proxy.user(&headers), None, "nobody is named");
    }

    #[test]
    fn a_certificate_of_another_name_is_not_the_api_servers() {
        let certificate = |name: &str| {
            let mut params = rcgen::CertificateParams::default();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name.to_owned());
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().der().clone()
        };
        let proxy = published(|_| ()).unwrap();
        assert!(proxy.admits(&certificate("front-proxy-client")));
        assert!(!proxy.admits(&certificate("kubelet")));
        let any = published(|data| data["requestheader-allowed-names"] = "[]".into()).unwrap();
        assert!(any.admits(&certificate("kubelet")));
    }

    #[test]
    fn a_cluster_without_aggregation_is_named() {
        let none = published(|data| data["requestheader-client-ca-file"] = "".into()).unwrap_err();
        assert!(none.to_string().contains("no aggregation layer"), "{none}");
        let wrong = published(|data| data["requestheader-allowed-names"] = "front".into()).unwrap_err();
        assert!(
            wrong.to_string().contains("requestheader-allowed-names"),
            "{wrong}"
        );
    }
}
