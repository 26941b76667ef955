//! `docs/metrics.md` lists exactly what a process reports.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bridge_worker::latency::Histogram;
use bridge_worker::metrics::{ProcessUsage, RouteSnapshot, render};
use millrace_contract::status::{
    CertificateOf, CertificateStatus, LaneState, LaneStatus, Latency, Ledger, Phase, Problem, Reason,
    RouteStatus,
};

use millrace_contract::survey::{GroupLag, GroupSurvey, Surveyed};

/// Name, type, unit, labels, meaning.
type Row = (String, String, String, String, String);

#[test]
fn the_table_lists_what_is_reported_and_nothing_else() {
    let page = page();
    let (reported, listed) = (reported(&page), listed());
    let missing: Vec<_> = reported.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&reported).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "docs/metrics.md lacks {missing:#?}\nand should not have {stale:#?}"
    );
}

#[test]
fn received_messages_are_the_sum_of_outcomes_and_gauges() {
    let page = page();
    let sum: u64 = samples(&page, "millrace_messages_total")
        .chain(samples(&page, "millrace_messages_returned"))
        .chain(samples(&page, "millrace_messages_in_flight"))
        .sum();
    assert_eq!(
        samples(&page, "millrace_messages_received_total").collect::<Vec<_>>(),
        [sum]
    );
}

#[test]
fn the_page_ends_as_openmetrics_asks_and_names_each_family_once() {
    let page = page();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let types: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let distinct: BTreeSet<&str> = types.iter().copied().collect();
    assert_eq!(types.len(), distinct.len());
    assert!(page.contains(
        "millrace_delivery_latency_seconds_bucket{le=\"+Inf\",namespace=\"plants\",route=\"telemetry\"} 4"
    ));
    assert!(
        page.contains("millrace_lanes{namespace=\"plants\",route=\"telemetry\",state=\"Up\"} 1"),
        "{page}"
    );
}

#[test]
fn one_route_more_adds_series_but_no_family() {
    let mut other = snapshot();
    other.status.name = "alarms".into();
    let both = render(vec![snapshot(), other], ProcessUsage::default()).unwrap();
    let one = render(vec![snapshot()], ProcessUsage::default()).unwrap();
    assert_eq!(reported(&both), reported(&one));
    assert_eq!(samples(&both, "millrace_messages_received_total").count(), 2);
}

fn page() -> String {
    let usage = ProcessUsage {
        cpu: Some(Duration::from_millis(1_250)),
        resident_bytes: Some(12 << 20),
    };
    render(vec![snapshot()], usage).expect("a page")
}

/// A route for which every metric has a sample.
fn snapshot() -> RouteSnapshot {
    let mut latency = Histogram::new();
    latency.record_n(4_200, 3);
    latency.record(90_000_000);
    let lane = LaneStatus {
        lane: 0,
        client_id: "millrace-abc-0".into(),
        state: LaneState::Up,
        protocol_version: Some("5".into()),
        session_present: true,
        address: Some("127.0.0.1:1883".into()),
        connections: 2,
        window: 17,
        oldest_unacked_ms: Some(1_500),
        last_error: None,
    };
    let ledger = Ledger {
        received: 45,
        written: 1,
        filtered: 2,
        dead_lettered: 3,
        discarded: 4,
        expired: 5,
        repeats: 6,
        returned: 7,
        dropped: 8,
        in_flight: 9,
    };
    assert_eq!(ledger.balance(), 0);
    RouteSnapshot {
        status: RouteStatus {
            namespace: "plants".into(),
            name: "telemetry".into(),
            phase: Phase::Running,
            ready: true,
            problems: vec![Problem {
                reason: Reason::QosDowngraded,
                message: "granted 1, asked 2".into(),
            }],
            lanes: vec![lane],
            certificates: vec![CertificateStatus {
                of: CertificateOf::KafkaServer,
                valid_from: 1_700_000_000,
                valid_until: 1_800_000_000,
            }],
            ledger,
            received_per_second: 10.0,
            written_per_second: 9.0,
            load: 0.4,
            survey: Some(Surveyed {
                topics: Vec::new(),
                groups: vec![GroupSurvey {
                    group: "analytics".into(),
                    protocol: None,
                    state: "Stable".into(),
                    members: 2,
                    idle: 0,
                    topics: vec![GroupLag {
                        topic: "telemetry".into(),
                        partitions: 2,
                        members: 2,
                        lag: Some(7),
                        grows: true,
                        saturated: true,
                    }],
                    problem: None,
                }],
            }),
            latency: Latency::default(),
            buffered_bytes: 4_096,
            ..RouteStatus::default()
        },
        latency,
        bytes_received: 1_000,
        bytes_written: 900,
        reconnects: 1,
        taken_over: 1,
        window_limited: Duration::from_secs(5),
        sink_saturated: Duration::from_millis(5_500),
        errors: BTreeMap::from([("topic_forbidden", 3)]),
        producer_restarts: 1,
        live_reloads: 1,
        live_refusals: 1,
    }
}

