//! The state of one platform's calls: its breaker, and the call under way. The guard's lock protects it.
//!
//! A stuck call blocks checks of its platform only in the same generation of the plugin. A call that is stuck in an
//! older generation is remembered until it returns or its process ends.

use std::time::Duration;

use conductor_types::SkipReason;

use crate::breaker::{Breaker, CallOutcome, Refused, Ticket, Transition};

#[cfg(all(test, conductor_loom))]
mod loom_tests;

/// A platform's breaker and its calls: at most one under way, and at most one stuck in each generation.
#[derive(Debug)]
pub struct PlatformCalls {
    breaker: Breaker,
    /// The number of the last call begun.
    sequence: u64,
    call: Option<InFlight>,
    /// Abandoned calls that have not returned, at most one in each generation.
    stuck: Vec<StuckCall>,
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    slot_time: Duration,
    begun: Duration,
    started: Option<CallStart>,
}

#[derive(Clone, Copy, Debug)]
struct CallStart {
    at: Duration,
    /// The generation of the plugin it was handed to.
    generation: u64,
}

#[derive(Debug)]
struct StuckCall {
    sequence: u64,
    since: Duration,
    generation: u64,
}

/// The reason why a due check is not made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SkipCause {
    /// The previous check is still running.
    Overlap,
    /// The previous check timed out at this time and has not returned.
    Stuck(Duration),
    /// The previous check has been waiting for a thread since this time.
    Waiting(Duration),
    /// The plugin has too many stuck calls.
    Saturated,
    /// The breaker is open, or its trial is under way.
    BreakerOpen,
}

impl From<SkipCause> for SkipReason {
    fn from(skip: SkipCause) -> Self {
        match skip {
            SkipCause::Overlap | SkipCause::Stuck(_) => Self::Overlap,
            SkipCause::Waiting(_) | SkipCause::Saturated => Self::Saturated,
            SkipCause::BreakerOpen => Self::BreakerOpen,
        }
    }
}

/// The effect of a completed call.
#[derive(Clone, Copy, Debug)]
pub enum CallCompletion {
    /// The call was under way and has ended.
    Taken {
        /// The breaker's change of state, if any.
        transition: Option<Transition>,
        /// The time at which the call started.
        started: Duration,
    },
    /// The call had passed its deadline and was stuck until now.
    Late {
        /// The generation in which it was stuck.
        generation: u64,
    },
    /// The call is unknown: it was withdrawn.
    Unknown,
}

impl PlatformCalls {
    /// Creates an entry without calls. Its calls are numbered from `first` on.
    #[must_use]
    pub fn new(breaker: Breaker, first: u64) -> Self {
        Self {
            breaker,
            sequence: first,
            call: None,
            stuck: Vec::new(),
        }
    }

    /// Begins a scheduled call to a generation.
    ///
    /// Returns the call's number, and the breaker's change to half-open if the call is its trial.
    ///
    /// # Errors
    /// The reason why no call may begin now.
    pub fn begin(
        &mut self,
        slot_time: Duration,
        now: Duration,
        timeout: Duration,
        generation: u64,
    ) -> Result<(u64, Option<Transition>), SkipCause> {
        self.begin_by(Breaker::admit, slot_time, now, timeout, generation)
    }

    /// Begins a call that an operator asks for; an open breaker admits it as its trial.
    ///
    /// # Errors
    /// The reason why no call may begin now.
    pub fn begin_asked(
        &mut self,
        now: Duration,
        timeout: Duration,
        generation: u64,
    ) -> Result<(u64, Option<Transition>), SkipCause> {
        self.begin_by(Breaker::admit_asked, now, now, timeout, generation)
    }

