//! The use of the CPUs between two samples of `/proc/stat`.

use std::path::Path;

use procfs_core::{CpuTime, ExplicitSystemInfo, FromReadSI, KernelStats};

use super::reading::{Reading, ReadingError};

/// The CPU times since the machine was started, in ticks of all CPUs together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CpuSample {
    pub(crate) cpus: usize,
    user: u64,
    system: u64,
    iowait: u64,
    steal: u64,
    idle: u64,
}

/// The use of the CPUs during some time, each in percent of all CPUs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuShares {
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// Idle while a task waited for a disk.
    pub(crate) iowait: f64,
    /// Taken by the hypervisor for other machines.
    pub(crate) steal: f64,
}

impl CpuSample {
    pub(crate) fn read(proc: &Path) -> Reading<Self> {
        let path = proc.join("stat");
        let stat = KernelStats::from_file(&path, &UNITS)
            .map_err(|error| ReadingError::of_parser(&path, error))?;
        Ok(Self::of(&stat.total, stat.cpu_time.len()))
    }

    /// `user` includes the time of guests.
    fn of(time: &CpuTime, cpus: usize) -> Self {
        let or_0 = Option::unwrap_or_default;
        Self {
            cpus,
            user: time.user + time.nice,
            system: time.system + or_0(time.irq) + or_0(time.softirq),
            iowait: or_0(time.iowait),
            steal: or_0(time.steal),
            idle: time.idle,
        }
    }

    /// Returns true if enough time has passed since an earlier sample for percentages of some precision.
    pub(crate) fn is_well_after(&self, earlier: &Self) -> bool {
        let ticks = |sample: &Self| {
            sample.user + sample.system + sample.iowait + sample.steal + sample.idle
        };
        let cpus = u64::try_from(self.cpus).unwrap_or(u64::MAX);
        ticks(self).saturating_sub(ticks(earlier)) >= cpus.saturating_mul(MIN_TICKS)
    }

    /// Returns the use since an earlier sample; `None` if no tick has passed.
    #[expect(clippy::cast_precision_loss, reason = "percent, not accounts")]
    pub(crate) fn since(&self, earlier: &Self) -> Option<CpuShares> {
        // `iowait` and `idle` can decrease, for example when a CPU is taken offline.
        let ticks = [
            self.user.saturating_sub(earlier.user),
            self.system.saturating_sub(earlier.system),
            self.iowait.saturating_sub(earlier.iowait),
            self.steal.saturating_sub(earlier.steal),
            self.idle.saturating_sub(earlier.idle),
        ];
        let all: u64 = ticks.iter().sum();
        let [user, system, iowait, steal, _] = ticks.map(|ticks| 100.0 * ticks as f64 / all as f64);
        (all > 0).then_some(CpuShares {
            user,
            system,
            iowait,
            steal,
        })
    }
}

impl CpuShares {
    /// Returns the percentage that was not idle.
    pub(crate) fn busy(&self) -> f64 {
        self.user + self.system + self.steal
    }
}

/// Ticks of each CPU, of 10 ms on most machines.
const MIN_TICKS: u64 = 20;

/// The parser asks for units; ticks need none.
const UNITS: ExplicitSystemInfo = ExplicitSystemInfo {
    boot_time_secs: 0,
    ticks_per_second: 100,
    page_size: 4096,
    is_little_endian: true,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_was_not_idle_and_waiting_for_a_disk_is_idle() {
        let earlier = CpuSample::default();
        let now = CpuSample {
            cpus: 2,
            user: 30,
            system: 10,
            iowait: 20,
            steal: 5,
            idle: 35,
        };
        let shares = now.since(&earlier).unwrap();
        assert!((shares.busy() - 45.0).abs() < 1e-9, "{shares:?}");
        assert!((shares.iowait - 20.0).abs() < 1e-9, "{shares:?}");
        assert_eq!(now.since(&now), None, "no tick has passed");
    }

    #[test]
    fn a_counter_that_decreases_counts_as_0() {
        let earlier = CpuSample {
            idle: 50,
            iowait: 100,
            ..CpuSample::default()
        };
        let now = CpuSample {
            idle: 100,
            iowait: 90,
            ..CpuSample::default()
        };
        let shares = now.since(&earlier).unwrap();
        assert_eq!((shares.busy(), shares.iowait), (0.0, 0.0));
    }
}
