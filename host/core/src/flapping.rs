//! Flap detection: a platform whose results change state too often is *flapping*.
//!
//! The rule is Nagios's without weights: of the last 20 steps from one result to the next, those that change the state
//! are counted. Flapping begins at 6 of 20 (30 %) and ends below 3 (15 %). All results count, confirmed or not.

use conductor_types::PlatformState;

/// Counts the changes of state of one platform.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FlapDetector {
    /// `None` before the first result.
    last: Option<PlatformState>,
    /// A bit for each of the last steps, set if the state changed; the lowest is the latest.
    steps: u32,
    is_flapping: bool,
}

/// The content of a [`FlapDetector`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FlapSnapshot {
    /// The last result; `None` before the first.
    pub last: Option<PlatformState>,
    /// A bit for each of the last steps, set if the state changed; the lowest is the latest.
    pub steps: u32,
    /// `true` while the platform is flapping.
    pub is_flapping: bool,
}

impl FlapDetector {
    /// Records a result; returns `true` if the platform starts or stops flapping.
    #[inline]
    pub fn observe(&mut self, result: PlatformState) -> bool {
        // Without a change among the last steps it is not flapping.
        if self.steps == 0 && self.last == Some(result) {
            return false;
        }
        self.count(result)
    }

    fn count(&mut self, result: PlatformState) -> bool {
        let has_changed = self.last.is_some_and(|last| last != result);
        self.last = Some(result);
        self.steps = (self.steps << 1 | u32::from(has_changed)) & ALL_STEPS;
        let was_flapping = self.is_flapping;
        self.is_flapping = self.changes() >= self.limit();
        self.is_flapping != was_flapping
    }

    /// Returns its content, to be restored in another process.
    #[must_use]
    pub fn snapshot(&self) -> FlapSnapshot {
        FlapSnapshot {
            last: self.last,
            steps: self.steps,
            is_flapping: self.is_flapping,
        }
    }

    /// Continues from a snapshot. Flapping that its steps contradict is corrected.
    #[must_use]
    pub fn restore(snapshot: FlapSnapshot) -> Self {
        let mut restored = Self {
            last: snapshot.last,
            steps: match snapshot.last {
                Some(_) => snapshot.steps & ALL_STEPS,
                None => 0,
            },
            is_flapping: snapshot.is_flapping,
        };
        restored.is_flapping = restored.changes() >= restored.limit();
        restored
    }

    /// Returns the number of changes from which it is flapping next.
    fn limit(&self) -> u32 {
        match self.is_flapping {
            true => LAST_CHANGES,
            false => FIRST_CHANGES,
        }
    }

    /// Returns `true` while the platform is flapping.
    #[must_use]
    pub fn is_flapping(&self) -> bool {
        self.is_flapping
    }

    /// Returns the number of changes of state in the last [`FLAP_STEPS`] steps.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.steps.count_ones()
    }
}

/// The number of steps that are looked at.
pub const FLAP_STEPS: u32 = 20;
/// The number of changes at which flapping begins.
const FIRST_CHANGES: u32 = 6;
/// The smallest number of changes at which it continues.
const LAST_CHANGES: u32 = 3;
const ALL_STEPS: u32 = (1 << FLAP_STEPS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the numbers of the results, from 0, at which flapping begins or ends.
    fn turns(results: impl IntoIterator<Item = PlatformState>) -> Vec<(usize, bool)> {
        let mut detector = FlapDetector::default();
        let results = results.into_iter().enumerate();
        let mut turns = Vec::new();
        for (at, result) in results {
            if detector.observe(result) {
                turns.push((at, detector.is_flapping()));
            }
        }
        turns
    }

    fn up(is_up: bool) -> PlatformState {
        match is_up {
            true => PlatformState::Healthy,
            false => PlatformState::Unhealthy,
        }
    }

    #[test]
    fn three_outages_in_twenty_results_are_flapping_and_rest_ends_it() {
        // Down at 2, 5 and 8: six changes, the last at 9.
        let down = [2, 5, 8];
        let results = (0..60).map(|at| up(!down.contains(&at)));
        // The fourth change, at 6, leaves the last 20 steps with the 26th result.
        assert_eq!(turns(results), [(9, true), (26, false)]);
    }

    #[test]
    fn one_long_outage_and_two_short_ones_are_no_flapping() {
        assert_eq!(turns((0..60).map(|at| up(!(10..40).contains(&at)))), []);
        assert_eq!(turns((0..60).map(|at| up(at != 3 && at != 7))), []);
        assert_eq!(turns((0..200).map(|at| up(at % 10 != 0))), [], "one of ten");
    }

    #[test]
    fn a_platform_near_the_limit_does_not_flap_in_and_out_of_flapping() {
        // Six changes in twenty steps for a while, then four.
        let results = (0..200).map(|at| match at {
            ..100 => up(at % 6 != 0),
            _ => up(at % 10 != 0),
        });
        assert_eq!(turns(results).len(), 1);
    }

    #[test]
    fn a_snapshot_restores_the_detector_and_one_that_contradicts_itself_is_corrected() {
        for begun in 0..80 {
            let results = (0..begun).map(|at| up(at % 7 < 4 || at > 60));
            let mut detector = FlapDetector::default();
            for result in results {
                detector.observe(result);
            }
            assert_eq!(FlapDetector::restore(detector.snapshot()), detector);
        }
        let last = Some(PlatformState::Healthy);
        for (steps, is_flapping, expected) in [
            (u32::MAX, false, true),
            (0, true, false),
            (0b11, true, false),
            (0b111, true, true),
            (0b111, false, false),
        ] {
            let restored = FlapDetector::restore(FlapSnapshot {
                last,
                steps,
                is_flapping,
            });
            assert_eq!(restored.is_flapping(), expected, "{steps:b}");
            assert!(restored.changes() <= FLAP_STEPS);
        }
    }

    #[test]
    fn failed_and_degraded_checks_are_states_as_well() {
        let results = [PlatformState::Degraded, PlatformState::Unknown];
        let results = (0..7).map(|at| results[at % 2]);
        assert_eq!(turns(results), [(6, true)]);
    }
}