    fn begin_by(
        &mut self,
        admit: fn(&mut Breaker, Duration, Duration) -> Result<Ticket, Refused>,
        slot_time: Duration,
        now: Duration,
        timeout: Duration,
        generation: u64,
    ) -> Result<(u64, Option<Transition>), SkipCause> {
        if let Some(stuck) = self.stuck.iter().find(|s| s.generation == generation) {
            return Err(SkipCause::Stuck(stuck.since));
        }
        if let Some(call) = &self.call {
            return Err(match call.started {
                Some(_) => SkipCause::Overlap,
                None => SkipCause::Waiting(call.begun),
            });
        }
        let ticket = admit(&mut self.breaker, now, timeout).map_err(|_| SkipCause::BreakerOpen)?;
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

    /// Marks the call as running in a generation, and returns the time at which it was due.
    ///
    /// Returns `None` for a call that is no longer wanted or that another generation has started: a waiting call is
    /// handed to the next generation as well.
    pub fn start(&mut self, sequence: u64, now: Duration, generation: u64) -> Option<Duration> {
        let call = self.call.as_mut().filter(|_| self.sequence == sequence)?;
        if call.started.is_some() {
            return None;
        }
        call.started = Some(CallStart {
            at: now,
            generation,
        });
        Some(call.slot_time)
    }

    /// Returns the start of a call under way: `Some(None)` while it waits for a thread, `None` once it has ended.
    #[must_use]
    pub fn started(&self, sequence: u64) -> Option<Option<Duration>> {
        let call = self.call.as_ref().filter(|_| self.sequence == sequence)?;
        Some(call.started.map(|started| started.at))
    }

    /// Ends a call with its result.
    pub fn finish(&mut self, sequence: u64, outcome: CallOutcome, now: Duration) -> CallCompletion {
        if let Some(at) = self.stuck.iter().position(|s| s.sequence == sequence) {
            let StuckCall { generation, .. } = self.stuck.swap_remove(at);
            return CallCompletion::Late { generation };
        }
        match self.call.take_if(|_| self.sequence == sequence) {
            Some(call) => CallCompletion::Taken {
                transition: self.record(call.ticket, outcome, now),
                started: call.started.map_or(now, |started| started.at),
            },
            None => CallCompletion::Unknown,
        }
    }

    /// Ends a call at its deadline, with the outcome that `outcome` returns.
    ///
    /// Returns the generation in which the call is stuck, or `None` if the call has already ended.
    pub fn expire(
        &mut self,
        sequence: u64,
        now: Duration,
        outcome: impl FnOnce() -> CallOutcome,
    ) -> Option<(u64, Option<Transition>)> {
        let call = self.call.take_if(|_| self.sequence == sequence)?;
        let generation = call.started.map_or(0, |started| started.generation);
        self.stuck.push(StuckCall {
            sequence,
            since: now,
            generation,
        });
        Some((generation, self.record(call.ticket, outcome(), now)))
    }

    /// Withdraws a call that has not started; returns `true` on success.
    pub fn withdraw(&mut self, sequence: u64, now: Duration) -> bool {
        let waiting = |call: &mut InFlight| self.sequence == sequence && call.started.is_none();
        match self.call.take_if(waiting) {
            Some(call) => {
                self.record(call.ticket, CallOutcome::Ignored, now);
                true
            }
            None => false,
        }
    }

    /// Returns `true` while a call waits for a thread or runs.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.call.is_some()
    }

    /// Returns the breaker that admits the calls.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Returns the breaker, for an operator's order.
    pub fn breaker_mut(&mut self) -> &mut Breaker {
        &mut self.breaker
    }

