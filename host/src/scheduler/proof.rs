//! A new library proves itself beside the running one: one check of each platform, which nobody counts.
//!
//! This is the one exception to the rule that a platform has at most one call under way: the running generation goes on
//! meanwhile, so that no slot is missed whatever becomes of the new one.
//!
//! Its checks are not staggered, so only some of them are under way at a time: all together they would fall upon whatever
//! is checked, and need more sockets than a worker may open.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    metrics::ErrorType,
    plugin::{Call, Caller, Failure, ProbeId, Report, Waiting},
};

/// The checks of one proof.
pub(super) struct Proof(Mutex<Checks>);

/// One platform's check, as it is asked of a proof.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The platform's place.
    pub(super) place: usize,
    pub(super) probe: ProbeId,
    pub(super) timeout: Duration,
}

struct Checks {
    /// By the platform's place.
    states: BTreeMap<usize, State>,
    /// Those that nobody has called yet.
    held_back: VecDeque<Wanted>,
    /// How many may be called at a time.
    at_once: usize,
    /// When it is over whatever is still waiting.
    latest: Duration,
    given_up: bool,
    /// Called once, with the last check's end.
    done: Option<Box<dyn FnOnce() + Send>>,
}

/// How one check stands.
enum State {
    Waiting,
    /// It runs, until this time.
    Running(Duration),
    /// It was to be over, and was told so.
    Late,
    /// It is over, with this failure if it came to one.
    Ended(Option<Failure>),
}

impl Proof {
    /// A proof by these checks, of which `at_once` are under way at a time. `done` is called when all have ended; whoever
    /// looks finds it overdue at `latest`.
    pub(super) fn new(
        wanted: &[Wanted],
        at_once: usize,
        latest: Duration,
        done: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let states = wanted.iter().map(|check| (check.place, State::Waiting));
        Arc::new(Self(Mutex::new(Checks {
            states: states.collect(),
            held_back: wanted.iter().copied().collect(),
            at_once: at_once.max(1),
            latest,
            given_up: false,
            done: Some(Box::new(done)),
        })))
    }

    /// The calls that there is room for by now; a platform that is no longer `wanted` is not checked.
    pub(super) fn next(self: &Arc<Self>, wanted: impl Fn(usize) -> bool) -> Vec<Call> {
        let mut checks = self.lock();
        let ended = |state: &&State| matches!(state, State::Ended(_));
        let over = checks.states.values().filter(ended).count();
        let mut under_way = checks.states.len() - over - checks.held_back.len();
        let mut calls = Vec::new();
        while under_way < checks.at_once
            && let Some(check) = checks.held_back.pop_front()
        {
            if !wanted(check.place) {
                checks.states.remove(&check.place);
                continue;
            }
            under_way += 1;
            calls.push(Call {
                probe: check.probe,
                caller: Arc::new(ProvingCall {
                    proof: Arc::clone(self),
                    platform: check.place,
                    timeout: check.timeout,
                }),
                sequence: 0,
            });
        }
        calls
    }

    /// The places of checks that are past their deadline, each once: they are to end early, so that others have their room.
    pub(super) fn late(&self, now: Duration) -> Vec<usize> {
        let mut late = Vec::new();
        for (place, state) in &mut self.lock().states {
            if matches!(state, State::Running(deadline) if *deadline <= now) {
                *state = State::Late;
                late.push(*place);
            }
        }
        late
    }

