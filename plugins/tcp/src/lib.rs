//! The `tcp` probe: checks that a port accepts connections and, if asked, responds as expected.
//!
//! ```toml
//! [platform.cache]
//! plugin = "tcp"
//! config = { address = "cache.example:6379", send = "PING\r\n", expect = "+PONG" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | `host:port`; an IPv6 address in brackets, `[::1]:22` |
//! | `send` | nothing | text to send once connected |
//! | `expect` | nothing | text that must occur in the first 64 KiB of the response |
//!
//! Without `expect`, connecting (and sending `send`) is enough. The addresses of a name are tried in parallel, each a
//! quarter of a second after the previous one (RFC 8305); the first that accepts is the one checked. A link-local
//! address takes its zone, `[fe80::1%eth0]:22`.
//!
//! | measurement | meaning |
//! |---|---|
//! | `resolve_seconds` | name resolution; absent if `address` is an IP address |
//! | `connect_seconds` | from the first attempt to the connection |
//! | `first_byte_seconds` | from there, including the sending, to the first byte of the response; only with `expect` |
//! | `total_seconds` | the whole check |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused or reset, host unreachable, no
//! response in time, a wrong or truncated response. The message names the fault, and the step it was waiting for.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no free file
//! descriptor or port, or may not connect. A name server that reports an internal error cannot be distinguished from
//! one that is unreachable, and counts as a failure.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod conversation;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use conductor_net::{CheckError, NameResolver, TimeLimit, connect, ip_address, show_duration};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, export_plugin};
use tokio::time::timeout;

use crate::config::{TcpAddress, TcpConfig};

export_plugin! { id: "tcp", async_probe: TcpProbe, name: "TCP", needs: ["network"] }

struct TcpProbe {
    config: TcpConfig,
    address: TcpAddress,
    resolver: NameResolver,
}

/// Measurements so far, also of a check that ended badly.
type Measured = Vec<(&'static str, f64)>;

impl AsyncProbe for TcpProbe {
    type Config = TcpConfig;

    fn create(config: TcpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self {
            address: config.validate()?,
            config,
            resolver: NameResolver::default(),
        })
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let limit = TimeLimit::of(&remaining);
        let mut measured = Measured::new();
        let report = match self.talk(&limit, &mut measured).await {
            Ok(what) => Report::healthy(format!("{what} in {}", show_duration(limit.elapsed()))),
            Err(CheckError::Platform(message)) => Report::unhealthy(message),
            Err(CheckError::Host(failure)) => return Err(failure),
        };
        measured.push(("total_seconds", limit.elapsed().as_secs_f64()));
        Ok(measured
            .into_iter()
            .fold(report, |report, (name, value)| report.measure(name, value)))
    }
}

impl TcpProbe {
    async fn talk(
        &mut self,
        limit: &TimeLimit<'_>,
        measured: &mut Measured,
    ) -> Result<&'static str, CheckError> {
        let addresses = self.addresses(limit, measured).await?;
        let begun = limit.elapsed();
        let stream = connect(&addresses, limit).await?;
        measured.push(("connect_seconds", (limit.elapsed() - begun).as_secs_f64()));
        conversation::hold(stream, &self.config, limit, measured).await
    }

    async fn addresses(
        &mut self,
        limit: &TimeLimit<'_>,
        measured: &mut Measured,
    ) -> Result<Vec<SocketAddr>, CheckError> {
        let TcpAddress { host, port } = &self.address;
        if let Some(address) = ip_address(host, *port) {
            return Ok(vec![address]);
        }
        let begun = limit.elapsed();
        let lookup = self.resolver.resolve(host, *port);
        let Ok(found) = timeout(limit.left(), lookup).await else {
            return Err(CheckError::Host(Failure::timeout(format!(
                "no answer within {} (waiting for the resolver to look up {host})",
                limit.show()
            ))));
        };
        measured.push(("resolve_seconds", (limit.elapsed() - begun).as_secs_f64()));
        found
    }
}
