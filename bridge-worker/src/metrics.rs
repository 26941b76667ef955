//! What a process reports to Prometheus. `docs/metrics.md` lists every metric; a test holds the two together.
//!
//! Nothing is counted here: a scrape renders a copy of what the routes know. Labels are bounded by the manifests
//! (namespace, route, lane, group) or by this code (outcomes, states, reasons); error texts are never labels, and topics only
//! where they are those of a watched group.

mod page;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millrace_contract::status::{CertificateStatus, LaneState, Ledger, RouteStatus};
use millrace_contract::survey::{GroupLag, GroupSurvey};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::latency::Histogram;
use page::Page;
pub use process::ProcessUsage;

/// The media type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// As many topics of a consumer group as there are series for.
const MAX_TOPICS: usize = 100;

/// Everything that is known of one route at a moment.
#[derive(Clone, Debug)]
pub struct RouteSnapshot {
    /// What `/status` shows.
    pub status: RouteStatus,
    /// From receipt to delivery report, since the start.
    pub latency: Histogram,
    /// Bytes of payload received from MQTT.
    pub bytes_received: u64,
    /// Bytes of key and value confirmed by Kafka.
    pub bytes_written: u64,
    /// Connections that ended and were made again, over all lanes.
    pub reconnects: u64,
    /// How often another client took over a lane's session.
    pub taken_over: u64,
    /// How long brokers held messages back because a window was full, over all lanes.
    pub window_limited: Duration,
    /// How long lanes were held because Kafka was slow, over all lanes.
    pub sink_saturated: Duration,
    /// Messages that could not be delivered, by reason. Reasons are words of the code, never of a message.
    pub errors: BTreeMap<&'static str, u64>,
    /// Producers replaced after a fatal error.
    pub producer_restarts: u64,
    /// Changed configurations taken over while the route ran.
    pub live_reloads: u64,
    /// Changed configurations that could not be used.
    pub live_refusals: u64,
}

/// The answer to a scrape, in the OpenMetrics text format.
pub fn render(routes: Vec<RouteSnapshot>, process: ProcessUsage) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { routes, process }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Scrape {
    routes: Vec<RouteSnapshot>,
    process: ProcessUsage,
}

impl Collector for Scrape {
    fn encode(&self, to: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(to, &self.routes);
        ledger(&mut page)?;
        flow(&mut page)?;
        lanes(&mut page)?;
        health(&mut page)?;
        groups(&mut page)?;
        told(&mut page)?;
        process_usage(&mut page, &self.process)
    }
}

fn ledger(page: &mut Page<'_, '_>) -> fmt::Result {
    page.counter(
        "millrace_messages_received",
        "PUBLISH packets received from MQTT",
        |route| route.status.ledger.received,
    )?;
    page.counters(
        "millrace_messages",
        "Messages whose way has ended, by outcome",
        "outcome",
        |route| outcomes(&route.status.ledger),
    )?;
    page.gauge(
        "millrace_messages_returned",
        "Messages whose connection was lost before the ack, so that the broker sends them again; falls when a \
         late confirmation moves one to the outcome written",
        |route| route.status.ledger.returned,
    )?;
    page.gauge(
        "millrace_messages_in_flight",
        "Messages received and not yet accounted for",
        |route| route.status.ledger.in_flight,
    )?;
    page.counters(
        "millrace_undeliverable_messages",
        "Messages that could not be delivered as the route says, by reason; onError decided their outcome",
        "reason",
        |route| {
            route
                .errors
                .iter()
                .map(|(reason, n)| ((*reason).to_owned(), *n))
                .collect()
        },
    )
}

/// The buckets of the ledger that only grow, and so are counters.
fn outcomes(ledger: &Ledger) -> Vec<(String, u64)> {
    let outcomes = [
        ("written", ledger.written),
        ("filtered", ledger.filtered),
        ("dead_lettered", ledger.dead_lettered),
        ("discarded", ledger.discarded),
        ("expired", ledger.expired),
        ("repeat", ledger.repeats),
        ("dropped", ledger.dropped),
    ];
    outcomes
        .into_iter()
        .map(|(name, n)| (name.to_owned(), n))
        .collect()
}

