//! The driver's checks: those that are due begin, operators request others, and those past their deadline are
//! abandoned.

use std::time::Duration;

use conductor_core::schedule::{DueEntry, LatticeStart, ResourceMode, next_run, stretch_factor};
use conductor_types::SkipReason;

use super::{SchedulerDriver, index::PlatformIx, platforms::ScheduledPlatform, takeover::progress};
use crate::{
    guard::{PlatformGuard, SkipCause},
    state::CheckNow,
};

impl SchedulerDriver {
    pub(super) fn begin_due(&mut self, now: Duration) {
        let mut due = std::mem::take(&mut self.due);
        self.schedule.poll(now, |found| due.push(found));
        for found in due.drain(..) {
            match PlatformIx::from_key(found.key) {
                None => self.sample(),
                Some(at) => self.begin_one(at, found, now),
            }
        }
        self.due = due;
    }

    /// Handles one platform's due entry.
    fn begin_one(&mut self, at: PlatformIx, found: DueEntry, now: Duration) {
        let guard = &self.platforms[at].guard;
        if found.missed > 0 {
            guard.skip(SkipReason::Missed, found.missed);
        }
        let Some(LatticeStart {
            at: slot_time,
            tick,
            slot,
        }) = found.start
        else {
            return;
        };
        let interval = guard.settings().interval;
        let factor = self.stretch_of(guard);
        let left_out = next_run(factor, tick, slot);
        let intervals = if left_out == 0 { factor } else { left_out };
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        guard.set_stretch(factor, now);
        guard.set_next(slot_time.saturating_add(interval.saturating_mul(intervals)));
        if guard.is_paused() {
            guard.skip(SkipReason::Maintenance, 1);
        } else if left_out == 0 {
            self.begin(at, slot_time, now);
        } else {
            guard.skip(SkipReason::Degraded, 1);
        }
    }

    /// Returns the number of intervals per check that the state of the machine allows a platform.
    pub(super) fn stretch_of(&self, guard: &PlatformGuard) -> u64 {
        let mode = match self.culprits.spare_others() {
            true if !self.culprits.contains(guard.plugin().id()) => ResourceMode::Normal,
            _ => self.stretch,
        };
        let settings = guard.settings();
        stretch_factor(settings.priority, mode, settings.interval)
    }

    /// Begins one platform's check, if its guard admits it.
    pub(super) fn begin(&mut self, at: PlatformIx, slot_time: Duration, now: Duration) {
        // The guard has counted a skipped check.
        let _ = self.try_begin(at, slot_time, now);
    }

    pub(super) fn try_begin(
        &mut self,
        at: PlatformIx,
        slot_time: Duration,
        now: Duration,
    ) -> Result<(), SkipCause> {
        let token = self.watch.token();
        let begun = self.platforms[at].guard.begin(slot_time, now, token);
        let begun = self.go_on(at, begun, now);
        if begun.is_ok() {
            self.plan_recheck(at, slot_time, now);
        }
        begun
    }

    /// Hands over a call that its guard has begun, or handles the reason why there is none.
    pub(super) fn go_on(
        &mut self,
        at: PlatformIx,
        begun: Result<u64, SkipCause>,
        now: Duration,
    ) -> Result<(), SkipCause> {
        let platform = &self.platforms[at];
        let plugin = platform.plugin;
        match begun {
            Ok(sequence) => {
                let timeout = platform.guard.settings().timeout;
                self.watch.begun(at, sequence, timeout, now);
                match self.plugins[plugin].current {
                    Some(_) => self.hand_over(at, sequence, now),
                    None => self.hold(plugin, at, sequence, now),
                }
            }
            Err(SkipCause::Stuck(since)) => {
                let patience = platform.guard.settings().breaker.reset_timeout();
                self.consider_stuck(plugin, now.saturating_sub(since) >= patience, now);
            }
            Err(SkipCause::Waiting(since)) => {
                let settings = platform.guard.settings();
                let patience = settings.breaker.reset_timeout() + settings.timeout;
                let since = since.max(platform.guard.plugin().last_start());
                if now.saturating_sub(since) >= patience {
                    self.consider_waiting(plugin, now.saturating_sub(since), now);
                } else {
                    self.consider_stuck(plugin, false, now);
                }
            }
            Err(SkipCause::Saturated) => self.consider_stuck(plugin, false, now),
            Err(SkipCause::Overlap | SkipCause::BreakerOpen) => {}
        }
        begun.map(|_| ())
    }

    /// Returns the index of the platform of this name, if it is on the schedule.
    pub(super) fn find(&self, name: &str) -> Option<PlatformIx> {
        let named = |platform: &ScheduledPlatform| &*platform.guard.settings().name == name;
        let mut staying = self.platforms.staying();
        staying.find_map(|(at, platform)| named(platform).then_some(at))
    }

    pub(super) fn check_now(&mut self, name: &str) -> CheckNow {
        let Some(at) = self.find(name) else {
            return CheckNow::Unknown;
        };
        let now = self.shared.clock.now();
        let token = self.watch.token();
        let begun = self.platforms[at].guard.begin_asked(now, token);
        match self.go_on(at, begun, now) {
            Ok(()) => {
                self.plan_recheck(at, now, now);
                CheckNow::Begun
            }
            Err(skip) => CheckNow::Skipped(skip.into()),
        }
    }

    pub(super) fn dispatch(&mut self) {
        let now = self.shared.clock.now();
        for plugin in self.plugins.iter_mut() {
            plugin.dispatch(now);
        }
    }

    pub(super) fn expire(&mut self, now: Duration) {
        let (platforms, plugins) = (&self.platforms, &self.plugins);
        let mut with_stuck = Vec::new();
        self.watch.expire(
            now,
            |at, sequence| progress(platforms, at, sequence),
            |at, sequence| {
                let platform = &platforms[at];
                let plugin = &plugins[platform.plugin];
                let stuck = || {
                    if let Ok(Some(probe)) = platform.probe {
                        plugin.abandoned(at, sequence, probe);
                    }
                };
                platform.guard.expire(sequence, now, stuck);
                with_stuck.push(platform.plugin);
            },
        );
        for at in with_stuck {
            self.consider_stuck(at, false, now);
        }
        self.let_leave();
        self.drop_checked_targets();
    }
}
