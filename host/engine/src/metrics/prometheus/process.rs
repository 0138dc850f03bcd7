//! Metrics of the host's own process, under the names that all Prometheus clients use.

use std::io;

#[cfg(windows)]
mod windows;

/// Returns the metrics of this process in the text format.
#[cfg(target_os = "linux")]
pub(super) fn text() -> io::Result<String> {
    use ::prometheus::{Registry, TextEncoder, process_collector::ProcessCollector};
    let registry = Registry::new();
    let mut text = String::new();
    registry
        .register(Box::new(ProcessCollector::for_self()))
        .and_then(|()| TextEncoder::new().encode_utf8(&registry.gather(), &mut text))
        .map_err(io::Error::other)?;
    Ok(text)
}

/// Returns the same metrics as Prometheus's Go client does on Windows; the crate's collector reads `/proc`.
#[cfg(windows)]
pub(super) fn text() -> io::Result<String> {
    Ok(windows::usage()?.to_text())
}

#[cfg(not(any(target_os = "linux", windows)))]
pub(super) fn text() -> io::Result<String> {
    Ok(String::new())
}

/// The resources that a process uses.
#[cfg(any(windows, test))]
#[derive(Debug)]
struct ProcessUsage {
    /// User and system time.
    cpu_seconds: f64,
    open_handles: f64,
    max_handles: f64,
    /// Memory in RAM.
    resident_bytes: f64,
    /// Memory committed to it, in RAM or in the page file.
    private_bytes: f64,
    /// Since 1970.
    start_seconds: f64,
}

#[cfg(any(windows, test))]
impl ProcessUsage {
    fn to_text(&self) -> String {
        let families = [
            (
                "process_cpu_seconds_total",
                "counter",
                "Total user and system CPU time spent in seconds.",
                self.cpu_seconds,
            ),
            (
                "process_max_fds",
                "gauge",
                "Maximum number of open file descriptors.",
                self.max_handles,
            ),
            (
                "process_open_fds",
                "gauge",
                "Number of open file descriptors.",
                self.open_handles,
            ),
            (
                "process_resident_memory_bytes",
                "gauge",
                "Resident memory size in bytes.",
                self.resident_bytes,
            ),
            (
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since unix epoch in seconds.",
                self.start_seconds,
            ),
            (
                "process_virtual_memory_bytes",
                "gauge",
                "Virtual memory size in bytes.",
                self.private_bytes,
            ),
        ];
        let texts = families.map(|(name, kind, help, value)| {
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n")
        });
        texts.concat()
    }
}

/// Returns the seconds in a number of 100 ns, Windows's unit of time.
#[cfg(any(windows, test))]
#[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / 1e7
}

/// Returns the seconds since 1970 at a time of Windows, which counts from 1601.
#[cfg(any(windows, test))]
fn unix_seconds(ticks: u64) -> f64 {
    seconds(ticks) - 11_644_473_600.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_help_and_type_and_one_value() {
        let usage = ProcessUsage {
            cpu_seconds: 1.5,
            open_handles: 200.0,
            max_handles: 16_777_216.0,
            resident_bytes: 30_000_000.0,
            private_bytes: 20_000_000.0,
            start_seconds: unix_seconds(116_444_736_000_000_000 + 25_000_000),
        };
        let text = usage.to_text();
        assert_eq!(text.lines().count(), 18);
        for line in [
            "# TYPE process_cpu_seconds_total counter",
            "process_cpu_seconds_total 1.5",
            "process_open_fds 200",
            "process_max_fds 16777216",
            "process_resident_memory_bytes 30000000",
            "process_start_time_seconds 2.5",
            "process_virtual_memory_bytes 20000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }
}
