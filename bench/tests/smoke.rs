//! The parts work together, so that the benchmark cannot rot between releases.

use std::path::PathBuf;
use std::time::Duration;

use millrace_bench::harness::Timing;
use millrace_bench::harness::bridge::Lab;
use millrace_bench::harness::cases::Synthetic;
use millrace_bench::harness::sample::{Metric, Subject};
use millrace_bench::harness::synthetic;
use millrace_contract::Compression;

const SECOND: Timing = Timing {
    warm: Duration::from_millis(100),
    measure: Duration::from_secs(1),
};

fn lab(logs: &tempfile::TempDir) -> Lab {
    Lab {
        bench: PathBuf::from(env!("CARGO_BIN_EXE_millrace-bench")),
        worker: PathBuf::from("not used here"),
        logs: logs.path().to_owned(),
    }
}

fn load(rate: Option<u64>) -> Synthetic {
    Synthetic {
        qos: 1,
        size: 100,
        rate,
        linger_ms: 5,
        compression: Compression::None,
        overrun: None,
    }
}

#[test]
fn the_contender_bridges_what_the_synthetic_broker_sends() {
    let logs = tempfile::tempdir().unwrap();
    let sample = synthetic::run(&lab(&logs), &load(None), Subject::Contender, SECOND).unwrap();
    assert!(sample.messages > 1_000, "{sample:?}");
    assert!(
        sample.latency_us.count >= sample.messages,
        "every ack has a latency: {sample:?}"
    );
    assert!(Metric::CpuMicros.of(&sample).unwrap() > 0.1, "{sample:?}");
    assert!(
        sample.resident_mib > 1.0 && sample.peak_mib >= sample.resident_mib / 2.0,
        "{sample:?}"
    );
    let wrong = |violation: &&String| !violation.ends_with("acks out of order");
    assert_eq!(
        sample.violations.iter().find(wrong),
        None,
        "each ack is of an outstanding message"
    );
}

#[test]
fn qos_2_completes_every_handshake() {
    let logs = tempfile::tempdir().unwrap();
    let load = Synthetic { qos: 2, ..load(None) };
    let sample = synthetic::run(&lab(&logs), &load, Subject::Contender, SECOND).unwrap();
    // More than fits a window: ids came free, which takes a PUBCOMP each.
    assert!(sample.messages > 20_000, "{sample:?}");
}

#[test]
fn a_rate_is_kept() {
    let logs = tempfile::tempdir().unwrap();
    let sample = synthetic::run(&lab(&logs), &load(Some(2_000)), Subject::Contender, SECOND).unwrap();
    let rate = Metric::PerSecond.of(&sample).unwrap();
    assert!((1_800.0..2_200.0).contains(&rate), "{sample:?}");
    assert!(
        sample.latency_us.p50 > 0 && sample.latency_us.p99 >= sample.latency_us.p50,
        "{sample:?}"
    );
}

#[test]
fn without_messages_only_memory_is_measured() {
    let logs = tempfile::tempdir().unwrap();
    let sample = synthetic::run(&lab(&logs), &load(Some(0)), Subject::Contender, SECOND).unwrap();
    assert_eq!(sample.messages, 0);
    assert_eq!(Metric::CpuMicros.of(&sample), None);
    assert!(Metric::ResidentMib.of(&sample).unwrap() > 1.0);
}
