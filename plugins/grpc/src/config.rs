//! Keys of a gRPC platform's `config` table.

use std::collections::BTreeMap;

use conductor_net::{
    DurationLimits, DurationRules, NameResolver, ServerAddress, TOTAL, TimedPhases, TlsClient,
    TlsConfig,
};
use conductor_plugin_api::{Failure, schemars};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::GrpcProbe;

/// Asks a gRPC server for the health of a service.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcConfig {
    /// Host and port, `HOST:PORT`; an IPv6 address in brackets.
    #[schemars(length(min = 3), example = &"orders.example:50051")]
    address: String,

    /// Full name of the service; the whole server if it is left out.
    #[serde(default)]
    #[schemars(example = &"shop.Orders")]
    service: String,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    tls: Option<TlsConfig>,

    /// Metadata to send with the request.
    #[serde(default)]
    metadata: BTreeMap<String, String>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<GrpcPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "response": "500ms"}]))]
    unhealthy_after: Option<DurationLimits<GrpcPhases>>,
}

/// The phases of a request.
struct GrpcPhases;

impl TimedPhases for GrpcPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("tls", "The TLS handshake."),
        ("response", "From the request to the end of the response."),
    ];
}

impl GrpcConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<GrpcProbe, Failure> {
        let mut faults = Vec::new();
        let address = ServerAddress::parse(&self.address, None)
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)))
            .ok();
        if self.service.len() > MAX_SERVICE {
            faults.push(format!(
                "key `service`: the name has {} bytes, expected at most {MAX_SERVICE}; shorten it",
                self.service.len()
            ));
        }
        let tls = self.tls_client(address.as_ref(), &mut faults);
        let metadata = self.headers(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        match address {
            Some(address) if faults.is_empty() => Ok(GrpcProbe {
                address,
                service: self.service,
                tls,
                metadata,
                durations,
                resolver: NameResolver::default(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn tls_client(
        &self,
        address: Option<&ServerAddress>,
        faults: &mut Vec<String>,
    ) -> Option<TlsClient> {
        let tls = self.tls.as_ref()?;
        if let Some(address) = address
            && tls.server_name.is_none()
            && !TlsClient::is_certifiable(&address.host)
        {
            faults.push(format!(
                "key `address`: no certificate can be issued for {:?}; set `tls = {{ server_name = \"…\" }}`",
                address.host
            ));
        }
        let client = tls
            .client("grpc")
            .map_err(|found| faults.extend(found))
            .ok()?;
        if let Err(fault) = client.validate() {
            faults.push(fault.message().to_owned());
        }
        Some(client.offering(&["h2"]))
    }

    /// Reports metadata that cannot be sent, but not their values, which may be secrets.
    fn headers(&self, faults: &mut Vec<String>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (text, value) in &self.metadata {
            let mut refuse = |rule: &str| faults.push(format!("key `metadata.{text}`: {rule}"));
            let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
                refuse("not a key of metadata; use lowercase letters, digits, `-`, `_` and `.`");
                continue;
            };
            if RESERVED.contains(&name) || name.as_str().starts_with("grpc-") {
                refuse("the probe sets this itself; remove it");
            }
            let Ok(mut value) = HeaderValue::from_str(value) else {
                refuse("the value has control characters; write it on one line");
                continue;
            };
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        headers
    }
}

/// Longest name of a service, in bytes.
const MAX_SERVICE: usize = 1024;

const RESERVED: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
];
