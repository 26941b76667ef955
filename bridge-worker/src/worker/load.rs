//! How much of what it may use a process uses: what an autoscaler acts by.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::metrics::ProcessUsage;

/// The load is taken over so much time.
const WINDOW: Duration = Duration::from_secs(10);
/// It is not measured more often.
const PACE: Duration = Duration::from_secs(1);
/// In thousandths of a core: what the pod requests, or 0 where it requests nothing.
const CPU_REQUEST: &str = "MILLRACE_CPU_REQUEST";

/// How much of what it may use a process uses.
#[derive(Debug)]
pub(crate) struct Load {
    /// Cores that it can count on.
    cores: f64,
    samples: VecDeque<(Instant, Sample)>,
}

/// CPU time so far.
#[derive(Clone, Debug, Default)]
struct Sample {
    process: Duration,
    threads: BTreeMap<u32, Duration>,
}

impl Default for Load {
    fn default() -> Self {
        let request = std::env::var(CPU_REQUEST).ok();
        let millis = request.and_then(|text| text.trim().parse::<u32>().ok());
        let cores = match millis.filter(|millis| *millis > 0) {
            Some(millis) => f64::from(millis) / 1e3,
            None => std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
        };
        Self {
            cores,
            samples: VecDeque::new(),
        }
    }
}

impl Load {
    /// The load until now: 1 is all that the process can count on. More threads than one cannot share the work of a lane,
    /// so the busiest of them counts as well.
    pub(crate) fn at(&mut self, now: Instant) -> f64 {
        if self.samples.back().is_none_or(|(at, _)| now - *at >= PACE) {
            self.samples.push_back((now, Sample::now()));
        }
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.samples.pop_front();
        }
        let (Some((since, before)), Some((until, after))) = (self.samples.front(), self.samples.back())
        else {
            return 0.0;
        };
        load(before, after, *until - *since, self.cores)
    }
}

fn load(before: &Sample, after: &Sample, time: Duration, cores: f64) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    let share =
        |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64() / time.as_secs_f64();
    let threads = after.threads.iter().map(|(id, after)| {
        let before = before.threads.get(id).copied().unwrap_or_default();
        share(before, *after)
    });
    let busiest = threads.fold(0.0, f64::max);
    f64::max(share(before.process, after.process) / cores, busiest)
}

impl Sample {
    fn now() -> Self {
        let threads = std::fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten();
        let threads = threads.filter_map(|thread| {
            let id = thread.file_name().to_str()?.parse().ok()?;
            Some((id, ProcessUsage::cpu_of_thread(&thread.path())?))
        });
        Self {
            process: ProcessUsage::now().cpu.unwrap_or_default(),
            threads: threads.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(process: u64, threads: &[(u32, u64)]) -> Sample {
        Sample {
            process: Duration::from_millis(process),
            threads: threads
                .iter()
                .map(|(id, millis)| (*id, Duration::from_millis(*millis)))
                .collect(),
        }
    }

    #[test]
    fn it_is_the_share_of_what_is_requested_or_of_the_busiest_thread() {
        let second = Duration::from_secs(1);
        let before = sample(1_000, &[(1, 500), (2, 500)]);
        // All do a little.
        let spread = sample(1_300, &[(1, 600), (2, 600), (3, 100)]);
        assert_eq!(load(&before, &spread, second, 0.25), 1.2);
        // One of two cores is busy, and the thread can do no more.
        let single = sample(1_900, &[(1, 1_400), (2, 500)]);
        assert_eq!(load(&before, &single, second, 2.0), 0.9);
        assert_eq!(load(&before, &before, second, 2.0), 0.0);
        assert_eq!(load(&before, &single, Duration::ZERO, 2.0), 0.0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_that_works_is_seen() {
        let before = Sample::now();
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {}
        let after = Sample::now();
        let used = after.threads.iter().map(|(id, cpu)| {
            let before = before.threads.get(id).copied().unwrap_or_default();
            cpu.saturating_sub(before)
        });
        assert!(
            used.max().is_some_and(|used| used >= Duration::from_millis(20)),
            "{after:?}"
        );
        assert!(after.process > before.process);
    }
}