fn flow(page: &mut Page<'_, '_>) -> fmt::Result {
    page.counter("millrace_received_bytes", "Payload received from MQTT", |route| {
        route.bytes_received
    })?;
    page.counter(
        "millrace_written_bytes",
        "Keys and values confirmed by Kafka",
        |route| route.bytes_written,
    )?;
    page.histogram(
        "millrace_delivery_latency_seconds",
        "From receipt of a message to Kafka's delivery report",
        |route| &route.latency,
    )?;
    page.gauge(
        "millrace_buffered_bytes",
        "Records handed to the producer and not yet confirmed, overhead included",
        |route| route.status.buffered_bytes,
    )?;
    page.counter(
        "millrace_producer_restarts",
        "Kafka producers replaced after a fatal error",
        |route| route.producer_restarts,
    )
}

fn lanes(page: &mut Page<'_, '_>) -> fmt::Result {
    page.gauges(
        "millrace_lanes",
        "Lanes of this process, by state",
        "state",
        lane_states,
    )?;
    page.gauges(
        "millrace_lane_window_messages",
        "Messages received on the lane's connection and not yet acknowledged",
        "lane",
        |route| {
            route
                .status
                .lanes
                .iter()
                .map(|lane| (lane.lane.to_string(), lane.window))
                .collect()
        },
    )?;
    page.gauge(
        "millrace_worker_load",
        "How much of what it may use this process uses: CPU of what its pod requests, or the time of its busiest thread, \
         whichever is more; 1 is all of it",
        |route| route.status.load,
    )?;
    page.gauge(
        "millrace_oldest_unacknowledged_seconds",
        "Age of the oldest unacknowledged message of any lane, 0 without one",
        |route| {
            let oldest = route
                .status
                .lanes
                .iter()
                .filter_map(|lane| lane.oldest_unacked_ms)
                .max();
            oldest.unwrap_or(0) as f64 / 1e3
        },
    )?;
    page.counter(
        "millrace_lane_reconnects",
        "MQTT connections that ended and were made again",
        |route| route.reconnects,
    )?;
    page.counter(
        "millrace_lane_takeovers",
        "Times another client took over a lane's session",
        |route| route.taken_over,
    )?;
    page.counter(
        "millrace_window_limited_seconds",
        "Time in which the broker held messages back because a lane's window was full, summed over lanes",
        |route| route.window_limited.as_secs_f64(),
    )?;
    page.counter(
        "millrace_sink_saturated_seconds",
        "Time in which a lane took nothing because Kafka confirmed too slowly, summed over lanes",
        |route| route.sink_saturated.as_secs_f64(),
    )
}

/// All states, so that a state without lanes reads 0 instead of being absent.
fn lane_states(route: &RouteSnapshot) -> Vec<(String, u64)> {
    let mut states = [
        "Idle",
        "Connecting",
        "Up",
        "Waiting",
        "TakenOver",
        "Down",
        "Leaving",
        "Left",
    ]
    .map(|state| (state.to_owned(), 0));
    for lane in &route.status.lanes {
        let state = match lane.state {
            LaneState::Idle => 0,
            LaneState::Connecting => 1,
            LaneState::Up => 2,
            LaneState::Waiting => 3,
            LaneState::TakenOver => 4,
            LaneState::Down => 5,
            LaneState::Leaving => 6,
            LaneState::Left => 7,
        };
        states[state].1 += 1;
    }
    states.into()
}

fn health(page: &mut Page<'_, '_>) -> fmt::Result {
    page.gauge(
        "millrace_route_ready",
        "1 once every lane has been up and Kafka has answered; stays 1 over later outages",
        |route| u64::from(route.status.ready),
    )?;
    page.gauges(
        "millrace_route_problem",
        "Problems the route has now, by reason; no series when all is well",
        "reason",
        |route| {
            let mut problems = BTreeMap::new();
            for problem in &route.status.problems {
                *problems.entry(format!("{:?}", problem.reason)).or_insert(0) += 1;
            }
            problems.into_iter().collect()
        },
    )
}

