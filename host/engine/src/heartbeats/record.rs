//! The record of a platform's heartbeats: the last run that ended, and the one that runs. Pure.
//!
//! It is the platform's state, which the plugin `heartbeat` reads as JSON. An older or newer plugin must be able to read it:
//! fields may be added to it.

use std::time::{Duration, SystemTime};

use conductor_types::requests::{Heartbeat, RunDuration};
use serde::{Deserialize, Serialize};

/// The record of a platform's heartbeats. Times are milliseconds since 1970.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct HeartbeatRecord {
    /// The time at which the host first accepted heartbeats for the platform.
    pub since: u64,
    /// The time of the last heartbeat that reported the start of a run, unless an end was reported since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// The last run that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
    /// The time of the last heartbeat that reported a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<u64>,
}

/// A run that ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct LastRun {
    /// The time of the heartbeat.
    pub at: u64,
    /// `false` if the run failed.
    pub success: bool,
    /// The exit code, if it was reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// The duration in seconds, if it was reported, or its start was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// The text for people; empty if there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// The event that a heartbeat reports.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum JobEvent {
    Started,
    Ended {
        exit_code: Option<i64>,
        success: bool,
        duration: Option<Duration>,
        message: String,
    },
}

/// The rule that a heartbeat violates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidHeartbeat {
    /// A start has a result.
    #[error(
        "`start` reports the start of a run, which has no `success`, `exit_code`, `duration` or `message` yet: send these with the heartbeat at its end"
    )]
    StartWithResult,
    /// Exit code and success differ.
    #[error(
        "`success` contradicts `exit_code`: 0 is a success, any other code is not; leave one of them out"
    )]
    Contradiction,
    /// The duration is not one.
    #[error(
        "`duration` is not a duration: write a number of seconds, or numbers with units such as 12m 30s"
    )]
    Duration,
}

impl HeartbeatRecord {
    /// Reads a platform's state; without a state, and if it cannot be read, which is logged, the record begins `now`.
    pub(super) fn read(state: &[u8], platform: &str, now: SystemTime) -> Self {
        let new = Self {
            since: millis(now),
            started: None,
            last: None,
            last_success: None,
        };
        if state.is_empty() {
            return new;
        }
        serde_json::from_slice(state).unwrap_or_else(|error| {
            tracing::warn!(
                platform,
                "the record of the heartbeats cannot be read, and begins again: {error}"
            );
            new
        })
    }

    /// Returns the platform's state.
    pub(super) fn to_state(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn apply(&mut self, event: JobEvent, now: SystemTime) {
        let at = millis(now);
        match event {
            JobEvent::Started => self.started = Some(at),
            JobEvent::Ended {
                exit_code,
                success,
                duration,
                message,
            } => {
                let started = self.started.take();
                let measured =
                    started.map(|started| Duration::from_millis(at.saturating_sub(started)));
                if success {
                    self.last_success = Some(at);
                }
                self.last = Some(LastRun {
                    at,
                    success,
                    exit_code,
                    duration: duration.or(measured).map(|took| took.as_secs_f64()),
                    message,
                });
            }
        }
    }
}

impl TryFrom<Heartbeat> for JobEvent {
    type Error = InvalidHeartbeat;

    fn try_from(heartbeat: Heartbeat) -> Result<Self, InvalidHeartbeat> {
        let Heartbeat {
            start,
            success,
            exit_code,
            duration,
            message,
        } = heartbeat;
        if start {
            let has_result = success.is_some() || exit_code.is_some();
            return match has_result || duration.is_some() || message.is_some() {
                true => Err(InvalidHeartbeat::StartWithResult),
                false => Ok(Self::Started),
            };
        }
        let by_code = exit_code.map(|code| code == 0);
        if success.is_some() && by_code.is_some() && success != by_code {
            return Err(InvalidHeartbeat::Contradiction);
        }
        let message = message.unwrap_or_default();
        Ok(Self::Ended {
            exit_code,
            success: success.or(by_code).unwrap_or(true),
            duration: duration.map(|duration| parse(&duration)).transpose()?,
            message: message.trim().chars().take(MAX_MESSAGE).collect(),
        })
    }
}

fn parse(duration: &RunDuration) -> Result<Duration, InvalidHeartbeat> {
    let seconds = match duration {
        RunDuration::Seconds(seconds) => *seconds,
        RunDuration::Text(text) => match text.trim().parse() {
            Ok(seconds) => seconds,
            Err(_) => {
                return conductor_config::parse_duration(text)
                    .map_err(|_| InvalidHeartbeat::Duration);
            }
        },
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| InvalidHeartbeat::Duration)
}

fn millis(time: SystemTime) -> u64 {
    let since_1970 = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Maximum number of characters of a message that are kept.
const MAX_MESSAGE: usize = 1000;
