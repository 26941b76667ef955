use millrace_contract::status::{LaneState, Phase, Problem, Reason, RouteStatus};
use millrace_contract::{LaneOwner, LaneRecord, Ownership};

use super::*;
use crate::top::seen::{Said, WorkerSeen};
use crate::view::table::tests::route as status;

/// A worker's part of a route.
fn answer(load: f64) -> RouteStatus {
    RouteStatus {
        load,
        ..status("telemetry")
    }
}

fn worker(ordinal: u16, answer: Result<RouteStatus, &str>) -> WorkerSeen {
    WorkerSeen {
        name: format!("telemetry-worker-{ordinal}"),
        ordinal: Some(ordinal),
        answer: answer.map_err(str::to_owned),
    }
}

fn route(workers: Vec<WorkerSeen>) -> RouteSeen {
    RouteSeen {
        namespace: "plant".into(),
        name: "telemetry".into(),
        said: Some(Said {
            ready: Some(true),
            reason: "Healthy".into(),
            ..Said::default()
        }),
        workers,
        record: None,
    }
}

fn record(lanes: &[(u16, u16, Ownership)]) -> Option<LaneRecord> {
    let owner = |(lane, ordinal, state): &(u16, u16, Ownership)| LaneOwner {
        lane: *lane,
        ordinal: *ordinal,
        state: *state,
        since: 1,
    };
    Some(LaneRecord {
        generation: 1,
        lanes: lanes.iter().map(owner).collect(),
    })
}

fn shown(routes: &[RouteSeen], hidden: usize, width: usize, height: usize) -> Vec<String> {
    let lines = frame(&[], routes, hidden, &[], Size { width, height });
    let text = lines.iter().map(|line| line.render(false).trim_end().to_owned());
    text.collect()
}

#[test]
fn workers_are_added_up() {
    let routes = [route(vec![
        worker(0, Ok(answer(0.5))),
        worker(1, Ok(answer(0.25))),
    ])];
    assert_eq!(
        shown(&routes, 0, 80, 24),
        [
            "ROUTE      STATE    RECEIVED/S  WRITTEN/S    LOAD   OLDEST  LANES   MOVES",
            "telemetry  Healthy       3,997      3,799    0.75   4.0 ms  0-1:2       -",
            "  48,240 received = 46,000 written + 2,200 filtered + 40 in flight",
        ]
    );
    let wide = shown(&routes, 0, 200, 24);
    assert!(
        wide[0].ends_with("LANES   MOVES  IN FLIGHT      P99   RECEIVED    WRITTEN   FILTERED  BALANCE"),
        "{wide:#?}"
    );
    assert!(
        wide[1].ends_with("0-1:2       -         40   6.4 ms     48,240     46,000      2,200        0"),
        "{wide:#?}"
    );
}

#[test]
fn sums_without_a_worker_are_marked_and_say_which_and_why() {
    let silent = worker(1, Err("no answer within 2 s"));
    let mut one = route(vec![worker(0, Ok(answer(0.5))), silent.clone()]);
    one.record = record(&[(0, 0, Ownership::Owned), (7, 2, Ownership::Owned)]);
    assert_eq!(
        shown(&[one], 0, 90, 24),
        [
            "ROUTE      STATE    RECEIVED/S  WRITTEN/S    LOAD   OLDEST  LANES       MOVES  IN FLIGHT",
            "telemetry  Healthy      ≥1,998     ≥1,900   ≥0.50  ≥4.0 ms  0:2 1-2:?       -        ≥20",
            "  24,120 received = 23,000 written + 1,100 filtered + 20 in flight (1 of 3 workers)",
            "! telemetry: telemetry-worker-1 says nothing: no answer within 2 s",
            "! telemetry: telemetry-worker-2 says nothing: it owns lanes, and there is no such pod",
        ]
    );
    let none = shown(&[route(vec![silent])], 0, 80, 24);
    assert_eq!(
        none[1],
        "telemetry  Healthy           ?          ?       ?        ?  1:?         -"
    );
    assert_eq!(none.len(), 3, "nothing is known of a ledger: {none:#?}");
    let asleep = shown(&[route(vec![])], 0, 80, 24);
    assert_eq!(
        asleep[1],
        "telemetry  Healthy           -          -       -        -              -"
    );
}

