//! Stretched intervals, paused checks, and the time for which a report is current.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use conductor_core::{maintenance::InForce, schedule::LONGEST_STRETCH};
use conductor_types::{Checks, requests::BreakerOrder};

use super::{PlatformGuard, orders::held};

impl PlatformGuard {
    /// Sets the number of intervals per check, at each slot.
    pub fn set_stretch(&self, factor: u64, at: Duration) {
        let now = u32::try_from(factor).unwrap_or(u32::MAX);
        let before = self.stretch.load(Ordering::Relaxed) & u64::from(u32::MAX);
        let both = before << 32 | u64::from(now);
        if self.stretch.swap(both, Ordering::Relaxed) != both {
            self.metrics.set_patience(self.patience());
            self.follow_pauses(at);
        }
    }

    /// Returns `true` if critical mode sheds its checks, except for rare ones.
    pub(super) fn is_shed(&self) -> bool {
        let [_, now] = self.stretches();
        u64::from(now) > LONGEST_STRETCH
    }

    /// Returns the current time between two scheduled checks.
    pub(super) fn effective_interval(&self) -> Duration {
        let [_, now] = self.stretches();
        self.settings.interval.saturating_mul(now)
    }

    /// Returns the greatest age of a current report: a check may be late, or miss its slot once.
    ///
    /// The slot that ends a stretch still counts the longer interval, as its check has only just begun.
    pub(super) fn patience(&self) -> Duration {
        let [before, now] = self.stretches();
        let longest = u32::try_from(LONGEST_STRETCH).unwrap_or(u32::MAX);
        let stretch = before.max(now).min(longest);
        let interval = self.settings.interval.saturating_mul(stretch);
        interval.saturating_mul(2) + self.settings.timeout
    }

    /// Returns the number of intervals per check: at the slot before the last, and at the last.
    pub(super) fn stretches(&self) -> [u32; 2] {
        let both = self.stretch.load(Ordering::Relaxed);
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        [half(both >> 32), half(both)]
    }

    /// Sets the time of the schedule's next check, regardless of breaker and maintenance.
    pub fn set_next(&self, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.next.store(nanos, Ordering::Relaxed);
    }

    /// Sets the maintenance window in force; logs a change.
    pub fn set_maintenance(&self, window: Option<Arc<InForce>>, now: Duration) {
        let paused = window.as_ref().is_some_and(|w| w.checks == Checks::Pause);
        if self.paused.swap(paused, Ordering::Relaxed) && !paused {
            self.resume(now);
        }
        self.follow_pauses(now);
        self.metrics.maintenance(window.is_some());
        let mut shown = self
            .maintenance
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, window.clone());
        drop(shown);
        let name = |window: &Option<Arc<InForce>>| window.as_ref().map(|w| Arc::clone(&w.name));
        if name(&before) == name(&window) {
            return;
        }
        // Debug level, as many platforms change at once: the windows themselves are logged where they are judged.
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        match window {
            Some(window) => tracing::debug!(platform, plugin, "maintenance {}", window.name),
            None => tracing::debug!(platform, plugin, "maintenance is over"),
        }
    }

    /// Returns `true` if maintenance pauses scheduled checks.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Restarts the age of the last check at `now`.
    pub(super) fn resume(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.resumed.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn is_outdated_by_pause(&self, now: Duration) -> bool {
        self.metrics.is_outdated_by_pause(now)
    }

    /// Updates the metrics if checks are paused on purpose.
    pub(super) fn follow_pauses(&self, now: Duration) {
        let held = held(self.inner.lock().calls.breaker()) == Some(BreakerOrder::Open);
        let paused = held || self.is_paused() || self.is_shed();
        self.metrics.set_paused(paused, now);
    }

    /// Returns `true` if an unscheduled check that no operator requested is allowed: not while maintenance pauses
    /// checks, nor while an operator holds the breaker open.
    pub fn may_be_tried(&self) -> bool {
        !self.is_paused() && held(self.inner.lock().calls.breaker()) != Some(BreakerOrder::Open)
    }
}
