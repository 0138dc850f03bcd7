//! Measures stalls of the machine itself: a thread that only sleeps, and records how late it wakes.
//!
//! If this thread wakes late too, a plugin is not the cause of a host's delay.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;

/// The thread's findings.
pub(super) struct StallMonitor {
    clock: Clock,
    stalls: Mutex<Vec<(Duration, Duration)>>,
    done: AtomicBool,
}

impl StallMonitor {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            stalls: Mutex::new(Vec::new()),
            done: AtomicBool::new(false),
        }
    }

    /// Sleeps and reads the clock until it is stopped.
    pub(super) fn run(&self) {
        while !self.done.load(Ordering::Relaxed) {
            let before = self.clock.now();
            thread::sleep(NAP);
            let now = self.clock.now();
            let late = (now - before).saturating_sub(NAP);
            if late > NOTABLE {
                self.stalls().push((now, late));
            }
        }
    }

    pub(super) fn stop(&self) {
        self.done.store(true, Ordering::Relaxed);
    }

    /// Returns the longest stall since `start`.
    pub(super) fn longest_since(&self, start: Duration) -> Duration {
        let stalls = self.stalls();
        let since = stalls.iter().filter(|(at, _)| *at >= start);
        since.map(|(_, late)| *late).max().unwrap_or_default()
    }

    /// Returns the longest stall that ended between the two times.
    #[cfg(target_os = "linux")]
    pub(super) fn longest_between(&self, start: Duration, end: Duration) -> Duration {
        let stalls = self.stalls();
        let within = stalls.iter().filter(|(at, _)| (start..=end).contains(at));
        within.map(|(_, late)| *late).max().unwrap_or_default()
    }

    fn stalls(&self) -> std::sync::MutexGuard<'_, Vec<(Duration, Duration)>> {
        self.stalls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NAP: Duration = Duration::from_millis(5);
/// Shorter stalls are not recorded.
const NOTABLE: Duration = Duration::from_millis(5);
