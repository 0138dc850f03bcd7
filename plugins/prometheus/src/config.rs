//! Keys of a Prometheus platform's `config` table.

use std::collections::BTreeMap;

use conductor_net::{
    DurationLimits, DurationRules, Limits, TlsConfig,
    http::{ApiPhases, ApiServer, BasicAuth, authorize, named},
};
use conductor_plugin_api::{Failure, config::Secret, schemars};
use glob::Pattern;
use serde::Deserialize;

use crate::{PrometheusProbe, query::QueryCheck, targets::TargetCheck};

/// Checks the result of a query, and the health of scrape targets.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PrometheusConfig {
    /// URL of the server, beginning with `http://` or `https://`; a path is that of the API, without `/api/v1`.
    #[schemars(
        regex(pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://."),
        extend("format" = "iri"),
        example = &"http://prometheus.example:9090"
    )]
    url: String,

    /// Query in PromQL, evaluated now. Each series has one value.
    #[schemars(length(min = 1), example = &"sum(rate(http_requests_total{code=~'5..'}[5m]))")]
    query: Option<String>,

    /// Limits of the value of each series.
    #[schemars(extend("examples" = [{"degraded_above": 1, "unhealthy_above": 10}]))]
    value: Option<Limits<f64>>,

    /// Limits of the number of series; at least 1 if it is left out. `{ unhealthy_above = 0 }` is for a query that finds
    /// only what is bad.
    #[schemars(extend("examples" = [{"unhealthy_above": 0}]))]
    series: Option<Limits<usize>>,

    /// Jobs whose scrape targets must be up.
    targets: Option<TargetsConfig>,

    /// User name and password for basic authentication.
    basic_auth: Option<BasicAuth>,

    /// Token for bearer authentication.
    bearer: Option<Secret>,

    /// Headers to send with each request.
    #[serde(default)]
    #[schemars(extend("examples" = [{"X-Scope-OrgID": "shop"}]))]
    headers: BTreeMap<String, Secret>,

    /// Trust, client certificate and versions of TLS.
    #[serde(default)]
    tls: TlsConfig,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<ApiPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "first_byte": "1s"}]))]
    unhealthy_after: Option<DurationLimits<ApiPhases>>,
}

/// Jobs whose scrape targets must be up.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetsConfig {
    /// Names of jobs, with the wildcards `*` and `?`; each must have targets.
    #[serde(default = "all_jobs")]
    #[schemars(length(min = 1), inner(length(min = 1)), extend("examples" = [["node", "api-*"]]))]
    jobs: Vec<String>,

    /// Number of targets of a job that may be down before the platform is degraded.
    #[serde(default)]
    degraded_above: usize,

    /// Number of targets of a job that may be down before the platform is unhealthy; all but one if it is left out.
    unhealthy_above: Option<usize>,
}

fn all_jobs() -> Vec<String> {
    vec!["*".to_owned()]
}

impl PrometheusConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<PrometheusProbe, Failure> {
        let mut faults = Vec::new();
        let entries = self.headers.iter();
        let entries = entries.map(|(name, value)| (name.as_str(), value.expose()));
        let mut headers = named(entries, &mut faults);
        let (basic_auth, bearer) = (self.basic_auth.as_ref(), self.bearer.as_ref());
        authorize(&mut headers, basic_auth, bearer, &[], &mut faults);
        let server = ApiServer::at_url(
            "prometheus",
            "url",
            &self.url,
            &self.tls,
            headers,
            &mut faults,
        );
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        let query = self.query(&mut faults);
        let targets = self.targets(&mut faults);
        if query.is_none() && self.targets.is_none() {
            faults.push(
                "key `query`: there is neither a query nor `targets`, so nothing is checked; add one of the two"
                    .to_owned(),
            );
        }
        match server {
            Some(server) if faults.is_empty() => Ok(PrometheusProbe {
                server,
                query,
                targets,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn query(&self, faults: &mut Vec<String>) -> Option<QueryCheck> {
        if let Some(value) = &self.value {
            value.validate("value", faults);
        }
        if let Some(series) = &self.series {
            series.validate("series", faults);
        }
        let Some(query) = &self.query else {
            if self.value.is_some() || self.series.is_some() {
                faults.push(
                    "key `query`: there are limits of values or series, but no query; add it"
                        .to_owned(),
                );
            }
            return None;
        };
        if query.trim().is_empty() {
            faults.push("key `query`: the query is empty; write it in PromQL".to_owned());
        }
        Some(QueryCheck {
            query: query.clone(),
            // A metric that was renamed must not look healthy.
            series: self.series.unwrap_or(Limits {
                unhealthy_below: Some(1),
                ..Limits::default()
            }),
            value: self.value.unwrap_or_default(),
        })
    }

    fn targets(&self, faults: &mut Vec<String>) -> Option<TargetCheck> {
        let targets = self.targets.as_ref()?;
        let mut jobs = Vec::new();
        for (nth, job) in targets.jobs.iter().enumerate() {
            match Pattern::new(job) {
                Ok(pattern) => jobs.push(pattern),
                Err(error) => faults.push(format!(
                    "key `targets.jobs[{nth}]`: {job:?} is not a pattern ({error}); write a literal `[` as `[[]`"
                )),
            }
        }
        if jobs.is_empty() {
            faults.push("key `targets.jobs`: the list is empty; name a job, or \"*\"".to_owned());
        }
        if let Some(unhealthy) = targets.unhealthy_above
            && targets.degraded_above > unhealthy
        {
            faults.push(format!(
                "keys `targets.degraded_above` ({}) and `targets.unhealthy_above` ({unhealthy}) are in the wrong order: \
                 a platform is degraded before it is unhealthy; exchange them",
                targets.degraded_above
            ));
        }
        Some(TargetCheck {
            jobs,
            degraded_above: targets.degraded_above,
            unhealthy_above: targets.unhealthy_above,
        })
    }
}
