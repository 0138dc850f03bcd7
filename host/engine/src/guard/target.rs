//! The guards of targets, which are checked on request.

use std::{sync::Arc, time::Duration};

use conductor_types::{ErrorType, PlatformState};

use super::{CallEnds, GuardContext, PlatformGuard, PlatformSettings, PluginGuard};
use crate::metrics::PlatformMetrics;

/// The result of the last check of a target.
pub struct TargetResult {
    /// The target's state.
    pub state: PlatformState,
    /// The message of the report or failure.
    pub message: String,
    /// The kind of failure, if the check failed.
    pub error_type: Option<ErrorType>,
    /// The duration of the check; `None` before the first.
    pub took: Option<Duration>,
    /// The values that the probe has measured.
    pub metrics: Arc<PlatformMetrics>,
}

impl PlatformGuard {
    /// Creates the guard of a target: its series are not part of `/metrics`, and `ends` counts the calls that end.
    pub fn of_target(
        settings: PlatformSettings,
        plugin: Arc<PluginGuard>,
        shared: Arc<GuardContext>,
        ends: Arc<CallEnds>,
    ) -> Self {
        let metrics = shared.metrics.unlisted(&settings.name, plugin.id());
        Self::with_metrics(settings, plugin, shared, metrics, Some(ends))
    }

    /// Returns the result of the last check.
    pub fn target_result(&self) -> TargetResult {
        let view = self.inner.lock().view.clone();
        TargetResult {
            state: view.confirmation.result(),
            message: view.message,
            error_type: view.error_type,
            took: view.last_check.map(|(_, took)| took),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Returns `true` for the guard of a target.
    pub(super) fn is_target(&self) -> bool {
        self.ends.is_some()
    }
}
