//! The host's record of a platform's heartbeats, which is the platform's state.

use std::time::{Duration, SystemTime};

use conductor_plugin_api::Failure;
use serde::Deserialize;

/// The record. A host may add fields to it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HeartbeatRecord {
    /// The time at which the host first accepted heartbeats for the platform.
    pub(crate) since: UnixMillis,
    /// The start of a run that has not ended.
    pub(crate) started: Option<UnixMillis>,
    /// The last run that ended.
    pub(crate) last: Option<LastRun>,
    pub(crate) last_success: Option<UnixMillis>,
}

/// A run that ended.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LastRun {
    pub(crate) at: UnixMillis,
    pub(crate) success: bool,
    pub(crate) exit_code: Option<i64>,
    /// In seconds.
    pub(crate) duration: Option<f64>,
    #[serde(default)]
    pub(crate) message: String,
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct UnixMillis(u64);

impl HeartbeatRecord {
    pub(crate) fn read(state: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(state).map_err(|error| {
            Failure::new(format!(
                "cannot read the host's record of the heartbeats ({error}): install the plugin of the host's version"
            ))
        })
    }

    /// Returns the record of a platform without heartbeats.
    pub(crate) fn since(time: SystemTime) -> Self {
        Self {
            since: UnixMillis::of(time),
            started: None,
            last: None,
            last_success: None,
        }
    }
}

impl LastRun {
    pub(crate) fn duration(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.duration?).ok()
    }
}

impl UnixMillis {
    pub(crate) fn of(time: SystemTime) -> Self {
        let since_1970 = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the time from this to `now`; zero if the clock was set back since.
    pub(crate) fn until(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }

    pub(crate) fn plus(self, time: Duration) -> Self {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Returns seconds since 1970.
    pub(crate) fn seconds(self) -> f64 {
        Duration::from_millis(self.0).as_secs_f64()
    }
}

/// Formats the time as "2026-11-30 02:14:07 UTC".
impl std::fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(time) => write!(f, "{}", time.strftime("%Y-%m-%d %H:%M:%S UTC")),
            Err(_) => write!(f, "{} s after 1970", self.0 / 1000),
        }
    }
}
