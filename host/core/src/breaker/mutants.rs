//! Known faults of other breakers, injected around our breaker's real methods: the model checker must find each.

use std::time::Duration;

use stateright::{Checker, HasDiscoveries, Model};

use super::{
    Breaker, BreakerPhase, CallOutcome, Refused, StaleTicket, Ticket, Transition,
    model::{BreakerModel, TIMEOUT},
};

/// The real breaker, or one with an injected fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum BreakerVariant {
    Real,
    /// Every result counts, however late.
    NoGeneration,
    /// A trial that never ends blocks the next.
    NoLease,
    /// Half-open lets every call through.
    UnlimitedTrials,
    /// An ignored result frees the trial, whichever call it came from.
    IgnoredFreesPermit,
    /// Calls admitted before a reset still count after it.
    ResetKeepsGeneration,
}

impl BreakerVariant {
    pub(super) fn admit(self, breaker: &mut Breaker, now: Duration) -> Result<Ticket, Refused> {
        if let (Self::UnlimitedTrials, BreakerPhase::HalfOpen { lease_end }) =
            (self, &mut breaker.phase)
        {
            *lease_end = now;
        }
        let admitted = breaker.admit(now, TIMEOUT);
        if let (Self::NoLease, Ok(_), BreakerPhase::HalfOpen { lease_end }) =
            (self, &admitted, &mut breaker.phase)
        {
            *lease_end = Duration::MAX;
        }
        admitted
    }

    pub(super) fn record(
        self,
        breaker: &mut Breaker,
        mut ticket: Ticket,
        outcome: CallOutcome,
        now: Duration,
    ) -> Result<Option<Transition>, StaleTicket> {
        match (self, outcome, &mut breaker.phase) {
            (Self::NoGeneration, ..) => ticket.generation = breaker.generation,
            (
                Self::IgnoredFreesPermit,
                CallOutcome::Ignored,
                BreakerPhase::HalfOpen { lease_end },
            ) => *lease_end = now,
            _ => {}
        }
        breaker.record(ticket, outcome, now)
    }

    pub(super) fn reset(self, breaker: &mut Breaker, now: Duration) -> Option<Transition> {
        let generation = breaker.generation;
        let transition = breaker.reset(now);
        if let Self::ResetKeepsGeneration = self {
            breaker.generation = generation;
        }
        transition
    }
}

#[test]
fn without_generations_a_late_result_is_seen_to_count() {
    caught(
        BreakerVariant::NoGeneration,
        "a stale result changes nothing",
    );
    caught(
        BreakerVariant::NoGeneration,
        "only a trial's success closes",
    );
}

#[test]
fn without_a_lease_a_hung_trial_is_seen_to_block_for_ever() {
    caught(BreakerVariant::NoLease, "never stuck");
}

#[test]
fn unlimited_trials_are_seen_to_run_at_once() {
    caught(BreakerVariant::UnlimitedTrials, "one trial at a time");
}

#[test]
fn an_ignored_result_freeing_another_ones_permit_is_seen() {
    caught(
        BreakerVariant::IgnoredFreesPermit,
        "a stale result changes nothing",
    );
    caught(BreakerVariant::IgnoredFreesPermit, "one trial at a time");
}

#[test]
fn a_reset_keeping_the_generation_is_seen_to_count_older_calls() {
    caught(
        BreakerVariant::ResetKeepsGeneration,
        "a stale result changes nothing",
    );
}

fn caught(rules: BreakerVariant, promise: &'static str) {
    let found = HasDiscoveries::AnyOf([promise].into());
    let checker = BreakerModel { rules }
        .checker()
        .finish_when(found)
        .spawn_bfs()
        .join();
    assert!(
        checker.discovery(promise).is_some(),
        "{rules:?} was not seen to break the promise {promise:?}"
    );
}
