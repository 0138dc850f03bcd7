//! The time limit of a check, by the host's clock alone.

use std::time::Duration;

/// The time of one check, which ends a little before the host's deadline.
pub struct TimeLimit<'a> {
    remaining: &'a (dyn Fn() -> Duration + Sync),
    /// Time to the deadline when the check began.
    given: Duration,
    /// Part of it reserved for the report.
    margin: Duration,
}

impl<'a> TimeLimit<'a> {
    /// Starts the limit now; `remaining` returns the time to the deadline whenever it is called.
    pub fn of(remaining: &'a (dyn Fn() -> Duration + Sync)) -> Self {
        let given = remaining();
        Self {
            remaining,
            given,
            margin: (given / 10).min(MAX_MARGIN),
        }
    }

    /// Returns the time that is left; zero once the limit has passed.
    pub fn left(&self) -> Duration {
        (self.remaining)().saturating_sub(self.margin)
    }

    /// Returns the time since the check began.
    pub fn elapsed(&self) -> Duration {
        self.given.saturating_sub((self.remaining)())
    }

    /// Formats the whole limit for messages.
    pub fn show(&self) -> String {
        show_duration(self.given.saturating_sub(self.margin))
    }
}

/// Formats a duration for people: whole milliseconds below a second, else seconds with one decimal.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

const MAX_MARGIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_gives_up_in_time_to_say_why() {
        for (given, left) in [(0, 0), (300, 270), (1000, 900), (4000, 3900)] {
            let remaining = || Duration::from_millis(given);
            assert_eq!(
                TimeLimit::of(&remaining).left(),
                Duration::from_millis(left)
            );
        }
    }

    #[test]
    fn durations_are_shown_for_people() {
        assert_eq!(show_duration(Duration::from_micros(12_900)), "13 ms");
        assert_eq!(show_duration(Duration::from_micros(999_900)), "1.0 s");
        assert_eq!(show_duration(Duration::from_millis(3900)), "3.9 s");
    }
}
