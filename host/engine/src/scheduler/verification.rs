//! Verifies a new library while the current one runs: one check of each platform, which is not counted.
//!
//! This is the one exception to the rule that a platform has at most one call under way: the current generation
//! continues meanwhile, so that no slot is missed, whatever the result.
//!
//! A check that fails is repeated for about an interval before it counts: a probe may need a second check to measure a
//! rate, or a moment to connect. A panic, or a refusal of the config, counts immediately.
//!
//! Its checks are not staggered, so only some of them are under way at a time: all together they would overload the
//! checked services, and need more sockets than a worker may open.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_runtime::{
    AdmittedCall, CallFailure, CallOwner, CheckReport, DeliveryOutcome, ProbeId,
};
use conductor_types::ErrorType;

use super::index::PlatformIx;

/// The checks of one verification.
pub(super) struct GenerationVerification(Mutex<VerificationState>);

/// One platform's check in a verification.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstCheck {
    pub(super) platform: PlatformIx,
    pub(super) probe: ProbeId,
    pub(super) timeout: Duration,
    /// The time for which it is repeated after its first failure; `None` if its failure would not count anyway.
    pub(super) retry_for: Option<Duration>,
}

struct VerificationState {
    states: BTreeMap<PlatformIx, CheckState>,
    /// The requested checks, and the end of their repetition once they have failed.
    wanted: BTreeMap<PlatformIx, (FirstCheck, Option<Duration>)>,
    /// Checks that have not been called yet.
    held_back: VecDeque<FirstCheck>,
    /// The maximum number of concurrent calls.
    at_once: usize,
    /// The time at which it ends even if checks are still waiting.
    latest: Duration,
    given_up: bool,
    /// Called whenever all checks have ended.
    done: Arc<dyn Fn() + Send + Sync>,
}

/// The state of one check.
enum CheckState {
    Waiting,
    /// It runs, with this deadline.
    Running(Duration),
    /// It is past its deadline, and was asked to end.
    Late,
    /// It failed, and is repeated at this time.
    Failing(CallFailure, Duration),
    /// It has ended, with this failure if it failed.
    Ended(Option<CallFailure>),
}

impl GenerationVerification {
    /// Creates a verification by these checks, of which `at_once` are under way at a time. `done` is called when all
    /// have ended; it is overdue at `latest`.
    pub(super) fn new(
        wanted: &[FirstCheck],
        at_once: usize,
        latest: Duration,
        done: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        let states = wanted
            .iter()
            .map(|check| (check.platform, CheckState::Waiting));
        Arc::new(Self(Mutex::new(VerificationState {
            states: states.collect(),
            wanted: wanted
                .iter()
                .map(|check| (check.platform, (*check, None)))
                .collect(),
            held_back: wanted.iter().copied().collect(),
            at_once: at_once.max(1),
            latest,
            given_up: false,
            done: Arc::new(done),
        })))
    }

    /// Returns the calls that there is room for; a platform that is no longer `wanted` is not checked.
    pub(super) fn next(
        self: &Arc<Self>,
        now: Duration,
        wanted: impl Fn(PlatformIx) -> bool,
    ) -> Vec<AdmittedCall> {
        let mut checks = self.lock();
        checks.hold_back_retries(now);
        let ended = |state: &&CheckState| matches!(state, CheckState::Ended(_));
        let over = checks
            .states
            .values()
            .filter(|state| ended(state) || matches!(state, CheckState::Failing(..)))
            .count();
        let waiting = checks.held_back.len();
        let mut under_way = checks.states.len().saturating_sub(over + waiting);
        let mut calls = Vec::new();
        while under_way < checks.at_once
            && let Some(check) = checks.held_back.pop_front()
        {
            if !wanted(check.platform) {
                checks.states.remove(&check.platform);
                continue;
            }
            under_way += 1;
            calls.push(AdmittedCall {
                probe: check.probe,
                caller: Arc::new(FirstCall {
                    verification: Arc::clone(self),
                    platform: check.platform,
                    timeout: check.timeout,
                }),
                sequence: 0,
            });
        }
        calls
    }

    /// Returns the platforms of checks past their deadline, each once: they must end early, to make room for others.
    pub(super) fn late(&self, now: Duration) -> Vec<PlatformIx> {
        let mut late = Vec::new();
        for (platform, state) in &mut self.lock().states {
            if matches!(state, CheckState::Running(deadline) if *deadline <= now) {
                *state = CheckState::Late;
                late.push(*platform);
            }
        }
        late
    }

