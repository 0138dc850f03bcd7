//! A model checker for the real breaker: tries every order of events, within bounds.
//!
//! The model's own records follow the design and use none of the breaker's fields: which call belongs to which period
//! of the breaker's life (`epoch`), which is a trial and when its lease ends. Each step compares them; a difference is
//! a [`Fault`].

use std::time::Duration;

use stateright::{Checker, Model, Property};

use super::{Breaker, LEASE_MARGIN, Outcome, Settings, State, Ticket, mutants::Rules};

#[test]
fn no_order_of_events_makes_the_breaker_break_a_promise() {
    let checker = Bounds { rules: Rules::Real }.checker().spawn_bfs().join();
    let states = checker.unique_state_count();
    checker.assert_properties();
    assert!(
        states > 100_000,
        "{states} states: the bounds are too tight to prove much"
    );
}

/// The model: seconds pass, calls start and end in any order or never, and an operator interferes.
pub(super) struct Bounds {
    pub(super) rules: Rules,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    now: Duration,
    breaker: Breaker,
    /// Calls under way, sorted, since only their contents distinguish them. One that never ends stays.
    calls: Vec<Call>,
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
    faults: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Call {
    generation: u64,
    epoch: u8,
    trial: Option<Trial>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Trial {
    spell: u8,
    lease_end: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    SecondPasses,
    Admit,
    End(usize, Outcome),
    Reset,
    ForceOpen,
    ForceClosed,
    Unforce,
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
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

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let settings = Settings::try_new(2, Duration::from_secs(2), MAX_RESET_TIMEOUT).unwrap();
        vec![World {
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

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.now < LAST_SECOND {
            actions.push(Action::SecondPasses);
        }
        if world.calls_left > 0 {
            actions.push(Action::Admit);
        }
        for i in 0..world.calls.len() {
            actions.extend(
                [Outcome::Success, Outcome::Failure, Outcome::Ignored].map(|o| Action::End(i, o)),
            );
        }
        if world.acts_left > 0 {
            actions.extend([Action::Reset, Action::ForceOpen, Action::ForceClosed]);
        }
        if world.breaker.is_forced() {
            actions.push(Action::Unforce);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        world.faults.clear();
        match action {
            Action::SecondPasses => world.now += Duration::from_secs(1),
            Action::Admit => world.admit(self.rules)?,
            Action::End(call, outcome) => world.end(self.rules, call, outcome),
            Action::Reset | Action::ForceOpen | Action::ForceClosed | Action::Unforce => {
                world.act(self.rules, action)
            }
        }
        world.calls.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a refused call changes nothing", |_, w: &World| {
                !w.faults.contains(&Fault::RefusalChangedSomething)
            }),
            Property::always("no call before the open time is over", |_, w: &World| {
                !w.faults.contains(&Fault::AdmittedTooEarly)
            }),
            Property::always("one trial at a time", |_, w: &World| {
                !w.faults.contains(&Fault::TwoTrials)
            }),
            Property::always("one trial of a spell decides", |_, w: &World| {
                !w.faults.contains(&Fault::TwoTrialsDecided)
            }),
            Property::always("a stale result changes nothing", |_, w: &World| {
                !w.faults.contains(&Fault::StaleResultCounted)
            }),
            Property::always("a fresh result counts", |_, w: &World| {
                !w.faults.contains(&Fault::FreshResultCalledStale)
            }),
            Property::always("only a trial's success closes", |_, w: &World| {
                !w.faults.contains(&Fault::ClosedWithoutSuccessfulTrial)
            }),
            Property::always("only a failure opens", |_, w: &World| {
                !w.faults.contains(&Fault::OpenedWithoutFailure)
            }),
            Property::always("transitions tell what happened", |_, w: &World| {
                !w.faults.contains(&Fault::TransitionMisreported)
            }),
            Property::always("never stuck", |model: &Self, w: &World| {
                w.must_admit_from.is_none_or(|from| {
                    w.now < from || model.rules.admit(&mut w.breaker.clone(), w.now).is_ok()
                })
            }),
            Property::sometimes("it opens a second time", |_, w: &World| w.breaker.trips > 1),
            Property::sometimes("it closes again", |_, w: &World| {
                w.breaker.trips > 0 && w.breaker.state() == State::Closed
            }),
            Property::sometimes("a trial outlives its lease", |_, w: &World| {
                w.trials().count() > 1
            }),
            Property::sometimes("a trial is ignored", |_, w: &World| {
                w.breaker.state() == State::HalfOpen && w.trials().count() == 0
            }),
            Property::sometimes("a result is due to be stale", |_, w: &World| {
                w.calls.iter().any(|call| call.epoch < w.epoch)
            }),
        ]
    }
}

impl World {
    fn admit(&mut self, rules: Rules) -> Option<()> {
        let before = self.breaker.clone();
        let Ok(ticket) = rules.admit(&mut self.breaker, self.now) else {
            self.flag(self.breaker != before, Fault::RefusalChangedSomething);
            return (!self.faults.is_empty()).then_some(());
        };
        self.calls_left -= 1;
        self.flag(
            self.now < self.closed_to_calls_until,
            Fault::AdmittedTooEarly,
        );
        self.check_transition(&before, ticket.transition().is_some());
        let trial = (self.breaker.state() == State::HalfOpen).then(|| self.begin_trial(&before));
        self.calls.push(Call {
            generation: ticket.generation,
            epoch: self.epoch,
            trial,
        });
        Some(())
    }

