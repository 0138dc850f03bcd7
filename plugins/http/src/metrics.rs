//! The metrics that the probe declares.

use conductor_plugin_api::{Metric, Report};

use crate::progress::{CheckPhase, Findings, PhaseTimes};

/// Duration of each phase, the sum over all requests of a check.
pub(crate) const PHASE: Metric<1> = Metric::gauge(
    "phase",
    "Duration of each phase, over all requests of the check.",
)
.unit("seconds")
.labels(["phase"]);

/// Duration of the whole check.
pub(crate) const DURATION: Metric =
    Metric::gauge("duration", "Duration of the whole check.").unit("seconds");

/// Status code of the last response.
pub(crate) const STATUS: Metric =
    Metric::gauge("response_status", "Status code of the last response.");

/// Size of the last response's body.
pub(crate) const BYTES: Metric = Metric::gauge(
    "response",
    "Size of the part of the last body that was read and decoded, at most 1 MiB.",
)
.unit("bytes");

/// HTTP version of the last response.
pub(crate) const VERSION: Metric = Metric::gauge(
    "version",
    "HTTP version of the last response: 1.0, 1.1 or 2.",
);

/// Number of redirects that were followed.
pub(crate) const REDIRECTS: Metric =
    Metric::gauge("redirects", "Redirects that the check followed.");

/// Expiry date of the last certificate presented.
pub(crate) const EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's own certificate is valid.",
)
.unit("seconds");

/// Sets everything that a check found in its report.
pub(crate) fn set(
    report: Report,
    duration: f64,
    phases: &PhaseTimes,
    findings: &Findings,
) -> Report {
    let mut report = report.set(&DURATION, [], duration);
    for (phase, took) in phases.iter() {
        report = report.set(&PHASE, [phase.label()], took.as_secs_f64());
    }
    let single = [
        (&STATUS, findings.status.map(f64::from)),
        (&BYTES, findings.bytes.map(f64::from)),
        (&VERSION, findings.version),
        (
            &REDIRECTS,
            findings.status.map(|_| findings.redirects.into()),
        ),
        (&EXPIRY, findings.expiry),
    ];
    for (metric, value) in single {
        if let Some(value) = value {
            report = report.set(metric, [], value);
        }
    }
    report
}

impl CheckPhase {
    /// Returns the value of the label `phase`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::FirstByte => "first_byte",
            Self::Transfer => "transfer",
        }
    }
}
