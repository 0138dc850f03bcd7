//! The `tcp` probe: checks that a port or a Unix socket accepts connections and, if asked, speaks TLS and responds as
//! expected.
//!
//! ```toml
//! [platform.cache]
//! plugin = "tcp"
//! config = { address = "cache.example:6379", send = "PING\r\n", expect = "+PONG" }
//!
//! [platform.mail]
//! plugin = "tcp"
//! config = { address = "mail.example:25", starttls = "smtp", script = [
//!     { send = "EHLO monitor.example\r\n" },
//!     { expect = "^250 ", send = "QUIT\r\n" },
//!     { expect = "^221 " },
//! ] }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | `host:port`; an IPv6 address in brackets, `[::1]:22`; a Unix socket as `unix:/PATH` |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `starttls` | none | protocol in which TLS is started: `smtp`, `imap`, `pop3`, `ftp`, `ldap`, `postgres` or `xmpp` |
//! | `send` | nothing | text to send once connected |
//! | `expect` | nothing | text that must occur in the first 64 KiB of the response |
//! | `script` | none | steps, instead of `send` and `expect`: each waits for its regular expression `expect`, then sends its `send` |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! Without `expect`, connecting (and sending `send`) is enough. The addresses of a name are tried in parallel, each a
//! quarter of a second after the previous one (RFC 8305); the first that accepts is the one checked. A link-local
//! address takes its zone, `[fe80::1%eth0]:22`.
//!
//! In a `script`, `^` and `$` match at line ends, and each step searches what follows the match of the one before.
//!
//! The plugin may use the Unix sockets of this machine; `allow = ["network"]` in `[plugin.tcp]` takes that away.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_tcp_phase_seconds` | `phase` | `resolve`: name resolution, absent for an IP address; `connect`: from the first attempt to the connection; `starttls`; `tls`: the handshake; `first_byte`: from there, including the sending, to the first byte of the response; `response`: from there to the end of the conversation |
//! | `conductor_tcp_duration_seconds` | | the whole check |
//! | `conductor_tcp_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused or reset, host unreachable, no
//! response in time, a wrong, late or truncated response, STARTTLS refused, a certificate that is expired, untrusted or for
//! another name. The message names the fault, and the step it was waiting for.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no free file
//! descriptor or port, or may not connect. A name server that reports an internal error cannot be distinguished from
//! one that is unreachable, and counts as a failure.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod conversation;
mod plan;
#[cfg(test)]
mod tests;

use conductor_net::{ByteStream, CheckError, NameResolver, PhaseClock, TimeLimit, show_duration};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, Status, export_plugin};

use crate::{config::TcpConfig, plan::TcpPlan};

export_plugin! {
    id: "tcp",
    async_probe: TcpProbe,
    name: "TCP",
    needs: ["network", "unix-sockets"],
    metrics: [PHASE, DURATION, CERTIFICATE_EXPIRY],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the connection.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");

struct TcpProbe {
    plan: TcpPlan,
    resolver: NameResolver,
}

impl AsyncProbe for TcpProbe {
    type Config = TcpConfig;

    fn create(config: TcpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self {
            plan: config.try_into()?,
            resolver: NameResolver::default(),
        })
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut expiry = None;
        let outcome = self.talk(&mut clock, &mut expiry).await;
        let took = clock.limit.elapsed();
        let report = match outcome {
            Ok(what) => {
                let found = format!("{what} in {}", show_duration(took));
                let found = (Status::Healthy, found);
                let rules = &self.plan.durations;
                let (status, message) = rules.apply(took, |phase| clock.took(phase), found);
                Report::new(status, message)
            }
            Err(error) => error.into_report()?,
        };
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match expiry {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl TcpProbe {
    async fn talk(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<&'static str, CheckError> {
        let TcpPlan {
            address,
            tls,
            steps,
            ..
        } = &self.plan;
        let stream = connect(&self.plan, &mut self.resolver, clock).await?;
        let Some(tls) = tls else {
            return conversation::hold(stream, steps, clock).await;
        };
        let mut handshake = tls.connect(stream, address.host(), &clock.limit).await;
        if handshake.is_refused {
            let again = connect(&self.plan, &mut self.resolver, clock).await;
            handshake = tls
                .offer_outdated(handshake, again, address.host(), &clock.limit)
                .await;
        }
        *expiry = handshake.presented.and_then(|chain| chain.expiry());
        let stream = handshake.outcome?;
        clock.end();
        conversation::hold(stream, steps, clock).await
    }
}

/// Connects, up to where TLS begins if there is any: the phases `resolve`, `connect` and `starttls`.
async fn connect(
    plan: &TcpPlan,
    resolver: &mut NameResolver,
    clock: &mut PhaseClock<'_>,
) -> Result<Box<dyn ByteStream>, CheckError> {
    let mut stream = plan.address.connect(resolver, clock).await?;
    if let Some(protocol) = plan.starttls {
        clock.enter("starttls");
        let started = protocol.start(&mut stream, plan.address.host(), &clock.limit);
        started.await?;
    }
    if plan.tls.is_some() {
        clock.enter("tls");
    }
    Ok(stream)
}
