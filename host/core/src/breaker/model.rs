//! A model checker for the real breaker: tries every order of events, within bounds.
//!
//! The model's own records follow the design and use none of the breaker's fields: which call belongs to which period
//! of the breaker's life (`epoch`), which is a trial and when its lease ends. Each step compares them; a difference is
//! a [`BrokenPromise`].

use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::{
    Breaker, BreakerSettings, CallOutcome, CircuitState, LEASE_MARGIN, Ticket,
    mutants::BreakerVariant,
};

#[test]
fn no_order_of_events_makes_the_breaker_break_a_promise() {
    let checker = BreakerModel {
        rules: BreakerVariant::Real,
    }
    .checker()
    .spawn_bfs()
    .join();
    let states = checker.unique_state_count();
    checker.assert_properties();
    assert!(
        states > 100_000,
        "{states} states: the bounds are too tight to prove much"
    );
}

/// The model: seconds pass, calls start and end in any order or never, and an operator interferes.
pub(super) struct BreakerModel {
    pub(super) rules: BreakerVariant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ModelState {
    now: Duration,
    breaker: Breaker,
    /// Calls under way, sorted, since only their contents distinguish them. One that never ends stays.
    calls: Vec<ModelCall>,
    calls_left: u8,
    acts_left: u8,
    /// Increases whenever results of earlier calls must no longer count.
    epoch: u8,
    /// Increases whenever the breaker becomes half-open.
    spell: u8,
    /// Trials of this half-open period whose result was accepted as a success or failure.
    decisions: u8,
    /// An open breaker must not admit before this.
    closed_to_calls_until: Duration,
    /// From this time on a call must be admitted; `None` while held open.
    must_admit_from: Option<Duration>,
    /// The promises that the last step broke.
    faults: Vec<BrokenPromise>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ModelCall {
    generation: u64,
    epoch: u8,
    trial: Option<TrialLease>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct TrialLease {
    spell: u8,
    lease_end: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelAction {
    SecondPasses,
    Admit,
    End(usize, CallOutcome),
    Reset,
    ForceOpen,
    ForceClosed,
    Unforce,
}

/// A violated guarantee of the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum BrokenPromise {
    RefusalChangedSomething,
    AdmittedTooEarly,
    TwoTrials,
    TwoTrialsDecided,
    StaleResultCounted,
    FreshResultCalledStale,
    ClosedWithoutSuccessfulTrial,
    OpenedWithoutFailure,
    TransitionMisreported,
}

impl Model for BreakerModel {
    type State = ModelState;
    type Action = ModelAction;

    fn init_states(&self) -> Vec<ModelState> {
        let settings =
            BreakerSettings::try_new(2, Duration::from_secs(2), MAX_RESET_TIMEOUT).unwrap();
        vec![ModelState {
            now: Duration::ZERO,
            breaker: Breaker::new(settings, 7),
            calls: Vec::new(),
            calls_left: 5,
            acts_left: 1,
            epoch: 0,
            spell: 0,
            decisions: 0,
            closed_to_calls_until: Duration::ZERO,
            must_admit_from: Some(Duration::ZERO),
            faults: Vec::new(),
        }]
    }

    fn actions(&self, world: &ModelState, actions: &mut Vec<ModelAction>) {
        if world.now < LAST_SECOND {
            actions.push(ModelAction::SecondPasses);
        }
        if world.calls_left > 0 {
            actions.push(ModelAction::Admit);
        }
        for i in 0..world.calls.len() {
            actions.extend(
                [
                    CallOutcome::Success,
                    CallOutcome::Failure,
                    CallOutcome::Ignored,
                ]
                .map(|o| ModelAction::End(i, o)),
            );
        }
        if world.acts_left > 0 {
            actions.extend([
                ModelAction::Reset,
                ModelAction::ForceOpen,
                ModelAction::ForceClosed,
            ]);
        }
        if world.breaker.is_forced() {
            actions.push(ModelAction::Unforce);
        }
    }

    fn next_state(&self, before: &ModelState, action: ModelAction) -> Option<ModelState> {
        let mut world = before.clone();
        world.faults.clear();
        match action {
            ModelAction::SecondPasses => world.now += Duration::from_secs(1),
            ModelAction::Admit => world.admit(self.rules)?,
            ModelAction::End(call, outcome) => world.end(self.rules, call, outcome),
            ModelAction::Reset
            | ModelAction::ForceOpen
            | ModelAction::ForceClosed
            | ModelAction::Unforce => world.act(self.rules, action),
        }
        world.calls.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a refused call changes nothing", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::RefusalChangedSomething)
            }),
            Property::always(
                "no call before the open time is over",
                |_, w: &ModelState| !w.faults.contains(&BrokenPromise::AdmittedTooEarly),
            ),
            Property::always("one trial at a time", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::TwoTrials)
            }),
            Property::always("one trial of a spell decides", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::TwoTrialsDecided)
            }),
            Property::always("a stale result changes nothing", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::StaleResultCounted)
            }),
            Property::always("a fresh result counts", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::FreshResultCalledStale)
            }),
            Property::always("only a trial's success closes", |_, w: &ModelState| {
                !w.faults
                    .contains(&BrokenPromise::ClosedWithoutSuccessfulTrial)
            }),
            Property::always("only a failure opens", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::OpenedWithoutFailure)
            }),
            Property::always("transitions tell what happened", |_, w: &ModelState| {
                !w.faults.contains(&BrokenPromise::TransitionMisreported)
            }),
            Property::always("never stuck", |model: &Self, w: &ModelState| {
                w.must_admit_from.is_none_or(|from| {
                    w.now < from || model.rules.admit(&mut w.breaker.clone(), w.now).is_ok()
                })
            }),
            Property::sometimes("it opens a second time", |_, w: &ModelState| {
                w.breaker.trips > 1
            }),
            Property::sometimes("it closes again", |_, w: &ModelState| {
                w.breaker.trips > 0 && w.breaker.state() == CircuitState::Closed
            }),
            Property::sometimes("a trial outlives its lease", |_, w: &ModelState| {
                w.trials().count() > 1
            }),
            Property::sometimes("a trial is ignored", |_, w: &ModelState| {
                w.breaker.state() == CircuitState::HalfOpen && w.trials().count() == 0
            }),
            Property::sometimes("a result is due to be stale", |_, w: &ModelState| {
                w.calls.iter().any(|call| call.epoch < w.epoch)
            }),
        ]
    }
}