/// The consumer groups that are watched, in the process that looks at them.
fn groups(page: &mut Page<'_, '_>) -> fmt::Result {
    page.gauges(
        "millrace_consumer_group_members",
        "Members of a consumer group that the KafkaSink watches",
        "group",
        |route| {
            let groups = watched(route).filter(|group| group.problem.is_none());
            groups
                .map(|group| (group.group.clone(), u64::from(group.members)))
                .collect()
        },
    )?;
    page.gauges_by(
        "millrace_consumer_group_lag",
        "Records between what the group has committed and the end of the topic; none while it has committed nothing",
        ["group", "topic"],
        |route| of_topics(route, |topic| topic.lag),
    )?;
    page.gauges_by(
        "millrace_consumer_group_lag_growing",
        "1 while the lag has grown for a minute",
        ["group", "topic"],
        |route| of_topics(route, |topic| Some(u64::from(topic.grows))),
    )?;
    page.gauges_by(
        "millrace_consumer_group_saturated",
        "1 while the group falls behind though every partition has a member: more partitions would help",
        ["group", "topic"],
        |route| of_topics(route, |topic| Some(u64::from(topic.saturated))),
    )
}

fn watched(route: &RouteSnapshot) -> impl Iterator<Item = &GroupSurvey> {
    route.status.survey.iter().flat_map(|survey| &survey.groups)
}

/// A number of each topic of each watched group.
fn of_topics(route: &RouteSnapshot, number: impl Fn(&GroupLag) -> Option<u64>) -> Vec<([String; 2], u64)> {
    let numbers = watched(route).flat_map(|group| {
        let topics = group.topics.iter().take(MAX_TOPICS);
        topics.filter_map(|topic| Some(([group.group.clone(), topic.topic.clone()], number(topic)?)))
    });
    numbers.collect()
}

/// What the route was told while it ran.
fn told(page: &mut Page<'_, '_>) -> fmt::Result {
    page.gauge(
        "millrace_assignment_generation",
        "The generation of the assignment of lanes that this process acts by",
        |route| route.status.generation,
    )?;
    page.counter(
        "millrace_live_reloads",
        "Changed configurations taken over while the route ran",
        |route| route.live_reloads,
    )?;
    page.counter(
        "millrace_live_reloads_refused",
        "Changed configurations that could not be used; the one before stayed in use",
        |route| route.live_refusals,
    )?;
    page.counter(
        "millrace_credentials_taken_over",
        "Changed credentials that worked and were taken over",
        |route| route.status.credentials_taken_over,
    )?;
    page.counter(
        "millrace_credentials_refused",
        "Changed credentials that were tried and did not work; the ones before stayed in use",
        |route| route.status.credentials_refused,
    )?;
    page.gauges(
        "millrace_certificate_expiry_timestamp_seconds",
        "When a certificate in use expires, as seconds since the Unix epoch",
        "certificate",
        |route| {
            let certificates = route.status.certificates.iter();
            let of = |certificate: &CertificateStatus| format!("{:?}", certificate.of);
            certificates
                .map(|certificate| (of(certificate), certificate.valid_until))
                .collect()
        },
    )
}

fn process_usage(page: &mut Page<'_, '_>, usage: &ProcessUsage) -> fmt::Result {
    page.build_info("millrace_build", "The version of this process")?;
    if let Some(cpu) = usage.cpu {
        page.one(
            "process_cpu_seconds",
            "CPU time used",
            MetricType::Counter,
            cpu.as_secs_f64(),
        )?;
    }
    if let Some(bytes) = usage.resident_bytes {
        page.one(
            "process_resident_memory_bytes",
            "Resident memory",
            MetricType::Gauge,
            bytes as f64,
        )?;
    }
    Ok(())
}
