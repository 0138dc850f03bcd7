//! A new library proves itself beside the running one: one check of each platform, which nobody counts.
//!
//! This is the one exception to the rule that a platform has at most one call under way: the running generation goes on
//! meanwhile, so that no slot is missed whatever becomes of the new one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::plugin::{Call, Caller, Failure, ProbeId, Report, Waiting};

/// The checks of one proof.
pub(super) struct Proof(Mutex<Checks>);

struct Checks {
    /// By the platform's place.
    states: BTreeMap<usize, State>,
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
    /// It is over, with this failure if it came to one.
    Ended(Option<Failure>),
}

impl Proof {
    /// Makes the calls of a proof: one for each platform's place, probe and timeout. `done` is called when all have ended;
    /// whoever looks finds it overdue at `latest`.
    pub(super) fn start(
        probes: &[(usize, ProbeId, Duration)],
        latest: Duration,
        done: impl FnOnce() + Send + 'static,
    ) -> (Arc<Self>, Vec<Call>) {
        let states = probes.iter().map(|&(place, ..)| (place, State::Waiting));
        let proof = Arc::new(Self(Mutex::new(Checks {
            states: states.collect(),
            latest,
            given_up: false,
            done: Some(Box::new(done)),
        })));
        let call = |&(platform, probe, timeout): &(usize, ProbeId, Duration)| Call {
            probe,
            caller: Arc::new(ProvingCall {
                proof: Arc::clone(&proof),
                platform,
                timeout,
            }),
            sequence: 0,
        };
        let calls = probes.iter().map(call).collect();
        (proof, calls)
    }

    /// Whether it is over although not all checks have ended: each of them is past its deadline, or it takes too long in all.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        let checks = self.lock();
        let over = |state: &State| match state {
            State::Waiting => false,
            State::Running(deadline) => *deadline <= now,
            State::Ended(_) => true,
        };
        now >= checks.latest || checks.states.values().all(over)
    }

    /// How the check of the platform at this place ended; one that has not is a failure.
    pub(super) fn failure(&self, platform: usize) -> Option<String> {
        match self.lock().states.get(&platform) {
            Some(State::Ended(failure)) => {
                let failure = failure.as_ref()?;
                Some(format!("{}: {failure}", failure.kind.label()))
            }
            _ => Some("timeout: no answer in time".to_owned()),
        }
    }

    /// Nobody waits any more: answers the places of the checks that are running, and lets no further one start.
    pub(super) fn give_up(&self) -> Vec<usize> {
        let mut checks = self.lock();
        checks.given_up = true;
        let running = checks.states.iter();
        running
            .filter(|(_, state)| matches!(state, State::Running(_)))
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
        checks
            .states
            .insert(self.platform, State::Ended(result.err()));
        let ended = |state: &State| matches!(state, State::Ended(_));
        let done = match checks.states.values().all(ended) {
            true => checks.done.take(),
            false => None,
        };
        drop(checks);
        if let Some(done) = done {
            done();
        }
        Waiting::Yes
    }

    fn is_cancelled(&self, _: u64) -> bool {
        self.proof.lock().given_up
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::metrics::ErrorType;

    #[test]
    fn it_is_done_with_the_last_check_and_tells_each_failure() {
        let done = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&done);
        let second = Duration::from_secs(1);
        let probes = [(3, ProbeId(0), second), (5, ProbeId(1), second)];
        let (proof, calls) = Proof::start(&probes, 60 * second, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls[0].caller.started(0, second), Some(2 * second));
        let failure = Failure::new(ErrorType::Panic, "on purpose");
        calls[1].caller.finished(0, second, Err(failure));
        assert_eq!(done.load(Ordering::Relaxed), 0);
        assert_eq!(proof.failure(5).unwrap(), "panic: on purpose");
        assert!(proof.failure(3).unwrap().contains("no answer"));
        calls[0].caller.finished(0, second, Ok(&Report::empty()));
        assert_eq!(done.load(Ordering::Relaxed), 1);
        assert_eq!(proof.failure(3), None);
    }

    #[test]
    fn a_check_is_late_by_its_own_time_and_not_by_what_it_waited_for_others() {
        let second = Duration::from_secs(1);
        let probes = [(0, ProbeId(0), second), (1, ProbeId(1), second)];
        let (proof, calls) = Proof::start(&probes, 60 * second, || {});
        calls[0].caller.started(0, second);
        assert!(!proof.is_overdue(10 * second), "one still waits");
        calls[1].caller.started(0, 10 * second);
        assert!(!proof.is_overdue(10 * second));
        calls[1]
            .caller
            .finished(0, 10 * second, Ok(&Report::empty()));
        assert!(proof.is_overdue(10 * second), "and the other is stuck");
        assert_eq!(proof.give_up(), [0]);
        assert!(calls[0].caller.is_cancelled(0));
        let late = calls[0]
            .caller
            .finished(0, 11 * second, Ok(&Report::empty()));
        assert_eq!(late, Waiting::No);
    }
}
