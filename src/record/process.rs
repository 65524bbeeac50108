//! The process's own metrics (`process_*`, as Prometheus' client libraries name them), read from `/proc` at each scrape. What `/proc` does not tell is not shown.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

use super::families::known_good;

/// Ticks a second in `/proc/*/stat`: `USER_HZ`, part of Linux' ABI on every architecture that we are built for.
const TICKS: f64 = 100.0;

pub(super) struct Process {
    cpu: Counter,
    resident: Gauge,
    virtual_: Gauge,
    threads: Gauge,
    open_files: Gauge,
    most_files: Gauge,
    start: Gauge,
    /// When the machine started, in seconds since the epoch. `/proc/stat` is long on large machines, so it is read once.
    boot: Option<f64>,
}

impl Process {
    pub(super) fn new() -> Self {
        let gauge = |name, help| known_good(Gauge::new(name, help));
        Self {
            cpu: known_good(Counter::new("process_cpu_seconds_total", "User and system CPU time.")),
            resident: gauge("process_resident_memory_bytes", "Resident memory."),
            virtual_: gauge("process_virtual_memory_bytes", "Virtual memory."),
            threads: gauge("process_threads", "OS threads."),
            open_files: gauge("process_open_fds", "Open file descriptors."),
            most_files: gauge("process_max_fds", "Most file descriptors that may be open."),
            start: gauge("process_start_time_seconds", "When the process started, in seconds since the epoch."),
            boot: fs::read_to_string("/proc/stat").ok().and_then(|stat| after(&stat, "btime ")),
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.resident, &self.virtual_, &self.threads, &self.open_files, &self.most_files, &self.start];
        self.cpu.desc().into_iter().chain(gauges.into_iter().flat_map(Collector::desc)).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut families = Vec::new();
        if let Some(stat) = Stat::parse(&read("/proc/self/stat")) {
            // Two scrapes at once may have read in either order; a counter never goes back.
            self.cpu.inc_by((stat.cpu - self.cpu.get()).max(0.0));
            families.extend(self.cpu.collect());
            families.extend(self.boot.map(|boot| level(&self.start, boot + stat.start_since_boot)).into_iter().flatten());
        }
        let status = read("/proc/self/status");
        let kibibytes = |key| after(&status, key).map(|kibibytes| kibibytes * 1024.0);
        for (gauge, value) in [
            (&self.resident, kibibytes("VmRSS:")),
            (&self.virtual_, kibibytes("VmSize:")),
            (&self.threads, after(&status, "Threads:")),
            (&self.open_files, open_files()),
            (&self.most_files, after(&read("/proc/self/limits"), "Max open files ")),
        ] {
            families.extend(value.map(|value| level(gauge, value)).into_iter().flatten());
        }
        families
    }
}

fn level(gauge: &Gauge, value: f64) -> Vec<MetricFamily> {
    gauge.set(value);
    gauge.collect()
}

/// The number that follows `key` at the start of a line.
fn after(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Since Linux 6.2 the directory's size is their number; before, they are counted, less the one that counts.
#[expect(clippy::cast_precision_loss, reason = "a process has no 2^52 files")]
fn open_files() -> Option<f64> {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).ok()?.len() {
        0 => Some(fs::read_dir(DIRECTORY).ok()?.count().saturating_sub(1) as f64),
        number => Some(number as f64),
    }
}

/// What `/proc/self/stat` tells (proc(5)), in seconds.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu: f64,
    start_since_boot: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses, which may itself hold blanks and parentheses.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().map(str::parse::<f64>);
        let user = fields.nth(11)?.ok()?; // utime, the 14th
        let system = fields.next()?.ok()?; // stime, the 15th
        let start = fields.nth(6)?.ok()?; // starttime, the 22nd
        Some(Self { cpu: (user + system) / TICKS, start_since_boot: start / TICKS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_stat_are_counted_after_the_name() {
        let stat = "4242 (a) b (c) S 1 4242 4242 0 -1 4194560 9000 0 12 0 150 50 0 0 20 0 7 0 123456 1000000 2000";
        assert_eq!(Stat::parse(stat), Some(Stat { cpu: 2.0, start_since_boot: 1234.56 }));
        assert_eq!(Stat::parse("4242 (cut) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_key_is_found_at_the_start_of_its_line() {
        assert_eq!(after("Name:\tx\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1234.0));
        assert_eq!(after("Max open files            1024                 4096                 files\n", "Max open files "), Some(1024.0));
        assert_eq!(after("Max open files            unlimited            unlimited            files\n", "Max open files "), None);
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let families = Process::new().collect();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            family.get_metric()[0].get_gauge().get_value()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
    }
}