#[test]
fn lanes_that_move_are_counted_and_named() {
    let mut there = answer(0.5);
    there.lanes[1].state = LaneState::Connecting;
    let mut one = route(vec![worker(0, Ok(there)), worker(1, Ok(answer(0.25)))]);
    one.record = record(&[
        (0, 0, Ownership::Owned),
        (3, 0, Ownership::Releasing),
        (5, 0, Ownership::Releasing),
        (8, 1, Ownership::Leaving),
    ]);
    let lines = shown(&[one], 0, 100, 24);
    assert!(lines[1].contains("0:1/2 1:2"), "{lines:#?}");
    assert!(lines[1].contains("      3   "), "{lines:#?}");
    assert_eq!(
        lines.last().unwrap(),
        "  telemetry: worker 0 gives up lanes 3, 5; worker 1 ends lane 8"
    );
}

#[test]
fn what_is_wrong_is_said_once_by_whoever_says_it_first() {
    let mut away = answer(0.0);
    away.problems = vec![Problem {
        reason: Reason::KafkaUnreachable,
        message: "no answer".into(),
    }];
    let mut one = route(vec![worker(0, Ok(away.clone())), worker(1, Ok(away))]);
    one.said = Some(Said {
        ready: Some(false),
        reason: "KafkaUnreachable".into(),
        message: "no answer".into(),
        ..Said::default()
    });
    let lines = shown(&[one.clone()], 0, 80, 24);
    let said: Vec<&String> = lines.iter().filter(|line| line.starts_with('!')).collect();
    assert_eq!(said, ["! telemetry: KafkaUnreachable: no answer"]);

    one.workers.clear();
    one.said = Some(Said {
        ready: Some(false),
        reason: "BrokerNotFound".into(),
        message: "there is no MqttBroker plant".into(),
        ..Said::default()
    });
    let lines = shown(&[one], 0, 80, 24);
    assert_eq!(
        lines.last().unwrap(),
        "! telemetry: BrokerNotFound: there is no MqttBroker plant"
    );
}

#[test]
fn a_process_without_an_operator_says_what_it_does() {
    let mut stopped = answer(0.1);
    stopped.phase = Phase::Stopped;
    let mut one = route(vec![WorkerSeen {
        ordinal: None,
        ..worker(0, Ok(stopped))
    }]);
    one.said = None;
    assert!(
        shown(&[one], 0, 80, 24)[1]
            .starts_with("telemetry  stopped       1,998      1,900    0.10   4.0 ms  2"),
    );
}

#[test]
fn every_size_is_kept_to_and_what_is_left_out_is_counted() {
    let mut routes: Vec<RouteSeen> = (0..30)
        .map(|i| RouteSeen {
            name: format!("route-{i}"),
            ..route(vec![worker(0, Ok(answer(0.5)))])
        })
        .collect();
    routes[17].workers[0].answer = Err("no answer ".repeat(60));
    for width in [0, 1, 7, 20, 40, 80, 140, 300] {
        for height in 0..50 {
            let above = [Line::plain("500 routes"), Line::new()];
            let lines = frame(
                &above,
                &routes,
                470,
                &[Line::plain("q ends")],
                Size { width, height },
            );
            assert!(lines.len() <= height, "{} lines in {height}", lines.len());
            assert!(lines.iter().all(|line| line.width() <= width), "{width}");
        }
    }
    let lines = shown(&routes, 470, 80, 24);
    let count = lines.iter().filter(|line| line.starts_with("route-")).count();
    assert!(
        lines.contains(&format!("… and {} more", 500 - count)),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("route-17 ")),
        "{lines:#?}"
    );
    assert_eq!(
        room(
            2,
            2,
            Size {
                width: 80,
                height: 24
            }
        ),
        19
    );
}

#[test]
fn eighty_columns_hold_a_route_with_a_long_name() {
    let mut one = route(vec![worker(0, Ok(answer(12.5))), worker(1, Err("away"))]);
    one.name = "telemetry-of-the-northern-plants".into();
    one.said = Some(Said {
        reason: "SharedSubscriptionsUnsupported".into(),
        ..Said::default()
    });
    let lines = shown(&[one], 0, 80, 24);
    assert!(
        lines[1].starts_with("telemetry-of-the…  SharedSubsc…") && lines[1].ends_with("0:2 1:?"),
        "{lines:#?}"
    );
    assert!(lines[1].chars().count() <= 80);
}
