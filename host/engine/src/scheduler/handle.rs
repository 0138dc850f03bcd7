//! The scheduler's interface to the rest of the host: each call becomes a command.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use super::{
    LibraryChange, PlatformChanges, ReloadPlan, ReplacementOrder, SchedulerCommand, TargetCheck,
};
use crate::{guard::SkipCause, state::CheckNow};

/// Sends commands to the scheduler.
pub struct SchedulerHandle {
    pub(super) commands: Sender<SchedulerCommand>,
    pub(super) thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl SchedulerHandle {
    /// Applies another config: unchanged platforms keep slot, probe, breaker and counters.
    pub fn follow(&self, plan: ReloadPlan) {
        let _ = self.commands.send(SchedulerCommand::Follow(Box::new(plan)));
    }

    /// Removes and adds platforms; all others stay as they are.
    pub fn change_platforms(&self, changes: PlatformChanges) {
        let _ = self.commands.send(SchedulerCommand::Change(changes));
    }

    /// Reports a change in the plugin folders to the plugin of this id.
    pub fn library_changed(&self, id: String, change: LibraryChange) {
        let _ = self.commands.send(SchedulerCommand::Library(id, change));
    }

    /// Replaces a generation.
    pub fn renew(&self, order: ReplacementOrder) {
        let _ = self.commands.send(SchedulerCommand::Renew(order));
    }

    /// Begins a check of this platform now, if its guard admits it.
    pub fn check_now(&self, platform: &str) -> CheckNow {
        let (tell, told) = channel();
        let _ = self
            .commands
            .send(SchedulerCommand::CheckNow(platform.to_owned(), tell));
        told.recv().unwrap_or(CheckNow::Leaving)
    }

    /// Begins a check of this platform, a heartbeat of which was recorded; if one is under way, after that.
    pub fn heartbeat(&self, platform: &str) {
        let platform = platform.to_owned();
        let _ = self.commands.send(SchedulerCommand::Heartbeat(platform));
    }

    /// Begins a check of a target, if its guard admits it; `None` if the host is stopping.
    pub fn check_target(&self, check: TargetCheck) -> Option<Result<(), SkipCause>> {
        let (tell, told) = channel();
        let _ = self
            .commands
            .send(SchedulerCommand::CheckTarget(check, tell));
        told.recv().ok().flatten()
    }

    /// Returns `true` if its loop completes another turn within this time.
    pub fn goes_round_within(&self, patience: Duration) -> bool {
        let (tell, told) = channel();
        let _ = self.commands.send(SchedulerCommand::Answer(tell));
        told.recv_timeout(patience).is_ok()
    }

    /// Returns `true` if the scheduler has ended, which it never does by itself.
    pub fn is_finished(&self) -> bool {
        self.thread()
            .as_ref()
            .is_none_or(thread::JoinHandle::is_finished)
    }

    /// Stops new checks; returns when those under way have ended, or after the grace period.
    pub fn stop(&self) {
        // If the scheduler has ended, there is nothing to stop.
        let _ = self.commands.send(SchedulerCommand::Stop);
        let thread = self.thread().take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn thread(&self) -> MutexGuard<'_, Option<thread::JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
