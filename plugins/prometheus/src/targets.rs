//! The health of scrape targets, by job.

use std::collections::BTreeMap;

use conductor_net::{
    CheckError, LimitVerdict, PhaseClock,
    http::{ApiRequest, ApiServer},
    short,
};
use conductor_plugin_api::{Report, Status};
use glob::Pattern;
use serde::Deserialize;

use crate::{TARGETS, api::data};

/// The jobs of a config, and how many of their targets may be down.
pub(crate) struct TargetCheck {
    pub(crate) jobs: Vec<Pattern>,
    pub(crate) degraded_above: usize,
    pub(crate) unhealthy_above: Option<usize>,
}

/// The targets of one job.
#[derive(Debug, Default)]
pub(crate) struct JobHealth {
    job: String,
    up: usize,
    down: usize,
    /// Not scraped yet.
    unknown: usize,
    /// The instance of the first target that is down, and the reason.
    first_down: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetList {
    active_targets: Vec<ActiveTarget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget {
    labels: BTreeMap<String, String>,
    health: String,
    #[serde(default)]
    last_error: String,
}

impl TargetCheck {
    /// Returns the health of the jobs, in the order of their names.
    pub(crate) async fn ask(
        &self,
        server: &mut ApiServer,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Vec<JobHealth>, CheckError> {
        let request = ApiRequest::get("/api/v1/targets")
            .query("state", "active")
            .max_body(MAX_BODY);
        let response = server.ask(request, clock).await?;
        let list: TargetList = data(&response)?;
        let mut jobs = BTreeMap::<String, JobHealth>::new();
        for target in list.active_targets {
            let job = target.labels.get("job").map_or("", String::as_str);
            if !self.jobs.iter().any(|pattern| pattern.matches(job)) {
                continue;
            }
            let health = jobs.entry(job.to_owned()).or_default();
            health.add(&target);
        }
        let jobs = jobs
            .into_iter()
            .map(|(job, health)| JobHealth { job, ..health });
        Ok(jobs.collect())
    }

    /// Judges each job, and the patterns without one; returns a summary.
    pub(crate) fn judge(&self, jobs: &[JobHealth], verdict: &mut LimitVerdict) -> String {
        for pattern in &self.jobs {
            if !jobs.iter().any(|job| pattern.matches(&job.job)) {
                let text = format!("job {pattern} has no targets, expected at least one");
                verdict.add(Status::Unhealthy, text);
            }
        }
        for job in jobs {
            if let Some((status, expected)) = self.objection(job) {
                verdict.add(status, format!("{job}, expected {expected}"));
            }
        }
        let (up, all) = jobs
            .iter()
            .fold((0, 0), |(up, all), job| (up + job.up, all + job.all()));
        format!("{up} of {all} targets in {} jobs are up", jobs.len())
    }

    fn objection(&self, job: &JobHealth) -> Option<(Status, String)> {
        let most = |limit| match limit {
            0 => "none".to_owned(),
            limit => format!("at most {limit}"),
        };
        match self.unhealthy_above {
            Some(limit) if job.down > limit => Some((Status::Unhealthy, most(limit))),
            _ if job.down > 0 && job.up == 0 => {
                Some((Status::Unhealthy, "at least one that is up".to_owned()))
            }
            _ if job.down > self.degraded_above => {
                Some((Status::Degraded, most(self.degraded_above)))
            }
            _ if job.up == 0 => Some((Status::Degraded, "at least one that is up".to_owned())),
            _ => None,
        }
    }
}

impl JobHealth {
    fn add(&mut self, target: &ActiveTarget) {
        match target.health.as_str() {
            "up" => self.up += 1,
            "down" => {
                self.down += 1;
                self.first_down.get_or_insert_with(|| {
                    let instance = target.labels.get("instance").map_or("?", String::as_str);
                    let error = without_url(&target.last_error);
                    short(&format!("{instance}: {error}"), MAX_ERROR)
                });
            }
            _ => self.unknown += 1,
        }
    }

    fn all(&self) -> usize {
        self.up + self.down + self.unknown
    }

    /// Adds the measurements of this job.
    pub(crate) fn measure(&self, report: Report) -> Report {
        let counts = [
            ("up", self.up),
            ("down", self.down),
            ("unknown", self.unknown),
        ];
        counts.into_iter().fold(report, |report, (health, count)| {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            report.set(&TARGETS, [self.job.as_str(), health], count as f64)
        })
    }
}

/// Formats what is down in a job.
impl std::fmt::Display for JobHealth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (job, down, all) = (&self.job, self.down, self.all());
        if down == 0 {
            return write!(f, "job {job}: {all} targets were not scraped yet");
        }
        write!(f, "job {job}: {down} of {all} targets are down")?;
        match &self.first_down {
            Some(first) => write!(f, " ({first})"),
            None => Ok(()),
        }
    }
}

/// Removes the URL from a scrape error, `Get "http://…": connection refused`: its query may have secrets.
fn without_url(error: &str) -> &str {
    match error.split_once("\": ") {
        Some((request, why)) if request.starts_with("Get \"") => why,
        _ => error,
    }
}

/// Largest response that is read, in bytes: about 20000 targets.
pub(crate) const MAX_BODY: usize = 32 << 20;

/// Longest part of a message about a target, in characters.
const MAX_ERROR: usize = 160;
