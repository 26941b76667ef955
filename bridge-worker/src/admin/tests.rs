use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use millrace_contract::status::{LaneStatus, Latency, Ledger};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::latency::Histogram;

/// An admin server whose route the test changes.
struct Server {
    address: SocketAddr,
    route: Arc<Mutex<RouteSnapshot>>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let route = Arc::new(Mutex::new(snapshot()));
        let shared = route.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let snapshots: Snapshots = Arc::new(move || vec![shared.lock().unwrap().clone()]);
        let ended = tokio::spawn(serve(listener, snapshots, async { stopped.await.unwrap_or(()) }));
        Self {
            address,
            route,
            stop,
            ended,
        }
    }

    fn change(&self, change: impl FnOnce(&mut RouteStatus)) {
        change(&mut self.route.lock().unwrap().status);
    }

    /// Status line and body.
    async fn ask(&self, method: &str, path: &str) -> (String, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

fn snapshot() -> RouteSnapshot {
    let lane = |lane, state| LaneStatus::new(lane, format!("millrace-x-{lane}"), state);
    RouteSnapshot {
        status: RouteStatus {
            namespace: "plants".into(),
            name: "telemetry".into(),
            phase: Phase::Connecting,
            ready: false,
            problems: vec![],
            lanes: vec![lane(0, LaneState::Up), lane(1, LaneState::Connecting)],
            ledger: Ledger {
                received: 2,
                written: 1,
                in_flight: 1,
                ..Ledger::default()
            },
            received_per_second: 0.0,
            written_per_second: 0.0,
            latency: Latency::default(),
            buffered_bytes: 0,
            ..RouteStatus::default()
        },
        latency: Histogram::new(),
        bytes_received: 0,
        bytes_written: 0,
        reconnects: 0,
        taken_over: 0,
        window_limited: Duration::ZERO,
        sink_saturated: Duration::ZERO,
        errors: BTreeMap::new(),
        producer_restarts: 0,
        live_reloads: 0,
        live_refusals: 0,
    }
}

#[tokio::test]
async fn readyz_names_the_lane_that_is_missing_then_kafka_then_nothing() {
    let server = Server::start().await;
    let (head, body) = server.ask("GET", "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(
        body,
        "plants/telemetry waits for the first connection of lane 1\n"
    );

    server.change(|route| route.lanes[1].last_error = Some("connection refused".into()));
    assert!(
        server
            .ask("GET", "/readyz")
            .await
            .1
            .ends_with("lane 1 (connection refused)\n")
    );

    server.change(|route| route.lanes[1].state = LaneState::Idle);
    assert_eq!(
        server.ask("GET", "/readyz").await.1,
        "plants/telemetry waits for the first answer of Kafka\n"
    );

    server.change(|route| route.ready = true);
    let (head, body) = server.ask("GET", "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 200") && body == "ok\n", "{head}");
}

#[tokio::test]
async fn readiness_outlives_outages_but_not_the_drain() {
    let server = Server::start().await;
    server.change(|route| {
        route.ready = true;
        route.lanes[1].state = LaneState::Waiting;
    });
    assert!(server.ask("GET", "/readyz").await.0.starts_with("HTTP/1.1 200"));
    server.change(|route| route.phase = Phase::Draining);
    let (head, body) = server.ask("GET", "/readyz").await;
    assert!(
        head.starts_with("HTTP/1.1 503") && body == "plants/telemetry is draining\n",
        "{head} {body}"
    );
    assert!(server.ask("GET", "/livez").await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn status_is_the_contract_as_json() {
    let server = Server::start().await;
    let (head, body) = server.ask("GET", "/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!(status.routes, [snapshot().status]);
}

#[tokio::test]
async fn metrics_come_as_openmetrics() {
    let server = Server::start().await;
    let (head, body) = server.ask("GET", "/metrics").await;
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(body.contains("millrace_messages_received_total{namespace=\"plants\",route=\"telemetry\"} 2"));
    assert!(body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn nothing_can_be_written_and_unknown_paths_say_what_there_is() {
    let server = Server::start().await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/livez", "/readyz", "/metrics", "/status"] {
            let (head, _) = server.ask(method, path).await;
            assert!(head.starts_with("HTTP/1.1 405"), "{method} {path}: {head}");
        }
    }
    assert!(server.ask("HEAD", "/livez").await.0.starts_with("HTTP/1.1 200"));
    let (head, body) = server.ask("GET", "/debug").await;
    assert!(
        head.starts_with("HTTP/1.1 404") && body.contains("/status"),
        "{head}"
    );
}

#[tokio::test]
async fn it_ends_when_told_though_a_client_keeps_its_connection() {
    let server = Server::start().await;
    let _open = TcpStream::connect(server.address).await.unwrap();
    server.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), server.ended)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "the port is free again"
    );
}
