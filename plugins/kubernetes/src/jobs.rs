//! Jobs that have failed.

use std::collections::HashMap;

use conductor_net::{LimitVerdict, Limits};
use conductor_plugin_api::Report;
use serde::Deserialize;

use crate::{
    JOBS,
    object::{
        ObjectCondition, ObjectMetadata, condition, first_few, has, in_brackets, measured, since,
    },
};

/// A Job in the list.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    metadata: ObjectMetadata,
    #[serde(default)]
    status: JobStatus,
}

#[derive(Debug, Default, Deserialize)]
struct JobStatus {
    #[serde(default)]
    conditions: Vec<ObjectCondition>,
}

impl Job {
    fn is_complete(&self) -> bool {
        has(&self.status.conditions, "Complete", "True")
    }

    fn failure(&self) -> Option<&ObjectCondition> {
        condition(&self.status.conditions, "Failed").filter(|failed| failed.status == "True")
    }

    /// Returns the uid of the CronJob that has created it.
    fn cron_job(&self) -> Option<&str> {
        let mut owners = self.metadata.owner_references.iter();
        owners
            .find(|owner| owner.kind == "CronJob")
            .map(|owner| owner.uid.as_str())
    }

    fn shown(&self, now: f64) -> Option<String> {
        let failed = self.failure()?;
        let since = since(failed.last_transition_time.as_deref(), now);
        let reason = format!("{}{since}", failed.reason);
        let reason = in_brackets(reason.trim_start_matches(", "));
        Some(format!("{}{reason}", self.metadata.shown()))
    }
}

/// Judges the Jobs; returns a summary. A CronJob keeps its failed Jobs: those before its last success do not count.
pub(crate) fn judge(
    jobs: &[Job],
    limits: &Limits<usize>,
    now: f64,
    verdict: &mut LimitVerdict,
) -> String {
    // Times of the API have one form and one zone, so they compare as texts.
    let mut successes = HashMap::<&str, &str>::new();
    for job in jobs.iter().filter(|job| job.is_complete()) {
        let Some(cron_job) = job.cron_job() else {
            continue;
        };
        let last = successes.entry(cron_job).or_default();
        *last = job.metadata.creation_timestamp.as_str().max(last);
    }
    let counts = |job: &&Job| {
        let success = job.cron_job().and_then(|cron_job| successes.get(cron_job));
        success.is_none_or(|success| job.metadata.creation_timestamp.as_str() > *success)
    };
    let failed = jobs.iter().filter(counts);
    let failed: Vec<_> = failed.filter_map(|job| job.shown(now)).collect();
    let shown = format!(
        "{} of {} Jobs failed: {}",
        failed.len(),
        jobs.len(),
        first_few(&failed)
    );
    verdict.judge("jobs_failed", shown, failed.len(), limits);
    format!("{} Jobs", jobs.len())
}

/// Adds the number of Jobs by state.
pub(crate) fn measure(jobs: &[Job], report: Report) -> Report {
    let complete = jobs.iter().filter(|job| job.is_complete()).count();
    let failed = jobs.iter().filter(|job| job.failure().is_some()).count();
    let active = jobs.len().saturating_sub(complete + failed);
    report
        .set(&JOBS, ["active"], measured(active))
        .set(&JOBS, ["complete"], measured(complete))
        .set(&JOBS, ["failed"], measured(failed))
}
