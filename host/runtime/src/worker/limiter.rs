//! Rate limit on a worker's log lines: 100 a second, in bursts of 200. Pure.
//!
//! Errors have a separate budget, so that a flood of other lines never drops one. Lines above the limit are counted,
//! and the count is logged once a second and when the worker ends: no line is lost silently.

use std::{fmt, time::Duration};

/// Lets lines pass at a rate, and counts the others.
#[derive(Debug, Default)]
pub(super) struct LogRateLimiter {
    errors: RateBudget,
    others: RateBudget,
    dropped: DroppedLines,
    /// Time of the first dropped line.
    since: Duration,
}

/// Number of lines that were not logged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct DroppedLines {
    /// Number of lines, including errors.
    pub(super) lines: u64,
    /// Number of lines of level ERROR.
    pub(super) errors: u64,
}

/// The budget of a rate.
#[derive(Debug, Default)]
struct RateBudget {
    /// Each line that passes advances this by [`EVERY`]; it may be [`BURST`] ahead.
    ahead: Duration,
}

impl LogRateLimiter {
    /// Returns `true` if a line may pass at `now`.
    pub(super) fn admit(&mut self, now: Duration, is_error: bool) -> bool {
        let budget = match is_error {
            true => &mut self.errors,
            false => &mut self.others,
        };
        let passes = budget.admit(now);
        if !passes {
            let errors = u64::from(is_error);
            self.missed(now, DroppedLines { lines: 1, errors });
        }
        passes
    }

    /// Adds lines that were dropped by the worker.
    pub(super) fn missed(&mut self, now: Duration, lines: DroppedLines) {
        if self.dropped.is_none() {
            self.since = now;
        }
        self.dropped.add(lines);
    }

    /// Returns the number of unreported dropped lines.
    pub(super) fn count(&self) -> u64 {
        self.dropped.lines
    }

    /// Returns the time to report dropped lines.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.dropped.is_none()).then_some(self.since + SAY_AFTER)
    }

    /// Returns and resets the number of dropped lines, if it is time to report it, or the last chance to.
    pub(super) fn dropped(&mut self, now: Duration, last: bool) -> Option<DroppedLines> {
        let due = self.due().is_some_and(|due| last || due <= now);
        due.then(|| std::mem::take(&mut self.dropped))
    }
}

impl RateBudget {
    fn admit(&mut self, now: Duration) -> bool {
        let ahead = self.ahead.max(now);
        if ahead - now >= BURST {
            return false;
        }
        self.ahead = ahead + EVERY;
        true
    }
}

impl DroppedLines {
    /// Returns `true` if there are none.
    pub(super) fn is_none(self) -> bool {
        self.lines == 0
    }

    /// Adds these as well; a worker can claim any number.
    pub(super) fn add(&mut self, more: Self) {
        self.lines = self.lines.saturating_add(more.lines);
        self.errors = self.errors.saturating_add(more.errors);
    }
}

impl fmt::Display for DroppedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.lines == 1 { "line" } else { "lines" };
        write!(f, "{} {noun} dropped", self.lines)?;
        match self.errors {
            0 => {}
            1 => write!(f, ", 1 of them an error")?,
            errors => write!(f, ", {errors} of them errors")?,
        }
        write!(f, " (limit: 100 a second)")
    }
}

/// Average time between two lines.
const EVERY: Duration = Duration::from_millis(10);
/// Two hundred lines.
const BURST: Duration = Duration::from_secs(2);
/// Time that lines are dropped before a report.
const SAY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn two_hundred_pass_at_once_and_a_hundred_a_second_after_that() {
        let mut limiter = LogRateLimiter::default();
        let passed = |limiter: &mut LogRateLimiter, now| {
            (0..1000).filter(|_| limiter.admit(now, false)).count()
        };
        assert_eq!(passed(&mut limiter, 10 * S), 200);
        assert_eq!(passed(&mut limiter, 11 * S), 100);
        assert_eq!(passed(&mut limiter, 11 * S + 10 * MS), 1);
        assert_eq!(passed(&mut limiter, 100 * S), 200);
    }

    #[test]
    fn what_was_dropped_is_said_once_a_second_and_at_the_end() {
        let mut limiter = LogRateLimiter::default();
        while limiter.admit(S, false) {}
        assert_eq!(limiter.due(), Some(2 * S));
        assert_eq!(limiter.dropped(S + MS, false), None);
        assert!(!limiter.admit(S, false));
        let two = DroppedLines {
            lines: 2,
            errors: 0,
        };
        assert_eq!(limiter.dropped(2 * S, false), Some(two));
        assert_eq!(limiter.dropped(2 * S, true), None, "said already");
        while limiter.admit(3 * S, false) {}
        let one = DroppedLines {
            lines: 1,
            errors: 0,
        };
        assert_eq!(limiter.dropped(3 * S, true), Some(one));
    }

    #[test]
    fn a_flood_of_other_lines_drops_no_error_and_dropped_errors_are_named() {
        let mut limiter = LogRateLimiter::default();
        for _ in 0..10_000 {
            limiter.admit(S, false);
        }
        assert!(limiter.admit(S, true), "an error within its own budget");
        while limiter.admit(S, true) {}
        let dropped = limiter.dropped(2 * S, false).unwrap();
        assert_eq!((dropped.lines, dropped.errors), (9801, 1));
        assert_eq!(
            dropped.to_string(),
            "9801 lines dropped, 1 of them an error (limit: 100 a second)"
        );
    }
}
