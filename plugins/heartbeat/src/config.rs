//! Keys of a heartbeat platform's `config` table.

use conductor_net::Limits;
use conductor_plugin_api::{Failure, config::Duration, schemars};
use serde::Deserialize;

/// Checks that a job sends its heartbeats in time, succeeds, and does not run for too long.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeartbeatConfig {
    /// Time since the last heartbeat at the end of a run above which the job is late and the platform unhealthy. Before the
    /// first heartbeat: time since the platform was added.
    #[schemars(example = &"26h", example = &"15m")]
    pub(crate) unhealthy_after: Duration,

    /// Time above which the platform is degraded.
    pub(crate) degraded_after: Option<Duration>,

    /// Duration of a run. The upper limits also apply to a run that has started and not ended.
    pub(crate) duration: Option<Limits<Duration>>,

    /// Exit codes of failed runs that make the platform degraded instead of unhealthy.
    #[serde(default)]
    #[schemars(example = &[1])]
    pub(crate) degraded_exit_codes: Vec<i64>,
}

impl HeartbeatConfig {
    /// Returns every rule that the keys break.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        let mut faults = Vec::new();
        if self.unhealthy_after.get().is_zero() {
            faults.push(
                "key `unhealthy_after`: 0s is always exceeded; set the time between two runs and some more"
                    .to_owned(),
            );
        }
        if let Some(degraded_after) = self.degraded_after
            && degraded_after > self.unhealthy_after
        {
            faults.push(format!(
                "key `degraded_after`: {degraded_after} is above `unhealthy_after`, {}; lower it",
                self.unhealthy_after
            ));
        }
        if let Some(limits) = &self.duration {
            limits.validate("duration", &mut faults);
        }
        if self.degraded_exit_codes.contains(&0) {
            faults.push("key `degraded_exit_codes`: 0 is a success; remove it".to_owned());
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Failure::config(faults.join("; "))),
        }
    }
}
