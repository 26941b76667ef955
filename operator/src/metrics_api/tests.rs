//! The server with real TLS, as the API server sees it.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use millrace_contract::status::RouteStatus;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, from_value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;
use crate::names;
use crate::observed::{self, ChildKind};

const VALUE: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/plants/topicroutes.millrace.dev/sensors/millrace_route_load";

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What an API server knows.
struct Api {
    config_map: Value,
    api_service: Value,
    patches: usize,
}

impl Api {
    fn client(shared: &Arc<Mutex<Self>>) -> Client {
        let shared = Arc::clone(shared);
        let service = tower::service_fn(move |request: Request<Body>| {
            let shared = Arc::clone(&shared);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let is_watch = parts.uri.query().unwrap_or_default().contains("watch=true");
                let answer = match (&parts.method, parts.uri.path()) {
                    (&Method::GET, "/api/v1/namespaces/kube-system/configmaps") if is_watch => {
                        return pending().await;
                    }
                    (&Method::GET, "/api/v1/namespaces/kube-system/configmaps") => {
                        let map = lock(&shared).config_map.clone();
                        json!({
                            "kind": "ConfigMapList", "apiVersion": "v1",
                            "metadata": {"resourceVersion": "1"}, "items": [map],
                        })
                    }
                    (&Method::PATCH, _) => {
                        let mut api = lock(&shared);
                        api.patches += 1;
                        api.api_service["spec"]["caBundle"] = body["spec"]["caBundle"].clone();
                        api.api_service.clone()
                    }
                    (&Method::GET, _) => lock(&shared).api_service.clone(),
                    _ => {
                        let attributes = &body["spec"]["resourceAttributes"];
                        let allowed = body["spec"]["user"] == "autoscaler"
                            && attributes["group"] == "custom.metrics.k8s.io"
                            && attributes["resource"] == "topicroutes.millrace.dev"
                            && attributes["subresource"] == "millrace_route_load"
                            && attributes["verb"] == "get"
                            && attributes["namespace"] == "plants";
                        let mut review = body;
                        review["status"] = json!({"allowed": allowed});
                        review
                    }
                };
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        });
        Client::new(service, "default")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The metrics API of an operator that knows of one route, and what the API server needs to reach it.
struct Served {
    port: u16,
    front_proxy: CertifiedIssuer<'static, KeyPair>,
    api: Arc<Mutex<Api>>,
    sight: Sight,
    metrics: Metrics,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    async fn start(owner: &str) -> Self {
        let front_proxy = authority("front-proxy-ca");
        let api = Arc::new(Mutex::new(Api {
            config_map: json!({
                "metadata": {
                    "name": "extension-apiserver-authentication", "namespace": "kube-system", "resourceVersion": "1",
                },
                "data": {
                    "requestheader-client-ca-file": encode(front_proxy.der()),
                    "requestheader-allowed-names": r#"["front-proxy-client"]"#,
                    "requestheader-username-headers": r#"["X-Remote-User"]"#,
                    "requestheader-group-headers": r#"["X-Remote-Group"]"#,
                    "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
                },
            }),
            api_service: json!({
                "kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1",
                "metadata": {"name": "v1beta2.custom.metrics.k8s.io", "resourceVersion": "1"},
                "spec": {
                    "groupPriorityMinimum": 100, "versionPriority": 100,
                    "service": {"namespace": "millrace-system", "name": owner},
                },
            }),
            patches: 0,
        }));
        let (sight, metrics) = (Sight::default(), Metrics::default());
        let pod: Pod = from_value(json!({
            "metadata": {
                "name": "sensors-worker-0", "namespace": "plants", "uid": "0", "resourceVersion": "1",
                "labels": {
                    names::OWNER_KIND: names::kind::ROUTE, names::INSTANCE: "sensors",
                    names::COMPONENT: names::component::WORKER,
                },
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        sight
            .observed
            .apply(ChildKind::Pod, &pod.metadata, observed::pod(&pod));
        let status = RouteStatus {
            load: 0.5,
            ..RouteStatus::default()
        };
        sight.workers.answered("0", Ok(status), Instant::now());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cluster = Cluster::new(Api::client(&api), metrics.clone());
        let (sights, counted) = (vec![sight.clone()], metrics.clone());
        let task = tokio::spawn(async move {
            let address = Address {
                namespace: "millrace-system".into(),
                service: "millrace-metrics".into(),
                process: "operator-0".into(),
            };
            run(listener, &address, &cluster, sights, &counted).await;
        });
        Self {
            port,
            front_proxy,
            api,
            sight,
            metrics,
            task,
        }
    }

    /// What the operator has had the API server trust.
    async fn trusted(&self) -> RootCertStore {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let bundle = lock(&self.api).api_service["spec"]["caBundle"].clone();
            if let Ok(Some(bundle)) = from_value::<Option<k8s_openapi::ByteString>>(bundle) {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(&bundle.0) {
                    roots.add(certificate.unwrap()).unwrap();
                }
                return roots;
            }
            assert!(Instant::now() < deadline, "no certificate was published");
            tokio::task::yield_now().await;
        }
    }

    /// Asks as somebody with a certificate of that name from that authority.
    async fn ask(
        &self,
        shows: Option<(&CertifiedIssuer<'static, KeyPair>, &str)>,
        user: Option<&str>,
        path: &str,
    ) -> std::io::Result<(StatusCode, Value)> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.trusted().await);
        let config = match shows {
            None => config.with_no_client_auth(),
            Some((authority, name)) => {
                let key = KeyPair::generate().unwrap();
                let mut params = CertificateParams::default();
                params.distinguished_name.push(DnType::CommonName, name);
                let certificate = params.signed_by(&key, authority).unwrap();
                let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
                config
                    .with_client_auth_cert(vec![certificate.der().clone()], key)
                    .unwrap()
            }
        };
        let host = "millrace-metrics.millrace-system.svc";
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from(host).unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        let mut request = Request::get(path).header("host", host);
        if let Some(user) = user {
            request = request.header("x-remote-user", user);
        }
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new()).unwrap())
            .await
            .map_err(std::io::Error::other)?;
        let code = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(std::io::Error::other)?;
        Ok((code, serde_json::from_slice(&body.to_bytes()).unwrap()))
    }

    async fn ask_as(&self, user: &str, path: &str) -> (StatusCode, Value) {
        let shows = Some((&self.front_proxy, "front-proxy-client"));
        self.ask(shows, Some(user), path).await.unwrap()
    }

    fn page_has(&self, line: &str) -> bool {
        self.metrics.page().lines().any(|one| one == line)
    }
}

fn encode(der: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))
}

