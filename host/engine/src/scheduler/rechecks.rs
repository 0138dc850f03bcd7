//! The driver's quick re-checks: a platform whose state is soft is checked again before its next slot.
//!
//! Each check of a platform with a `retry_interval` puts a time into the queue, a whole number of these intervals after
//! the check was due. If the check has not ended by then, the next such time follows. Re-checks are as far apart as the
//! slots of the platforms are, so they keep the stagger. One that does not come before the platform's next scheduled check
//! is not made, nor is one that comes too late, while the machine is short of resources, or while maintenance pauses
//! checks.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    time::Duration,
};

use conductor_types::SkipReason;

use super::{SchedulerDriver, index::PlatformIx};
use crate::guard::RecheckNeed;

/// The times at which re-checks are considered.
///
/// Only the latest time of each platform counts, which the platform remembers.
#[derive(Default)]
pub(super) struct RecheckQueue {
    times: BinaryHeap<Reverse<(Duration, PlatformIx)>>,
    /// The re-checks that were made or counted as skipped, until a simulation takes them.
    #[cfg(test)]
    pub(super) considered: Vec<(Duration, PlatformIx)>,
}

impl RecheckQueue {
    /// Returns the first time.
    pub(super) fn next(&self) -> Option<Duration> {
        self.times.peek().map(|Reverse((at, _))| *at)
    }

    fn add(&mut self, at: Duration, platform: PlatformIx) {
        self.times.push(Reverse((at, platform)));
    }

    /// Removes the first time that has come by `now`.
    fn pop(&mut self, now: Duration) -> Option<(Duration, PlatformIx)> {
        let next = self.times.peek_mut()?;
        if next.0.0 > now {
            return None;
        }
        Some(PeekMut::pop(next).0)
    }
}

impl SchedulerDriver {
    /// Plans the re-check after a check that was due at `due`: it is made if the state is soft when its time comes.
    pub(super) fn plan_recheck(&mut self, at: PlatformIx, due: Duration, now: Duration) {
        let platform = &mut self.platforms[at];
        let guard = &platform.guard;
        let Some(interval) = guard.retry_interval() else {
            return;
        };
        let time = first_after(due, interval, now);
        let planned = (time < guard.next_scheduled()).then_some(time);
        guard.set_recheck(planned);
        platform.recheck = planned;
        if let Some(time) = planned {
            self.rechecks.add(time, at);
        }
    }

    /// Begins the re-checks that are due at `now`.
    pub(super) fn begin_rechecks(&mut self, now: Duration) {
        while let Some((time, at)) = self.rechecks.pop(now) {
            let Some(platform) = self.platforms.get(at) else {
                continue;
            };
            if platform.recheck != Some(time) || platform.leaving {
                continue;
            }
            match platform.guard.recheck_need() {
                RecheckNeed::Settled => {}
                RecheckNeed::Undecided => self.plan_recheck(at, time, now),
                RecheckNeed::Soft => self.recheck(at, time, now),
            }
        }
    }

    fn recheck(&mut self, at: PlatformIx, time: Duration, now: Duration) {
        #[cfg(test)]
        self.rechecks.considered.push((time, at));
        let guard = &self.platforms[at].guard;
        let reason = if now.saturating_sub(time) > GRACE {
            Some(SkipReason::Missed)
        } else if guard.is_paused() {
            Some(SkipReason::Maintenance)
        } else if self.stretch_of(guard) > 1 {
            Some(SkipReason::Degraded)
        } else {
            None
        };
        match reason {
            Some(reason) => guard.skip(reason, 1),
            None => self.begin(at, time, now),
        }
    }
}

/// Returns the first time after `now` that is a whole number of intervals after `due`.
fn first_after(due: Duration, interval: Duration, now: Duration) -> Duration {
    let passed = now.saturating_sub(due).as_nanos() / interval.as_nanos().max(1);
    let intervals = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
    due.saturating_add(interval.saturating_mul(intervals))
}

/// The lateness above which a re-check is missed, as for scheduled checks.
const GRACE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
