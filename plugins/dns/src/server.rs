//! One name server of a platform.

use std::time::Duration;

use conductor_net::{
    CheckError, NameResolver, PhaseClock, ServerAddress, TimeLimit, TlsClient, race,
};
use conductor_plugin_api::Report;
use hickory_proto::op::Message;

use crate::{
    ANSWERS, CERTIFICATE_EXPIRY, PHASE, RCODE, SERIAL, TTL, answer::DnsAnswer,
    expectation::DnsExpectation, query::DnsQuery,
};

/// A name server, and how it is queried.
pub(crate) struct NameServer {
    /// As it is written in the config: the label of its metrics.
    pub(crate) name: String,
    pub(crate) address: ServerAddress,
    pub(crate) transport: DnsTransport,
    pub(crate) resolver: NameResolver,
}

/// The protocol of a query.
#[derive(Clone)]
pub(crate) enum DnsTransport {
    Udp,
    Tcp,
    Tls(TlsClient),
}

/// The end of a query to one server, with everything measured.
pub(crate) struct ServerOutcome {
    pub(crate) server: String,
    pub(crate) result: Result<DnsAnswer, CheckError>,
    pub(crate) took: Duration,
    phases: Vec<(&'static str, Duration)>,
    certificate_expiry: Option<f64>,
}

impl NameServer {
    /// Queries the server within the time that `remaining` returns.
    pub(crate) async fn ask(
        &mut self,
        expected: &DnsExpectation,
        remaining: &(dyn Fn() -> Duration + Sync),
    ) -> ServerOutcome {
        let mut clock = PhaseClock::new(TimeLimit::of(remaining));
        let mut certificate_expiry = None;
        let response = self
            .query(expected, &mut clock, &mut certificate_expiry)
            .await;
        ServerOutcome {
            server: self.name.clone(),
            result: response.map(|message| DnsAnswer::of(&message, &expected.question)),
            took: clock.limit.elapsed(),
            phases: clock.phases().collect(),
            certificate_expiry,
        }
    }

    async fn query(
        &mut self,
        expected: &DnsExpectation,
        clock: &mut PhaseClock<'_>,
        certificate_expiry: &mut Option<f64>,
    ) -> Result<Message, CheckError> {
        let query = DnsQuery::new(expected.question.clone(), expected.recursion)?;
        match &self.transport {
            DnsTransport::Udp => self.over_udp(&query, clock).await,
            DnsTransport::Tcp => self.over_tcp(&query, clock).await,
            DnsTransport::Tls(tls) => {
                let stream = self.address.connect(&mut self.resolver, clock).await?;
                clock.enter("tls");
                let host = &self.address.host;
                let mut handshake = tls.connect(stream, host, &clock.limit).await;
                if handshake.is_refused {
                    let again = self.address.connect(&mut self.resolver, clock).await;
                    handshake = tls
                        .offer_outdated(handshake, again, host, &clock.limit)
                        .await;
                }
                *certificate_expiry = handshake.presented.and_then(|chain| chain.expiry());
                let stream = handshake.outcome?;
                clock.enter("response");
                let message = query.over_stream(stream, &clock.limit).await?;
                clock.end();
                Ok(message)
            }
        }
    }

    async fn over_udp(
        &mut self,
        query: &DnsQuery,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Message, CheckError> {
        let addresses = self.address.resolve(&mut self.resolver, clock).await?;
        clock.enter("response");
        let ask = |address| query.clone().over_udp(address);
        let message = race(&addresses, &clock.limit, "respond", ask).await?;
        clock.end();
        if !message.metadata.truncation {
            return Ok(message);
        }
        let again = self.over_tcp(query, clock).await;
        again.map_err(|error| match error {
            CheckError::Platform(fault) => CheckError::Platform(format!(
                "the response over UDP is truncated, and over TCP: {fault}"
            )),
            ours => ours,
        })
    }

    async fn over_tcp(
        &mut self,
        query: &DnsQuery,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Message, CheckError> {
        let stream = self.address.connect(&mut self.resolver, clock).await?;
        clock.enter("response");
        let message = query.over_stream(stream, &clock.limit).await?;
        clock.end();
        Ok(message)
    }
}

impl ServerOutcome {
    /// Returns the duration of a phase; `None` if it did not end.
    pub(crate) fn phase(&self, phase: &str) -> Option<Duration> {
        let mut phases = self.phases.iter();
        phases.find_map(|(name, took)| (*name == phase).then_some(*took))
    }

    /// Adds everything measured to the report.
    pub(crate) fn record(&self, report: Report) -> Report {
        let server = self.server.as_str();
        let mut report = self.phases.iter().fold(report, |report, (phase, took)| {
            report.set(&PHASE, [server, phase], took.as_secs_f64())
        });
        if let Some(expiry) = self.certificate_expiry {
            report = report.set(&CERTIFICATE_EXPIRY, [server], expiry);
        }
        let Ok(answer) = &self.result else {
            return report;
        };
        #[expect(clippy::cast_precision_loss, reason = "a message has at most 64 KiB")]
        let count = answer.records.len() as f64;
        report = report
            .set(&RCODE, [server], u16::from(answer.code).into())
            .set(&ANSWERS, [server], count);
        if let Some(ttl) = answer.ttl {
            report = report.set(&TTL, [server], ttl.into());
        }
        match answer.serial {
            Some(serial) => report.set(&SERIAL, [server], serial.into()),
            None => report,
        }
    }
}
