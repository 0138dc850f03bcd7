//! What the guard's lock protects: the breaker, and the one call that may be under way. Pure.
//!
//! A call that is stuck keeps its platform from being checked by the same generation of the plugin, and by no other: what
//! is stuck in a generation that was succeeded is only remembered, until it returns or its process is gone.

use std::time::Duration;

use crate::{
    breaker::{Breaker, Outcome, Refused, State, Ticket, Transition},
    metrics::SkipReason,
    state::BreakerOrder,
};

/// At most one call under way, or one that is stuck.
pub(super) struct Slot {
    breaker: Breaker,
    /// The number of the last call begun.
    sequence: u64,
    call: Option<InFlight>,
    /// Calls the host has given up on and that have not returned, at most one in each generation.
    stuck: Vec<Stuck>,
}

struct InFlight {
    ticket: Ticket,
    slot_time: Duration,
    begun: Duration,
    started: Option<Started>,
}

#[derive(Clone, Copy)]
struct Started {
    at: Duration,
    /// The plugin's generation that it was handed to.
    generation: u64,
}

struct Stuck {
    sequence: u64,
    since: Duration,
    generation: u64,
}

/// Why a check that was due is not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Skip {
    /// The one before is still running.
    Overlap,
    /// The one before ran into its deadline at this time, and has not returned.
    Stuck(Duration),
    /// The one before still waits for a thread, since this time.
    Waiting(Duration),
    /// The plugin has too many stuck calls.
    Saturated,
    /// The breaker is open, or its trial is under way.
    BreakerOpen,
}

impl Skip {
    /// How it is counted.
    pub fn reason(self) -> SkipReason {
        match self {
            Self::Overlap | Self::Stuck(_) => SkipReason::Overlap,
            Self::Waiting(_) | Self::Saturated => SkipReason::Saturated,
            Self::BreakerOpen => SkipReason::BreakerOpen,
        }
    }
}

/// What the end of a call meant.
pub(super) enum Finished {
    /// It was waited for.
    Taken {
        transition: Option<Transition>,
        /// When it had started.
        started: Duration,
    },
    /// The host had given up on it, and it was stuck in this generation until now.
    Late { generation: u64 },
    /// Nobody knows of it: it was taken back.
    Unknown,
}

impl Slot {
    /// Its calls are numbered from `first` on.
    pub(super) fn new(breaker: Breaker, first: u64) -> Self {
        Self {
            breaker,
            sequence: first,
            call: None,
            stuck: Vec::new(),
        }
    }

    /// Begins a call of the schedule into a generation: its number, and the breaker's move to half-open if it is a trial.
    pub(super) fn begin(
        &mut self,
        slot_time: Duration,
        now: Duration,
        timeout: Duration,
        generation: u64,
    ) -> Result<(u64, Option<Transition>), Skip> {
        self.begin_by(Breaker::admit, slot_time, now, timeout, generation)
    }

    /// The same for a call that an operator asks for, which may be an open breaker's trial.
    pub(super) fn begin_asked(
        &mut self,
        now: Duration,
        timeout: Duration,
        generation: u64,
    ) -> Result<(u64, Option<Transition>), Skip> {
        self.begin_by(Breaker::admit_asked, now, now, timeout, generation)
    }

    fn begin_by(
        &mut self,
        admit: fn(&mut Breaker, Duration, Duration) -> Result<Ticket, Refused>,
        slot_time: Duration,
        now: Duration,
        timeout: Duration,
        generation: u64,
    ) -> Result<(u64, Option<Transition>), Skip> {
        if let Some(stuck) = self.stuck.iter().find(|s| s.generation == generation) {
            return Err(Skip::Stuck(stuck.since));
        }
        if let Some(call) = &self.call {
            return Err(match call.started {
                Some(_) => Skip::Overlap,
                None => Skip::Waiting(call.begun),
            });
        }
        let ticket = admit(&mut self.breaker, now, timeout).map_err(|_| Skip::BreakerOpen)?;
        let transition = ticket.transition();
        self.sequence += 1;
        self.call = Some(InFlight {
            ticket,
            slot_time,
            begun: now,
            started: None,
        });
        Ok((self.sequence, transition))
    }

