//! The host's state of each platform and plugin, and its replies to orders.

use std::time::Duration;

use conductor_config as config;
use conductor_core::{confirmation::StateConfirmation, flapping::FlapDetector};
use conductor_plugin_api::Status;
use conductor_runtime::{CallFailure, CheckReport, LoadError, replace_measurements};
use conductor_types::{
    ErrorType, PlatformState, SkipReason, StateUrgency,
    limits::{MEASUREMENT_NAME_BYTES, MEASUREMENTS},
};

/// Returns the state that a report gives a platform.
fn reported_state(status: Status) -> PlatformState {
    match status {
        Status::Healthy => PlatformState::Healthy,
        Status::Degraded => PlatformState::Degraded,
        Status::Unhealthy => PlatformState::Unhealthy,
    }
}

/// The last check of one platform, and its result.
#[derive(Clone, Debug, Default)]
pub struct LatestCheck {
    /// The platform's state, and the result of the last check.
    pub confirmation: StateConfirmation,
    /// The changes of state from check to check.
    pub flaps: FlapDetector,
    /// The last report's or failure's message.
    pub message: String,
    /// The kind of failure, if the last check failed.
    pub error_type: Option<ErrorType>,
    /// The time since which it has had this state.
    pub since: Duration,
    /// The end and duration of the last check.
    pub last_check: Option<(Duration, Duration)>,
    /// The time of the last report.
    pub last_report: Option<Duration>,
    /// The times from before the restart, until the state changes.
    pub restored: Option<Box<RestoredTimes>>,
    /// The last report's measurements, within the limits of the metrics and all finite, as JSON requires.
    pub measurements: Vec<(String, f64)>,
}

/// Times from before the restart, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RestoredTimes {
    /// The time since which the platform has had its state.
    pub since: f64,
    /// The end of the last check.
    pub ended: f64,
}

impl LatestCheck {
    /// Returns the urgency of the state.
    pub fn urgency(&self) -> StateUrgency {
        let has_result = self.confirmation.has_result();
        self.confirmation.state().urgency(has_result)
    }

    /// Records a report, without the state; returns the state that it found.
    pub fn reported(
        &mut self,
        report: &CheckReport,
        now: Duration,
        took: Duration,
    ) -> PlatformState {
        self.error_type = None;
        self.last_report = Some(now);
        let legal = |(name, value): &&(String, f64)| {
            value.is_finite() && name.len() <= MEASUREMENT_NAME_BYTES
        };
        let kept = report.measurements.iter().filter(legal).take(MEASUREMENTS);
        replace_measurements(
            &mut self.measurements,
            kept.map(|(name, value)| (name, *value)),
            |text, name| name.clone_into(text),
        );
        self.ended(&report.message, now, took);
        reported_state(report.status)
    }

    /// Records the last report again, when nothing but reports has been recorded since; returns the state that it found.
    pub fn reported_same(&mut self, now: Duration, took: Duration) -> PlatformState {
        self.last_report = Some(now);
        self.last_check = Some((now, took));
        self.confirmation.result()
    }

    /// Records a failure, without the state; returns the state that it found.
    pub fn failed(
        &mut self,
        failure: &CallFailure,
        now: Duration,
        took: Duration,
    ) -> PlatformState {
        self.error_type = Some(failure.kind);
        self.ended(&failure.message, now, took);
        PlatformState::Unknown
    }

    /// Returns the view as it is displayed: without a check since the start of the host, and after a pause that has
    /// outlasted the last one, the state is unknown, and the message gives the reason.
    pub fn displayed(self, is_outdated_by_pause: bool) -> Self {
        let is_first = self.last_check.is_none();
        if is_first && self.restored.is_none() {
            return Self {
                message: NOT_CHECKED_YET.to_owned(),
                ..self
            };
        }
        if !is_first && !is_outdated_by_pause {
            return self;
        }
        let result = match self.confirmation.result() {
            PlatformState::Unknown => "check failed".to_owned(),
            result => result.to_string(),
        };
        let (event, flaps) = match is_first {
            // The checks that it counts are those before the restart and those to come.
            true => ("restart", self.flaps),
            false => ("pause", FlapDetector::default()),
        };
        Self {
            confirmation: StateConfirmation::default(),
            flaps,
            message: format!("{result} before the {event}: {}", self.message),
            error_type: None,
            measurements: Vec::new(),
            ..self
        }
    }

    fn ended(&mut self, message: &str, now: Duration, took: Duration) {
        if self.message != message {
            message.clone_into(&mut self.message);
        }
        self.last_check = Some((now, took));
    }
}

/// Message of a platform before its first check has ended.
const NOT_CHECKED_YET: &str = "not checked yet";

/// The loading state of a plugin.
#[derive(Clone, Debug)]
pub enum LoadState {
    /// Not requested yet.
    Waiting,
    /// It is being loaded for the first time.
    Loading,
    /// It is loaded.
    Loaded,
    /// It failed to load, and is retried on its breaker's schedule.
    Failed(LoadError),
}

impl LoadState {
    /// Returns its name in the JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Failed(_) => "failed",
        }
    }
}

/// A text that is not the length of a maintenance.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MaintenanceLengthError {
    /// It is not a duration.
    #[error(transparent)]
    NotADuration(#[from] config::DurationError),
    /// It is too short or too long.
    #[error("out of range: choose from 1s to 1year")]
    OutOfRange,
}

/// Parses the length of a maintenance.
///
/// # Errors
/// If it is not a duration from a second to a year.
pub fn maintenance_length(text: &str) -> Result<Duration, MaintenanceLengthError> {
    let length = config::parse_duration(text)?;
    if (Duration::from_secs(1)..=config::LONGEST_DURATION).contains(&length) {
        Ok(length)
    } else {
        Err(MaintenanceLengthError::OutOfRange)
    }
}

/// The reason why an order cannot be executed; nothing has changed then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OrderError {
    /// No platform has this name or matches it.
    NoSuchPlatform(String),
    /// No window has this name.
    NoSuchWindow(String),
    /// The window is defined in the config, and must be changed there.
    OfConfig(String),
    /// It is invalid, for this reason.
    Invalid(String),
}

/// The result of a check that an operator requested.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckNow {
    /// It has begun; scheduled checks are not affected.
    Begun,
    /// It was not made, for this reason; it is counted as skipped.
    Skipped(SkipReason),
    /// There is no such platform.
    Unknown,
    /// The host is stopping and begins no more checks.
    Leaving,
}
