//! An API server that knows routes, pods and records of lanes, and passes requests on to scripted workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as Segments, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};

/// What comes of asking a worker.
#[derive(Clone)]
pub(super) enum Worker {
    /// It answers.
    Answers(Value),
    /// The API server cannot reach it.
    Unreachable,
    /// Nothing comes back.
    Hangs,
    /// The user may not ask it.
    Forbidden,
}

/// What there is.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) routes: Vec<Value>,
    pub(super) pods: Vec<Value>,
    /// Records of lanes, by the name of their ConfigMap.
    pub(super) records: HashMap<String, Value>,
    /// By the name of the pod.
    pub(super) workers: HashMap<String, Worker>,
    /// The user may not list routes.
    pub(super) is_closed: bool,
}

/// The server.
pub(super) struct ApiServer {
    pub(super) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

type Shared = State<(Arc<World>, Arc<AtomicUsize>)>;

impl ApiServer {
    /// On a thread of its own, for as long as the test runs.
    pub(super) fn start(world: World) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let state = (Arc::new(world), asked.clone());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
                    .await
                    .expect("a port");
                tell.send(listener.local_addr().expect("an address"))
                    .expect("the test listens");
                let kind = "/apis/millrace.dev/v1alpha1";
                let router = Router::new()
                    .route(&format!("{kind}/topicroutes"), get(all_routes))
                    .route(
                        &format!("{kind}/namespaces/{{namespace}}/topicroutes"),
                        get(routes),
                    )
                    .route("/api/v1/pods", get(all_pods))
                    .route("/api/v1/namespaces/{namespace}/pods", get(pods))
                    .route("/api/v1/namespaces/{namespace}/configmaps/{name}", get(record))
                    .route(
                        "/api/v1/namespaces/{namespace}/pods/{pod}/proxy/status",
                        get(status),
                    )
                    .with_state(state);
                axum::serve(listener, router).await.expect("it serves");
            });
        });
        let address = told.recv_timeout(Duration::from_secs(30)).expect("a server");
        Self { address, asked }
    }

    /// How often workers were asked.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Writes a kubeconfig whose context has the namespace `plant`.
pub(super) fn kubeconfig(dir: &Path, address: SocketAddr) -> String {
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "someone", "user": {"token": "t"}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "someone", "namespace": "plant"}}],
        "current-context": "fake",
    });
    let path = dir.join("kubeconfig");
    std::fs::write(&path, text.to_string()).expect("a file");
    path.to_str().expect("a path").to_owned()
}

fn refusal(code: StatusCode, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": code.canonical_reason(), "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

fn list(kind: &str, version: &str, items: &[Value], namespace: Option<&str>) -> Response {
    let is_there =
        |item: &&Value| namespace.is_none_or(|namespace| item["metadata"]["namespace"] == namespace);
    let items: Vec<&Value> = items.iter().filter(is_there).collect();
    Json(json!({
        "kind": format!("{kind}List"), "apiVersion": version, "metadata": {"resourceVersion": "7"}, "items": items,
    }))
    .into_response()
}

fn listed_routes(world: &World, namespace: Option<&str>) -> Response {
    if world.is_closed {
        return refusal(
            StatusCode::FORBIDDEN,
            "topicroutes is forbidden: User \"someone\" cannot list it",
        );
    }
    list("TopicRoute", "millrace.dev/v1alpha1", &world.routes, namespace)
}

async fn all_routes(State((world, _)): Shared) -> Response {
    listed_routes(&world, None)
}

async fn routes(State((world, _)): Shared, Segments(namespace): Segments<String>) -> Response {
    listed_routes(&world, Some(&namespace))
}

/// The label selector of a query.
fn selector(query: &str) -> String {
    let escaped = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("labelSelector="));
    let mut pieces = escaped.expect("a label selector").split('%');
    let first = pieces.next().unwrap_or_default().to_owned();
    let selector = pieces.fold(first, |text, piece| {
        let (code, rest) = piece.split_at(2);
        let byte = u8::from_str_radix(code, 16).expect("a percent escape");
        text + &char::from(byte).to_string() + rest
    });
    selector.replace('+', " ")
}

fn listed_pods(world: &World, query: Option<String>, namespace: Option<&str>) -> Response {
    let selector = selector(&query.unwrap_or_default());
    assert!(
        selector.contains("app.kubernetes.io/component=worker")
            && selector.contains("millrace.dev/kind=topicroute"),
        "{selector}"
    );
    let named = selector.split_once("app.kubernetes.io/instance in (");
    let named = named.map(|(_, names)| names.trim_end_matches(')').split(',').collect::<Vec<_>>());
    let is_selected = |pod: &&Value| {
        let instance = pod["metadata"]["labels"]["app.kubernetes.io/instance"].as_str();
        named
            .as_ref()
            .is_none_or(|named| instance.is_some_and(|instance| named.contains(&instance)))
    };
    let pods: Vec<Value> = world.pods.iter().filter(is_selected).cloned().collect();
    list("Pod", "v1", &pods, namespace)
}

async fn all_pods(State((world, _)): Shared, RawQuery(query): RawQuery) -> Response {
    listed_pods(&world, query, None)
}

async fn pods(
    State((world, _)): Shared,
    Segments(namespace): Segments<String>,
    RawQuery(query): RawQuery,
) -> Response {
    listed_pods(&world, query, Some(&namespace))
}

async fn record(
    State((world, _)): Shared,
    Segments((namespace, name)): Segments<(String, String)>,
) -> Response {
    match world.records.get(&name) {
        Some(record) => Json(json!({
            "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
            "data": {"record.json": record.to_string()},
        }))
        .into_response(),
        None => refusal(StatusCode::NOT_FOUND, "configmaps not found"),
    }
}

async fn status(State((world, asked)): Shared, Segments((_, pod)): Segments<(String, String)>) -> Response {
    asked.fetch_add(1, Ordering::Relaxed);
    let pod = pod.strip_suffix(":9090").expect("the admin port");
    match world.workers.get(pod) {
        Some(Worker::Answers(status)) => Json(status).into_response(),
        Some(Worker::Hangs) => std::future::pending().await,
        Some(Worker::Forbidden) => refusal(
            StatusCode::FORBIDDEN,
            &format!("pods \"{pod}:9090\" is forbidden: User \"someone\" cannot get resource \"pods/proxy\""),
        ),
        Some(Worker::Unreachable) | None => refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "error trying to reach service: dial tcp 10.1.2.3:9090: connect: connection refused",
        ),
    }
}
