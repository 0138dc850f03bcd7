//! The `tls` probe: the certificate of a server or of a file, and the time until it expires.
//!
//! ```toml
//! [platform.shop-certificate]
//! plugin = "tls"
//! config = { address = "shop.example", degraded_before = "21d", unhealthy_before = "7d" }
//!
//! [platform.mail-certificate]
//! plugin = "tls"
//! config = { address = "mail.example", starttls = "smtp", names = ["mail.example", "imap.example"] }
//!
//! [platform.our-ca]
//! plugin = "tls"
//! config = { file = "/etc/ssl/our-ca.pem", degraded_before = "90d" }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | server, `HOST` or `HOST:PORT`; instead of `file` |
//! | `file` | | absolute path of a PEM file with certificates; instead of `address` |
//! | `starttls` | none | protocol in which TLS is started: `smtp`, `imap`, `pop3`, `ftp`, `ldap`, `postgres` or `xmpp` |
//! | `degraded_before` | `"14d"` | time before the end of a certificate from which the platform is degraded |
//! | `unhealthy_before` | `"3d"` | time before the end from which it is unhealthy |
//! | `names` | none | names and IP addresses for which the certificate must be valid, in addition to the host |
//! | `require_ocsp_staple` | `false` | the server must send an OCSP response along that is valid and says "good" |
//! | `tls` | | trust, client certificate and versions, as for `http` |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase; not for a file |
//!
//! The default port is 443, with `starttls` that of the protocol. The server is verified as by a client: its
//! certificate is trusted, valid for the host, and not expired. With `tls = { skip_verify = true }` only its dates and
//! `names` are.
//!
//! The dates of the certificates that issued the server's, if it sends them, are judged as its own; the first to expire
//! decides. Not judged are those without which the server is trusted too, such as one that leads to a former CA, and
//! roots (self-signed), which clients have themselves.
//!
//! An OCSP response that the server sends along (stapling) is read: a certificate that it calls revoked is *unhealthy*.
//! A response that is expired, for another certificate, not signed by the CA, or says that the CA does not know the
//! certificate is *degraded*, with `require_ocsp_staple` *unhealthy*. The signature is verified if the server sends the
//! certificate of the CA, and uses an algorithm that TLS has today, so not SHA-1.
//!
//! A `file` is read at each check. All its certificates are judged, and `names` apply to the first. In a worker the
//! plugin can read it only if the operator allows it: `allow = ["network", "read /etc/ssl/our-ca.pem"]` in
//! `[plugin.tls]`.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_tls_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `starttls` and `tls`; not for a file |
//! | `conductor_tls_certificate_expiry_timestamp_seconds` | | Unix time until which the certificate is valid; in the past for an expired one |
//! | `conductor_tls_certificate_start_timestamp_seconds` | | Unix time from which it is valid |
//! | `conductor_tls_chain_expiry_timestamp_seconds` | | Unix time at which the first of all judged certificates expires |
//! | `conductor_tls_chain_certificates` | | number of certificates that the server sent or that are in the file |
//! | `conductor_tls_protocol_version` | | 1.2 or 1.3; not for a file |
//! | `conductor_tls_ocsp_staple` | | 1 if the server sent an OCSP response along, else 0; not for a file |
//! | `conductor_tls_ocsp_status` | | status of the certificate in it: 0 good, 1 revoked, 2 unknown |
//! | `conductor_tls_ocsp_verified` | | 1 if its signature was verified, else 0 |
//! | `conductor_tls_ocsp_next_update_timestamp_seconds` | | Unix time until which it is valid |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, no response in time, STARTTLS
//! refused, a certificate that expires too soon, is revoked, untrusted or for another name, a file without certificates.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect; the file does not exist or cannot be read.
//!

mod certificate;
mod config;
mod file;
mod ocsp;
mod server;
#[cfg(test)]
mod tests;
mod verdict;

use conductor_net::{DurationRules, PhaseClock, TimeLimit};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};
use tokio_rustls::rustls::ProtocolVersion;

