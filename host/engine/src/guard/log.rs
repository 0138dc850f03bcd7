//! The log lines about a platform.

use std::{fmt, sync::Arc, time::Duration};

use conductor_core::{
    breaker::{CircuitState, Transition},
    flapping::FLAP_STEPS,
};
use conductor_runtime::{CallFailure, CheckReport};
use conductor_types::{BreakerState, ErrorType, PlatformState, SoftState, StateUrgency};

use super::{EndedCheck, PlatformGuard, change::StateChange};
use crate::changes::ConfirmedChange;

/// The text of a check's result.
#[derive(Clone, Copy)]
pub(super) struct CheckText<'a> {
    message: &'a str,
    /// The kind of failure, if it failed.
    failure: Option<ErrorType>,
}

impl<'a> CheckText<'a> {
    pub(super) fn of(result: Result<&'a CheckReport, &'a CallFailure>) -> Self {
        match result {
            Ok(report) => Self::report(&report.message),
            Err(failure) => Self {
                message: &failure.message,
                failure: Some(failure.kind),
            },
        }
    }

    pub(super) fn report(message: &'a str) -> Self {
        Self {
            message,
            failure: None,
        }
    }
}

/// Shows the kind of failure, too.
impl fmt::Display for CheckText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            Some(kind) => write!(f, "{kind}: {}", self.message),
            None => f.write_str(self.message),
        }
    }
}

impl PlatformGuard {
    /// Logs the changes caused by the end of a check. A change of state is one line, even if it also moved the breaker.
    pub(super) fn log_end(&self, ended: &EndedCheck, text: CheckText<'_>, now: Duration) {
        let Some(change) = &ended.change else {
            return self.log_transition(ended.transition, now);
        };
        if change.after != change.before {
            let breaker = match ended.transition.map(|transition| transition.to) {
                Some(CircuitState::Closed) => "; breaker closed".to_owned(),
                Some(CircuitState::Open { until: Some(until) }) => {
                    format!("; breaker open for {}", whole_seconds(now, until))
                }
                _ => String::new(),
            };
            self.log_state(change, text, &breaker);
            self.publish(change, text, now);
        } else {
            self.log_soft(change, text);
            self.log_transition(ended.transition, now);
        }
        self.log_flapping(change);
    }

    /// Tells the subscribers of the host's changes; targets of `/probe` have no state to follow.
    fn publish(&self, change: &StateChange, text: CheckText<'_>, now: Duration) {
        if self.is_target() {
            return;
        }
        self.shared.changes.publish(|| ConfirmedChange {
            platform: Arc::clone(&self.settings.name),
            plugin: self.plugin.id().into(),
            labels: self.settings.labels.clone(),
            at: self.shared.unix_seconds(now),
            before: change.before,
            after: change.after,
            message: text.message.to_owned(),
            error_type: text.failure,
            in_maintenance: self.is_in_maintenance(),
        });
    }

    fn log_state(&self, change: &StateChange, text: CheckText<'_>, breaker: &str) {
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        let was = match change.before {
            StateUrgency::NotChecked => String::new(),
            before => format!(" (was {})", before.label()),
        };
        match change.after {
            StateUrgency::Healthy => {
                let is_quiet = || self.is_target() || !self.shared.logs_first_report();
                if change.before == StateUrgency::NotChecked && is_quiet() {
                    tracing::debug!(platform, plugin, "healthy: {text}");
                } else {
                    tracing::info!(platform, plugin, "healthy{was}: {text}{breaker}");
                }
            }
            state @ (StateUrgency::Degraded | StateUrgency::Unhealthy) => {
                let state = state.label();
                tracing::warn!(platform, plugin, "{state}{was}: {text}{breaker}");
            }
            StateUrgency::CheckFailed | StateUrgency::NotChecked => {
                self.log_failure(text, breaker);
            }
        }
    }

    fn log_failure(&self, text: CheckText<'_>, breaker: &str) {
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        // The cause of the crash is in the plugin's own line, and can affect many platforms.
        if text.failure == Some(ErrorType::Crash) {
            tracing::error!(
                platform,
                plugin,
                "check failed: its worker crashed{breaker}"
            );
        // The same applies to the reason why it is not loaded.
        } else if text.message.starts_with(NOT_LOADED) {
            tracing::error!(platform, plugin, "check failed: {NOT_LOADED}{breaker}");
        } else if text.message == no_answer_within(self.settings.timeout) {
            let timeout = humantime::format_duration(self.settings.timeout);
            tracing::error!(platform, plugin, "check timed out after {timeout}{breaker}");
        } else {
            tracing::error!(platform, plugin, "check failed: {text}{breaker}");
        }
    }

    /// Logs a new soft state, or the end of one that was not confirmed; more results like the last are not news.
    fn log_soft(&self, change: &StateChange, text: CheckText<'_>) {
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        match (&change.soft_before, &change.soft_after) {
            (before, Some(soft)) if before.map(|b| b.status) != Some(soft.status) => {
                let SoftState {
                    results, needed, ..
                } = soft;
                let found = match soft.status {
                    PlatformState::Unknown => "check failed".to_owned(),
                    status => status.to_string(),
                };
                tracing::info!(
                    platform,
                    plugin,
                    "soft state: {found} ({results} of {needed}): {text}"
                );
            }
            (Some(before), None) => {
                let SoftState {
                    results, needed, ..
                } = before;
                let state = change.after.label();
                tracing::info!(
                    platform,
                    plugin,
                    "soft state ended ({results} of {needed}): still {state}"
                );
            }
            _ => {}
        }
    }

    fn log_flapping(&self, change: &StateChange) {
        let Some(flapping) = change.flapping.filter(|_| !self.is_target()) else {
            return;
        };
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        let changes = flapping.changes;
        if flapping.is_flapping {
            tracing::warn!(
                platform,
                plugin,
                "flapping: {changes} changes in {FLAP_STEPS} checks"
            );
        } else {
            tracing::info!(platform, plugin, "no longer flapping");
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
