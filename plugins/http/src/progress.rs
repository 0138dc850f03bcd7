//! The progress of a check: the current phase, the duration of each phase, and the findings.

use std::time::Duration;

use conductor_net::{CheckError, TimeLimit};
use conductor_plugin_api::{Failure, tracing};

pub(crate) struct CheckProgress<'a> {
    pub(crate) limit: TimeLimit<'a>,
    /// Duration of each phase that has ended, the sum over all requests.
    pub(crate) phases: PhaseTimes,
    pub(crate) findings: Findings,
    /// `true` during a request that is not to the platform; its phases and its certificate are left out.
    pub(crate) is_aside: bool,
    current: Option<CheckPhase>,
    since: Duration,
}

/// A phase of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CheckPhase {
    /// Resolving the host name.
    Resolve,
    /// Connecting to the server or the proxy, and through the proxy to the server.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Sending the request.
    Request,
    /// Waiting for the head of the response.
    FirstByte,
    /// Receiving the body.
    Transfer,
}

impl CheckPhase {
    pub(crate) const ALL: [Self; 6] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Request,
        Self::FirstByte,
        Self::Transfer,
    ];

    /// Returns the phase with this label.
    pub(crate) fn of(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.label() == label)
    }
}

/// Duration of each phase; `None` if there was no such phase.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PhaseTimes([Option<Duration>; 6]);

impl PhaseTimes {
    pub(crate) fn get(&self, phase: CheckPhase) -> Option<Duration> {
        self.0[phase as usize]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (CheckPhase, Duration)> {
        let known = |phase| Some((phase, self.get(phase)?));
        CheckPhase::ALL.into_iter().filter_map(known)
    }

    fn add(&mut self, phase: CheckPhase, took: Duration) {
        *self.0[phase as usize].get_or_insert_default() += took;
    }
}

/// Values found by a check, `None` while unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings {
    /// Status code of the last response.
    pub(crate) status: Option<u16>,
    /// HTTP version of the last response: 1.0, 1.1 or 2.
    pub(crate) version: Option<f64>,
    /// Size of the last body.
    pub(crate) bytes: Option<u32>,
    /// Unix time until which the last certificate presented is valid.
    pub(crate) expiry: Option<f64>,
    /// Redirects that were followed.
    pub(crate) redirects: u8,
}

impl<'a> CheckProgress<'a> {
    pub(crate) fn new(limit: TimeLimit<'a>) -> Self {
        Self {
            limit,
            phases: PhaseTimes::default(),
            findings: Findings::default(),
            is_aside: false,
            current: None,
            since: Duration::ZERO,
        }
    }

    /// Ends the current phase successfully and begins the next. Phases of the same name add up.
    pub(crate) fn enter(&mut self, next: CheckPhase) {
        self.change_to(Some(next));
    }

    /// Ends the current phase successfully.
    pub(crate) fn leave(&mut self) {
        self.change_to(None);
    }

    /// Begins [`CheckPhase::FirstByte`] in retrospect, `sent` after the current phase began.
    pub(crate) fn request_sent(&mut self, sent: Duration) {
        let now = self.limit.elapsed();
        let sent = sent.min(now.saturating_sub(self.since));
        self.add(CheckPhase::Request, sent);
        self.current = Some(CheckPhase::FirstByte);
        self.since += sent;
    }

    fn change_to(&mut self, next: Option<CheckPhase>) {
        let now = self.limit.elapsed();
        let took = now.saturating_sub(self.since);
        if let Some(phase) = self.current {
            self.add(phase, took);
            tracing::debug!(?phase, ?took, ?next, "phase ended");
        }
        (self.current, self.since) = (next, now);
    }

    fn add(&mut self, phase: CheckPhase, took: Duration) {
        if !self.is_aside {
            self.phases.add(phase, took);
        }
    }

    /// Records the expiry of a certificate.
    pub(crate) fn set_expiry(&mut self, expiry: f64) {
        if !self.is_aside {
            self.findings.expiry = Some(expiry);
        }
    }

    /// Returns the error for a timeout in the current phase.
    pub(crate) fn out_of_time(&self) -> CheckError {
        let awaited = match self.current {
            None | Some(CheckPhase::Resolve) => "the resolver",
            Some(CheckPhase::Connect) => "the connection",
            Some(CheckPhase::Tls) => "the TLS handshake",
            Some(CheckPhase::Request | CheckPhase::FirstByte) => "the response headers",
            Some(CheckPhase::Transfer) => "the end of the body",
        };
        let message = format!(
            "no answer within {} (waiting for {awaited})",
            self.limit.show()
        );
        match self.current {
            _ if self.is_aside => CheckError::Host(Failure::timeout(format!(
                "cannot get an OAuth 2.0 token: {message}"
            ))),
            None | Some(CheckPhase::Resolve) => CheckError::Host(Failure::timeout(message)),
            _ => CheckError::Platform(message),
        }
    }
}
