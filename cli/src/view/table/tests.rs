use millrace_contract::status::{LaneState, LaneStatus, Latency, Problem, Reason};

use super::*;

pub(crate) fn route(name: &str) -> RouteStatus {
    let lane = |lane| LaneStatus {
        connections: 1,
        window: 3,
        oldest_unacked_ms: Some(4),
        ..LaneStatus::new(lane, format!("millrace-x-{lane}"), LaneState::Up)
    };
    RouteStatus {
        namespace: "plant".into(),
        name: name.into(),
        phase: Phase::Running,
        ready: true,
        problems: vec![],
        lanes: vec![lane(0), lane(1)],
        ledger: Ledger {
            received: 24_120,
            written: 23_000,
            filtered: 1_100,
            in_flight: 20,
            ..Ledger::default()
        },
        received_per_second: 1_998.4,
        written_per_second: 1_899.6,
        latency: Latency {
            p50_us: 3_000,
            p99_us: 6_400,
            max_us: 9_000,
        },
        buffered_bytes: 0,
        ..RouteStatus::default()
    }
}

fn shown(routes: &[RouteStatus], width: usize, height: usize) -> Vec<String> {
    let lines = frame(&[], routes, &[], Size { width, height });
    lines
        .iter()
        .map(|line| line.render(false).trim_end().to_owned())
        .collect()
}

#[test]
fn eighty_columns_show_figures_and_the_ledger_below() {
    assert_eq!(
        shown(&[route("telemetry")], 80, 24),
        [
            "ROUTE      STATE       RECEIVED/S  WRITTEN/S  IN FLIGHT  OLDEST     P99",
            "telemetry  running          1,998      1,900         20  4.0 ms  6.4 ms",
            "  24,120 received = 23,000 written + 1,100 filtered + 20 in flight",
        ]
    );
}

#[test]
fn wide_terminals_show_the_ledger_in_columns() {
    let lines = shown(&[route("telemetry")], 140, 40);
    assert!(
        lines[0].ends_with("P99   RECEIVED    WRITTEN   FILTERED"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].ends_with("6.4 ms     24,120     23,000      1,100"),
        "{}",
        lines[1]
    );
    assert_eq!(lines.len(), 2, "no ledger line besides");
}

#[test]
fn a_lane_that_is_down_shows_instead_of_running() {
    let mut one = route("telemetry");
    one.lanes[1].state = LaneState::Waiting;
    assert!(shown(&[one.clone()], 80, 24)[1].starts_with("telemetry  1/2 up"));
    one.lanes[1].state = LaneState::Idle;
    assert!(
        shown(&[one], 80, 24)[1].starts_with("telemetry  running"),
        "an idle lane has nothing to do"
    );
}

#[test]
fn namespaces_show_only_where_they_tell_routes_apart() {
    let mut other = route("telemetry");
    assert!(shown(&[route("telemetry"), route("alarms")], 80, 24)[1].starts_with("telemetry  "));
    other.namespace = "office".into();
    assert!(shown(&[route("telemetry"), other], 80, 24)[3].starts_with("office/telemetry"));
}

#[test]
fn problems_stand_below_in_words_and_wrapped() {
    let mut one = route("telemetry");
    let message = "mqtt://mqtt.plant:1883: connection refused. Is the broker running, and is the port right?";
    one.problems = vec![Problem {
        reason: Reason::BrokerUnreachable,
        message: message.into(),
    }];
    let lines = shown(&[one], 60, 24);
    let first = lines.iter().position(|line| line.starts_with('!')).unwrap();
    assert_eq!(
        lines[first],
        "! telemetry: BrokerUnreachable: mqtt://mqtt.plant:1883:"
    );
    assert!(
        lines[first + 1..].iter().all(|line| line.starts_with("  ")),
        "{lines:#?}"
    );
}

#[test]
fn a_problem_that_routes_share_stands_once() {
    let away = Problem {
        reason: Reason::KafkaUnreachable,
        message: "no answer".into(),
    };
    let mut routes = ["telemetry", "hot", "events"].map(route);
    routes
        .iter_mut()
        .for_each(|route| route.problems = vec![away.clone()]);
    let problems = |routes: &[RouteStatus]| {
        let lines = shown(routes, 80, 24).into_iter();
        lines.filter(|line| line.starts_with('!')).collect::<Vec<_>>()
    };
    assert_eq!(problems(&routes), ["! all routes: KafkaUnreachable: no answer"]);
    routes[1].problems.clear();
    assert_eq!(
        problems(&routes),
        ["! telemetry, events: KafkaUnreachable: no answer"]
    );
}

#[test]
fn a_ledger_that_does_not_balance_cannot_pass_for_one_that_does() {
    let ledger = Ledger {
        received: 3,
        written: 2,
        ..Ledger::default()
    };
    assert_eq!(equation(&ledger), "3 received ≠ 2 written");
    assert_eq!(equation(&Ledger::default()), "0 received = 0");
}

#[test]
fn no_terminal_is_too_small_and_none_is_overrun() {
    let mut routes: Vec<RouteStatus> = (0..30).map(|i| route(&format!("route-{i}"))).collect();
    routes[17].problems = vec![Problem {
        reason: Reason::KafkaUnreachable,
        message: "no answer ".repeat(60),
    }];
    let heading = [Line::plain("millrace demo"), Line::new()];
    for width in [0, 1, 7, 20, 40, 80, 140, 300] {
        for height in 0..50 {
            let lines = frame(
                &heading,
                &routes,
                &[Line::plain("Ctrl-C")],
                Size { width, height },
            );
            assert!(lines.len() <= height, "{} lines in {height}", lines.len());
            assert!(lines.iter().all(|line| line.width() <= width), "{width}");
        }
    }
    let lines = shown(&routes, 80, 24);
    assert!(
        lines.iter().any(|line| line.starts_with("route-17 ")),
        "a route with a problem is never left out"
    );
    assert!(lines.iter().any(|line| line.starts_with("… and ")), "{lines:#?}");
}
