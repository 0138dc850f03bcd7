//! The checks that are skipped while the machine is short of resources.

use std::time::Duration;

use conductor_types::Priority;

/// The load level of the machine, which decides how far checks are stretched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ResourceMode {
    /// Everything runs.
    #[default]
    Normal,
    /// Short of CPU or memory: checks are stretched.
    Degraded,
    /// Nearly out of memory: checks are stretched more, and low priority is paused.
    Critical,
}

impl ResourceMode {
    /// Returns its name in the log and in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }
}

/// Returns `true` if the check due at slot number `slot` in interval number `tick` runs, and `false` if it is skipped
/// (reason `degraded`).
///
/// Stretching by a factor runs the check in one of that many intervals. The slot number is added so that the platforms
/// take turns: at a factor of two, half of them run in each interval, not all of them in every second one.
pub fn runs_at(
    priority: Priority,
    mode: ResourceMode,
    tick: u64,
    slot: u32,
    interval: Duration,
) -> bool {
    next_run(stretch_factor(priority, mode, interval), tick, slot) == 0
}

/// Returns the number of intervals from slot number `slot` of interval number `tick` to the next check, where one check
/// runs in `factor` intervals; 0 if it runs there.
pub fn next_run(factor: u64, tick: u64, slot: u32) -> u64 {
    let turn = tick.wrapping_add(u64::from(slot));
    (factor - turn % factor) % factor
}

/// Returns the number of intervals per check; at least 1.
pub fn stretch_factor(priority: Priority, mode: ResourceMode, interval: Duration) -> u64 {
    match (priority, mode) {
        (Priority::Critical, _) | (_, ResourceMode::Normal) => 1,
        (Priority::Normal, ResourceMode::Degraded) => 2,
        (Priority::Normal, ResourceMode::Critical) | (Priority::Low, ResourceMode::Degraded) => {
            LONGEST_STRETCH
        }
        // Never more often than in degraded mode, which a long interval would otherwise allow.
        (Priority::Low, ResourceMode::Critical) => {
            intervals_per(SIGN_OF_LIFE, interval).max(LONGEST_STRETCH)
        }
    }
}

fn intervals_per(time: Duration, interval: Duration) -> u64 {
    let count = time.as_nanos().div_ceil(interval.as_nanos().max(1));
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The largest stretch factor; with fewer checks, the platform is paused except for a rare check.
pub const LONGEST_STRETCH: u64 = 4;

/// The interval at which a paused platform is still checked.
const SIGN_OF_LIFE: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn runs_of_one_slot(
        priority: Priority,
        mode: ResourceMode,
        interval: Duration,
        ticks: u64,
    ) -> usize {
        (0..ticks)
            .filter(|&tick| runs_at(priority, mode, tick, 3, interval))
            .count()
    }

    #[test]
    fn each_priority_is_stretched_as_the_table_says() {
        for (priority, mode, runs) in [
            (Priority::Critical, ResourceMode::Normal, 720),
            (Priority::Critical, ResourceMode::Degraded, 720),
            (Priority::Critical, ResourceMode::Critical, 720),
            (Priority::Normal, ResourceMode::Normal, 720),
            (Priority::Normal, ResourceMode::Degraded, 360),
            (Priority::Normal, ResourceMode::Critical, 180),
            (Priority::Low, ResourceMode::Normal, 720),
            (Priority::Low, ResourceMode::Degraded, 180),
            (Priority::Low, ResourceMode::Critical, 4),
        ] {
            // 720 intervals of 5 s are an hour.
            assert_eq!(
                runs_of_one_slot(priority, mode, INTERVAL, 720),
                runs,
                "{priority:?} in {mode:?}"
            );
        }
    }

    #[test]
    fn half_of_the_platforms_run_in_each_stretched_interval() {
        for tick in 0..10 {
            let running = (0..1000).filter(|&slot| {
                runs_at(
                    Priority::Normal,
                    ResourceMode::Degraded,
                    tick,
                    slot,
                    INTERVAL,
                )
            });
            assert_eq!(running.count(), 500, "interval {tick}");
        }
    }

    #[test]
    fn a_paused_platform_is_never_checked_more_often_than_a_stretched_one() {
        for seconds in [1, 7, 225, 300, 899, 900, 3600] {
            let interval = Duration::from_secs(seconds);
            let paused = runs_of_one_slot(Priority::Low, ResourceMode::Critical, interval, 100_000);
            let stretched =
                runs_of_one_slot(Priority::Low, ResourceMode::Degraded, interval, 100_000);
            assert!(
                paused <= stretched,
                "{seconds} s: {paused} runs against {stretched}"
            );
        }
    }
}
