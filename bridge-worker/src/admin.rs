//! The admin port: is it alive, is it ready, what does it do. Read-only, and without secrets: a status holds none.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use millrace_contract::status::{LaneState, Phase, RouteStatus, Status};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::metrics::{self, ProcessUsage, RouteSnapshot};

/// What the paths are, for whoever asks for another one.
const INDEX: &str = "/livez    200 while the process runs
/readyz   200 once every lane has been up and Kafka has answered, until it stops
/status   routes, lanes and ledger as JSON
/metrics  the same for Prometheus
";

/// How long an open answer may delay the end after `shutdown`.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Where the current state of the process's routes comes from.
pub(crate) type Snapshots = Arc<dyn Fn() -> Vec<RouteSnapshot> + Send + Sync>;

/// Answers on `listener` until `shutdown` resolves. Errors are those of the listener.
pub async fn serve(
    listener: TcpListener,
    snapshots: Snapshots,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopping = Arc::new(Notify::new());
    let announce = stopping.clone();
    let shutdown = async move {
        shutdown.await;
        announce.notify_one();
    };
    let overdue = async move {
        stopping.notified().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        ended = axum::serve(listener, router(snapshots)).with_graceful_shutdown(shutdown) => ended,
        () = overdue => Ok(()),
    }
}

fn router(snapshots: Snapshots) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/metrics", get(scrape))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .with_state(snapshots)
}

async fn readyz(State(snapshots): State<Snapshots>) -> (StatusCode, String) {
    let missing: Vec<String> = snapshots()
        .iter()
        .filter_map(|route| unready(&route.status))
        .collect();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
    }
}

/// Why a route is not ready, if it is not.
fn unready(route: &RouteStatus) -> Option<String> {
    let why = match route.phase {
        Phase::Draining => "is draining".to_owned(),
        Phase::Ended => "has ended".to_owned(),
        _ if route.ready => return None,
        _ => waiting_for(route),
    };
    Some(format!("{}/{} {why}", route.namespace, route.name))
}

fn waiting_for(route: &RouteStatus) -> String {
    let down = |state| !matches!(state, LaneState::Idle | LaneState::Up);
    let lanes: Vec<String> = route
        .lanes
        .iter()
        .filter(|lane| down(lane.state))
        .map(|lane| match &lane.last_error {
            Some(error) => format!("lane {} ({error})", lane.lane),
            None => format!("lane {}", lane.lane),
        })
        .collect();
    if lanes.is_empty() {
        "waits for the first answer of Kafka".to_owned()
    } else {
        format!("waits for the first connection of {}", lanes.join(", "))
    }
}

async fn status(State(snapshots): State<Snapshots>) -> Response {
    let routes = snapshots().into_iter().map(|route| route.status).collect();
    match serde_json::to_string_pretty(&Status { routes }) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
        Err(error) => broken(&error),
    }
}

async fn scrape(State(snapshots): State<Snapshots>) -> Response {
    match metrics::render(snapshots(), ProcessUsage::now()) {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests;