    /// Marks the call as running in a generation; answers when it had been due, or `None` when it is no longer wanted, or
    /// runs elsewhere already: what waited in one generation is handed to its successor as well.
    pub(super) fn start(
        &mut self,
        sequence: u64,
        now: Duration,
        generation: u64,
    ) -> Option<Duration> {
        let call = self.call.as_mut().filter(|_| self.sequence == sequence)?;
        if call.started.is_some() {
            return None;
        }
        call.started = Some(Started {
            at: now,
            generation,
        });
        Some(call.slot_time)
    }

    /// Whether the call is under way, and when it was started.
    pub(super) fn started(&self, sequence: u64) -> Option<Option<Duration>> {
        let call = self.call.as_ref().filter(|_| self.sequence == sequence)?;
        Some(call.started.map(|started| started.at))
    }

    /// Ends the call by its result.
    pub(super) fn finish(&mut self, sequence: u64, outcome: Outcome, now: Duration) -> Finished {
        if let Some(at) = self.stuck.iter().position(|s| s.sequence == sequence) {
            let Stuck { generation, .. } = self.stuck.swap_remove(at);
            return Finished::Late { generation };
        }
        match self.call.take_if(|_| self.sequence == sequence) {
            Some(call) => Finished::Taken {
                transition: self.record(call.ticket, outcome, now),
                started: call.started.map_or(now, |started| started.at),
            },
            None => Finished::Unknown,
        }
    }

    /// Ends the call by its deadline, with the outcome that is then asked for; answers the generation it is stuck in, or
    /// `None` when it is over already.
    pub(super) fn expire(
        &mut self,
        sequence: u64,
        now: Duration,
        outcome: impl FnOnce() -> Outcome,
    ) -> Option<(u64, Option<Transition>)> {
        let call = self.call.take_if(|_| self.sequence == sequence)?;
        let generation = call.started.map_or(0, |started| started.generation);
        self.stuck.push(Stuck {
            sequence,
            since: now,
            generation,
        });
        Some((generation, self.record(call.ticket, outcome(), now)))
    }

    /// Takes the call back if it has not started.
    pub(super) fn withdraw(&mut self, sequence: u64, now: Duration) -> bool {
        let waiting = |call: &mut InFlight| self.sequence == sequence && call.started.is_none();
        match self.call.take_if(waiting) {
            Some(call) => {
                self.record(call.ticket, Outcome::Ignored, now);
                true
            }
            None => false,
        }
    }

    pub(super) fn breaker_state(&self) -> State {
        self.breaker.state()
    }

    pub(super) fn is_forced(&self) -> bool {
        self.breaker.is_forced()
    }

    /// What an operator wants of the breaker for as long as he does not take it back.
    pub(super) fn held(&self) -> Option<BreakerOrder> {
        self.is_forced().then(|| match self.breaker_state() {
            State::Closed => BreakerOrder::Close,
            State::Open { .. } | State::HalfOpen => BreakerOrder::Open,
        })
    }

    /// Does what an operator wants of the breaker.
    pub(super) fn order(&mut self, order: BreakerOrder, now: Duration) -> Option<Transition> {
        match order {
            BreakerOrder::Open => self.breaker.force_open(),
            BreakerOrder::Close => self.breaker.force_closed(),
            BreakerOrder::Release => self.breaker.unforce(now),
            BreakerOrder::Reset => self.breaker.reset(now),
        }
    }