impl ModelState {
    fn admit(&mut self, rules: BreakerVariant) -> Option<()> {
        let before = self.breaker.clone();
        let Ok(ticket) = rules.admit(&mut self.breaker, self.now) else {
            self.flag(
                self.breaker != before,
                BrokenPromise::RefusalChangedSomething,
            );
            return (!self.faults.is_empty()).then_some(());
        };
        self.calls_left -= 1;
        self.flag(
            self.now < self.closed_to_calls_until,
            BrokenPromise::AdmittedTooEarly,
        );
        self.check_transition(&before, ticket.transition().is_some());
        let trial =
            (self.breaker.state() == CircuitState::HalfOpen).then(|| self.begin_trial(&before));
        self.calls.push(ModelCall {
            generation: ticket.generation,
            epoch: self.epoch,
            trial,
        });
        Some(())
    }

    /// Returns the trials of this half-open period that have not ended.
    fn trials(&self) -> impl Iterator<Item = &TrialLease> {
        self.calls
            .iter()
            .filter_map(|call| call.trial.as_ref())
            .filter(|trial| trial.spell == self.spell)
    }

    fn begin_trial(&mut self, before: &Breaker) -> TrialLease {
        let lease_end = self.now + TIMEOUT + LEASE_MARGIN;
        if before.state() == CircuitState::HalfOpen {
            let overlaps = self.trials().any(|trial| self.now < trial.lease_end);
            self.flag(overlaps, BrokenPromise::TwoTrials);
        } else {
            self.spell += 1;
            self.decisions = 0;
        }
        self.epoch += 1;
        self.must_admit_from = Some(lease_end);
        TrialLease {
            spell: self.spell,
            lease_end,
        }
    }

