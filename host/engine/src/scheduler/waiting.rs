//! Checks that were begun but have not started: they wait while a generation is being started, and move to the next one
//! when theirs ends.

use std::{sync::Arc, time::Duration};

use conductor_runtime::{AdmittedCall, CallFailure};
use conductor_types::{ErrorType, SkipReason};

use super::{
    SchedulerDriver,
    index::{PlatformIx, PluginIx},
    plugin::HeldCheck,
};

impl SchedulerDriver {
    /// Keeps a check for the plugin's next generation if one is or can be started; otherwise fails it with the reason.
    pub(super) fn hold(
        &mut self,
        at: PluginIx,
        platform: PlatformIx,
        sequence: u64,
        now: Duration,
    ) {
        self.renew(at, None, now);
        self.start_elsewhere(at, platform, sequence, now);
    }

    /// Adds a begun call to its plugin's batch of this turn.
    pub(super) fn hand_over(&mut self, at: PlatformIx, sequence: u64, now: Duration) {
        let Some(platform) = self.platforms.get(at) else {
            return;
        };
        if platform.leaving {
            platform.guard.withdraw(sequence, now, SkipReason::Shutdown);
            return;
        }
        match &platform.probe {
            Ok(Some(probe)) => self.plugins[platform.plugin].batch.push(AdmittedCall {
                probe: *probe,
                caller: Arc::clone(&platform.guard) as Arc<_>,
                sequence,
            }),
            Ok(None) => {
                let failure = self.plugins[platform.plugin].guard.failure();
                platform.guard.refuse(sequence, now, &failure);
            }
            Err(reason) => {
                let failure = CallFailure::new(ErrorType::Config, reason);
                platform.guard.refuse(sequence, now, &failure);
            }
        }
    }

    /// Moves a check that had not started when its generation ended to the next one.
    pub(super) fn start_elsewhere(
        &mut self,
        at: PluginIx,
        platform: PlatformIx,
        sequence: u64,
        now: Duration,
    ) {
        let plugin = &mut self.plugins[at];
        if plugin.current.is_some() {
            self.hand_over(platform, sequence, now);
        } else if plugin.next.is_some()
            && let Some(waiting) = self.platforms.get(platform)
        {
            plugin.held.push(HeldCheck {
                platform,
                sequence,
                until: now + waiting.guard.settings().timeout,
            });
        } else {
            self.refuse(at, platform, sequence, now);
        }
    }

    /// Fails checks that waited for a generation, with the reason why it is missing.
    pub(super) fn let_go_of_held(
        &mut self,
        at: PluginIx,
        now: Duration,
        which: impl Fn(&HeldCheck) -> bool,
    ) {
        let held = &mut self.plugins[at].held;
        let held: Vec<_> = held.extract_if(.., |held| which(held)).collect();
        for held in held {
            self.refuse(at, held.platform, held.sequence, now);
        }
    }

    /// Fails a check with the reason why its plugin does not run.
    pub(super) fn refuse(&self, at: PluginIx, platform: PlatformIx, sequence: u64, now: Duration) {
        if let Some(platform) = self.platforms.get(platform) {
            let failure = self.plugins[at].guard.failure();
            platform.guard.refuse(sequence, now, &failure);
        }
    }
}
