//! Heartbeats of jobs, from the server to the states of platforms and to the scheduler.

use std::sync::Arc;

use conductor_engine::heartbeats::{HeartbeatRefusal, InvalidHeartbeat};
use conductor_server::HeartbeatReceiver;
use conductor_types::requests::Heartbeat;

use super::Host;

/// Records heartbeats, and has their platforms checked.
pub(super) struct HeartbeatRecorder(pub(super) Arc<Host>);

impl HeartbeatReceiver for HeartbeatRecorder {
    fn admit(&self, platform: &str, token: &str) -> Result<(), HeartbeatRefusal> {
        let now = self.0.shared.clock.now();
        self.0.heartbeats.admit(platform, token, now)
    }

    fn receive(&self, platform: &str, heartbeat: Heartbeat) -> Result<(), InvalidHeartbeat> {
        let now = self.0.shared.clock.wall(self.0.shared.clock.now());
        self.0.heartbeats.record(platform, heartbeat, now)?;
        tracing::debug!(platform, "received a heartbeat");
        self.0.scheduler.heartbeat(platform);
        Ok(())
    }
}