    fn end(&mut self, rules: BreakerVariant, call: usize, outcome: CallOutcome) {
        let before = self.breaker.clone();
        let call = self.calls.remove(call);
        let fresh = call.epoch == self.epoch;
        let ticket = Ticket {
            generation: call.generation,
            transition: None,
        };
        let Ok(transition) = rules.record(&mut self.breaker, ticket, outcome, self.now) else {
            self.flag(fresh, BrokenPromise::FreshResultCalledStale);
            self.flag(self.breaker != before, BrokenPromise::StaleResultCounted);
            return;
        };
        self.flag(!fresh, BrokenPromise::StaleResultCounted);
        self.check_transition(&before, transition.is_some());
        if before.state() == CircuitState::HalfOpen {
            self.end_trial(outcome);
        }
        if self.breaker.state() != before.state() {
            self.change_state(call.trial.is_some(), outcome);
        }
    }

    fn end_trial(&mut self, outcome: CallOutcome) {
        if outcome == CallOutcome::Ignored {
            self.epoch += 1;
            self.must_admit_from = Some(self.now);
        } else {
            self.decisions += 1;
            self.flag(self.decisions > 1, BrokenPromise::TwoTrialsDecided);
        }
    }

    fn change_state(&mut self, by_trial: bool, outcome: CallOutcome) {
        self.epoch += 1;
        match self.breaker.state() {
            CircuitState::Closed => {
                self.flag(
                    !by_trial || outcome != CallOutcome::Success,
                    BrokenPromise::ClosedWithoutSuccessfulTrial,
                );
                self.must_admit_from = Some(self.now);
            }
            CircuitState::Open { .. } => {
                self.flag(
                    outcome != CallOutcome::Failure,
                    BrokenPromise::OpenedWithoutFailure,
                );
                self.closed_to_calls_until = self.now + RESET_TIMEOUT;
                self.must_admit_from = Some(self.now + MAX_RESET_TIMEOUT + MAX_RESET_TIMEOUT / 10);
            }
            CircuitState::HalfOpen => self.flag(true, BrokenPromise::TransitionMisreported),
        }
    }

    fn act(&mut self, rules: BreakerVariant, action: ModelAction) {
        let before = self.breaker.clone();
        let transition = match action {
            ModelAction::Reset => rules.reset(&mut self.breaker, self.now),
            ModelAction::ForceOpen => self.breaker.force_open(),
            ModelAction::ForceClosed => self.breaker.force_closed(),
            _ => self.breaker.unforce(self.now),
        };
        self.acts_left = self
            .acts_left
            .saturating_sub(u8::from(action != ModelAction::Unforce));
        self.epoch += 1;
        self.closed_to_calls_until = self.now;
        self.must_admit_from = (action != ModelAction::ForceOpen).then_some(self.now);
        let changed = before.state().name() != self.breaker.state().name();
        self.flag(
            transition.is_some() != changed,
            BrokenPromise::TransitionMisreported,
        );
    }

    fn check_transition(&mut self, before: &Breaker, told: bool) {
        self.flag(
            told != (before.state() != self.breaker.state()),
            BrokenPromise::TransitionMisreported,
        );
    }

    fn flag(&mut self, broken: bool, fault: BrokenPromise) {
        if broken {
            self.faults.push(fault);
        }
    }
}

pub(super) const TIMEOUT: Duration = Duration::from_secs(1);
const RESET_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RESET_TIMEOUT: Duration = Duration::from_secs(4);
/// Long enough for a trip, trials whose leases expire, a second and longer trip, and the trial after it.
const LAST_SECOND: Duration = Duration::from_secs(9);
