//! Keys of a DNS platform's `config` table.

use std::net::IpAddr;

use conductor_net::{
    DurationLimits, DurationRules, NameResolver, ServerAddress, TOTAL, TimedPhases, TlsClient,
    TlsConfig,
};
use conductor_plugin_api::{Failure, schemars};
use hickory_proto::{
    op::Query,
    rr::{Name, RecordType},
};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{
    DnsProbe,
    expectation::DnsExpectation,
    response_code::ExpectedCode,
    server::{DnsTransport, NameServer},
};

/// Checks that name servers respond to a query as expected, and agree.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DnsConfig {
    /// Name servers, each `HOST` or `HOST:PORT`; every one must respond as expected. The default port is 53, with
    /// `protocol = "tls"` 853.
    #[schemars(length(min = 1, max = 16), extend("examples" = [["192.0.2.53"], ["ns1.example", "[2001:db8::53]:5353"]]))]
    servers: Vec<String>,

    /// Name to query; an IP address with `type = "PTR"`.
    #[schemars(length(min = 1), example = &"shop.example")]
    name: String,

    /// Type of the records.
    #[serde(default, rename = "type")]
    record_type: QueriedType,

    /// Protocol of the queries. A truncated response over UDP is requested again over TCP.
    #[serde(default)]
    protocol: QueryProtocol,

    /// Expected response code.
    #[serde(default)]
    rcode: ExpectedCode,

    /// Regular expressions, each of which must match a record as `dig +short` prints it.
    #[serde(default)]
    #[schemars(inner(length(min = 1)), extend("examples" = [["^198\\.51\\.100\\."]]))]
    answers: Vec<String>,

    /// Fewest records of the type. The default is 1 with `rcode = "NOERROR"`, otherwise 0.
    min_answers: Option<u16>,

    /// Most records of the type.
    max_answers: Option<u16>,

    /// The servers must respond with authority for the name.
    #[serde(default)]
    authoritative: bool,

    /// Ask the servers to resolve the name if it is not theirs.
    #[serde(default = "default_recursion")]
    recursion: bool,

    /// Trust, client certificate and versions, with `protocol = "tls"`.
    tls: Option<TlsConfig>,

    /// Duration after which the platform is degraded: of the whole query to a server, or by phase.
    #[schemars(example = &"100ms")]
    degraded_after: Option<DurationLimits<DnsPhases>>,

    /// Duration after which the platform is unhealthy: of the whole query to a server, or by phase.
    #[schemars(extend("examples" = [{"total": "1s", "response": "500ms"}]))]
    unhealthy_after: Option<DurationLimits<DnsPhases>>,
}

/// The phases of a query.
struct DnsPhases;

impl TimedPhases for DnsPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole query to a server."),
        ("resolve", "Resolution of the server's name."),
        ("connect", "The TCP connection."),
        ("tls", "The TLS handshake."),
        ("response", "From the query to the response."),
    ];
}

/// Protocol of a query.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
enum QueryProtocol {
    #[default]
    Udp,
    Tcp,
    Tls,
}

/// Type of the queried records.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
enum QueriedType {
    #[default]
    A,
    Aaaa,
    Any,
    Caa,
    Cname,
    Dnskey,
    Ds,
    Https,
    Mx,
    Naptr,
    Ns,
    Ptr,
    Soa,
    Srv,
    Sshfp,
    Svcb,
    Tlsa,
    Txt,
}

