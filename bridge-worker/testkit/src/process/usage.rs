//! CPU time and memory of a process, from `/proc`.

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads in user and system mode, in microseconds, in steps of one clock tick (10 ms).
    pub cpu_micros: u64,
    /// Resident memory now, in bytes.
    pub rss_bytes: u64,
    /// The most resident memory it ever had, in bytes.
    pub peak_rss_bytes: u64,
}

/// What the process `pid` has used; `None` when it does not exist or has ended.
///
/// ```
/// let usage = millrace_testkit::usage(std::process::id()).unwrap();
/// assert!(usage.rss_bytes > 0 && usage.peak_rss_bytes >= usage.rss_bytes);
/// ```
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (ticks, state) = parse_stat(&stat)?;
    // A zombie is over: it only waits for its parent to look.
    if state == 'Z' {
        return None;
    }
    let cpu_micros = ticks * 1_000_000 / rustix::param::clock_ticks_per_second();
    Some(Usage {
        cpu_micros,
        rss_bytes: kib(&status, "VmRSS:")?,
        peak_rss_bytes: kib(&status, "VmHWM:")?,
    })
}

/// Ticks (fields 14 and 15) and state (field 3) of `/proc/PID/stat`. The second field, the name, may hold spaces and
/// brackets; what follows its last bracket is regular.
fn parse_stat(stat: &str) -> Option<(u64, char)> {
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((number(11)? + number(12)?, fields.first()?.chars().next()?))
}

/// The value of a line `<name> <n> kB` of `/proc/PID/status`, in bytes.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 17 5 0 0 20 0 1 0 100 1000 200";
        assert_eq!(parse_stat(stat), Some((22, 'S')));
    }

    #[test]
    fn work_costs_cpu_time() {
        let before = usage(std::process::id()).unwrap().cpu_micros;
        crate::wait_until(std::time::Duration::from_secs(20), "CPU time to pass", || {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
            usage(std::process::id()).unwrap().cpu_micros >= before + 20_000
        });
    }
}
