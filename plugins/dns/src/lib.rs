//! The `dns` probe: checks that name servers respond to a query as expected, and agree.
//!
//! ```toml
//! [platform.shop-dns]
//! plugin = "dns"
//! config = { servers = ["192.0.2.53"], name = "shop.example", answers = ["^198\\.51\\.100\\."] }
//!
//! [platform.zone]
//! plugin = "dns"
//! config = { servers = ["ns1.example", "ns2.example"], name = "example", type = "SOA", authoritative = true }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `servers` | | name servers, each `HOST` or `HOST:PORT`; every one must respond as expected |
//! | `name` | | name to query; an IP address with `type = "PTR"` |
//! | `type` | `"A"` | type of the records |
//! | `protocol` | `"udp"` | `udp`, `tcp` or `tls` |
//! | `rcode` | `"NOERROR"` | expected response code |
//! | `answers` | none | regular expressions, each of which must match a record |
//! | `min_answers` | 1 with `NOERROR`, else 0 | fewest records |
//! | `max_answers` | no limit | most records |
//! | `authoritative` | `false` | the servers must respond with authority for the name |
//! | `recursion` | `true` | ask the servers to resolve the name if it is not theirs |
//! | `tls` | | with `protocol = "tls"`: trust, client certificate and versions, as for `http` |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, of the whole query to a server or by phase |
//!
//! The default port is 53, with `tls` 853. Records are those of the queried type; those of aliases on the way (CNAME)
//! do not count. `answers` are matched against the text of a record as `dig +short` prints it: `10 mail.example.`;
//! a TXT record is its text, without quotes and in one piece.
//!
//! With `type = "SOA"` and several servers, the serial numbers of the zone must be equal.
//!
//! A query over UDP is repeated every second until the server responds; a truncated response is requested again over
//! TCP. The addresses of a server's name are queried in parallel, each a quarter of a second after the previous one
//! (RFC 8305). With `tls` the certificate must be valid for the host as it is written in `servers`.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_dns_phase_seconds` | `server`, `phase` | duration of `resolve` (absent for an IP address), `connect` and `tls` (where there are any) and `response` |
//! | `conductor_dns_rcode` | `server` | response code: 0 NOERROR, 2 SERVFAIL, 3 NXDOMAIN, … |
//! | `conductor_dns_answers` | `server` | number of records |
//! | `conductor_dns_ttl_seconds` | `server` | lowest time to live of the records |
//! | `conductor_dns_soa_serial` | `server` | serial number of the zone; with `type = "SOA"` |
//! | `conductor_dns_certificate_expiry_timestamp_seconds` | `server` | Unix time until which the server's certificate is valid; with `tls` |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that a server is at fault: no such host, no response in time, connection refused or reset, a
//! response that is not a DNS message, another response code, wrong, missing or late records, a certificate that is expired,
//! untrusted or for another name, serial numbers that differ. With several servers the message names each that is.
//!
//! A *failure* is a check that could not tell: the resolver of this machine did not respond, this machine has no
//! network, no free file descriptor or port, or may not connect.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod answer;
mod config;
mod expectation;
mod query;
mod response_code;
mod server;
#[cfg(test)]
mod tests;

use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};
use futures_util::future::join_all;

use crate::{config::DnsConfig, expectation::DnsExpectation, server::NameServer};

export_plugin! {
    id: "dns",
    async_probe: DnsProbe,
    name: "DNS",
    needs: ["network"],
    metrics: [PHASE, RCODE, ANSWERS, TTL, SERIAL, CERTIFICATE_EXPIRY],
}

const PHASE: Metric<2> = Metric::gauge("phase", "Duration of each phase of the query.")
    .unit("seconds")
    .labels(["server", "phase"]);
const RCODE: Metric<1> =
    Metric::gauge("rcode", "Response code of the server, 0 for NOERROR.").labels(["server"]);
const ANSWERS: Metric<1> =
    Metric::gauge("answers", "Number of records of the queried type.").labels(["server"]);
const TTL: Metric<1> = Metric::gauge("ttl", "Lowest time to live of the records.")
    .unit("seconds")
    .labels(["server"]);
const SERIAL: Metric<1> =
    Metric::gauge("soa_serial", "Serial number of the zone.").labels(["server"]);
const CERTIFICATE_EXPIRY: Metric<1> = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds")
.labels(["server"]);

struct DnsProbe {
    servers: Vec<NameServer>,
    expected: DnsExpectation,
}

impl AsyncProbe for DnsProbe {
    type Config = DnsConfig;

    fn create(config: DnsConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let Self { servers, expected } = self;
        let asked = servers
            .iter_mut()
            .map(|server| server.ask(expected, &remaining));
        let outcomes = join_all(asked).await;
        let report = match expected.judge(&outcomes) {
            Ok((status, message)) => Report::new(status, message),
            Err(error) => error.into_report()?,
        };
        Ok(outcomes
            .iter()
            .fold(report, |report, outcome| outcome.record(report)))
    }
}
