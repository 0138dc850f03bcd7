//! How long a check may take, told by the host's clock alone.

use std::time::Duration;

/// The time of one check, which ends a little before the host's deadline.
pub(crate) struct Limit<'a> {
    remaining: &'a (dyn Fn() -> Duration + Sync),
    /// What remained to the deadline when the check began.
    given: Duration,
    /// What is kept of that for saying what went wrong.
    margin: Duration,
}

impl<'a> Limit<'a> {
    /// `remaining` tells what remains to the deadline, now and later.
    pub(crate) fn of(remaining: &'a (dyn Fn() -> Duration + Sync)) -> Self {
        let given = remaining();
        Self {
            remaining,
            given,
            margin: (given / 10).min(MAX_MARGIN),
        }
    }

    /// What is left; zero once the limit has passed.
    pub(crate) fn left(&self) -> Duration {
        (self.remaining)().saturating_sub(self.margin)
    }

    /// What has passed since the check began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.given.saturating_sub((self.remaining)())
    }

    /// The whole limit, for messages.
    pub(crate) fn show(&self) -> String {
        show(self.given.saturating_sub(self.margin))
    }
}

/// A duration for people: whole milliseconds below a second, else seconds with one decimal.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

const MAX_MARGIN: Duration = Duration::from_millis(100);