    /// A stale ticket changes nothing; an operator may have reset the breaker while the call ran.
    fn record(&mut self, ticket: Ticket, outcome: Outcome, now: Duration) -> Option<Transition> {
        self.breaker.record(ticket, outcome, now).unwrap_or(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Settings;

    const S: Duration = Duration::from_secs(1);

    fn slot() -> Slot {
        Slot::new(Breaker::new(Settings::default(), 1), 0)
    }

    #[test]
    fn no_second_call_begins_while_one_waits_runs_or_is_stuck() {
        let mut slot = slot();
        let (first, _) = slot.begin(S, S, S, 1).unwrap();
        assert_eq!(slot.begin(S, S, S, 1).unwrap_err(), Skip::Waiting(S));
        slot.start(first, S, 1);
        assert_eq!(slot.begin(S, S, S, 1).unwrap_err(), Skip::Overlap);
        slot.expire(first, 2 * S, || Outcome::Failure).unwrap();
        assert_eq!(slot.begin(S, 2 * S, S, 1).unwrap_err(), Skip::Stuck(2 * S));
        assert!(matches!(
            slot.finish(first, Outcome::Success, 3 * S),
            Finished::Late { generation: 1 }
        ));
        slot.begin(S, 3 * S, S, 1).unwrap();
    }

    #[test]
    fn a_call_ends_once_by_result_or_by_deadline() {
        let mut slot = slot();
        let (call, _) = slot.begin(S, S, S, 1).unwrap();
        slot.start(call, S, 1);
        assert!(matches!(
            slot.finish(call, Outcome::Success, S),
            Finished::Taken { .. }
        ));
        assert!(slot.expire(call, 3 * S, || Outcome::Failure).is_none());
        assert!(slot.started(call).is_none(), "nobody waits for it any more");
    }

    #[test]
    fn a_late_success_does_not_undo_its_timeouts() {
        let mut slot = slot();
        for second in 1..=3 {
            let now = second * S;
            let (call, _) = slot.begin(now, now, S, 1).unwrap();
            slot.start(call, now, 1);
            slot.expire(call, now + S, || Outcome::Failure);
            slot.finish(call, Outcome::Success, now + S);
        }
        assert!(matches!(slot.breaker_state(), State::Open { .. }));
    }

    #[test]
    fn a_withdrawn_trial_lets_another_one_through() {
        let mut slot = slot();
        for second in 1..=3 {
            let (call, _) = slot.begin(second * S, second * S, S, 1).unwrap();
            slot.finish(call, Outcome::Failure, second * S);
        }
        let now = 100 * S;
        let (trial, _) = slot.begin(now, now, S, 1).unwrap();
        assert!(slot.withdraw(trial, now));
        slot.begin(now, now, S, 1).unwrap();
    }

    #[test]
    fn a_check_that_an_operator_asks_for_is_the_trial_of_an_open_breaker_and_not_of_one_held_open()
    {
        let mut slot = slot();
        for second in 1..=3 {
            let (call, _) = slot.begin(second * S, second * S, S, 1).unwrap();
            slot.finish(call, Outcome::Failure, second * S);
        }
        assert_eq!(
            slot.begin(4 * S, 4 * S, S, 1).unwrap_err(),
            Skip::BreakerOpen
        );
        let (trial, transition) = slot.begin_asked(4 * S, S, 1).unwrap();
        assert_eq!(transition.unwrap().to, State::HalfOpen);
        assert_eq!(
            slot.begin_asked(4 * S, S, 1).unwrap_err(),
            Skip::Waiting(4 * S),
            "one trial at a time"
        );
        slot.finish(trial, Outcome::Success, 5 * S);
        assert_eq!(slot.breaker_state(), State::Closed);

        slot.order(BreakerOrder::Open, 6 * S);
        assert_eq!(
            slot.begin_asked(6 * S, S, 1).unwrap_err(),
            Skip::BreakerOpen
        );
        assert_eq!(slot.breaker_state(), State::Open { until: None });
    }

    #[test]
    fn a_failed_trial_that_an_operator_asked_for_opens_the_breaker_for_longer() {
        let mut slot = slot();
        for second in 1..=3 {
            let (call, _) = slot.begin(second * S, second * S, S, 1).unwrap();
            slot.finish(call, Outcome::Failure, second * S);
        }
        let (trial, _) = slot.begin_asked(4 * S, S, 1).unwrap();
        slot.finish(trial, Outcome::Failure, 5 * S);
        let State::Open { until: Some(until) } = slot.breaker_state() else {
            panic!("{:?}", slot.breaker_state());
        };
        assert!(until >= 65 * S, "{until:?}");
    }

    #[test]
    fn a_call_that_is_stuck_in_an_old_generation_keeps_nobody_from_the_new_one() {
        let mut slot = slot();
        let (old, _) = slot.begin(S, S, S, 1).unwrap();
        slot.start(old, S, 1);
        slot.expire(old, 2 * S, || Outcome::Failure);
        let (new, _) = slot.begin(3 * S, 3 * S, S, 2).unwrap();
        slot.start(new, 3 * S, 2);
        assert!(matches!(
            slot.finish(old, Outcome::Success, 3 * S),
            Finished::Late { generation: 1 }
        ));
        assert!(matches!(
            slot.finish(new, Outcome::Success, 3 * S),
            Finished::Taken { .. }
        ));
    }

    #[test]
    fn a_call_that_is_handed_to_two_generations_runs_in_the_first_to_start_it() {
        let mut slot = slot();
        let (call, _) = slot.begin(S, S, S, 1).unwrap();
        assert_eq!(slot.start(call, S, 2), Some(S));
        assert_eq!(slot.start(call, S, 1), None);
    }
}
