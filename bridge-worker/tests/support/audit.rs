//! Whether a group ever commits an offset whose message the broker has not confirmed.

use super::Witness;
use millrace_testkit::{committed, now_micros};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Looks at random moments at what Kafka has of a group, and compares it with what the broker has confirmed by then.
pub struct Audit {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Findings>,
}

/// What an audit has seen.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Looks at a partition.
    pub looks: u64,
    /// Among them those at which the offset had moved since the one before.
    pub moved: u64,
    /// Among them those at which the broker had confirmed less than was committed.
    pub ahead: u64,
    /// The largest number of records that was committed and not confirmed.
    pub most_ahead: u64,
}

impl Audit {
    /// Of a group that reads one topic, until it is finished.
    pub fn start(bootstrap: String, group: String, topic: String, witness: Arc<Witness>) -> Audit {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut findings = Findings::default();
            let mut before = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                // Kafka first: what is confirmed then only grows until it is looked at.
                if let Some(offsets) = committed(&bootstrap, &group, &topic) {
                    let confirmed = witness.confirmed();
                    before.resize(offsets.len().max(before.len()), 0);
                    for (partition, offset) in offsets {
                        let partition = partition as usize;
                        let offset = u64::try_from(offset).expect("an offset");
                        let ahead = offset.saturating_sub(confirmed.get(partition).copied().unwrap_or(0));
                        findings.looks += 1;
                        findings.moved += u64::from(before[partition] != offset);
                        findings.ahead += u64::from(ahead > 0);
                        findings.most_ahead = findings.most_ahead.max(ahead);
                        before[partition] = offset;
                    }
                }
                // The clock's last digits are as good as a die.
                thread::sleep(Duration::from_millis(20 + now_micros() % 180));
            }
            findings
        });
        Audit { stop, thread }
    }

    pub fn finish(self) -> Findings {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the audit")
    }
}
