//! When the host itself is starved, timeouts are not blamed on plugins.
//!
//! Two signs: the scheduler woke up much later than it wanted, or more than half of all platforms time out at once,
//! whatever plugin they are checked by. Such timeouts are counted and shown like any other; they do not feed breakers.

use std::time::Duration;

use super::locked::Locked;

/// Watches for signs that the host is starved.
pub struct Starvation(Locked<Signs>);

struct Signs {
    starved_until: Duration,
    window_start: Duration,
    timeouts: usize,
    platforms: usize,
}

impl Starvation {
    /// For a host of `platforms` platforms.
    pub fn new(platforms: usize) -> Self {
        Self(Locked::new(Signs {
            starved_until: Duration::ZERO,
            window_start: Duration::ZERO,
            timeouts: 0,
            platforms,
        }))
    }

    /// Notes that the scheduler woke up at `now`, `late` after it wanted to; says whether that makes a starved host.
    pub fn woke_up(&self, now: Duration, late: Duration) -> bool {
        if late < LATE {
            return false;
        }
        let mut signs = self.0.lock();
        let news = signs.starved_until <= now;
        // Calls that began before the stall may run into their deadlines for as long again.
        signs.starved_until = now + late + LATE;
        news
    }

    /// Notes a timeout, and says whether the host rather than the plugin is to blame for it.
    pub(super) fn excuses_timeout(&self, now: Duration) -> bool {
        let mut signs = self.0.lock();
        if now.saturating_sub(signs.window_start) > WINDOW {
            signs.window_start = now;
            signs.timeouts = 0;
        }
        signs.timeouts += 1;
        let most = signs.timeouts >= FEWEST && signs.timeouts * 2 > signs.platforms;
        most || now < signs.starved_until
    }
}

/// Lateness that a healthy host does not show: fifty ticks.
const LATE: Duration = Duration::from_millis(500);
/// Timeouts this close together count as "at once".
const WINDOW: Duration = Duration::from_secs(1);
/// Fewer timeouts than this say nothing about the host.
const FEWEST: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_late_wake_up_excuses_the_timeouts_that_follow_it_for_a_while() {
        let starvation = Starvation::new(100);
        assert!(!starvation.woke_up(10 * S, S / 10));
        assert!(!starvation.excuses_timeout(10 * S));
        assert!(starvation.woke_up(20 * S, 2 * S));
        assert!(starvation.excuses_timeout(21 * S));
        assert!(!starvation.excuses_timeout(23 * S));
    }

    #[test]
    fn timeouts_of_most_platforms_at_once_are_the_hosts() {
        let starvation = Starvation::new(20);
        let blamed = (0..20).filter(|_| !starvation.excuses_timeout(S)).count();
        assert_eq!(blamed, 10);
        assert!(!starvation.excuses_timeout(5 * S));
    }
}
