//! The effect of a check on a platform's state: confirmed or soft, and flapping.

use std::time::Duration;

use conductor_core::{
    breaker::{CircuitState, Transition},
    confirmation::ConfirmationRules,
};
use conductor_types::{PlatformState, SoftState, StateUrgency, Status};

use super::{GuardState, PlatformGuard};
use crate::{history::PastCheck, metrics::CheckOutcome, state::LatestCheck};

/// A check whose end is recorded.
pub(super) struct EndedCheck {
    pub(super) transition: Option<Transition>,
    pub(super) took: Duration,
    /// The state that it found.
    pub(super) found: PlatformState,
    /// The confirmed state.
    pub(super) confirmed: PlatformState,
    /// Boxed, because most checks change nothing.
    pub(super) change: Option<Box<StateChange>>,
}

/// The end of a check.
struct CheckEnd {
    /// The state that it found.
    found: PlatformState,
    now: Duration,
    /// `true` if it opened the platform's breaker.
    has_opened: bool,
}

/// A change of a platform's state, of its soft state, or in flapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct StateChange {
    pub(super) before: StateUrgency,
    pub(super) after: StateUrgency,
    pub(super) soft_before: Option<SoftState>,
    pub(super) soft_after: Option<SoftState>,
    /// `None` if it neither began nor ended.
    pub(super) flapping: Option<FlapChange>,
}

/// The beginning or the end of flapping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FlapChange {
    pub(super) is_flapping: bool,
    /// The number of changes of state in the last steps.
    pub(super) changes: u32,
}

impl PlatformGuard {
    /// Records the state that a check found.
    #[inline]
    pub(super) fn record_end(
        &self,
        inner: &mut GuardState,
        found: PlatformState,
        transition: Option<Transition>,
        now: Duration,
        took: Duration,
    ) -> EndedCheck {
        inner.history.note(PastCheck {
            ended: now,
            took,
            state: found,
        });
        let end = CheckEnd {
            found,
            now,
            has_opened: transition.is_some_and(|t| matches!(t.to, CircuitState::Open { .. })),
        };
        let rules = inner.rules;
        let change = (inner.view).changed_by(&end, rules, || self.is_outdated_by_pause(now));
        // A failure may count in the breaker without a change of the state.
        if (change.is_some() || found == PlatformState::Unknown) && !self.is_target() {
            self.shared.resumption.note_change();
        }
        EndedCheck {
            transition,
            took,
            found,
            confirmed: inner.view.confirmation.state(),
            change,
        }
    }

    /// Counts the end of a check, and sets the state in the metrics.
    #[inline]
    pub(super) fn count_end(&self, outcome: CheckOutcome, ended: &EndedCheck, now: Duration) {
        let confirmed = match ended.confirmed {
            PlatformState::Healthy => Status::Healthy,
            PlatformState::Degraded => Status::Degraded,
            PlatformState::Unhealthy => Status::Unhealthy,
            PlatformState::Unknown => Status::Failed,
        };
        if let Some(flapping) = ended.change.as_ref().and_then(|change| change.flapping) {
            self.metrics.set_flapping(flapping.is_flapping);
        }
        self.metrics
            .record_unconfirmed(outcome, confirmed, ended.took, now);
        self.shared.call_ended();
        self.note_end();
    }
}

impl LatestCheck {
    /// Records the state that a check found; returns the change, if any.
    ///
    /// It is confirmed at once if it opened the breaker, since no further check would confirm it soon, and if the
    /// results before it are from before a pause: then `is_outdated` returns `true`.
    #[inline]
    fn changed_by(
        &mut self,
        end: &CheckEnd,
        rules: ConfirmationRules,
        is_outdated: impl FnOnce() -> bool,
    ) -> Option<Box<StateChange>> {
        let has_flap_change = self.flaps.observe(end.found);
        if self.confirmation.is_settled_by(end.found) && !has_flap_change {
            return None;
        }
        let change = self.change(end, rules, has_flap_change, is_outdated());
        Some(Box::new(change))
    }

    #[cold]
    fn change(
        &mut self,
        end: &CheckEnd,
        rules: ConfirmationRules,
        has_flap_change: bool,
        is_outdated: bool,
    ) -> StateChange {
        let (before, soft_before) = (self.urgency(), self.confirmation.soft(rules));
        if end.has_opened || is_outdated {
            self.confirmation.confirm(end.found);
        } else {
            self.confirmation.observe(end.found, rules);
        }
        let after = self.urgency();
        if after != before {
            self.since = end.now;
            self.restored = None;
        }
        StateChange {
            before,
            after,
            soft_before,
            soft_after: self.confirmation.soft(rules),
            flapping: has_flap_change.then(|| FlapChange {
                is_flapping: self.flaps.is_flapping(),
                changes: self.flaps.changes(),
            }),
        }
    }
}