impl DnsConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<DnsProbe, Failure> {
        let mut faults = Vec::new();
        let transport = self.transport(&mut faults);
        let servers = self.servers(&transport, &mut faults);
        let name = self.queried_name().map_err(|fault| faults.push(fault)).ok();
        let answers = self.patterns(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        let min_answers = self.min_answers.map_or_else(
            || usize::from(self.rcode == ExpectedCode::NoError),
            usize::from,
        );
        let max_answers = self.max_answers.map_or(usize::MAX, usize::from);
        if min_answers > max_answers {
            faults.push(format!(
                "key `max_answers`: {max_answers} is below `min_answers`, {min_answers}; raise it, or lower `min_answers`"
            ));
        }
        match name {
            Some(name) if faults.is_empty() => Ok(DnsProbe {
                servers,
                expected: DnsExpectation {
                    question: Query::query(name, self.record_type.into()),
                    recursion: self.recursion,
                    rcode: self.rcode,
                    answers,
                    min_answers,
                    max_answers,
                    authoritative: self.authoritative,
                    durations,
                },
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn transport(&self, faults: &mut Vec<String>) -> DnsTransport {
        if self.tls.is_some() && self.protocol != QueryProtocol::Tls {
            faults.push(
                "key `tls`: the protocol has no TLS; set `protocol = \"tls\"`, or remove the key"
                    .to_owned(),
            );
        }
        match self.protocol {
            QueryProtocol::Udp => DnsTransport::Udp,
            QueryProtocol::Tcp => DnsTransport::Tcp,
            QueryProtocol::Tls => match self.tls.clone().unwrap_or_default().client("dns") {
                Ok(client) => {
                    if let Err(fault) = client.validate() {
                        faults.push(fault.message().to_owned());
                    }
                    DnsTransport::Tls(client.offering(&["dot"]))
                }
                Err(found) => {
                    faults.extend(found);
                    DnsTransport::Tcp
                }
            },
        }
    }

    fn servers(&self, transport: &DnsTransport, faults: &mut Vec<String>) -> Vec<NameServer> {
        let default_port = match self.protocol {
            QueryProtocol::Tls => 853,
            QueryProtocol::Udp | QueryProtocol::Tcp => 53,
        };
        if self.servers.is_empty() {
            faults.push("key `servers`: the list is empty; name at least one server".to_owned());
        }
        let mut servers: Vec<NameServer> = Vec::new();
        for (index, text) in self.servers.iter().enumerate() {
            let mut refuse =
                |rule: String| faults.push(format!("key `servers[{index}]`: {text:?} {rule}"));
            match ServerAddress::parse(text, Some(default_port)) {
                Err(rule) => refuse(rule.to_string()),
                Ok(address) if self.needs_server_name(&address) => refuse(
                    "is no name that a certificate can be issued for; set `tls = { server_name = \"…\" }`"
                        .to_owned(),
                ),
                Ok(address) if servers.iter().any(|other| other.address == address) => {
                    refuse("is in the list twice; keep one of the two".to_owned());
                }
                Ok(address) => servers.push(NameServer {
                    name: text.clone(),
                    address,
                    transport: transport.clone(),
                    resolver: NameResolver::default(),
                }),
            }
        }
        servers
    }

    fn needs_server_name(&self, address: &ServerAddress) -> bool {
        let server_name = self.tls.as_ref().and_then(|tls| tls.server_name.as_ref());
        self.protocol == QueryProtocol::Tls
            && server_name.is_none()
            && !TlsClient::is_certifiable(&address.host)
    }

    fn queried_name(&self) -> Result<Name, String> {
        let text = &self.name;
        if let Ok(address) = text.parse::<IpAddr>() {
            return match self.record_type {
                QueriedType::Ptr => Ok(address.into()),
                _ => Err(format!(
                    "key `name`: {text:?} is an IP address; query a name, or set `type = \"PTR\"`"
                )),
            };
        }
        let mut name = Name::from_str_relaxed(text).map_err(|error| {
            format!("key `name`: {text:?} is not a domain name ({error}); correct it")
        })?;
        // There is no search list: "shop" is the top-level domain "shop.".
        name.set_fqdn(true);
        Ok(name)
    }

    fn patterns(&self, faults: &mut Vec<String>) -> Vec<Regex> {
        let mut patterns = Vec::new();
        for (index, text) in self.answers.iter().enumerate() {
            match Regex::new(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => {
                    let reason = error.to_string();
                    // The other lines point into the pattern.
                    let reason = reason.lines().last().unwrap_or_default();
                    faults.push(format!(
                        "key `answers[{index}]`: {text:?} is not a regular expression ({reason}); correct it"
                    ));
                }
            }
        }
        patterns
    }
}

impl From<QueriedType> for RecordType {
    fn from(queried: QueriedType) -> Self {
        match queried {
            QueriedType::A => Self::A,
            QueriedType::Aaaa => Self::AAAA,
            QueriedType::Any => Self::ANY,
            QueriedType::Caa => Self::CAA,
            QueriedType::Cname => Self::CNAME,
            QueriedType::Dnskey => Self::DNSKEY,
            QueriedType::Ds => Self::DS,
            QueriedType::Https => Self::HTTPS,
            QueriedType::Mx => Self::MX,
            QueriedType::Naptr => Self::NAPTR,
            QueriedType::Ns => Self::NS,
            QueriedType::Ptr => Self::PTR,
            QueriedType::Soa => Self::SOA,
            QueriedType::Srv => Self::SRV,
            QueriedType::Sshfp => Self::SSHFP,
            QueriedType::Svcb => Self::SVCB,
            QueriedType::Tlsa => Self::TLSA,
            QueriedType::Txt => Self::TXT,
        }
    }
}

fn default_recursion() -> bool {
    true
}