    /// Records a result. A stale ticket changes nothing: an operator may have reset the breaker during the call.
    fn record(
        &mut self,
        ticket: Ticket,
        outcome: CallOutcome,
        now: Duration,
    ) -> Option<Transition> {
        self.breaker.record(ticket, outcome, now).unwrap_or(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{BreakerSettings, CircuitState};

    const S: Duration = Duration::from_secs(1);

    fn entry() -> PlatformCalls {
        PlatformCalls::new(Breaker::new(BreakerSettings::default(), 1), 0)
    }

    #[test]
    fn no_second_call_begins_while_one_waits_runs_or_is_stuck() {
        let mut entry = entry();
        let (first, _) = entry.begin(S, S, S, 1).unwrap();
        assert_eq!(entry.begin(S, S, S, 1).unwrap_err(), SkipCause::Waiting(S));
        entry.start(first, S, 1);
        assert_eq!(entry.begin(S, S, S, 1).unwrap_err(), SkipCause::Overlap);
        entry.expire(first, 2 * S, || CallOutcome::Failure).unwrap();
        assert_eq!(
            entry.begin(S, 2 * S, S, 1).unwrap_err(),
            SkipCause::Stuck(2 * S)
        );
        assert!(matches!(
            entry.finish(first, CallOutcome::Success, 3 * S),
            CallCompletion::Late { generation: 1 }
        ));
        entry.begin(S, 3 * S, S, 1).unwrap();
    }

    #[test]
    fn a_call_ends_once_by_result_or_by_deadline() {
        let mut entry = entry();
        let (call, _) = entry.begin(S, S, S, 1).unwrap();
        entry.start(call, S, 1);
        assert!(matches!(
            entry.finish(call, CallOutcome::Success, S),
            CallCompletion::Taken { .. }
        ));
        assert!(entry.expire(call, 3 * S, || CallOutcome::Failure).is_none());
        assert!(entry.started(call).is_none(), "its end was recorded");
    }

    #[test]
    fn a_late_success_does_not_undo_its_timeouts() {
        let mut entry = entry();
        for second in 1..=3 {
            let now = second * S;
            let (call, _) = entry.begin(now, now, S, 1).unwrap();
            entry.start(call, now, 1);
            entry.expire(call, now + S, || CallOutcome::Failure);
            entry.finish(call, CallOutcome::Success, now + S);
        }
        assert!(matches!(entry.breaker().state(), CircuitState::Open { .. }));
    }

    #[test]
    fn a_withdrawn_trial_lets_another_one_through() {
        let mut entry = entry();
        for second in 1..=3 {
            let (call, _) = entry.begin(second * S, second * S, S, 1).unwrap();
            entry.finish(call, CallOutcome::Failure, second * S);
        }
        let now = 100 * S;
        let (trial, _) = entry.begin(now, now, S, 1).unwrap();
        assert!(entry.withdraw(trial, now));
        entry.begin(now, now, S, 1).unwrap();
    }

    #[test]
    fn a_check_that_an_operator_asks_for_is_the_trial_of_an_open_breaker_and_not_of_one_held_open()
    {
        let mut entry = entry();
        for second in 1..=3 {
            let (call, _) = entry.begin(second * S, second * S, S, 1).unwrap();
            entry.finish(call, CallOutcome::Failure, second * S);
        }
        assert_eq!(
            entry.begin(4 * S, 4 * S, S, 1).unwrap_err(),
            SkipCause::BreakerOpen
        );
        let (trial, transition) = entry.begin_asked(4 * S, S, 1).unwrap();
        assert_eq!(transition.unwrap().to, CircuitState::HalfOpen);
        assert_eq!(
            entry.begin_asked(4 * S, S, 1).unwrap_err(),
            SkipCause::Waiting(4 * S),
            "one trial at a time"
        );
        entry.finish(trial, CallOutcome::Success, 5 * S);
        assert_eq!(entry.breaker().state(), CircuitState::Closed);

        entry.breaker_mut().force_open();
        assert_eq!(
            entry.begin_asked(6 * S, S, 1).unwrap_err(),
            SkipCause::BreakerOpen
        );
        assert_eq!(entry.breaker().state(), CircuitState::Open { until: None });
    }

    #[test]
    fn a_failed_trial_that_an_operator_asked_for_opens_the_breaker_for_longer() {
        let mut entry = entry();
        for second in 1..=3 {
            let (call, _) = entry.begin(second * S, second * S, S, 1).unwrap();
            entry.finish(call, CallOutcome::Failure, second * S);
        }
        let (trial, _) = entry.begin_asked(4 * S, S, 1).unwrap();
        entry.finish(trial, CallOutcome::Failure, 5 * S);
        let CircuitState::Open { until: Some(until) } = entry.breaker().state() else {
            panic!("{:?}", entry.breaker().state());
        };
        assert!(until >= 65 * S, "{until:?}");
    }

    #[test]
    fn a_call_stuck_in_an_old_generation_does_not_block_the_new_one() {
        let mut entry = entry();
        let (old, _) = entry.begin(S, S, S, 1).unwrap();
        entry.start(old, S, 1);
        entry.expire(old, 2 * S, || CallOutcome::Failure);
        let (new, _) = entry.begin(3 * S, 3 * S, S, 2).unwrap();
        entry.start(new, 3 * S, 2);
        assert!(matches!(
            entry.finish(old, CallOutcome::Success, 3 * S),
            CallCompletion::Late { generation: 1 }
        ));
        assert!(matches!(
            entry.finish(new, CallOutcome::Success, 3 * S),
            CallCompletion::Taken { .. }
        ));
    }

    #[test]
    fn a_call_that_is_handed_to_two_generations_runs_in_the_first_to_start_it() {
        let mut entry = entry();
        let (call, _) = entry.begin(S, S, S, 1).unwrap();
        assert_eq!(entry.start(call, S, 2), Some(S));
        assert_eq!(entry.start(call, S, 1), None);
    }
}
