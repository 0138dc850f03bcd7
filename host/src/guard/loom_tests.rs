//! The slot behind its lock, under every interleaving of two threads.
//!
//! Run with `RUSTFLAGS="--cfg conductor_loom" cargo test -p conductor --lib guard::loom_tests`. The name is our own
//! because `--cfg loom` means something to tokio too: it leaves out its network, and the host does not build without.

use std::time::Duration;

use loom::{sync::Arc, thread};

use super::{
    locked::Locked,
    slot::{Finished, Slot},
};
use crate::breaker::{Breaker, Outcome, Settings, State};

const S: Duration = Duration::from_secs(1);
/// When the open time is over.
const LATER: Duration = Duration::from_mins(1);

fn slot() -> Slot {
    let settings = Settings::try_new(1, 30 * S, 600 * S).unwrap();
    Slot::new(Breaker::new(settings, 0), 0)
}

fn open() -> Slot {
    let mut slot = slot();
    let (call, _) = slot.begin(S, S, S, 1).unwrap();
    slot.finish(call, Outcome::Failure, S);
    slot
}

#[test]
fn of_two_threads_that_begin_at_once_one_gets_the_trial() {
    loom::model(|| {
        let slot = Arc::new(Locked::new(open()));
        let other = Arc::clone(&slot);
        let asked = thread::spawn(move || other.lock().begin(LATER, LATER, S, 1).is_ok());
        let begun = slot.lock().begin(LATER, LATER, S, 1).is_ok();
        assert!(begun ^ asked.join().unwrap());
        assert_eq!(slot.lock().breaker_state(), State::HalfOpen);
    });
}

#[test]
fn a_call_that_ends_at_its_deadline_ends_once() {
    loom::model(|| {
        let mut fresh = slot();
        let (call, _) = fresh.begin(S, S, S, 1).unwrap();
        fresh.start(call, S, 1);
        let slot = Arc::new(Locked::new(fresh));
        let other = Arc::clone(&slot);
        let returns = thread::spawn(move || {
            matches!(
                other.lock().finish(call, Outcome::Success, 2 * S),
                Finished::Taken { .. }
            )
        });
        let expired = slot
            .lock()
            .expire(call, 2 * S, || Outcome::Failure)
            .is_some();
        assert!(expired ^ returns.join().unwrap());
        let state = slot.lock().breaker_state();
        assert_eq!(
            matches!(state, State::Open { .. }),
            expired,
            "whichever ended it decides"
        );
    });
}

#[test]
fn a_withdrawn_trial_makes_room_for_one_other() {
    loom::model(|| {
        let slot = Arc::new(Locked::new(open()));
        let (trial, _) = slot.lock().begin(LATER, LATER, S, 1).unwrap();
        let other = Arc::clone(&slot);
        let asked = thread::spawn(move || other.lock().begin(LATER, LATER, S, 1).is_ok());
        assert!(slot.lock().withdraw(trial, LATER));
        let second = asked.join().unwrap();
        assert_eq!(slot.lock().begin(LATER, LATER, S, 1).is_ok(), !second);
    });
}