#[tokio::test]
async fn an_autoscaler_learns_the_load_of_a_route_and_others_do_not() {
    let served = Served::start("millrace-metrics").await;
    let (code, list) = served
        .ask_as("anybody", "/apis/custom.metrics.k8s.io/v1beta2")
        .await;
    assert_eq!(
        (code, &list["resources"][0]["name"]),
        (
            StatusCode::OK,
            &json!("topicroutes.millrace.dev/millrace_route_load")
        )
    );
    let (code, values) = served.ask_as("autoscaler", VALUE).await;
    assert_eq!(
        (code, &values["items"][0]["value"]),
        (StatusCode::OK, &json!("500m"))
    );
    assert_eq!(values["items"].as_array().unwrap().len(), 1);

    let (code, refusal) = served.ask_as("intruder", VALUE).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert_eq!(
        refusal["message"],
        "intruder may not get topicroutes.millrace.dev/millrace_route_load in namespace plants of custom.metrics.k8s.io"
    );
    let shows = Some((&served.front_proxy, "front-proxy-client"));
    let (code, _) = served.ask(shows, None, VALUE).await.unwrap();
    assert_eq!(code, StatusCode::UNAUTHORIZED);
    for (path, expected) in [
        (VALUE.replace("sensors", "others"), StatusCode::NOT_FOUND),
        (VALUE.replace("millrace_route_load", "cpu"), StatusCode::NOT_FOUND),
        (
            VALUE.replace("topicroutes.millrace.dev", "pods"),
            StatusCode::NOT_FOUND,
        ),
        (
            format!("{VALUE}?metricLabelSelector=a%3Db"),
            StatusCode::BAD_REQUEST,
        ),
        (format!("{VALUE}?metricLabelSelector="), StatusCode::OK),
        ("/metrics".to_owned(), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(served.ask_as("autoscaler", &path).await.0, expected, "{path}");
    }
    assert!(served.page_has(r#"millrace_operator_metrics_api_requests_total{code="403"} 1"#));

    // A worker that is silent leaves no number that would be too low; one question without an answer says nothing.
    for expected in [StatusCode::OK, StatusCode::NOT_FOUND] {
        served
            .sight
            .workers
            .answered("0", Err("away".into()), Instant::now());
        assert_eq!(served.ask_as("autoscaler", VALUE).await.0, expected);
    }
}

#[tokio::test]
async fn nobody_but_the_api_server_is_let_in() {
    let served = Served::start("millrace-metrics").await;
    let stranger = authority("front-proxy-ca");
    for (shows, why) in [
        (None, "without a certificate"),
        (
            Some((&stranger, "front-proxy-client")),
            "of an authority of the same name",
        ),
        (Some((&served.front_proxy, "kubelet")), "of another name"),
    ] {
        let answer = served.ask(shows, Some("autoscaler"), VALUE).await;
        assert!(answer.is_err(), "{why}: {answer:?}");
    }
    assert_eq!(served.ask_as("autoscaler", VALUE).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_api_service_of_another_owner_is_left_alone() {
    let served = Served::start("prometheus-adapter").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !served
        .metrics
        .page()
        .contains(r#"api_calls_total{verb="get",result="ok"}"#)
    {
        assert!(Instant::now() < deadline, "{}", served.metrics.page());
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(lock(&served.api).patches, 0);
    assert!(served.page_has("millrace_operator_metrics_api_published 0"));
}
