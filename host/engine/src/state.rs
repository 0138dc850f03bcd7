//! What the host keeps of each platform and plugin, and its answers to orders.

use std::time::Duration;

use conductor_config as config;
use conductor_plugin_api::Status;
use conductor_runtime::{Failure, LoadError, Report};
use conductor_types::{
    ErrorType, Health, SkipReason,
    limits::{MEASUREMENT_NAME_BYTES, MEASUREMENTS},
};

/// The state that a report gives a platform.
fn health(status: Status) -> Health {
    match status {
        Status::Healthy => Health::Healthy,
        Status::Degraded => Health::Degraded,
        Status::Unhealthy => Health::Unhealthy,
    }
}

/// What is known of one platform.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// How it is doing.
    pub health: Health,
    /// The last report's or failure's message.
    pub message: String,
    /// What sort of failure, while it is failing.
    pub error_type: Option<ErrorType>,
    /// Since when it has been doing so.
    pub since: Duration,
    /// When the last check ended, and how long it took.
    pub last_check: Option<(Duration, Duration)>,
    /// When the last report came.
    pub last_report: Option<Duration>,
    /// What the last report measured, under the limits of the metrics; JSON has no way to write what is not finite.
    pub measurements: Vec<(String, f64)>,
}

impl View {
    /// Takes a report in; answers how the platform was doing before, if that changed.
    pub fn reported(&mut self, report: &Report, now: Duration, took: Duration) -> Option<Health> {
        self.error_type = None;
        self.last_report = Some(now);
        self.measurements.clear();
        let legal = |(name, value): &&(String, f64)| {
            value.is_finite() && name.len() <= MEASUREMENT_NAME_BYTES
        };
        let kept = report.measurements.iter().filter(legal).take(MEASUREMENTS);
        self.measurements.extend(kept.cloned());
        self.ended(health(report.status), &report.message, now, took)
    }

    /// Takes a failure in; answers how the platform was doing before, if that changed.
    pub fn failed(&mut self, failure: &Failure, now: Duration, took: Duration) -> Option<Health> {
        self.error_type = Some(failure.kind);
        self.ended(Health::Failing, &failure.message, now, took)
    }

    /// The same for a platform whose last check is out of date because of a pause: its state is unknown.
    pub fn outdated(self) -> Self {
        Self {
            health: Health::Waiting,
            message: format!("{} before the pause: {}", self.health, self.message),
            error_type: None,
            measurements: Vec::new(),
            ..self
        }
    }

    fn ended(
        &mut self,
        health: Health,
        message: &str,
        now: Duration,
        took: Duration,
    ) -> Option<Health> {
        if self.message != message {
            message.clone_into(&mut self.message);
        }
        self.last_check = Some((now, took));
        (self.health != health).then(|| {
            self.since = now;
            std::mem::replace(&mut self.health, health)
        })
    }
}

/// Whether a plugin is loaded.
#[derive(Clone, Debug)]
pub enum LoadState {
    /// Nobody asked for it yet.
    Waiting,
    /// It is being loaded for the first time.
    Loading,
    /// It is loaded.
    Loaded,
    /// It could not be loaded, and will be tried again on its breaker's schedule.
    Failed(LoadError),
}

impl LoadState {
    /// Its name in the JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Failed(_) => "failed",
        }
    }
}

/// Reads how long a maintenance is to last.
///
/// # Errors
/// When it is no duration, or one that nobody can mean.
pub fn maintenance_length(text: &str) -> Result<Duration, String> {
    let length = config::parse_duration(text)
        .map_err(|why| format!("{text:?} is not a duration such as \"2h\" or \"1h 30m\": {why}"))?;
    if (Duration::from_secs(1)..=config::LONGEST_DURATION).contains(&length) {
        Ok(length)
    } else {
        Err(format!("{text:?} is out of range: choose from 1s to 1year"))
    }
}

/// Why an order cannot be followed; nothing has changed then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OrderError {
    /// No platform is called so, or matches it.
    NoSuchPlatform(String),
    /// No window is called so.
    NoSuchWindow(String),
    /// The window is the config's, which is changed there.
    OfConfig(String),
    /// It makes no sense, for this reason.
    Invalid(String),
}

/// What becomes of a check that an operator asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckNow {
    /// It has begun, beside the ones of the schedule, which stay where they are.
    Begun,
    /// There is none, for this reason; it is counted as skipped.
    Skipped(SkipReason),
    /// There is no such platform.
    Unknown,
    /// The host is stopping, and begins no check any more.
    Leaving,
}
