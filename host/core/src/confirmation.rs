//! Confirmation of a platform's state: the number of consecutive results that it takes to change it.
//!
//! States are ordered by severity: healthy, degraded, unhealthy, and unknown for a check that failed. A result that is
//! worse than the confirmed state has to be repeated `unhealthy_after` times, a better one `healthy_after` times; the new
//! state is the one of those results that is nearest to the old state. Until then, the state of the last result is *soft*.
//!
//! The first result is confirmed at once.

use std::num::NonZeroU16;

use conductor_types::{PlatformState, SoftState};

#[cfg(test)]
mod tests;

/// The numbers of consecutive results that change a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConfirmationRules {
    /// Results worse than the confirmed state that confirm a worse one.
    pub unhealthy_after: NonZeroU16,
    /// Results better than the confirmed state that confirm a better one.
    pub healthy_after: NonZeroU16,
}

/// One result changes the state.
impl Default for ConfirmationRules {
    fn default() -> Self {
        Self {
            unhealthy_after: NonZeroU16::MIN,
            healthy_after: NonZeroU16::MIN,
        }
    }
}

/// The confirmed state of a platform, and the results that may change it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StateConfirmation {
    confirmed: PlatformState,
    result: PlatformState,
    has_result: bool,
    /// For each step between two severities: the number of last results that are all on its other side than the
    /// confirmed state. The first step is between healthy and degraded.
    runs: [u16; STEPS],
}

/// The content of a [`StateConfirmation`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConfirmationSnapshot {
    /// The confirmed state.
    pub confirmed: PlatformState,
    /// The state of the last result.
    pub result: PlatformState,
    /// For each step between two severities, the number of last results on its other side.
    pub runs: [u16; 3],
}

impl StateConfirmation {
    /// Returns the confirmed state; unknown before the first result.
    #[must_use]
    pub fn state(&self) -> PlatformState {
        self.confirmed
    }

    /// Returns the state of the last result, unknown for a failed check.
    #[must_use]
    pub fn result(&self) -> PlatformState {
        self.result
    }

    /// Returns `true` if there was a result.
    #[must_use]
    pub fn has_result(&self) -> bool {
        self.has_result
    }

    /// Returns `true` if the last result is not confirmed.
    #[must_use]
    pub fn is_soft(&self) -> bool {
        self.result != self.confirmed
    }

    /// Returns `true` if a result changes neither the confirmed state nor the soft one.
    #[must_use]
    #[inline]
    pub fn is_settled_by(&self, result: PlatformState) -> bool {
        self.has_result && result == self.confirmed && result == self.result
    }

    /// Records a result.
    pub fn observe(&mut self, result: PlatformState, rules: ConfirmationRules) {
        if !self.has_result {
            return self.confirm(result);
        }
        self.result = result;
        let (found, confirmed) = (severity(result), severity(self.confirmed));
        let mut above = 0;
        for (step, run) in self.runs.iter_mut().enumerate() {
            let (is_above, was_above) = (found > step, confirmed > step);
            let needed = match is_above {
                true => rules.unhealthy_after,
                false => rules.healthy_after,
            };
            *run = match is_above == was_above {
                true => 0,
                false => run.saturating_add(1),
            };
            let changes = *run >= needed.get();
            if changes {
                *run = 0;
            }
            above += usize::from(was_above != changes);
        }
        self.confirmed = BY_SEVERITY[above];
    }

    /// Records a result that is confirmed at once.
    pub fn confirm(&mut self, result: PlatformState) {
        *self = Self {
            confirmed: result,
            result,
            has_result: true,
            runs: [0; STEPS],
        };
    }

    /// Returns its content, to be restored in another process; `None` before the first result.
    #[must_use]
    pub fn snapshot(&self) -> Option<ConfirmationSnapshot> {
        self.has_result.then_some(ConfirmationSnapshot {
            confirmed: self.confirmed,
            result: self.result,
            runs: self.runs,
        })
    }

    /// Continues from a snapshot. Runs that its two states contradict are corrected.
    #[must_use]
    pub fn restore(snapshot: ConfirmationSnapshot) -> Self {
        let ConfirmationSnapshot {
            confirmed, result, ..
        } = snapshot;
        let mut runs = snapshot.runs;
        for (step, run) in runs.iter_mut().enumerate() {
            // The last result is part of each run on its side, and ends the others.
            *run = match (severity(result) > step) == (severity(confirmed) > step) {
                true => 0,
                false => (*run).max(1),
            };
        }
        Self {
            confirmed,
            result,
            has_result: true,
            runs,
        }
    }

    /// Returns the state of the last result while it is not confirmed.
    #[must_use]
    pub fn soft(&self, rules: ConfirmationRules) -> Option<SoftState> {
        let (found, confirmed) = (severity(self.result), severity(self.confirmed));
        let (step, needed) = match found {
            worse if worse > confirmed => (confirmed, rules.unhealthy_after),
            better if better < confirmed => (confirmed - 1, rules.healthy_after),
            _ => return None,
        };
        Some(SoftState {
            status: self.result,
            results: self.runs[step],
            needed: needed.get(),
        })
    }
}

fn severity(state: PlatformState) -> usize {
    match state {
        PlatformState::Healthy => 0,
        PlatformState::Degraded => 1,
        PlatformState::Unhealthy => 2,
        PlatformState::Unknown => 3,
    }
}

const BY_SEVERITY: [PlatformState; STEPS + 1] = [
    PlatformState::Healthy,
    PlatformState::Degraded,
    PlatformState::Unhealthy,
    PlatformState::Unknown,
];
const STEPS: usize = 3;