/// The families of a page. Names carry the suffix under which a query finds them.
fn reported(page: &str) -> BTreeSet<Row> {
    let about = |keyword: &str| -> BTreeMap<&str, &str> {
        let prefix = format!("# {keyword} ");
        page.lines()
            .filter_map(|line| line.strip_prefix(prefix.as_str())?.split_once(' '))
            .collect()
    };
    let (helps, types, units) = (about("HELP"), about("TYPE"), about("UNIT"));
    let row = |(family, kind): (&&str, &&str)| {
        let name = match *kind {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => (*family).to_owned(),
        };
        let unit = units.get(family).copied().unwrap_or(
            if *kind == "info"
                || family.ends_with("ready")
                || family.ends_with("load")
                || family.ends_with("group_saturated")
                || family.ends_with("lag_growing")
            {
                ""
            } else {
                counted(family)
            },
        );
        (
            name.clone(),
            (*kind).to_owned(),
            unit.to_owned(),
            labels(page, &name),
            helps[family].to_owned(),
        )
    };
    types.iter().map(row).collect()
}

/// What a family without a unit of measurement counts.
fn counted(family: &str) -> &'static str {
    match family {
        "millrace_lanes" => "lanes",
        "millrace_route_problem" => "problems",
        "millrace_producer_restarts" => "producers",
        "millrace_lane_reconnects" => "connections",
        "millrace_lane_takeovers" => "sessions",
        "millrace_assignment_generation" => "assignments",
        "millrace_live_reloads" | "millrace_live_reloads_refused" => "configurations",
        "millrace_credentials_taken_over" | "millrace_credentials_refused" => "logins",
        "millrace_consumer_group_members" => "members",
        "millrace_consumer_group_lag" => "records",
        _ => "messages",
    }
}

/// The names of the labels of a metric's samples, without a histogram's `le`.
fn labels(page: &str, name: &str) -> String {
    let line = page
        .lines()
        .find(|line| !line.starts_with('#') && line.starts_with(name))
        .unwrap_or_else(|| panic!("no sample of {name}"));
    let inside = line
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map_or("", |(inside, _)| inside);
    let names: BTreeSet<&str> = inside
        .split(',')
        .filter_map(|label| Some(label.split_once('=')?.0))
        .collect();
    names
        .into_iter()
        .filter(|name| *name != "le")
        .collect::<Vec<_>>()
        .join(", ")
}

fn samples(page: &str, name: &str) -> impl Iterator<Item = u64> {
    let prefix = format!("{name}{{");
    page.lines()
        .filter(move |line| line.starts_with(&prefix))
        .map(|line| {
            line.rsplit(' ')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a count")
        })
}

fn listed() -> BTreeSet<Row> {
    let document = include_str!("../../docs/metrics.md");
    let lines = document
        .lines()
        .take_while(|line| !line.starts_with("The operator"));
    let rows = lines.filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let mut cells = line
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('`', ""));
        let mut next = || cells.next().unwrap_or_else(|| panic!("five cells in {line}"));
        (next(), next(), next(), next(), next())
    })
    .collect()
}
