//! How many lines a worker may have logged: 100 a second, and 200 at a time. Pure.

use std::time::Duration;

/// Lets lines pass at a rate, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// Each line that passes moves this on by [`EVERY`]; it may be [`BURST`] ahead.
    ahead: Duration,
    dropped: u64,
    /// When the first of those dropped was.
    since: Duration,
}

impl Limiter {
    /// Whether a line may pass at `now`.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        let ahead = self.ahead.max(now);
        if ahead - now >= BURST {
            if self.dropped == 0 {
                self.since = now;
            }
            self.dropped += 1;
            return false;
        }
        self.ahead = ahead + EVERY;
        true
    }

    /// When there is something to say of lines that were dropped.
    pub(super) fn due(&self) -> Option<Duration> {
        (self.dropped > 0).then_some(self.since + SAY_AFTER)
    }

    /// Takes the number of lines that were dropped, if it is time to say it, or the last chance to.
    pub(super) fn dropped(&mut self, now: Duration, last: bool) -> Option<u64> {
        let due = self.due().is_some_and(|due| last || due <= now);
        due.then(|| std::mem::take(&mut self.dropped))
    }
}

/// Time between two lines in the long run.
const EVERY: Duration = Duration::from_millis(10);
/// Two hundred lines.
const BURST: Duration = Duration::from_secs(2);
/// How long lines are dropped before that is said.
const SAY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    #[test]
    fn two_hundred_pass_at_once_and_a_hundred_a_second_after_that() {
        let mut limiter = Limiter::default();
        let passed = |limiter: &mut Limiter, now| (0..1000).filter(|_| limiter.admit(now)).count();
        assert_eq!(passed(&mut limiter, 10 * S), 200);
        assert_eq!(passed(&mut limiter, 11 * S), 100);
        assert_eq!(passed(&mut limiter, 11 * S + 10 * MS), 1);
        assert_eq!(passed(&mut limiter, 100 * S), 200);
    }

    #[test]
    fn what_was_dropped_is_said_once_a_second_and_at_the_end() {
        let mut limiter = Limiter::default();
        while limiter.admit(S) {}
        assert_eq!(limiter.due(), Some(2 * S));
        assert_eq!(limiter.dropped(S + MS, false), None);
        assert!(!limiter.admit(S));
        assert_eq!(limiter.dropped(2 * S, false), Some(2));
        assert_eq!(limiter.dropped(2 * S, true), None, "said already");
        while limiter.admit(3 * S) {}
        assert_eq!(limiter.dropped(3 * S, true), Some(1));
    }
}
