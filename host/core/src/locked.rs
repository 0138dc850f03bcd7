//! A mutex for short steps, which stays usable after a panic.
//!
//! A step under it costs some tens of nanoseconds, so lock-free code would gain nothing. Logging and counting happen
//! after the lock is released.

use std::sync::PoisonError;
#[cfg(not(all(test, conductor_loom)))]
use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, conductor_loom))]
use loom::sync::{Mutex, MutexGuard};

/// A value that several threads use, in steps that leave it whole.
#[derive(Debug)]
pub struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    /// Puts a value behind a lock.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Takes the lock. No step panics half-way through a change, so a value whose lock is poisoned is whole all the same.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(conductor_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_under_the_lock_does_not_take_the_value_along() {
        let value = Locked::new(7);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = value.lock();
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && value.0.is_poisoned());
        assert_eq!(*value.lock(), 7);
    }
}
