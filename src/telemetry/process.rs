//! What the kernel says about this process, read from `/proc/self` when somebody asks.

use std::fs;

/// Ticks a second in `/proc/self/stat`: part of Linux' interface to user space (USER_HZ), whatever the kernel's own
/// timer does.
const TICKS: f64 = 100.0;

/// The process as the kernel sees it. What could not be read is `None`: `/proc` may be missing in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time, user and system, seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory, bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Descriptors that may be open.
    pub max_fds: Option<u64>,
}

impl Process {
    /// The process now.
    pub fn read() -> Process {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let mut process = parse(&text("/proc/self/stat"), &text("/proc/self/status"), &text("/proc/self/limits"));
        // The folder is open itself while it is read.
        process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1));
        process
    }
}

fn parse(stat: &str, status: &str, limits: &str) -> Process {
    let line = |text: &'_ str, name: &str| -> Option<String> {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
    };
    let kilobytes = |name| line(status, name)?.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024);
    Process {
        // The second field is the program's name in brackets and may hold anything; utime and stime are the 14th and
        // 15th, so the 12th and 13th after it.
        cpu_seconds: stat.rsplit_once(')').and_then(|(_, rest)| {
            let mut fields = rest.split_whitespace().skip(11);
            let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((user + system) / TICKS)
        }),
        resident_bytes: kilobytes("VmRSS:"),
        virtual_bytes: kilobytes("VmSize:"),
        threads: line(status, "Threads:").and_then(|rest| rest.trim().parse().ok()),
        open_fds: None,
        max_fds: line(limits, "Max open files").and_then(|rest| rest.split_whitespace().next()?.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 5 0 100 1000 10";
        let status = "Name:\ta\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t5\n";
        let limits =
            "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 4096 files\n";
        let process = parse(stat, status, limits);
        assert_eq!(process.cpu_seconds, Some(3.0));
        assert_eq!((process.resident_bytes, process.virtual_bytes), (Some(1024 * 1024), Some(2048 * 1024)));
        assert_eq!((process.threads, process.max_fds), (Some(5), Some(1024)));
    }

    #[test]
    fn nonsense_is_nothing() {
        assert_eq!(parse("", "VmRSS: many", "Max open files unlimited"), Process::default());
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 0));
        assert!(process.open_fds.is_some_and(|fds| fds > 0));
    }
}
