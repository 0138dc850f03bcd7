//! Keys of a TLS platform's `config` table.

use std::{path::PathBuf, time::Duration as StdDuration};

use conductor_net::{
    DurationLimits, DurationRules, NameResolver, ServerAddress, StartTls, TOTAL, TimedPhases,
    TlsClient, TlsConfig,
};
use conductor_plugin_api::{Failure, config::Duration, schemars};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::{
    TlsProbe, TlsTarget, file::CertificateFile, server::TlsServer, verdict::CertificateRules,
};

/// Checks the certificate of a server or of a file, and the time until it expires.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsProbeConfig {
    /// Server, `HOST` or `HOST:PORT`; instead of `file`. The default port is 443, with `starttls` that of the protocol.
    #[schemars(length(min = 1), example = &"shop.example", example = &"[2001:db8::1]:8443")]
    address: Option<String>,

    /// Absolute path of a PEM file with certificates; instead of `address`. The plugin reads it only where
    /// `[plugin.tls] allow` lists `read PATH`.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/.")))]
    #[schemars(example = &"/etc/ssl/our-ca.pem")]
    file: Option<PathBuf>,

    /// Protocol in which TLS is started after connecting.
    starttls: Option<StartTls>,

    /// Time before the end of a certificate from which the platform is degraded.
    #[serde(default = "default_degraded_before")]
    #[schemars(extend("default" = "14d"))]
    degraded_before: Duration,

    /// Time before the end of a certificate from which the platform is unhealthy.
    #[serde(default = "default_unhealthy_before")]
    #[schemars(extend("default" = "3d"))]
    unhealthy_before: Duration,

    /// Names and IP addresses for which the certificate must be valid, in addition to the host.
    #[serde(default)]
    #[schemars(extend("examples" = [["shop.example", "www.shop.example"]]))]
    names: Vec<String>,

    /// The server must send an OCSP response along (stapling) that is valid and says "good".
    #[serde(default)]
    require_ocsp_staple: bool,

    /// Trust, client certificate and versions.
    tls: Option<TlsConfig>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<TlsPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "tls": "500ms"}]))]
    unhealthy_after: Option<DurationLimits<TlsPhases>>,
}

/// The phases of a connection.
struct TlsPhases;

impl TimedPhases for TlsPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("starttls", "Until TLS can start in the protocol."),
        ("tls", "The TLS handshake."),
    ];
}

impl TlsProbeConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<TlsProbe, Failure> {
        let mut faults = Vec::new();
        let names = self.names(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        let (degraded_before, unhealthy_before) =
            (self.degraded_before.get(), self.unhealthy_before.get());
        if degraded_before < unhealthy_before {
            faults.push(format!(
                "key `degraded_before`: {} is shorter than `unhealthy_before`, {}; make it longer",
                self.degraded_before, self.unhealthy_before
            ));
        }
        let target = match (&self.address, &self.file) {
            (Some(address), None) => self.server(address, &mut faults),
            (None, Some(file)) => self.file(file, &mut faults),
            (Some(_), Some(_)) => {
                faults.push(
                    "key `file`: the probe checks an address or a file; remove one of the two"
                        .to_owned(),
                );
                None
            }
            (None, None) => {
                faults.push(
                    "key `address`: neither an address nor a `file` is named; add one of the two"
                        .to_owned(),
                );
                None
            }
        };
        match target {
            Some(target) if faults.is_empty() => Ok(TlsProbe {
                target,
                rules: CertificateRules {
                    degraded_before,
                    unhealthy_before,
                    names,
                    require_ocsp_staple: self.require_ocsp_staple,
                },
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn server(&self, text: &str, faults: &mut Vec<String>) -> Option<TlsTarget> {
        let port = self.starttls.map_or(443, StartTls::port);
        let address = ServerAddress::parse(text, Some(port))
            .map_err(|rule| faults.push(format!("key `address`: {text:?} {rule}")))
            .ok()?;
        let tls = self.tls.clone().unwrap_or_default();
        if tls.server_name.is_none() && !TlsClient::is_certifiable(&address.host) {
            faults.push(format!(
                "key `address`: no certificate can be issued for {:?}; set `tls = {{ server_name = \"…\" }}`",
                address.host
            ));
        }
        let client = tls
            .client("tls")
            .map_err(|found| faults.extend(found))
            .ok()?;
        if let Err(fault) = client.validate() {
            faults.push(fault.message().to_owned());
        }
        Some(TlsTarget::Server(Box::new(TlsServer {
            address,
            starttls: self.starttls,
            tls: client,
            resolver: NameResolver::default(),
        })))
    }

    fn file(&self, path: &PathBuf, faults: &mut Vec<String>) -> Option<TlsTarget> {
        for (key, is_set) in [
            ("starttls", self.starttls.is_some()),
            ("require_ocsp_staple", self.require_ocsp_staple),
            ("tls", self.tls.is_some()),
            ("degraded_after", self.degraded_after.is_some()),
            ("unhealthy_after", self.unhealthy_after.is_some()),
        ] {
            if is_set {
                faults.push(format!(
                    "key `{key}`: it applies to an `address`, not to a `file`; remove it"
                ));
            }
        }
        if !path.is_absolute() {
            faults.push(format!(
                "key `file`: {path:?} is not absolute; write the path from the root, such as \"/etc/ssl/our-ca.pem\""
            ));
            return None;
        }
        Some(TlsTarget::File(CertificateFile { path: path.clone() }))
    }

    fn names(&self, faults: &mut Vec<String>) -> Vec<ServerName<'static>> {
        let mut names = Vec::new();
        for (index, text) in self.names.iter().enumerate() {
            match ServerName::try_from(text.clone()) {
                Ok(name) => names.push(name),
                Err(_) => faults.push(format!(
                    "key `names[{index}]`: no certificate can be issued for {text:?}; use letters, digits, `-`, `_` and dots"
                )),
            }
        }
        names
    }
}

fn default_degraded_before() -> Duration {
    StdDuration::from_secs(14 * DAY).into()
}

fn default_unhealthy_before() -> Duration {
    StdDuration::from_secs(3 * DAY).into()
}

/// In seconds.
const DAY: u64 = 24 * 60 * 60;
