//! The last checks of a platform, as the status page shows them.
//!
//! There may be 100 000 platforms, so a check takes four bytes: its duration is accurate to 0.4 %, and its end to 0.1 %
//! of the time since the previous one (rounding errors do not accumulate).

use std::{collections::VecDeque, time::Duration};

use conductor_types::PlatformState;

/// The last checks of one platform, the oldest first.
#[derive(Debug, Default)]
pub struct CheckHistory {
    checks: VecDeque<EncodedCheck>,
    /// The end of the last one, as encoded in the entries.
    last: Duration,
}

/// A completed check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PastCheck {
    /// The time it ended.
    pub ended: Duration,
    /// Its duration.
    pub took: Duration,
    /// The resulting state: unknown if the check failed.
    pub state: PlatformState,
}

#[derive(Clone, Copy, Debug)]
struct EncodedCheck {
    /// Milliseconds from the end of the previous check.
    gap: CheckGap,
    /// Microseconds, with the state in the highest two bits.
    took_and_state: u16,
}

impl CheckHistory {
    /// Adds a check, and drops the oldest if there are too many.
    pub fn note(&mut self, past: PastCheck) {
        if self.checks.len() == CHECKS {
            self.checks.pop_front();
        }
        let gap = CheckGap::new(past.ended.saturating_sub(self.last).as_millis());
        let took = CheckDuration::new(past.took.as_micros());
        self.last += Duration::from_millis(gap.value());
        self.checks.push_back(EncodedCheck {
            gap,
            took_and_state: took.0 | (bits(past.state) << STATE_SHIFT),
        });
    }

    /// Returns the checks, the latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = PastCheck> {
        let mut ended = self.last;
        self.checks.iter().rev().map(move |entry| {
            let took: CheckDuration = CompactNumber(entry.took_and_state & CheckDuration::GREATEST);
            let past = PastCheck {
                ended,
                took: Duration::from_micros(took.value()),
                state: STATES[usize::from(entry.took_and_state >> STATE_SHIFT)],
            };
            ended = ended.saturating_sub(Duration::from_millis(entry.gap.value()));
            past
        })
    }
}

/// A number in `WIDTH` bits: exact below `2 << BITS`, and to within one in `1 << BITS` above.
#[derive(Clone, Copy, Debug)]
struct CompactNumber<const BITS: u32, const WIDTH: u32>(u16);

type CheckGap = CompactNumber<10, 16>;
type CheckDuration = CompactNumber<8, STATE_SHIFT>;

impl<const BITS: u32, const WIDTH: u32> CompactNumber<BITS, WIDTH> {
    const GREATEST: u16 = u16::MAX >> (16 - WIDTH);

    /// Returns the largest encodable number up to `value`.
    fn new(value: u128) -> Self {
        let exponent = (128 - value.leading_zeros()).saturating_sub(BITS + 1);
        let code = (u128::from(exponent) << BITS) + (value >> exponent);
        Self(u16::try_from(code).map_or(Self::GREATEST, |code| code.min(Self::GREATEST)))
    }

    fn value(self) -> u64 {
        let code = u64::from(self.0);
        let exponent = (code >> BITS).saturating_sub(1);
        (code - (exponent << BITS)) << exponent
    }
}

fn bits(state: PlatformState) -> u16 {
    match state {
        PlatformState::Unknown => 0,
        PlatformState::Unhealthy => 1,
        PlatformState::Degraded => 2,
        PlatformState::Healthy => 3,
    }
}

/// The states by their bits.
const STATES: [PlatformState; 4] = [
    PlatformState::Unknown,
    PlatformState::Unhealthy,
    PlatformState::Degraded,
    PlatformState::Healthy,
];

/// The number of checks kept for a platform.
pub const CHECKS: usize = 60;
/// The shift of the two bits of the state.
const STATE_SHIFT: u32 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn past(ended: Duration, took: Duration) -> PastCheck {
        PastCheck {
            ended,
            took,
            state: PlatformState::Degraded,
        }
    }

    #[test]
    fn the_last_sixty_are_kept_latest_first() {
        let mut history = CheckHistory::default();
        for n in 0..100 {
            history.note(past(Duration::from_secs(n), Duration::from_micros(n)));
        }
        let kept: Vec<_> = history.latest_first().collect();
        assert_eq!(kept.len(), CHECKS);
        for (n, kept) in (0..100).rev().zip(&kept) {
            assert_eq!(kept.took, Duration::from_micros(n));
            assert_eq!(kept.state, PlatformState::Degraded);
            let off = kept.ended.abs_diff(Duration::from_secs(n));
            assert!(off < Duration::from_millis(1), "{off:?}");
        }
    }

    #[test]
    fn every_state_that_a_check_can_result_in_is_kept() {
        let mut history = CheckHistory::default();
        for state in STATES {
            history.note(PastCheck {
                state,
                ..past(Duration::ZERO, Duration::ZERO)
            });
        }
        let kept: Vec<_> = history.latest_first().map(|past| past.state).collect();
        assert_eq!(kept.into_iter().rev().collect::<Vec<_>>(), STATES);
    }

    #[test]
    fn times_are_near_and_what_is_lost_does_not_add_up() {
        let mut history = CheckHistory::default();
        let (gap, took) = (
            Duration::from_millis(3_599_999),
            Duration::from_micros(123_457),
        );
        for n in 1..=1000 {
            history.note(past(gap * n, took));
        }
        let kept: Vec<_> = history.latest_first().collect();
        for (n, kept) in (1..=1000).rev().zip(kept) {
            let (late, off) = (gap * n - kept.ended, took - kept.took);
            assert!(late < gap / 1000, "{late:?} of {gap:?}");
            assert!(off < took / 250, "{off:?} of {took:?}");
        }
    }

    #[test]
    fn what_is_too_long_to_be_told_is_told_as_the_longest() {
        for greatest in [
            CheckGap::new(u128::MAX).value(),
            CheckDuration::new(u128::MAX).value(),
        ] {
            assert!(greatest > 1 << 50, "{greatest}");
        }
        let once: Vec<_> = (0..20_000).map(|n| CheckGap::new(n).value()).collect();
        assert!(once.is_sorted());
        assert!(once.iter().zip(0..).all(|(near, n)| n - near <= n >> 10));
    }
}