    /// Returns `true` if it must end before its checks: each of them is past its deadline, or it takes too long in all.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        let checks = self.lock();
        let over = |state: &CheckState| match state {
            CheckState::Waiting | CheckState::Failing(..) => false,
            CheckState::Running(deadline) => *deadline <= now,
            CheckState::Late | CheckState::Ended(_) => true,
        };
        now >= checks.latest || checks.states.values().all(over)
    }

    /// Returns the failure of the check of this platform; one that still runs has timed out.
    ///
    /// A check that was not made does not count, unless none of them has ended: then the library is to blame.
    pub(super) fn failure(&self, platform: PlatformIx) -> Option<String> {
        let checks = self.lock();
        let ended = |state: &CheckState| matches!(state, CheckState::Ended(_));
        match checks.states.get(&platform)? {
            CheckState::Ended(failure) => {
                let failure = failure.as_ref()?;
                Some(format!("{}: {failure}", failure.kind.label()))
            }
            CheckState::Failing(failure, _) => Some(format!("{}: {failure}", failure.kind.label())),
            CheckState::Waiting if checks.states.values().any(ended) => None,
            CheckState::Waiting | CheckState::Running(_) | CheckState::Late => {
                Some("timeout: no answer in time".to_owned())
            }
        }
    }

    /// Repeats the checks that timed out, because the host is too short of CPU for their timeouts to count; until
    /// `latest` at most. Returns `true` if there are any, including one still under way.
    pub(super) fn excuse_timeouts(&self, now: Duration, latest: Duration) -> bool {
        let mut checks = self.lock();
        let mut excused = Vec::new();
        let mut any = false;
        for (platform, state) in &checks.states {
            match state {
                CheckState::Ended(Some(failure)) | CheckState::Failing(failure, _)
                    if failure.kind == ErrorType::Timeout =>
                {
                    excused.push((*platform, failure.clone()));
                }
                CheckState::Running(deadline) if *deadline <= now => any = true,
                CheckState::Late => any = true,
                _ => {}
            }
        }
        for (platform, failure) in excused {
            let Some((check, until)) = checks.wanted.get_mut(&platform) else {
                continue;
            };
            let Some(retry_for) = check.retry_for else {
                continue;
            };
            *until = Some(now + retry_for);
            let at = now + retry_for / RETRIES;
            checks
                .states
                .insert(platform, CheckState::Failing(failure, at));
            any = true;
        }
        if any {
            checks.latest = checks.latest.max(latest);
        }
        any
    }

    /// Abandons the checks: returns the platforms of the running ones, and starts no others.
    pub(super) fn give_up(&self) -> Vec<PlatformIx> {
        let mut checks = self.lock();
        checks.given_up = true;
        checks.held_back.clear();
        let running = checks.states.iter();
        running
            .filter(|(_, state)| matches!(state, CheckState::Running(_) | CheckState::Late))
            .map(|(platform, _)| *platform)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, VerificationState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VerificationState {
    /// Moves checks that are due for a repetition to those that were not made yet.
    fn hold_back_retries(&mut self, now: Duration) {
        for (platform, state) in &mut self.states {
            if matches!(state, CheckState::Failing(_, at) if *at <= now)
                && let Some((check, _)) = self.wanted.get(platform)
            {
                *state = CheckState::Waiting;
                self.held_back.push_back(*check);
            }
        }
    }

    /// Returns the state of a check that has ended with this result.
    fn after(
        &mut self,
        platform: PlatformIx,
        failure: Option<CallFailure>,
        now: Duration,
    ) -> CheckState {
        let Some(failure) = failure else {
            return CheckState::Ended(None);
        };
        let may_pass = matches!(failure.kind, ErrorType::Error | ErrorType::Timeout);
        if let (true, Some((check, until))) = (may_pass, self.wanted.get_mut(&platform))
            && let Some(retry_for) = check.retry_for
        {
            let until = *until.get_or_insert(now + retry_for);
            let at = now + retry_for / RETRIES;
            if at < until {
                return CheckState::Failing(failure, at);
            }
        }
        CheckState::Ended(Some(failure))
    }
}

/// One platform's check in a verification.
struct FirstCall {
    verification: Arc<GenerationVerification>,
    platform: PlatformIx,
    timeout: Duration,
}

impl CallOwner for FirstCall {
    fn started(&self, _: u64, now: Duration) -> Option<Duration> {
        let mut checks = self.verification.lock();
        if checks.given_up {
            return None;
        }
        let deadline = now + self.timeout;
        checks
            .states
            .insert(self.platform, CheckState::Running(deadline));
        Some(deadline)
    }

    fn finished(
        &self,
        _: u64,
        now: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let mut checks = self.verification.lock();
        if checks.given_up {
            return DeliveryOutcome::No;
        }
        let is_late = matches!(checks.states.get(&self.platform), Some(CheckState::Late));
        let failure = match is_late {
            true => Some(CallFailure::new(ErrorType::Timeout, "no answer in time")),
            false => result.err(),
        };
        let state = checks.after(self.platform, failure, now);
        checks.states.insert(self.platform, state);
        let ended = |state: &CheckState| matches!(state, CheckState::Ended(_));
        let done = match checks.states.values().all(ended) {
            true => Some(Arc::clone(&checks.done)),
            false => None,
        };
        drop(checks);
        if let Some(done) = done {
            done();
        }
        match is_late {
            true => DeliveryOutcome::No,
            false => DeliveryOutcome::Yes,
        }
    }

    fn is_cancelled(&self, _: u64) -> bool {
        let checks = self.verification.lock();
        checks.given_up || matches!(checks.states.get(&self.platform), Some(CheckState::Late))
    }
}

/// The maximum number of repetitions of a failing check.
const RETRIES: u32 = 8;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn first_checks(platforms: impl IntoIterator<Item = u32>) -> Vec<FirstCheck> {
        let check = |platform| FirstCheck {
            platform: PlatformIx(platform),
            probe: ProbeId(platform as usize),
            timeout: S,
            retry_for: None,
        };
        platforms.into_iter().map(check).collect()
    }

    fn verification(
        platforms: impl IntoIterator<Item = u32>,
        at_once: usize,
    ) -> Arc<GenerationVerification> {
        GenerationVerification::new(&first_checks(platforms), at_once, 60 * S, || {})
    }

    fn failure_of(verification: &GenerationVerification, platform: u32) -> Option<String> {
        verification.failure(PlatformIx(platform))
    }

    fn next(verification: &Arc<GenerationVerification>) -> Vec<AdmittedCall> {
        verification.next(S, |_| true)
    }

    fn succeed(call: &AdmittedCall) -> DeliveryOutcome {
        call.caller.finished(0, S, Ok(&CheckReport::empty()))
    }

    #[test]
    fn it_is_done_with_the_last_check_and_tells_each_failure() {
        let done = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&done);
        let verification =
            GenerationVerification::new(&first_checks([3, 5]), usize::MAX, 60 * S, move || {
                counted.fetch_add(1, Ordering::Relaxed);
            });
        let calls = next(&verification);
        assert_eq!(calls[0].caller.started(0, S), Some(2 * S));
        let failure = CallFailure::new(ErrorType::Panic, "on purpose");
        calls[1].caller.finished(0, S, Err(failure));
        assert_eq!(done.load(Ordering::Relaxed), 0);
        assert_eq!(failure_of(&verification, 5).unwrap(), "panic: on purpose");
        assert!(failure_of(&verification, 3).unwrap().contains("no answer"));
        succeed(&calls[0]);
        assert_eq!(done.load(Ordering::Relaxed), 1);
        assert_eq!(failure_of(&verification, 3), None);
    }

    #[test]
    fn a_check_is_late_by_its_own_time_and_not_by_what_it_waited_for_others() {
        let verification = verification([0, 1], usize::MAX);
        let calls = next(&verification);
        calls[0].caller.started(0, S);
        assert!(!verification.is_overdue(10 * S), "one still waits");
        calls[1].caller.started(0, 10 * S);
        assert!(!verification.is_overdue(10 * S));
        succeed(&calls[1]);
        assert!(verification.is_overdue(10 * S), "and the other is stuck");
        assert_eq!(verification.give_up(), [PlatformIx(0)]);
        assert!(calls[0].caller.is_cancelled(0));
        assert_eq!(succeed(&calls[0]), DeliveryOutcome::No);
    }

    #[test]
    fn so_many_checks_are_under_way_at_a_time_and_each_that_ends_makes_room_for_one() {
        let verification = verification(0..10, 3);
        let calls = next(&verification);
        assert_eq!(calls.len(), 3);
        assert!(next(&verification).is_empty(), "none has ended");
        succeed(&calls[0]);
        succeed(&calls[2]);
        assert_eq!(next(&verification).len(), 2);
        verification.give_up();
        succeed(&calls[1]);
        assert!(next(&verification).is_empty(), "the verification is over");
    }

    #[test]
    fn a_check_past_its_deadline_is_told_once_and_has_not_answered_whatever_it_says_then() {
        let verification = verification([0, 1], 1);
        let calls = next(&verification);
        calls[0].caller.started(0, S);
        assert!(verification.late(S).is_empty());
        assert_eq!(verification.late(2 * S), [PlatformIx(0)]);
        assert!(verification.late(3 * S).is_empty());
        assert!(calls[0].caller.is_cancelled(0));
        assert!(next(&verification).is_empty(), "it is still there");
        assert_eq!(succeed(&calls[0]), DeliveryOutcome::No);
        assert!(
            failure_of(&verification, 0)
                .unwrap()
                .starts_with("timeout: ")
        );
        assert_eq!(next(&verification).len(), 1);
    }

    #[test]
    fn a_platform_that_was_not_checked_speaks_neither_for_the_library_nor_against_it() {
        let verification = verification(0..4, 2);
        let calls = verification.next(S, |platform| platform != PlatformIx(0));
        assert_eq!((calls[0].probe, calls[1].probe), (ProbeId(1), ProbeId(2)));
        assert_eq!(failure_of(&verification, 0), None, "it was not wanted");
        assert_eq!(failure_of(&verification, 9), None, "it was not asked for");
        assert!(
            failure_of(&verification, 3).is_some(),
            "nothing has come through yet"
        );
        succeed(&calls[0]);
        assert_eq!(failure_of(&verification, 3), None, "its turn has not come");
        assert!(verification.is_overdue(60 * S), "and it need not");
    }

    fn fail(call: &AdmittedCall, kind: ErrorType, now: Duration) {
        call.caller.started(0, now);
        let failure = CallFailure::new(kind, "not yet");
        call.caller.finished(0, now, Err(failure));
    }

    fn retrying(done: &Arc<AtomicU32>) -> Arc<GenerationVerification> {
        let check = FirstCheck {
            retry_for: Some(8 * S),
            ..first_checks([0])[0]
        };
        let counted = Arc::clone(done);
        GenerationVerification::new(&[check], 1, 300 * S, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[test]
    fn a_check_that_fails_is_made_again_for_an_interval_and_what_it_finds_last_counts() {
        let done = Arc::new(AtomicU32::new(0));
        let verification = retrying(&done);
        fail(&verification.next(S, |_| true)[0], ErrorType::Error, S);
        assert!(verification.next(S, |_| true).is_empty(), "not at once");
        assert!(!verification.is_overdue(2 * S));
        assert_eq!(failure_of(&verification, 0).unwrap(), "error: not yet");
        let again = verification.next(2 * S, |_| true);
        succeed(&again[0]);
        assert_eq!(failure_of(&verification, 0), None);
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_check_that_goes_on_failing_counts_after_the_interval() {
        let done = Arc::new(AtomicU32::new(0));
        let verification = retrying(&done);
        let mut made = 0;
        for second in 1..20 {
            let calls = verification.next(second * S, |_| true);
            made += calls.len();
            calls
                .iter()
                .for_each(|call| fail(call, ErrorType::Error, second * S));
        }
        assert_eq!((made, done.load(Ordering::Relaxed)), (8, 1));
        assert_eq!(failure_of(&verification, 0).unwrap(), "error: not yet");
    }

    #[test]
    fn a_panic_or_a_refused_config_counts_at_once() {
        for kind in [ErrorType::Panic, ErrorType::Config, ErrorType::Crash] {
            let done = Arc::new(AtomicU32::new(0));
            let verification = retrying(&done);
            fail(&verification.next(S, |_| true)[0], kind, S);
            assert_eq!(done.load(Ordering::Relaxed), 1, "{kind:?}");
        }
    }

    #[test]
    fn timeouts_of_a_starved_host_are_made_again_and_other_failures_are_not() {
        for (kind, excused) in [(ErrorType::Timeout, true), (ErrorType::Error, false)] {
            let done = Arc::new(AtomicU32::new(0));
            let verification = retrying(&done);
            for second in 1..10 {
                let calls = verification.next(second * S, |_| true);
                calls.iter().for_each(|call| fail(call, kind, second * S));
            }
            assert_eq!(done.load(Ordering::Relaxed), 1);
            assert_eq!(verification.excuse_timeouts(10 * S, 400 * S), excused);
            assert_eq!(
                verification.next(11 * S, |_| true).len(),
                usize::from(excused)
            );
            assert_eq!(verification.is_overdue(310 * S), !excused, "{kind:?}");
        }
    }
}