    /// Returns the trials of this half-open period that have not ended.
    fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.calls
            .iter()
            .filter_map(|call| call.trial.as_ref())
            .filter(|trial| trial.spell == self.spell)
    }

    fn begin_trial(&mut self, before: &Breaker) -> Trial {
        let lease_end = self.now + TIMEOUT + LEASE_MARGIN;
        if before.state() == State::HalfOpen {
            let overlaps = self.trials().any(|trial| self.now < trial.lease_end);
            self.flag(overlaps, Fault::TwoTrials);
        } else {
            self.spell += 1;
            self.decisions = 0;
        }
        self.epoch += 1;
        self.must_admit_from = Some(lease_end);
        Trial {
            spell: self.spell,
            lease_end,
        }
    }

    fn end(&mut self, rules: Rules, call: usize, outcome: Outcome) {
        let before = self.breaker.clone();
        let call = self.calls.remove(call);
        let fresh = call.epoch == self.epoch;
        let ticket = Ticket {
            generation: call.generation,
            transition: None,
        };
        let Ok(transition) = rules.record(&mut self.breaker, ticket, outcome, self.now) else {
            self.flag(fresh, Fault::FreshResultCalledStale);
            self.flag(self.breaker != before, Fault::StaleResultCounted);
            return;
        };
        self.flag(!fresh, Fault::StaleResultCounted);
        self.check_transition(&before, transition.is_some());
        if before.state() == State::HalfOpen {
            self.end_trial(outcome);
        }
        if self.breaker.state() != before.state() {
            self.change_state(call.trial.is_some(), outcome);
        }
    }

    fn end_trial(&mut self, outcome: Outcome) {
        if outcome == Outcome::Ignored {
            self.epoch += 1;
            self.must_admit_from = Some(self.now);
        } else {
            self.decisions += 1;
            self.flag(self.decisions > 1, Fault::TwoTrialsDecided);
        }
    }

    fn change_state(&mut self, by_trial: bool, outcome: Outcome) {
        self.epoch += 1;
        match self.breaker.state() {
            State::Closed => {
                self.flag(
                    !by_trial || outcome != Outcome::Success,
                    Fault::ClosedWithoutSuccessfulTrial,
                );
                self.must_admit_from = Some(self.now);
            }
            State::Open { .. } => {
                self.flag(outcome != Outcome::Failure, Fault::OpenedWithoutFailure);
                self.closed_to_calls_until = self.now + RESET_TIMEOUT;
                self.must_admit_from = Some(self.now + MAX_RESET_TIMEOUT + MAX_RESET_TIMEOUT / 10);
            }
            State::HalfOpen => self.flag(true, Fault::TransitionMisreported),
        }
    }

    fn act(&mut self, rules: Rules, action: Action) {
        let before = self.breaker.clone();
        let transition = match action {
            Action::Reset => rules.reset(&mut self.breaker, self.now),
            Action::ForceOpen => self.breaker.force_open(),
            Action::ForceClosed => self.breaker.force_closed(),
            _ => self.breaker.unforce(self.now),
        };
        self.acts_left = self
            .acts_left
            .saturating_sub(u8::from(action != Action::Unforce));
        self.epoch += 1;
        self.closed_to_calls_until = self.now;
        self.must_admit_from = (action != Action::ForceOpen).then_some(self.now);
        let changed = before.state().name() != self.breaker.state().name();
        self.flag(
            transition.is_some() != changed,
            Fault::TransitionMisreported,
        );
    }

    fn check_transition(&mut self, before: &Breaker, told: bool) {
        self.flag(
            told != (before.state() != self.breaker.state()),
            Fault::TransitionMisreported,
        );
    }

    fn flag(&mut self, broken: bool, fault: Fault) {
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
