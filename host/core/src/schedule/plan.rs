//! The schedule's plan, for people: start times, and the load they cause.

use std::time::Duration;

use super::ScheduleKey;

/// All recurring entries, by interval and then by phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulePlan {
    entries: Vec<PlannedEntry>,
}

/// One entry of a plan: it starts at `origin + phase + k x interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedEntry {
    /// The period between two starts.
    pub interval: Duration,
    /// The time from the beginning of the interval to the start.
    pub phase: Duration,
    /// Position on the ladder of its interval, from 0.
    pub slot: u32,
    /// The entry.
    pub key: ScheduleKey,
}

/// The starts in the busiest window, and what an even spread would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeakLoad {
    /// Starts in the busiest window.
    pub count: u64,
    /// Starts in each window if all were perfectly spread, rounded up.
    pub ideal: u64,
}

impl SchedulePlan {
    pub(super) fn new(mut entries: Vec<PlannedEntry>) -> Self {
        entries.sort_unstable();
        Self { entries }
    }

    /// Returns the entries, by interval and then by phase.
    pub fn entries(&self) -> &[PlannedEntry] {
        &self.entries
    }

    /// Returns the busiest window of the given length, wherever it begins.
    ///
    /// With one interval this is exact. Several intervals drift past each other, and their peaks are added up as if
    /// they coincided, which is an upper bound. For a window as long as the longest check, it is the number of threads
    /// with which no check ever waits.
    pub fn peak(&self, window: Duration) -> PeakLoad {
        let mut peak = PeakLoad { count: 0, ideal: 0 };
        let mut even = 0_u128;
        for ring in self.entries.chunk_by(|a, b| a.interval == b.interval) {
            let (window, interval) = (window.as_nanos(), ring[0].interval.as_nanos());
            let whole = ring.len() as u128 * (window / interval);
            peak.count = peak
                .count
                .saturating_add(saturate(whole) + busiest(ring, window % interval));
            even = even
                .saturating_add((ring.len() as u128 * window).saturating_mul(FRACTION) / interval);
        }
        peak.ideal = saturate(even.div_ceil(FRACTION));
        peak
    }

    /// Returns the average number of starts per second.
    pub fn starts_per_second(&self) -> f64 {
        self.busy(|_| Duration::from_secs(1))
    }

    /// Returns the average number of busy threads if every check took as long as `longest` returns.
    ///
    /// More than the number of threads cannot work.
    pub fn busy(&self, longest: impl Fn(&PlannedEntry) -> Duration) -> f64 {
        self.entries
            .iter()
            .map(|entry| longest(entry).div_duration_f64(entry.interval))
            .sum()
    }
}

/// Returns the most starts in a window shorter than the interval, over all windows that begin with a start.
fn busiest(ring: &[PlannedEntry], window: u128) -> u64 {
    let interval = ring[0].interval.as_nanos();
    let start = |n: usize| {
        let round = (n / ring.len()) as u128;
        ring[n % ring.len()].phase.as_nanos() + round * interval
    };
    let mut end = 0;
    let mut most = 0;
    for begin in 0..ring.len() {
        while start(end) < start(begin) + window {
            end += 1;
        }
        most = most.max(end - begin);
    }
    most as u64
}

fn saturate(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Fractions of a start are summed in units of 2^-32.
const FRACTION: u128 = 1 << 32;
