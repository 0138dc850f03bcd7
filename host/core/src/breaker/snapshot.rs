//! A breaker's state without a clock, so that the breaker of another process can continue from it.

use std::time::Duration;

use super::{Breaker, BreakerPhase, BreakerSettings};

/// The state of a breaker at one moment. Times are relative to that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// Its position, and what follows from it.
    pub position: BreakerPosition,
    /// The number of trips since it was last quiet, which is the exponent of its open time.
    pub trips: u32,
}

/// The position of a breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPosition {
    /// Closed, for some time and with some failures in a row.
    Closed {
        /// Consecutive failures so far.
        failures: u32,
        /// Time since it closed.
        since: Duration,
    },
    /// Open; the next call after this time is the trial.
    Open {
        /// Time left.
        left: Duration,
    },
    /// Held open by an operator.
    HeldOpen,
    /// Held closed by an operator.
    HeldClosed,
}

impl Breaker {
    /// Returns its state at `now`.
    ///
    /// A trial under way does not outlive the process: a half-open breaker becomes an open one whose time is up, so that
    /// the next call is the trial.
    #[must_use]
    pub fn snapshot(&self, now: Duration) -> BreakerSnapshot {
        let position = match self.phase {
            BreakerPhase::Closed { failures, since } => BreakerPosition::Closed {
                failures,
                since: now.saturating_sub(since),
            },
            BreakerPhase::Open { until } => BreakerPosition::Open {
                left: until.saturating_sub(now),
            },
            BreakerPhase::HalfOpen { .. } => BreakerPosition::Open {
                left: Duration::ZERO,
            },
            BreakerPhase::HeldOpen => BreakerPosition::HeldOpen,
            BreakerPhase::HeldClosed => BreakerPosition::HeldClosed,
        };
        BreakerSnapshot {
            position,
            trips: self.trips,
        }
    }

    /// Creates a breaker that continues from a snapshot at `now`.
    ///
    /// It is open for at most the time that these settings allow, jitter included, whatever the snapshot says. A closed
    /// one counts as closed since the clock's origin at the earliest, so that it may keep its trips for longer.
    #[must_use]
    pub fn restore(
        settings: BreakerSettings,
        jitter_seed: u64,
        snapshot: BreakerSnapshot,
        now: Duration,
    ) -> Self {
        let longest = settings.max_reset_timeout;
        let longest = longest.saturating_add(longest / 10);
        let phase = match snapshot.position {
            BreakerPosition::Closed { failures, since } => BreakerPhase::Closed {
                failures,
                since: now.saturating_sub(since),
            },
            BreakerPosition::Open { left } => BreakerPhase::Open {
                until: now.saturating_add(left.min(longest)),
            },
            BreakerPosition::HeldOpen => BreakerPhase::HeldOpen,
            BreakerPosition::HeldClosed => BreakerPhase::HeldClosed,
        };
        Self {
            phase,
            trips: snapshot.trips,
            ..Self::new(settings, jitter_seed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_restored_breaker_is_never_open_for_longer_than_its_settings_allow() {
        let settings = BreakerSettings::default();
        for left in [Duration::MAX, 700 * S, 20 * S, Duration::ZERO] {
            let snapshot = BreakerSnapshot {
                position: BreakerPosition::Open { left },
                trips: u32::MAX,
            };
            let mut breaker = Breaker::restore(settings, 1, snapshot, 5 * S);
            let retry = breaker.admit(5 * S, S).err().and_then(|no| no.retry_at);
            assert!(retry.unwrap_or_default() <= 5 * S + 660 * S, "{retry:?}");
            assert!(breaker.admit(665 * S, S).is_ok());
        }
    }

    #[test]
    fn an_order_to_hold_it_is_kept() {
        for (position, is_open) in [
            (BreakerPosition::HeldOpen, true),
            (BreakerPosition::HeldClosed, false),
        ] {
            let snapshot = BreakerSnapshot { position, trips: 2 };
            let mut breaker = Breaker::restore(BreakerSettings::default(), 1, snapshot, S);
            assert!(breaker.is_forced());
            assert_eq!(breaker.admit(Duration::MAX, S).is_err(), is_open);
            assert_eq!(breaker.snapshot(S), snapshot);
        }
    }
}
