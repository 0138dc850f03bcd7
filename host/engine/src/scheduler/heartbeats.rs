//! The driver's checks of platforms whose job has sent a heartbeat: at once, or after the check under way, which may have
//! begun before the heartbeat was recorded.

use std::time::Duration;

use super::{SchedulerDriver, index::PlatformIx};

impl SchedulerDriver {
    /// Notes that a heartbeat of this platform was recorded.
    pub(super) fn note_heartbeat(&mut self, platform: &str) {
        if let Some(at) = self.find(platform)
            && !self.unseen_heartbeats.contains(&at)
        {
            self.unseen_heartbeats.push(at);
        }
    }

    /// Begins the checks of platforms with a heartbeat that no check has seen. While maintenance pauses checks, there is none:
    /// the first one after it sees the heartbeat.
    pub(super) fn check_heartbeats(&mut self, now: Duration) {
        let unseen: Vec<PlatformIx> = std::mem::take(&mut self.unseen_heartbeats);
        for at in unseen {
            let Some(platform) = self.platforms.get(at).filter(|p| p.stays()) else {
                continue;
            };
            if platform.guard.is_under_way() {
                self.unseen_heartbeats.push(at);
            } else if !platform.guard.is_paused() {
                self.begin(at, now, now);
            }
        }
    }
}