use crate::{
    config::TlsProbeConfig,
    file::CertificateFile,
    ocsp::{OcspFacts, OcspFault},
    server::TlsServer,
    verdict::CertificateRules,
};

export_plugin! {
    id: "tls",
    async_probe: TlsProbe,
    name: "TLS",
    needs: ["network"],
    metrics: [
        PHASE, EXPIRY, START, CHAIN_EXPIRY, CHAIN_CERTIFICATES, PROTOCOL_VERSION, OCSP_STAPLE, OCSP_STATUS,
        OCSP_VERIFIED, OCSP_NEXT_UPDATE,
    ],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the connection.")
    .unit("seconds")
    .labels(["phase"]);
const EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the certificate is valid.",
)
.unit("seconds");
const START: Metric = Metric::gauge(
    "certificate_start_timestamp",
    "Unix time from which the certificate is valid.",
)
.unit("seconds");
const CHAIN_EXPIRY: Metric = Metric::gauge(
    "chain_expiry_timestamp",
    "Unix time at which the first certificate of the chain expires.",
)
.unit("seconds");
const CHAIN_CERTIFICATES: Metric =
    Metric::gauge("chain_certificates", "Number of certificates in the chain.");
const PROTOCOL_VERSION: Metric = Metric::gauge("protocol_version", "Version of TLS, 1.2 or 1.3.");
const OCSP_STAPLE: Metric = Metric::gauge(
    "ocsp_staple",
    "1 if the server sent an OCSP response along, else 0.",
);
const OCSP_STATUS: Metric = Metric::gauge(
    "ocsp_status",
    "Status of the certificate in the OCSP response: 0 good, 1 revoked, 2 unknown.",
);
const OCSP_VERIFIED: Metric = Metric::gauge(
    "ocsp_verified",
    "1 if the signature of the OCSP response was verified, 0 if the certificate of its CA is missing.",
);
const OCSP_NEXT_UPDATE: Metric = Metric::gauge(
    "ocsp_next_update_timestamp",
    "Unix time until which the OCSP response is valid.",
)
.unit("seconds");

struct TlsProbe {
    target: TlsTarget,
    rules: CertificateRules,
    durations: DurationRules,
}

/// The source of the certificates.
enum TlsTarget {
    Server(Box<TlsServer>),
    File(CertificateFile),
}

/// The certificates of a check, with everything else found.
#[derive(Default)]
struct Presented {
    /// DER; the server's own certificate first.
    chain: Vec<Vec<u8>>,
    /// Those that are judged: clients of the server need them.
    needed: Vec<Vec<u8>>,
    version: Option<ProtocolVersion>,
    has_ocsp_staple: Option<bool>,
    ocsp: Option<Result<OcspFacts, OcspFault>>,
}

impl AsyncProbe for TlsProbe {
    type Config = TlsProbeConfig;

    fn create(config: TlsProbeConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let (presented, outcome) = match &mut self.target {
            TlsTarget::Server(server) => server.visit(&mut clock).await,
            TlsTarget::File(file) => file.read().await,
        };
        let report = match outcome.and_then(|()| self.rules.judge(&presented)) {
            Ok(found) => {
                let took = clock.limit.elapsed();
                let rules = &self.durations;
                let (status, message) = rules.apply(took, |phase| clock.took(phase), found);
                Report::new(status, message)
            }
            Err(error) => error.into_report()?,
        };
        Ok(clock.record(presented.measure(report), &PHASE))
    }
}

impl Presented {
    fn measure(&self, report: Report) -> Report {
        let mut report = certificate::measure(&self.needed, self.chain.len(), report);
        let version = match self.version {
            Some(ProtocolVersion::TLSv1_2) => Some(1.2),
            Some(ProtocolVersion::TLSv1_3) => Some(1.3),
            _ => None,
        };
        if let Some(version) = version {
            report = report.set(&PROTOCOL_VERSION, [], version);
        }
        if let Some(Ok(facts)) = &self.ocsp {
            report = facts.measure(report);
        }
        match self.has_ocsp_staple {
            Some(is_stapled) => report.set(&OCSP_STAPLE, [], f64::from(u8::from(is_stapled))),
            None => report,
        }
    }
}
