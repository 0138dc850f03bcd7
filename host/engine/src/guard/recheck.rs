//! Quick re-checks of a platform whose state is soft, so that it is confirmed sooner than by the schedule.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use conductor_core::confirmation::ConfirmationRules;
#[cfg(test)]
use conductor_types::{PlatformState, SkipReason};

use super::PlatformGuard;

/// The need for a re-check when its time has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecheckNeed {
    /// The state is confirmed.
    Settled,
    /// The last check has not ended.
    Undecided,
    /// The state is soft.
    Soft,
}

impl PlatformGuard {
    /// Sets the numbers of results that change the state, and the time from a check with a soft result to the next;
    /// `None` leaves that to the schedule.
    ///
    /// A reload may change them at any time: they apply from the next result on.
    pub fn set_confirmation(&self, rules: ConfirmationRules, retry_interval: Option<Duration>) {
        self.inner.lock().rules = rules;
        self.metrics
            .set_damped(rules != ConfirmationRules::default());
        store(&self.retry_interval, retry_interval);
    }

    /// Returns the time from a check with a soft result to the next.
    pub fn retry_interval(&self) -> Option<Duration> {
        load(&self.retry_interval)
    }

    /// Returns the time of the schedule's next check, regardless of the breaker and maintenance.
    pub fn next_scheduled(&self) -> Duration {
        load(&self.next).unwrap_or_default()
    }

    /// Sets the time of the next check if the state is soft then.
    pub fn set_recheck(&self, at: Option<Duration>) {
        store(&self.recheck, at);
    }

    /// Returns the time of the re-check, if one is needed by the results so far.
    pub(super) fn recheck_at(&self, is_soft: bool) -> Option<Duration> {
        load(&self.recheck).filter(|_| is_soft)
    }

    /// Returns the confirmed state, also if a pause outlasted it, and the numbers of results that change it.
    #[cfg(test)]
    pub(crate) fn confirmed(&self) -> (PlatformState, ConfirmationRules) {
        let inner = self.inner.lock();
        (inner.view.confirmation.state(), inner.rules)
    }

    /// Returns the number of checks that were skipped for this reason.
    #[cfg(test)]
    pub(crate) fn skipped(&self, reason: SkipReason) -> u64 {
        let mut skips = self.metrics.skips();
        skips
            .find(|(label, _)| *label == reason.label())
            .map_or(0, |(_, count)| count)
    }

    /// Returns `true` if a check has begun and not ended.
    pub fn is_under_way(&self) -> bool {
        self.inner.lock().calls.is_under_way()
    }

    /// Returns the need for a re-check now.
    pub fn recheck_need(&self) -> RecheckNeed {
        let inner = self.inner.lock();
        if inner.calls.is_under_way() {
            RecheckNeed::Undecided
        } else if inner.view.confirmation.is_soft() {
            RecheckNeed::Soft
        } else {
            RecheckNeed::Settled
        }
    }
}

fn store(place: &AtomicU64, time: Option<Duration>) {
    let nanos = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    place.store(nanos, Ordering::Relaxed);
}

fn load(place: &AtomicU64) -> Option<Duration> {
    let nanos = place.load(Ordering::Relaxed);
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}
