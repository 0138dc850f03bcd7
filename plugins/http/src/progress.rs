//! The progress of a check: the current step, the duration of each step, and the findings.

use std::{collections::BTreeMap, time::Duration};

use conductor_net::{CheckError, TimeLimit};
use conductor_plugin_api::{Failure, Report, tracing};

pub(crate) struct CheckProgress<'a> {
    pub(crate) limit: TimeLimit<'a>,
    step: CheckPhase,
    since: Duration,
    measured: BTreeMap<&'static str, f64>,
}

/// The step that a check is waiting for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CheckPhase {
    Start,
    Resolve,
    Connect,
    Tls,
    FirstByte,
    Body,
    Done,
}

impl<'a> CheckProgress<'a> {
    pub(crate) fn new(limit: TimeLimit<'a>) -> Self {
        Self {
            limit,
            step: CheckPhase::Start,
            since: Duration::ZERO,
            measured: BTreeMap::new(),
        }
    }

    /// Ends the current step successfully and begins the next. Steps of the same name add up.
    pub(crate) fn enter(&mut self, next: CheckPhase) {
        let now = self.limit.elapsed();
        let took = now.saturating_sub(self.since);
        if let Some(name) = self.step.measurement() {
            *self.measured.entry(name).or_default() += took.as_secs_f64();
        }
        tracing::debug!(done = ?self.step, ?took, ?next, "next step");
        (self.step, self.since) = (next, now);
    }

    pub(crate) fn set(&mut self, name: &'static str, value: f64) {
        self.measured.insert(name, value);
    }

    /// Returns the error for a timeout in the current step.
    pub(crate) fn out_of_time(&self) -> CheckError {
        let awaited = match self.step {
            CheckPhase::Start | CheckPhase::Resolve => "the resolver",
            CheckPhase::Connect => "the connection",
            CheckPhase::Tls => "the TLS handshake",
            CheckPhase::FirstByte => "the response headers",
            CheckPhase::Body | CheckPhase::Done => "the end of the body",
        };
        let message = format!(
            "no answer within {} (waiting for {awaited})",
            self.limit.show()
        );
        match self.step {
            CheckPhase::Start | CheckPhase::Resolve => CheckError::Host(Failure::timeout(message)),
            _ => CheckError::Platform(message),
        }
    }

    /// Adds everything measured to the report.
    pub(crate) fn measure(self, report: Report) -> Report {
        let measured = self.measured.into_iter();
        measured.fold(report, |report, (name, value)| report.measure(name, value))
    }
}

impl CheckPhase {
    fn measurement(self) -> Option<&'static str> {
        match self {
            Self::Resolve => Some("resolve_seconds"),
            Self::Connect => Some("connect_seconds"),
            Self::Tls => Some("tls_seconds"),
            Self::FirstByte => Some("first_byte_seconds"),
            Self::Start | Self::Body | Self::Done => None,
        }
    }
}
