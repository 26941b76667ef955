//! Asks workers for their status.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_contract::status::{RouteStatus, Status};

use super::source_of;
use crate::names;
use crate::observed::{News, Observed, Owner, Workers};

/// How often it is looked who is to be asked.
const TICK: Duration = Duration::from_millis(200);
/// How often a worker is asked that is not well.
const UNWELL: Duration = Duration::from_secs(1);
/// How often a worker is asked that something is expected of: a lane that moves waits for it.
const CLOSE: Duration = Duration::from_millis(200);
/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often what is known of workers that are gone is forgotten.
const SWEEP: Duration = Duration::from_secs(60);
/// Workers asked at the same time.
const AT_ONCE: usize = 16;
/// The largest answer taken, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Asks workers for as long as it is polled; `news` is told whose answers have changed.
pub async fn run(
    observed: Arc<Observed>,
    workers: Arc<Workers>,
    interval: Duration,
    news: impl Fn(Owner, News),
) {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(PATIENCE));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new())
        // Thousands of workers are asked seldom: connections are not kept.
        .pool_max_idle_per_host(0)
        .build(connector);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_sweep = Instant::now();
    let (mut waiting, mut under_way) = (VecDeque::new(), FuturesUnordered::new());
    // Those that wait and those under way, by uid.
    let mut asked: HashSet<String> = HashSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let now = Instant::now();
                if now - last_sweep > SWEEP {
                    sweep(&observed, &workers);
                    last_sweep = now;
                }
                observed.visit_workers(|owner, uid, pod| {
                    let unwell = !pod.ready || pod.deleting;
                    let interval = if unwell { UNWELL } else { interval };
                    if workers.is_due(uid, now, interval, CLOSE) && asked.insert(uid.to_owned()) {
                        let ip = pod.ip.clone().unwrap_or_default();
                        waiting.push_back((owner.clone(), uid.to_owned(), ip));
                    }
                });
            }
            Some((owner, uid, answer)) = under_way.next() => {
                asked.remove::<String>(&uid);
                if let Some(what) = workers.answered(&uid, answer, Instant::now()) {
                    news(owner, what);
                }
            }
        }
        // One that is silent keeps no other waiting.
        while under_way.len() < AT_ONCE
            && let Some((owner, uid, ip)) = waiting.pop_front()
        {
            let client = &client;
            under_way.push(async move {
                let answer = ask(client, &owner, &uid, &ip).await;
                (owner, uid, answer)
            });
        }
    }
}

/// Forgets workers that are gone.
fn sweep(observed: &Observed, workers: &Workers) {
    let mut alive = HashSet::new();
    observed.visit_workers(|_, uid, _| {
        alive.insert(uid.to_owned());
    });
    workers.retain(&alive);
}

async fn ask(
    client: &Client<HttpConnector, Empty<Bytes>>,
    owner: &Owner,
    uid: &str,
    ip: &str,
) -> Result<RouteStatus, String> {
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    let uri = format!("http://{host}:{}/status", names::ADMIN_PORT);
    let uri: hyper::Uri = uri.parse().map_err(|_| format!("{uri} is no address"))?;
    let answer = tokio::time::timeout(PATIENCE, async {
        let response = client.get(uri).await.map_err(|error| source_of(&error))?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    });
    let body = answer
        .await
        .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
    let status: Status =
        serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))?;
    let route = status.routes.into_iter().find(|route| {
        // An address may have been given to another pod meanwhile.
        route.namespace == owner.namespace
            && route.name == owner.name
            && route.pod_uid.as_deref().is_none_or(|its| its == uid)
    });
    route.ok_or_else(|| format!("the process at {host} runs another route"))
}
