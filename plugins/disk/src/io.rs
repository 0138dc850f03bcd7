//! The latency of block devices between two samples of `/proc/diskstats`.

use std::{collections::BTreeMap, fs, io, time::Duration};

use crate::mounts::MountEntry;

/// The latency of each block device between two checks.
#[derive(Debug, Default)]
pub(crate) struct IoLatencies {
    earlier: Option<DeviceCounters>,
    /// The latest sample, or the error.
    now: Option<io::Result<DeviceCounters>>,
}

/// The reason why the latency of a file system is unknown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IoError {
    #[error("cannot read /proc/diskstats: {0}")]
    Unreadable(String),
    #[error("{0} is no block device whose reads and writes the kernel counts; remove the key")]
    NoDevice(String),
}

impl IoLatencies {
    /// Takes a sample; the latencies are those since the previous one.
    pub(crate) fn sample(&mut self) {
        if let Some(Ok(earlier)) = self.now.replace(DeviceCounters::read()) {
            self.earlier = Some(earlier);
        }
    }

    /// Returns the mean time of the reads and writes of a file system's device; `None` if there were none.
    pub(crate) fn of(&self, mount: Option<&MountEntry>) -> Result<Option<Duration>, IoError> {
        let now = match &self.now {
            Some(Ok(now)) => now,
            Some(Err(error)) => return Err(IoError::Unreadable(error.to_string())),
            None => return Ok(None),
        };
        let name = || mount.map_or_else(|| "it".to_owned(), |mount| mount.device.source.clone());
        let number = mount.and_then(|mount| mount.device.block_number());
        let number = number.filter(|number| now.has(number));
        let number = number.ok_or_else(|| IoError::NoDevice(name()))?;
        let earlier = self.earlier.as_ref();
        Ok(earlier.and_then(|earlier| now.latency_since(earlier, &number)))
    }
}

/// Completed reads and writes of each block device since the machine was started, by its number such as `8:17`.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceCounters(BTreeMap<String, IoCounters>);

/// Reads and writes of one device together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct IoCounters {
    completed: u64,
    /// Time that all of them took, in milliseconds.
    milliseconds: u64,
}

impl DeviceCounters {
    /// Reads the counters of all devices; none on a system without such a file.
    pub(crate) fn read() -> io::Result<Self> {
        match fs::read_to_string("/proc/diskstats") {
            Ok(text) => Ok(Self::parse(&text)),
            Err(_) if !cfg!(target_os = "linux") => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Parses the text of `/proc/diskstats`; unknown lines are skipped.
    pub(crate) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(device).collect())
    }

    /// Returns true if the kernel counts the device's reads and writes.
    pub(crate) fn has(&self, number: &str) -> bool {
        self.0.contains_key(number)
    }

    /// Returns the mean time of the reads and writes since an earlier sample; `None` if there were none.
    pub(crate) fn latency_since(&self, earlier: &Self, number: &str) -> Option<Duration> {
        let (now, earlier) = (self.0.get(number)?, earlier.0.get(number)?);
        // A device of the same number that was attached since counts from 0.
        let completed = now.completed.checked_sub(earlier.completed)?;
        let milliseconds = now.milliseconds.checked_sub(earlier.milliseconds)?;
        let completed = u32::try_from(completed).ok().filter(|count| *count > 0)?;
        Some(Duration::from_millis(milliseconds) / completed)
    }
}

/// One line: `8 17 sdb1 reads merged sectors ms writes merged sectors ms …`.
fn device(line: &str) -> Option<(String, IoCounters)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let number = |nth: usize| fields.get(nth)?.parse::<u64>().ok();
    let (major, minor) = (number(0)?, number(1)?);
    let counters = IoCounters {
        completed: number(3)?.saturating_add(number(7)?),
        milliseconds: number(6)?.saturating_add(number(10)?),
    };
    Some((format!("{major}:{minor}"), counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str =
        "   8      16 sdb 100 0 800 50 100 0 800 150 0 0 0\n 8 17 sdb1 1 0 8 1 1 0 8 1 0 0 0\n";

    #[test]
    fn the_latency_is_the_mean_of_what_was_completed_since() {
        let earlier = DeviceCounters::parse(EARLIER);
        let now =
            DeviceCounters::parse("8 16 sdb 110 0 900 150 110 0 900 450 0 0 0\nnot a device\n");
        assert_eq!(
            now.latency_since(&earlier, "8:16"),
            Some(Duration::from_millis(20))
        );
        assert_eq!(now.latency_since(&earlier, "8:17"), None, "detached");
        assert_eq!(now.latency_since(&now, "8:16"), None, "no reads or writes");
        assert!(earlier.has("8:17") && !now.has("8:17"));
    }

    #[test]
    fn counters_that_decrease_are_those_of_another_device() {
        let earlier = DeviceCounters::parse(EARLIER);
        let now = DeviceCounters::parse("8 16 sdb 5 0 40 10 5 0 40 10 0 0 0\n");
        assert_eq!(now.latency_since(&earlier, "8:16"), None);
    }
}
