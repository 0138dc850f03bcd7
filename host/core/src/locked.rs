//! A mutex for short critical sections, which stays usable after a panic.
//!
//! A critical section costs some tens of nanoseconds, so lock-free code would gain nothing. Logging and counting happen
//! after the lock is released.

use std::sync::PoisonError;
#[cfg(not(all(test, conductor_loom)))]
use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, conductor_loom))]
use loom::sync::{Mutex, MutexGuard};

/// A mutex that ignores poisoning, for values that every critical section leaves consistent.
#[derive(Debug)]
pub struct NonPoisoningMutex<T>(Mutex<T>);

impl<T> NonPoisoningMutex<T> {
    /// Creates a lock around a value.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Takes the lock. No critical section panics half-way through a change, so a poisoned value is still consistent.
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
        let value = NonPoisoningMutex::new(7);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = value.lock();
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && value.0.is_poisoned());
        assert_eq!(*value.lock(), 7);
    }
}
