//! Lets other threads wait for the end of a guard's calls.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The number of a guard's calls that have ended, for those who wait for the next.
#[derive(Default)]
pub struct CallEnds {
    ended: Mutex<u64>,
    changed: Condvar,
}

impl CallEnds {
    /// Returns the number of calls that have ended, by result or by deadline.
    #[must_use]
    pub fn count(&self) -> u64 {
        *self.lock()
    }

    /// Waits until more than `count` calls have ended; returns `false` if they have not within this time.
    #[must_use]
    pub fn wait_beyond(&self, count: u64, patience: Duration) -> bool {
        let waiting = |ended: &mut u64| *ended <= count;
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, waiting);
        let (ended, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *ended > count
    }

    /// Records the end of a call, once its result can be read.
    pub(super) fn note(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
