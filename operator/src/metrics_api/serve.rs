//! The server: TLS with the API server only, one path.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answers::{self, GROUP, Metric, RESOURCE, VERSION};
use super::certificate::Certificate;
use super::front_proxy::{FrontProxy, User};
use crate::cluster::Cluster;
use crate::flow::Sight;
use crate::metrics::Metrics;

/// Connections at the same time; an API server keeps few.
const CONNECTIONS: usize = 64;
/// How long a peer may take for its handshake, and between two requests.
const PATIENCE: Duration = Duration::from_secs(30);

/// What requests are answered from.
#[derive(Clone)]
pub(super) struct Answers {
    /// Asked whether a user may see a metric.
    pub(super) cluster: Cluster,
    /// One of each scope that the operator looks after.
    pub(super) sights: Vec<Sight>,
    /// Requests are counted.
    pub(super) metrics: Metrics,
}

/// Answers for as long as it is polled. Without a certificate, or before it is known who the API server is, nobody is
/// let in.
pub(super) async fn run(
    listener: TcpListener,
    mut certificate: watch::Receiver<Option<Arc<Certificate>>>,
    mut proxy: watch::Receiver<Option<Arc<FrontProxy>>>,
    answers: Answers,
) {
    let router = router(answers);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut doorman = None;
    loop {
        // Never closed.
        let permit = Arc::clone(&permits).acquire_owned().await.ok();
        let stream = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the metrics API was not accepted");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        };
        if doorman.is_none()
            || certificate.has_changed().unwrap_or_default()
            || proxy.has_changed().unwrap_or_default()
        {
            let (certificate, proxy) = (
                certificate.borrow_and_update().clone(),
                proxy.borrow_and_update().clone(),
            );
            doorman = certificate
                .zip(proxy)
                .and_then(|(certificate, proxy)| Doorman::new(&certificate, proxy));
        }
        if let Some(doorman) = doorman.clone() {
            let router = router.clone();
            connections.spawn(async move {
                doorman.serve(stream, router).await;
                drop(permit);
            });
        }
    }
}

/// Lets the API server in and nobody else.
#[derive(Clone)]
struct Doorman {
    acceptor: TlsAcceptor,
    proxy: Arc<FrontProxy>,
}

impl Doorman {
    fn new(certificate: &Certificate, proxy: Arc<FrontProxy>) -> Option<Self> {
        match certificate.server(&proxy) {
            Ok(config) => Some(Self {
                acceptor: TlsAcceptor::from(Arc::new(config)),
                proxy,
            }),
            Err(error) => {
                tracing::warn!(%error, "the metrics API cannot be served");
                None
            }
        }
    }

    async fn serve(self, stream: TcpStream, router: Router) {
        let tls = match tokio::time::timeout(PATIENCE, self.acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a peer of the metrics API is not let in");
                return;
            }
            Err(_) => return,
        };
        let shown = tls
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        if !shown.is_some_and(|certificate| self.proxy.admits(certificate)) {
            tracing::warn!(
                "a peer of the metrics API has a certificate of the right authority and a wrong name"
            );
            return;
        }
        let service = TowerToHyperService::new(router.layer(Extension(self.proxy)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(tls), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the metrics API ended");
        }
    }
}

fn router(answers: Answers) -> Router {
    let metrics = answers.metrics.clone();
    let group = format!("/apis/{GROUP}/{VERSION}");
    Router::new()
        .route(&group, get(discover))
        .route(
            &format!("{group}/namespaces/{{namespace}}/{{resource}}/{{name}}/{{metric}}"),
            get(metric),
        )
        .fallback(|| async {
            Refused::not_found("this server has the metrics of TopicRoutes only").into_response()
        })
        .with_state(answers)
        .layer(axum::middleware::map_response(move |response: Response| {
            metrics.metrics_api_request(response.status().as_u16());
            async { response }
        }))
}

/// Everyone may know which metrics there are.
async fn discover(
    Extension(proxy): Extension<Arc<FrontProxy>>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    user(&proxy, &headers)?;
    Ok(Json(answers::discovery()).into_response())
}

async fn metric(
    State(answers): State<Answers>,
    Extension(proxy): Extension<Arc<FrontProxy>>,
    headers: HeaderMap,
    Path((namespace, resource, name, metric)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let user = user(&proxy, &headers)?;
    let Some(known) = Metric::named(&metric).filter(|_| resource == RESOURCE) else {
        return Err(Refused::not_found(format!(
            "there is no metric {metric} of {resource}"
        )));
    };
    let review = review(user, &namespace, &name, known);
    match answers.cluster.allows(&review).await {
        Ok(true) => {}
        Ok(false) => {
            let who = review.spec.user.unwrap_or_default();
            return Err(Refused {
                code: StatusCode::FORBIDDEN,
                reason: "Forbidden",
                message: format!("{who} may not get {resource}/{metric} in namespace {namespace} of {GROUP}"),
            });
        }
        Err(error) => {
            return Err(Refused {
                code: StatusCode::SERVICE_UNAVAILABLE,
                reason: "ServiceUnavailable",
                message: format!("it cannot be said who may see metrics: {error}"),
            });
        }
    }
    if has_selector(query.as_deref().unwrap_or_default()) {
        return Err(Refused {
            code: StatusCode::BAD_REQUEST,
            reason: "BadRequest",
            message: "routes are asked for by name: selectors are not supported".into(),
        });
    }
    let found = answers
        .sights
        .iter()
        .find_map(|sight| sight.flow(&namespace, &name));
    let Some(flow) = found else {
        return Err(Refused::not_found(format!(
            "TopicRoute {namespace}/{name} has no {metric} now: it does not exist, has no workers, or not all of them have \
             said theirs"
        )));
    };
    Ok(Json(answers::values(known, &[flow], Timestamp::now())).into_response())
}

fn user(proxy: &FrontProxy, headers: &HeaderMap) -> Result<User, Refused> {
    proxy.user(headers).ok_or(Refused {
        code: StatusCode::UNAUTHORIZED,
        reason: "Unauthorized",
        message: "no header names the user".into(),
    })
}

/// Asks for what the API server itself takes the path for: the metric is a subresource.
fn review(user: User, namespace: &str, name: &str, metric: Metric) -> SubjectAccessReview {
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name),
            groups: Some(user.groups),
            extra: Some(user.extra),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some("get".to_owned()),
                group: Some(GROUP.to_owned()),
                version: Some(VERSION.to_owned()),
                resource: Some(RESOURCE.to_owned()),
                subresource: Some(metric.name().to_owned()),
                name: Some(name.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

fn has_selector(query: &str) -> bool {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .into_iter()
        .any(|(key, value)| matches!(key, "labelSelector" | "metricLabelSelector") && !value.is_empty())
}

/// Why there is no answer.
struct Refused {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refused {
    fn not_found(message: impl Into<String>) -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message: message.into(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = answers::refusal(self.code.as_u16(), self.reason, &self.message);
        (self.code, Json(status)).into_response()
    }
}
