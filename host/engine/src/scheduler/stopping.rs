//! The driver's shutdown: running checks get a grace period, and the rest is withdrawn.

use std::{thread, time::Duration};

use conductor_types::SkipReason;

use super::{SchedulerCommand, SchedulerDriver, index::PlatformIx};
use crate::state::CheckNow;

impl SchedulerDriver {
    /// Starts no more checks; running ones get the grace period, and those that have not started are withdrawn.
    pub(super) fn drain(mut self) {
        let end = self.shared.clock.now() + self.timing.shutdown_grace;
        let waiting = self.shared.in_flight();
        if waiting > 0 {
            tracing::info!(
                "stopping: waiting up to {} for running checks ({waiting})",
                humantime::format_duration(self.timing.shutdown_grace)
            );
        }
        while !self.stopping_turn(self.shared.clock.now(), end) {
            thread::sleep(self.timing.tick);
        }
        self.abandon_checks();
        self.leave_plugins();
    }

    /// Skips what is due at `now`, and ends what can end; returns `true` if nothing is left, or if it is `end`.
    pub(super) fn stopping_turn(&mut self, now: Duration, end: Duration) -> bool {
        self.schedule.poll(now, |found| {
            if let Some(platform) =
                PlatformIx::from_key(found.key).and_then(|at| self.platforms.get(at))
            {
                let due = found.missed + u64::from(found.start.is_some());
                platform.guard.skip(SkipReason::Shutdown, due);
            }
        });
        self.turn_away();
        self.expire(now);
        self.watch.each(|at, sequence| {
            if let Some(platform) = self.platforms.get(at) {
                platform.guard.withdraw(sequence, now, SkipReason::Shutdown);
            }
        });
        self.shared.in_flight() == 0 || now >= end
    }

    /// Abandons the checks still under way.
    pub(super) fn abandon_checks(&mut self) {
        let left = self.shared.in_flight();
        if left > 0 {
            tracing::warn!("exiting with {left} unfinished checks");
            let now = self.shared.clock.now();
            self.watch.each(|at, sequence| {
                if let Some(platform) = self.platforms.get(at) {
                    platform.guard.abandon(sequence, now);
                }
            });
        }
    }

    /// Replies to waiting callers; other commands no longer matter.
    pub(super) fn turn_away(&self) {
        for command in self.inbox.try_iter() {
            // The others that wait for an answer notice that it was dropped.
            if let SchedulerCommand::CheckNow(_, tell) = command {
                let _ = tell.send(CheckNow::Leaving);
            }
        }
    }

    pub(super) fn leave_plugins(&mut self) {
        for plugin in self.plugins.iter_mut() {
            plugin.leave();
        }
    }
}
