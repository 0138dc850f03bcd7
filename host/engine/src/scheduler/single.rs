//! The driver's handling of single platforms that come and go, whose cost does not depend on the number of the others.

use std::{sync::Arc, time::Duration};

use super::{PlatformChanges, SchedulerDriver, index::PlatformIx};

impl SchedulerDriver {
    /// Removes and adds platforms; all others keep slot, probe, breaker and counters, and are not looked at.
    pub(super) fn change_platforms(&mut self, changes: PlatformChanges) {
        let now = self.shared.clock.now();
        // New entries take part from the last poll on.
        self.begin_due(now);
        for guard in &changes.removed {
            if let Some(at) = self.platforms.of_guard(guard) {
                self.take_off_schedule(at);
            }
        }
        for setup in changes.added {
            if self.platforms.of_guard(&setup.guard).is_some() {
                continue;
            }
            let guard = Arc::clone(&setup.guard);
            match self.add_platform(setup) {
                Some(at) => self.schedule_platform(at, now),
                None => tracing::error!(
                    "{} is never checked: its plugin {} is not in the config in force",
                    guard.settings().name,
                    guard.plugin().id()
                ),
            }
        }
        self.let_leave();
    }

    /// Gives a new platform its slot: the one it had before, if that is free.
    fn schedule_platform(&mut self, at: PlatformIx, now: Duration) {
        let (interval, slot) = {
            let guard = &self.platforms[at].guard;
            (guard.settings().interval, guard.slot())
        };
        self.set_slot(at.key(), interval, slot);
        if let Some(planned) = self.schedule.planned(at.key()) {
            let guard = &self.platforms[at].guard;
            guard.set_slot(Some(planned.slot));
            guard.set_next(self.schedule.start_of(&planned, now));
        }
    }
}
