//! The recent lateness of checks: the histogram counts from the host's start, which hides the last minute.

use std::{collections::VecDeque, time::Duration};

/// The starts of about the last minute, by their lateness.
#[derive(Debug, Default)]
pub(super) struct LatenessWindow {
    /// The oldest first; the counts include all starts up to then.
    notes: VecDeque<LatenessCounts>,
}

#[derive(Debug)]
struct LatenessCounts {
    at: Duration,
    /// The buckets, each with its bound in seconds and the count at or below it.
    buckets: Vec<(f64, u64)>,
    all: u64,
}

impl LatenessWindow {
    /// Records the histogram's counts at `now`.
    pub(super) fn note(&mut self, now: Duration, buckets: &[(f64, u64)], all: u64) {
        let old = now.saturating_sub(WINDOW);
        // One note older than the window is kept as the baseline.
        while self.notes.get(1).is_some_and(|second| second.at <= old) {
            self.notes.pop_front();
        }
        if self
            .notes
            .back()
            .is_some_and(|last| now < last.at + SHORTEST_STEP)
        {
            return;
        }
        self.notes.push_back(LatenessCounts {
            at: now,
            buckets: buckets.to_vec(),
            all,
        });
    }

    /// Returns the bucket bound in seconds that 99 of 100 starts met, or the greatest; `None` without starts.
    pub(super) fn p99(&self) -> Option<f64> {
        let (first, last) = (self.notes.front()?, self.notes.back()?);
        let starts = last.all - first.all;
        if starts == 0 {
            return None;
        }
        let wanted = starts - starts / 100;
        let counts = last.buckets.iter().zip(&first.buckets);
        let mut bounds = counts.map(|((bound, now), (_, then))| (*bound, now - then));
        let kept = bounds.find(|(_, count)| *count >= wanted);
        kept.or(last.buckets.last().copied())
            .map(|(bound, _)| bound)
    }
}

const WINDOW: Duration = Duration::from_secs(60);
/// The shortest time between notes, however often the machine is measured.
const SHORTEST_STEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_late_longer_than_a_minute_ago_is_forgotten() {
        let mut lateness = LatenessWindow::default();
        assert_eq!(lateness.p99(), None);
        lateness.note(second(0), &[(0.01, 0), (0.5, 0)], 0);
        assert_eq!(lateness.p99(), None, "nothing was started");
        lateness.note(second(5), &[(0.01, 90), (0.5, 100)], 100);
        assert_eq!(lateness.p99(), Some(0.5));
        for step in 2..20 {
            let soon = 90 + 100 * step;
            lateness.note(
                second(5 * step),
                &[(0.01, soon), (0.5, soon + 10)],
                soon + 10,
            );
        }
        assert_eq!(lateness.p99(), Some(0.01));
        assert!(lateness.notes.len() < 15, "{}", lateness.notes.len());
    }

    #[test]
    fn one_in_a_hundred_may_be_late_and_what_is_beyond_all_bounds_is_given_as_the_greatest() {
        let mut lateness = LatenessWindow::default();
        lateness.note(second(0), &[(0.01, 0), (0.5, 0)], 0);
        lateness.note(second(5), &[(0.01, 99), (0.5, 99)], 100);
        assert_eq!(lateness.p99(), Some(0.01));
        lateness.note(second(10), &[(0.01, 99), (0.5, 99)], 120);
        assert_eq!(lateness.p99(), Some(0.5));
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }
}
