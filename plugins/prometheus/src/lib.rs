//! The `prometheus` probe: checks the result of a query, and the health of scrape targets.
//!
//! ```toml
//! [platform.errors]
//! plugin = "prometheus"
//! config = { url = "http://prometheus.example:9090", query = "sum(rate(http_requests_total{code=~'5..'}[5m]))", value = { unhealthy_above = 10 } }
//!
//! [platform.scrapes]
//! plugin = "prometheus"
//! config = { url = "http://prometheus.example:9090", targets = { jobs = ["node", "api-*"] } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `url` | | `http://` or `https://`; a path is that of the API, without `/api/v1` |
//! | `query` | none | PromQL, evaluated now |
//! | `value` | none | limits of the value of each series |
//! | `series` | at least 1 | limits of the number of series |
//! | `targets` | none | jobs whose targets must be up, and how many may be down |
//! | `basic_auth`, `bearer`, `headers` | none | authentication, and headers such as `X-Scope-OrgID` |
//! | `tls` | the system's CAs | trust, client certificate and versions of TLS |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! `query` or `targets` is required. The API is that of Prometheus; Mimir, Thanos, VictoriaMetrics and others have it too,
//! some of them without targets. Redirects are not followed.
//!
//! In `targets.jobs`, `*` and `?` are wildcards. A job without targets, or with none that is up, is unhealthy; targets that
//! are down otherwise make the platform degraded, or as `targets.degraded_above` and `targets.unhealthy_above` say. A
//! target that was not scraped yet counts neither as up nor as down; a job of such targets alone makes it degraded.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_prometheus_series` | | series that the query returned |
//! | `conductor_prometheus_lowest_value`, `conductor_prometheus_highest_value` | | lowest and highest finite value of them |
//! | `conductor_prometheus_targets` | `scrape_job`, `health` | targets that are `up`, `down` or `unknown`, of the first 50 jobs |
//! | `conductor_prometheus_phase_seconds` | `phase` | `resolve`: name resolution, absent for an IP address; `connect`; `tls`: the handshake; `first_byte`: from there to the head of the response; `transfer`: the body. With `query` and `targets`, the sum of both requests |
//! | `conductor_prometheus_duration_seconds` | | the whole check |
//! | `conductor_prometheus_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: a value outside of its limits or not a number, too few or too many
//! series, targets that are down, no such host, connection refused, a bad certificate, no response in time, a query that
//! the server cannot evaluate, a response that is not that of the API or larger than 32 MiB.
//!
//! A *failure* is a check that could not tell: a query that is not valid or returns no numbers, no response from the resolver, no
//! network, no CA certificates, no free file descriptor or port.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod api;
mod config;
mod query;
mod targets;
#[cfg(test)]
mod tests;

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, PhaseClock, TimeLimit, http::ApiServer,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    config::PrometheusConfig,
    query::{QueryCheck, QueryValues},
    targets::{JobHealth, TargetCheck},
};

export_plugin! {
    id: "prometheus",
    async_probe: PrometheusProbe,
    name: "Prometheus",
    needs: ["network"],
    metrics: [SERIES, LOWEST_VALUE, HIGHEST_VALUE, TARGETS, PHASE, DURATION, CERTIFICATE_EXPIRY],
}

const SERIES: Metric = Metric::gauge("series", "Number of series that the query returned.");
const LOWEST_VALUE: Metric = Metric::gauge("lowest_value", "Lowest value of the query.");
const HIGHEST_VALUE: Metric = Metric::gauge("highest_value", "Highest value of the query.");
const TARGETS: Metric<2> = Metric::gauge(
    "targets",
    "Number of scrape targets that are up, down or not scraped yet.",
)
.labels(["scrape_job", "health"]);
const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the requests.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

struct PrometheusProbe {
    server: ApiServer,
    query: Option<QueryCheck>,
    targets: Option<TargetCheck>,
    durations: DurationRules,
}

/// The responses of the server.
#[derive(Default)]
struct PrometheusAnswers {
    values: Option<QueryValues>,
    jobs: Option<Vec<JobHealth>>,
}

impl AsyncProbe for PrometheusProbe {
    type Config = PrometheusConfig;

    fn create(config: PrometheusConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let answers = self.ask(&mut clock).await;
        let took = clock.limit.elapsed();
        let report = match answers {
            Ok(answers) => self.judge(&answers, &clock)?,
            Err(error) => error.into_report()?,
        };
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match self.server.certificate_expiry() {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl PrometheusProbe {
    async fn ask(&mut self, clock: &mut PhaseClock<'_>) -> Result<PrometheusAnswers, CheckError> {
        let mut answers = PrometheusAnswers::default();
        if let Some(query) = &self.query {
            answers.values = Some(query.ask(&mut self.server, clock).await?);
        }
        if let Some(targets) = &self.targets {
            answers.jobs = Some(targets.ask(&mut self.server, clock).await?);
        }
        Ok(answers)
    }

    fn judge(
        &self,
        answers: &PrometheusAnswers,
        clock: &PhaseClock<'_>,
    ) -> Result<Report, Failure> {
        let mut verdict = LimitVerdict::default();
        let mut summary = Vec::new();
        if let (Some(query), Some(values)) = (&self.query, &answers.values) {
            summary.push(query.judge(values, &mut verdict));
        }
        if let (Some(targets), Some(jobs)) = (&self.targets, &answers.jobs) {
            summary.push(targets.judge(jobs, &mut verdict));
        }
        verdict.judge_durations(&self.durations, clock.limit.elapsed(), |phase| {
            clock.took(phase)
        });
        let mut report = verdict.into_report(summary.join(", "))?;
        if let Some(values) = &answers.values {
            report = values.measure(report);
        }
        let jobs = answers.jobs.iter().flatten().take(MAX_JOBS);
        Ok(jobs.fold(report, |report, job| job.measure(report)))
    }
}

/// Most jobs that are measured one by one.
const MAX_JOBS: usize = 50;
