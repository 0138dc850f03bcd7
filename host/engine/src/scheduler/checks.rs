//! The driver's checks: those that are due begin, operators request others, and those past their deadline are
//! abandoned.

use std::time::Duration;

use conductor_core::schedule::{DueEntry, LatticeStart, ResourceMode, next_run, stretch_factor};
use conductor_types::SkipReason;

use super::{SchedulerDriver, index::PlatformIx, platforms::ScheduledPlatform, takeover::progress};
use crate::{guard::SkipCause, state::CheckNow};

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
        let settings = guard.settings();
        let interval = settings.interval;
        let mode = match self.culprits.spare_others() {
            true if !self.culprits.contains(guard.plugin().id()) => ResourceMode::Normal,
            _ => self.stretch,
        };
        let factor = stretch_factor(settings.priority, mode, interval);
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
        let begun = self.platforms[at].guard.begin(slot_time, now);
        self.go_on(at, begun, now)
    }

    /// Hands over a call that its guard has begun, or handles the reason why there is none.
    fn go_on(
        &mut self,
        at: PlatformIx,
        begun: Result<u64, SkipCause>,
        now: Duration,
    ) -> Result<(), SkipCause> {
        let platform = &self.platforms[at];
        let plugin = platform.plugin;
        match begun {
            Ok(sequence) if self.plugins[plugin].current.is_some() => {
                self.hand_over(at, sequence, now);
                self.watch.begun(at, sequence, now);
            }
            Ok(sequence) => self.hold(plugin, at, sequence, now),
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

    pub(super) fn check_now(&mut self, name: &str) -> CheckNow {
        let named = |platform: &ScheduledPlatform| &*platform.guard.settings().name == name;
        let found = {
            let mut staying = self.platforms.staying();
            staying.find_map(|(at, platform)| named(platform).then_some(at))
        };
        let Some(at) = found else {
            return CheckNow::Unknown;
        };
        let now = self.shared.clock.now();
        let begun = self.platforms[at].guard.begin_asked(now);
        match self.go_on(at, begun, now) {
            Ok(()) => CheckNow::Begun,
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
    }
}
