//! The log lines about a platform.

use std::time::Duration;

use conductor_core::breaker::{CircuitState, Transition};
use conductor_plugin_api::Status;
use conductor_runtime::{CallFailure, CheckReport};
use conductor_types::{BreakerState, ErrorType, StateUrgency};

use super::PlatformGuard;

impl PlatformGuard {
    /// Logs the change caused by the end of a check: one line, even if it also moved the breaker.
    pub(super) fn log_end(
        &self,
        change: Option<StateUrgency>,
        result: Result<&CheckReport, &CallFailure>,
        transition: Option<Transition>,
        now: Duration,
    ) {
        let Some(before) = change else {
            return self.log_transition(transition, now);
        };
        let breaker = match transition.map(|transition| transition.to) {
            Some(CircuitState::Closed) => "; breaker closed".to_owned(),
            Some(CircuitState::Open { until: Some(until) }) => {
                format!("; breaker open for {}", whole_seconds(now, until))
            }
            _ => String::new(),
        };
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        let was = match before {
            StateUrgency::NotChecked => String::new(),
            before => format!(" (was {})", before.label()),
        };
        match result {
            Ok(CheckReport {
                status: Status::Healthy,
                message,
                ..
            }) => {
                if before == StateUrgency::NotChecked && !self.shared.logs_first_report() {
                    tracing::debug!(platform, plugin, "healthy: {message}");
                } else {
                    tracing::info!(platform, plugin, "healthy{was}: {message}{breaker}");
                }
            }
            Ok(CheckReport {
                status: Status::Degraded,
                message,
                ..
            }) => {
                tracing::warn!(platform, plugin, "degraded{was}: {message}{breaker}");
            }
            Ok(CheckReport {
                status: Status::Unhealthy,
                message,
                ..
            }) => {
                tracing::warn!(platform, plugin, "unhealthy{was}: {message}{breaker}");
            }
            // The cause of the crash is in the plugin's own line, and can affect many platforms.
            Err(failure) if failure.kind == ErrorType::Crash => {
                tracing::error!(
                    platform,
                    plugin,
                    "check failed: its worker crashed{breaker}"
                );
            }
            // The same applies to the reason why it is not loaded.
            Err(failure) if failure.message.starts_with(NOT_LOADED) => {
                tracing::error!(platform, plugin, "check failed: {NOT_LOADED}{breaker}");
            }
            Err(failure) if failure.message == no_answer_within(self.settings.timeout) => {
                let timeout = humantime::format_duration(self.settings.timeout);
                tracing::error!(platform, plugin, "check timed out after {timeout}{breaker}");
            }
            Err(failure) => {
                let kind = failure.kind.label();
                tracing::error!(platform, plugin, "check failed: {kind}: {failure}{breaker}");
            }
        }
    }

    /// Logs and counts a change of the breaker's state.
    pub(super) fn announce(&self, transition: Option<Transition>, now: Duration) {
        self.count_transition(transition);
        self.log_transition(transition, now);
    }

    pub(super) fn count_transition(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.metrics.transition(breaker_label(transition.to));
        }
    }

    pub(super) fn log_transition(&self, transition: Option<Transition>, now: Duration) {
        let Some(transition) = transition else { return };
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        match transition.to {
            CircuitState::Closed => {
                tracing::info!(platform, plugin, "breaker closed: checks resume")
            }
            CircuitState::HalfOpen => {
                tracing::debug!(platform, plugin, "breaker half-open: one trial")
            }
            CircuitState::Open { until: Some(until) } => {
                let wait = whole_seconds(now, until);
                tracing::warn!(platform, plugin, "breaker open for {wait}");
            }
            CircuitState::Open { until: None } => {
                tracing::warn!(platform, plugin, "breaker held open by an operator")
            }
        }
    }
}

/// Returns the message of a check that timed out.
pub(super) fn no_answer_within(timeout: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(timeout))
}

/// Formats the time from `now` until `until`, for people.
pub(super) fn whole_seconds(now: Duration, until: Duration) -> humantime::FormattedDuration {
    let wait = until.saturating_sub(now).as_secs().max(1);
    humantime::format_duration(Duration::from_secs(wait))
}

/// Start of the message of checks whose plugin is not loaded; the reason follows, which the plugin's own line has as well.
pub(super) const NOT_LOADED: &str = "the plugin is not loaded";

pub(super) fn breaker_label(state: CircuitState) -> BreakerState {
    match state {
        CircuitState::Closed => BreakerState::Closed,
        CircuitState::Open { .. } => BreakerState::Open,
        CircuitState::HalfOpen => BreakerState::HalfOpen,
    }
}
