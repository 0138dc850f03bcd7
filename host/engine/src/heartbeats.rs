//! Heartbeats of jobs: the host records them in the states of their platforms, which the platforms' plugin reads.
//!
//! A platform accepts them if its config has a token for them. Each platform takes a burst of them, and then one a second:
//! each is followed by a check.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use conductor_config::ConductorConfig;
use conductor_types::requests::Heartbeat;
use subtle::ConstantTimeEq as _;

use crate::probe_states::ProbeStateFolder;

mod record;

pub use record::{HeartbeatRecord, InvalidHeartbeat, LastRun};

/// The platforms that accept heartbeats.
pub struct Heartbeats {
    states: ProbeStateFolder,
    platforms: Mutex<HashMap<String, AcceptingPlatform>>,
}

/// A platform that accepts heartbeats.
struct AcceptingPlatform {
    plugin: String,
    token: String,
    /// The time by which its next heartbeat would come if one came each [`PACE`].
    next: Duration,
}

/// The reason why a heartbeat is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeartbeatRefusal {
    /// There is no such platform, or it accepts none.
    #[error("no platform of this name accepts heartbeats")]
    Unknown,
    /// The token is not the platform's.
    #[error("the token is wrong")]
    WrongToken,
    /// The platform has had too many.
    #[error("too many heartbeats")]
    TooMany,
}

impl Heartbeats {
    /// Returns the heartbeats that are recorded in `states`; none are accepted yet.
    #[must_use]
    pub fn new(states: ProbeStateFolder) -> Self {
        Self {
            states,
            platforms: Mutex::default(),
        }
    }

    /// Accepts heartbeats for the platforms of this config that have a token, and for no others. A platform without a record
    /// gets one, which begins `now`.
    pub fn follow(&self, config: &ConductorConfig, now: SystemTime) {
        let mut platforms = self.lock();
        let mut old = std::mem::take(&mut *platforms);
        for platform in &config.platforms {
            let Some(heartbeat) = &platform.heartbeat else {
                continue;
            };
            let next = old.remove(&platform.name).map(|old| old.next);
            let accepting = AcceptingPlatform {
                plugin: platform.plugin.clone(),
                token: heartbeat.token.clone(),
                next: next.unwrap_or_default(),
            };
            platforms.insert(platform.name.clone(), accepting);
        }
        let names = platforms.iter();
        let names = names.map(|(name, platform)| (platform.plugin.as_str(), name.as_str()));
        self.states.set_written_by_host(names);
        for (name, platform) in &*platforms {
            self.states.update(&platform.plugin, name, |state| {
                HeartbeatRecord::read(state, name, now).to_state()
            });
        }
    }

    /// Admits a heartbeat to be [recorded](Self::record), if its token is the platform's and it does not come too soon.
    ///
    /// # Errors
    /// The reason why it is not admitted.
    pub fn admit(
        &self,
        platform: &str,
        token: &str,
        now: Duration,
    ) -> Result<(), HeartbeatRefusal> {
        let mut platforms = self.lock();
        let platform = platforms.get_mut(platform);
        let platform = platform.ok_or(HeartbeatRefusal::Unknown)?;
        if !bool::from(platform.token.as_bytes().ct_eq(token.as_bytes())) {
            return Err(HeartbeatRefusal::WrongToken);
        }
        if platform.next > now + PACE * (BURST - 1) {
            return Err(HeartbeatRefusal::TooMany);
        }
        platform.next = platform.next.max(now) + PACE;
        Ok(())
    }

    /// Records a heartbeat that was admitted; does nothing if the platform no longer accepts any.
    ///
    /// # Errors
    /// When its fields contradict each other or are invalid.
    pub fn record(
        &self,
        platform: &str,
        heartbeat: Heartbeat,
        now: SystemTime,
    ) -> Result<(), InvalidHeartbeat> {
        let event = record::JobEvent::try_from(heartbeat)?;
        let platforms = self.lock();
        if let Some(accepting) = platforms.get(platform) {
            self.states.update(&accepting.plugin, platform, |state| {
                let mut record = HeartbeatRecord::read(state, platform, now);
                record.apply(event, now);
                record.to_state()
            });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, AcceptingPlatform>> {
        self.platforms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time between the heartbeats that a platform takes for long.
const PACE: Duration = Duration::from_secs(1);
/// Number of heartbeats that a platform takes at once.
const BURST: u32 = 10;

#[cfg(test)]
mod tests;
