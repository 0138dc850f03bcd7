//! An entry behind its lock, under every interleaving of two threads.
//!
//! Run with `RUSTFLAGS="--cfg conductor_loom" cargo test -p conductor-core loom_tests`.

use std::time::Duration;

use loom::{sync::Arc, thread};

use super::{CallCompletion, PlatformCalls};
use crate::{
    breaker::{Breaker, BreakerSettings, CallOutcome, CircuitState},
    locked::NonPoisoningMutex,
};

const S: Duration = Duration::from_secs(1);
/// A time after the open time.
const LATER: Duration = Duration::from_mins(1);

fn entry() -> PlatformCalls {
    let settings = BreakerSettings::try_new(1, 30 * S, 600 * S).unwrap();
    PlatformCalls::new(Breaker::new(settings, 0), 0)
}

fn open() -> PlatformCalls {
    let mut entry = entry();
    let (call, _) = entry.begin(S, S, S, 1).unwrap();
    entry.finish(call, CallOutcome::Failure, S);
    entry
}

#[test]
fn of_two_threads_that_begin_at_once_one_gets_the_trial() {
    loom::model(|| {
        let entry = Arc::new(NonPoisoningMutex::new(open()));
        let other = Arc::clone(&entry);
        let asked = thread::spawn(move || other.lock().begin(LATER, LATER, S, 1).is_ok());
        let begun = entry.lock().begin(LATER, LATER, S, 1).is_ok();
        assert!(begun ^ asked.join().unwrap());
        assert_eq!(entry.lock().breaker().state(), CircuitState::HalfOpen);
    });
}

#[test]
fn a_call_that_ends_at_its_deadline_ends_once() {
    loom::model(|| {
        let mut fresh = entry();
        let (call, _) = fresh.begin(S, S, S, 1).unwrap();
        fresh.start(call, S, 1);
        let entry = Arc::new(NonPoisoningMutex::new(fresh));
        let other = Arc::clone(&entry);
        let returns = thread::spawn(move || {
            matches!(
                other.lock().finish(call, CallOutcome::Success, 2 * S),
                CallCompletion::Taken { .. }
            )
        });
        let expired = entry
            .lock()
            .expire(call, 2 * S, || CallOutcome::Failure)
            .is_some();
        assert!(expired ^ returns.join().unwrap());
        let state = entry.lock().breaker().state();
        assert_eq!(
            matches!(state, CircuitState::Open { .. }),
            expired,
            "whichever ended it decides"
        );
    });
}

#[test]
fn a_withdrawn_trial_makes_room_for_one_other() {
    loom::model(|| {
        let entry = Arc::new(NonPoisoningMutex::new(open()));
        let (trial, _) = entry.lock().begin(LATER, LATER, S, 1).unwrap();
        let other = Arc::clone(&entry);
        let asked = thread::spawn(move || other.lock().begin(LATER, LATER, S, 1).is_ok());
        assert!(entry.lock().withdraw(trial, LATER));
        let second = asked.join().unwrap();
        assert_eq!(entry.lock().begin(LATER, LATER, S, 1).is_ok(), !second);
    });
}
