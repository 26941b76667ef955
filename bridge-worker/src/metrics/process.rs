use std::path::Path;
use std::time::Duration;

/// `/proc/self/stat` counts CPU time in these per second, on every Linux that Rust runs on (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// What the whole process uses. Figures that the system does not tell are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// CPU time of all threads, user and system.
    pub cpu: Option<Duration>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
}

impl ProcessUsage {
    /// Reads it from the system, now.
    pub fn now() -> Self {
        let read = |file| std::fs::read_to_string(file).ok();
        Self {
            cpu: read("/proc/self/stat").as_deref().and_then(cpu_of),
            resident_bytes: read("/proc/self/status").as_deref().and_then(resident_of),
        }
    }

    /// CPU time of one thread, by its folder below `/proc/self/task`.
    pub(crate) fn cpu_of_thread(folder: &Path) -> Option<Duration> {
        cpu_of(&std::fs::read_to_string(folder.join("stat")).ok()?)
    }
}

/// Fields 14 and 15 of `proc_pid_stat(5)`; the second field, the command, may hold anything but ends at the last
/// parenthesis.
fn cpu_of(stat: &str) -> Option<Duration> {
    let mut after_command = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = after_command.next()?.parse().ok()?;
    let system: u64 = after_command.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / TICKS_PER_SECOND))
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_user_and_system_time_of_a_command_with_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 100 1000 10";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("garbage"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            resident_of("Name:\tx\nVmRSS:\t    2048 kB\n"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(resident_of("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_both() {
        let usage = ProcessUsage::now();
        assert!(
            usage.cpu.is_some() && usage.resident_bytes.is_some_and(|bytes| bytes > 100_000),
            "{usage:?}"
        );
    }
}
