//! Workers: each answers at `/status` on a loopback address of its own, that it runs what it was told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use millrace_contract::status::{LaneState, LaneStatus, Phase, RouteStatus, Status};
use millrace_contract::{Assignment, LaneRecord, Ledger, Settings};
use millrace_operator::names;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use serde_json::Value;

use super::{Taken, mounted};
use crate::objects::{annotation, uid};

/// The next address that is tried.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A socket on the workers' port, on a loopback address that nobody else uses.
pub(crate) fn listen() -> (Ipv4Addr, TcpListener) {
    // Another process that runs these tests begins elsewhere; where they meet, the address is taken.
    let begin = std::process::id().wrapping_mul(0x9E37_79B9);
    for _ in 0..10_000 {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let [_, a, b, c] = next.to_be_bytes();
        let ip = Ipv4Addr::new(127, a, b, c);
        if matches!((a, b, c), (0, 0, _) | (_, _, 0 | 255)) {
            continue;
        }
        let address = SocketAddr::from((ip, u16::try_from(names::ADMIN_PORT).unwrap_or_default()));
        if let Ok(listener) = TcpListener::bind(address) {
            return (ip, listener);
        }
    }
    panic!("no loopback address has port {} free", names::ADMIN_PORT);
}

/// Answers one request.
pub(crate) async fn answer(mut stream: TcpStream, status: Option<Status>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let body = serde_json::to_string(&status)?;
    let code = if status.is_some() {
        "200 OK"
    } else {
        "404 Not Found"
    };
    let head = format!(
        "HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}

/// What the worker in a pod says. `content` is what a file of a ConfigMap of its namespace holds.
pub(crate) fn status(
    pod: &Value,
    content: impl Fn(&str, &str) -> Option<String>,
    taken: &Taken,
    received: u64,
) -> Option<Status> {
    let (meta, uid) = (&pod["metadata"], uid(pod)?);
    let route = meta["labels"][names::INSTANCE].as_str()?;
    let settings = mounted(&pod["spec"]);
    let settings: Settings = serde_json::from_str(&content(settings.first()?, "settings.json")?).ok()?;
    let ordinal = meta["name"].as_str()?.rsplit('-').next()?.parse().ok()?;
    let told = annotation(pod, names::ASSIGNMENT)
        .and_then(|text| serde_json::from_str::<Assignment>(text).ok())
        .filter(|told| told.pod_uid.as_deref() == Some(uid));
    let mounted = content(&names::lanes(route), "record.json")
        .and_then(|text| serde_json::from_str::<LaneRecord>(&text).ok())
        .map(|record| record.part_of(ordinal, Some(uid)));
    let assignment = told.or(mounted).unwrap_or_default();
    let lane = |lane: &u16, state| {
        let (prefix, session) = (&settings.broker.client_id_prefix, &settings.route.session_id);
        LaneStatus {
            protocol_version: Some("5".into()),
            session_present: true,
            connections: 1,
            ..LaneStatus::new(*lane, format!("{prefix}-{session}-{lane}"), state)
        }
    };
    let lanes = assignment.lanes.iter().map(|number| lane(number, LaneState::Up));
    let left = assignment
        .leaving
        .iter()
        .map(|number| lane(number, LaneState::Left));
    let status = RouteStatus {
        namespace: meta["namespace"].as_str()?.to_owned(),
        name: route.to_owned(),
        pod_uid: Some(uid.to_owned()),
        generation: assignment.generation,
        live: taken.hash.clone(),
        phase: Phase::Running,
        ready: true,
        lanes: lanes.chain(left).collect(),
        ledger: Ledger {
            received,
            written: received,
            ..Ledger::default()
        },
        ..RouteStatus::default()
    };
    Some(Status { routes: vec![status] })
}