    /// Whether it is over although not all checks have ended: each of them is past its deadline, or it takes too long in all.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        let checks = self.lock();
        let over = |state: &State| match state {
            State::Waiting => false,
            State::Running(deadline) => *deadline <= now,
            State::Late | State::Ended(_) => true,
        };
        now >= checks.latest || checks.states.values().all(over)
    }

    /// What the check of the platform at this place failed with; one that runs has not answered in time.
    ///
    /// One that was not made says nothing, unless none of them came to an end: then whatever keeps them is the library's.
    pub(super) fn failure(&self, platform: usize) -> Option<String> {
        let checks = self.lock();
        let ended = |state: &State| matches!(state, State::Ended(_));
        match checks.states.get(&platform)? {
            State::Ended(failure) => {
                let failure = failure.as_ref()?;
                Some(format!("{}: {failure}", failure.kind.label()))
            }
            State::Waiting if checks.states.values().any(ended) => None,
            State::Waiting | State::Running(_) | State::Late => {
                Some("timeout: no answer in time".to_owned())
            }
        }
    }

    /// Nobody waits any more: answers the places of the checks that are running, and lets no further one start.
    pub(super) fn give_up(&self) -> Vec<usize> {
        let mut checks = self.lock();
        checks.given_up = true;
        checks.held_back.clear();
        let running = checks.states.iter();
        running
            .filter(|(_, state)| matches!(state, State::Running(_) | State::Late))
            .map(|(place, _)| *place)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One platform's check within a proof.
struct ProvingCall {
    proof: Arc<Proof>,
    platform: usize,
    timeout: Duration,
}

impl Caller for ProvingCall {
    fn started(&self, _: u64, now: Duration) -> Option<Duration> {
        let mut checks = self.proof.lock();
        if checks.given_up {
            return None;
        }
        let deadline = now + self.timeout;
        checks
            .states
            .insert(self.platform, State::Running(deadline));
        Some(deadline)
    }

    fn finished(&self, _: u64, _: Duration, result: Result<&Report, Failure>) -> Waiting {
        let mut checks = self.proof.lock();
        if checks.given_up {
            return Waiting::No;
        }
        let is_late = matches!(checks.states.get(&self.platform), Some(State::Late));
        let failure = match is_late {
            true => Some(Failure::new(ErrorType::Timeout, "no answer in time")),
            false => result.err(),
        };
        checks.states.insert(self.platform, State::Ended(failure));
        let ended = |state: &State| matches!(state, State::Ended(_));
        let done = match checks.states.values().all(ended) {
            true => checks.done.take(),
            false => None,
        };
        drop(checks);
        if let Some(done) = done {
            done();
        }
        match is_late {
            true => Waiting::No,
            false => Waiting::Yes,
        }
    }

    fn is_cancelled(&self, _: u64) -> bool {
        let checks = self.proof.lock();
        checks.given_up || matches!(checks.states.get(&self.platform), Some(State::Late))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn wanted(places: impl IntoIterator<Item = usize>) -> Vec<Wanted> {
        let check = |place| Wanted {
            place,
            probe: ProbeId(place),
            timeout: S,
        };
        places.into_iter().map(check).collect()
    }

    fn proof(places: impl IntoIterator<Item = usize>, at_once: usize) -> Arc<Proof> {
        Proof::new(&wanted(places), at_once, 60 * S, || {})
    }

    fn next(proof: &Arc<Proof>) -> Vec<Call> {
        proof.next(|_| true)
    }

    fn succeed(call: &Call) -> Waiting {
        call.caller.finished(0, S, Ok(&Report::empty()))
    }

    #[test]
    fn it_is_done_with_the_last_check_and_tells_each_failure() {
        let done = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&done);
        let proof = Proof::new(&wanted([3, 5]), usize::MAX, 60 * S, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let calls = next(&proof);
        assert_eq!(calls[0].caller.started(0, S), Some(2 * S));
        let failure = Failure::new(ErrorType::Panic, "on purpose");
        calls[1].caller.finished(0, S, Err(failure));
        assert_eq!(done.load(Ordering::Relaxed), 0);
        assert_eq!(proof.failure(5).unwrap(), "panic: on purpose");
        assert!(proof.failure(3).unwrap().contains("no answer"));
        succeed(&calls[0]);
        assert_eq!(done.load(Ordering::Relaxed), 1);
        assert_eq!(proof.failure(3), None);
    }

    #[test]
    fn a_check_is_late_by_its_own_time_and_not_by_what_it_waited_for_others() {
        let proof = proof([0, 1], usize::MAX);
        let calls = next(&proof);
        calls[0].caller.started(0, S);
        assert!(!proof.is_overdue(10 * S), "one still waits");
        calls[1].caller.started(0, 10 * S);
        assert!(!proof.is_overdue(10 * S));
        succeed(&calls[1]);
        assert!(proof.is_overdue(10 * S), "and the other is stuck");
        assert_eq!(proof.give_up(), [0]);
        assert!(calls[0].caller.is_cancelled(0));
        assert_eq!(succeed(&calls[0]), Waiting::No);
    }

    #[test]
    fn so_many_checks_are_under_way_at_a_time_and_each_that_ends_makes_room_for_one() {
        let proof = proof(0..10, 3);
        let calls = next(&proof);
        assert_eq!(calls.len(), 3);
        assert!(next(&proof).is_empty(), "none has ended");
        succeed(&calls[0]);
        succeed(&calls[2]);
        assert_eq!(next(&proof).len(), 2);
        proof.give_up();
        succeed(&calls[1]);
        assert!(next(&proof).is_empty(), "nobody wants to know any more");
    }

    #[test]
    fn a_check_past_its_deadline_is_told_once_and_has_not_answered_whatever_it_says_then() {
        let proof = proof([0, 1], 1);
        let calls = next(&proof);
        calls[0].caller.started(0, S);
        assert!(proof.late(S).is_empty());
        assert_eq!(proof.late(2 * S), [0]);
        assert!(proof.late(3 * S).is_empty());
        assert!(calls[0].caller.is_cancelled(0));
        assert!(next(&proof).is_empty(), "it is still there");
        assert_eq!(succeed(&calls[0]), Waiting::No);
        assert!(proof.failure(0).unwrap().starts_with("timeout: "));
        assert_eq!(next(&proof).len(), 1);
    }

    #[test]
    fn a_platform_that_was_not_checked_speaks_neither_for_the_library_nor_against_it() {
        let proof = proof(0..4, 2);
        let calls = proof.next(|place| place != 0);
        assert_eq!((calls[0].probe, calls[1].probe), (ProbeId(1), ProbeId(2)));
        assert_eq!(proof.failure(0), None, "it was not wanted");
        assert_eq!(proof.failure(9), None, "it was not asked for");
        assert!(proof.failure(3).is_some(), "nothing has come through yet");
        succeed(&calls[0]);
        assert_eq!(proof.failure(3), None, "its turn has not come");
        assert!(proof.is_overdue(60 * S), "and it need not");
    }
}
