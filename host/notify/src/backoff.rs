//! The time between two attempts.

use std::time::Duration;

/// Returns the time until the next attempt after `failures` in a row: 1 s, doubled up to 5 min, and spread by a quarter by
/// `random`, so that many hosts do not return at once.
#[must_use]
pub fn retry_delay(failures: u32, random: u64) -> Duration {
    let doubled = 1_u32 << failures.saturating_sub(1).min(16);
    let delay = (SHORTEST * doubled).min(LONGEST);
    // From 75 % to 125 %.
    let percent = u32::try_from(random % 51).unwrap_or(0) + 75;
    delay * percent / 100
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_five_minutes() {
        let middle = |failures| retry_delay(failures, 25).as_secs();
        assert_eq!([1, 2, 3, 9, 10, 1000].map(middle), [1, 2, 4, 256, 300, 300]);
        assert_eq!(retry_delay(3, 0), Duration::from_secs(3));
        assert_eq!(retry_delay(3, 50), Duration::from_secs(5));
    }
}
