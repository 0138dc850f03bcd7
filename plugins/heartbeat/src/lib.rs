//! The `heartbeat` probe: a job, such as a backup, reports in time, succeeds, and does not run for too long.
//!
//! ```toml
//! [platform.nightly-backup]
//! plugin = "heartbeat"
//! heartbeat = { token = { file = "/etc/conductor/backup.token" } }
//! config = { unhealthy_after = "26h", duration = { degraded_above = "2h" } }
//! ```
//!
//! `docs/reference/probes/heartbeat.md` lists the keys, the metrics, and what a job sends.
//!
//! The host receives the heartbeats and records them in the platform's state, which this plugin only reads: a heartbeat is not
//! lost while the plugin is replaced or restarted. The host starts a check with each heartbeat.
//!
//! # Unhealthy or failure
//! *Unhealthy* and *degraded* mean that the job is late, has failed, or a run took longer or shorter than a limit. A *failure* is
//! a record that this version cannot read.

mod config;
mod record;
mod report;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use conductor_plugin_api::{Context, Failure, Metric, Probe, Report, export_plugin};

use crate::{config::HeartbeatConfig, record::HeartbeatRecord};

export_plugin! {
    id: "heartbeat",
    probe: HeartbeatProbe,
    name: "Heartbeat",
    metrics: [LAST, AGE, SUCCESS, DURATION, RUNNING],
}

const LAST: Metric = Metric::gauge(
    "last_timestamp",
    "Unix time of the last heartbeat at the end of a run.",
)
.unit("seconds");
const AGE: Metric =
    Metric::gauge("age", "Time since the last heartbeat at the end of a run.").unit("seconds");
const SUCCESS: Metric = Metric::gauge("success", "1 if the last run succeeded, else 0.");
const DURATION: Metric = Metric::gauge("duration", "Duration of the last run.").unit("seconds");
const RUNNING: Metric = Metric::gauge(
    "running",
    "Time since the start of a run that has not ended.",
)
.unit("seconds");

struct HeartbeatProbe {
    config: HeartbeatConfig,
    /// The time from which a host without a record of the platform is expected to have one.
    created: SystemTime,
}

impl Probe for HeartbeatProbe {
    type Config = HeartbeatConfig;

    fn create(config: HeartbeatConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.validate()?;
        Ok(Self {
            config,
            created: now(),
        })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let record = match context.state() {
            // A host that is too old for heartbeats; the platform becomes late.
            state if state.is_empty() => HeartbeatRecord::since(self.created),
            state => HeartbeatRecord::read(&state)?,
        };
        report::report(&record, &self.config, now())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the times of heartbeats are those of the calendar"
)]
fn now() -> SystemTime {
    SystemTime::now()
}
