//! Keys of an ICMP platform's `config` table.

use std::{fmt, net::SocketAddr};

use conductor_net::{NameResolver, ServerAddress};
use conductor_plugin_api::{Failure, config::Duration, schemars};
use serde::Deserialize;

use crate::{
    IcmpProbe,
    series::{EchoSeries, PingLimits},
};

/// Pings a host, and measures loss and round-trip time.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IcmpConfig {
    /// Name or IP address; a link-local address takes its zone, `fe80::1%eth0`.
    #[schemars(length(min = 1), example = &"192.0.2.1", example = &"router.example")]
    host: String,

    /// IP version of the addresses to use; both if it is left out.
    #[schemars(range(min = 4, max = 6), extend("enum" = [4, 6]))]
    ip_version: Option<u8>,

    /// Echo requests per check.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1, max = 20))]
    count: u16,

    /// Bytes of data in each request.
    #[serde(default = "default_size")]
    #[schemars(range(max = 1452))]
    size: u16,

    /// Percent of requests without a reply from which the platform is degraded.
    #[serde(default = "default_degraded_loss")]
    #[schemars(range(min = 1, max = 100))]
    degraded_loss: u8,

    /// Percent of requests without a reply from which the platform is unhealthy.
    #[serde(default = "default_unhealthy_loss")]
    #[schemars(range(min = 1, max = 100))]
    unhealthy_loss: u8,

    /// Average round-trip time above which the platform is degraded.
    degraded_above: Option<Duration>,

    /// Average round-trip time above which the platform is unhealthy.
    unhealthy_above: Option<Duration>,
}

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub(crate) fn includes(self, address: &SocketAddr) -> bool {
        address.is_ipv6() == (self == Self::V6)
    }
}

impl fmt::Display for IpVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "4",
            Self::V6 => "6",
        })
    }
}

impl IcmpConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<IcmpProbe, Failure> {
        let mut faults = Vec::new();
        // The port is not used.
        let host = ServerAddress::parse(&bracketed(&self.host), None)
            .map_err(|rule| faults.push(format!("key `host`: {:?} {rule}", self.host)))
            .ok();
        let ip_version = match self.ip_version {
            None => None,
            Some(4) => Some(IpVersion::V4),
            Some(6) => Some(IpVersion::V6),
            Some(other) => {
                faults.push(format!(
                    "key `ip_version`: {other} is not a version; write 4 or 6"
                ));
                None
            }
        };
        for (key, value, least, most) in [
            ("count", self.count, 1, MAX_COUNT),
            ("size", self.size, 0, MAX_SIZE),
            ("degraded_loss", self.degraded_loss.into(), 1, 100),
            ("unhealthy_loss", self.unhealthy_loss.into(), 1, 100),
        ] {
            if !(least..=most).contains(&value) {
                faults.push(format!(
                    "key `{key}`: {value} is not from {least} to {most}; correct it"
                ));
            }
        }
        if self.degraded_loss > self.unhealthy_loss {
            faults.push(format!(
                "key `degraded_loss`: {} is above `unhealthy_loss`, {}; lower it",
                self.degraded_loss, self.unhealthy_loss
            ));
        }
        if let (Some(degraded), Some(unhealthy)) = (self.degraded_above, self.unhealthy_above)
            && degraded > unhealthy
        {
            faults.push(format!(
                "key `degraded_above`: {degraded} is above `unhealthy_above`, {unhealthy}; lower it"
            ));
        }
        match host {
            Some(host) if faults.is_empty() => Ok(IcmpProbe {
                host,
                ip_version,
                series: EchoSeries::new(self.count, self.size.into()),
                limits: PingLimits {
                    degraded_loss: self.degraded_loss,
                    unhealthy_loss: self.unhealthy_loss,
                    degraded_above: self.degraded_above.map(Duration::get),
                    unhealthy_above: self.unhealthy_above.map(Duration::get),
                },
                resolver: NameResolver::default(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}

/// Returns a host in the form of an address with a port.
fn bracketed(host: &str) -> String {
    let is_bare_ipv6 = host.contains(':') && !host.contains(['[', '/']);
    if is_bare_ipv6 {
        format!("[{host}]:1")
    } else {
        format!("{host}:1")
    }
}

/// Most requests per check.
const MAX_COUNT: u16 = 20;

/// Most bytes of data that fit into a packet of Ethernet, with the headers of IPv6.
const MAX_SIZE: u16 = 1452;

fn default_count() -> u16 {
    5
}

fn default_size() -> u16 {
    56
}

fn default_degraded_loss() -> u8 {
    20
}

fn default_unhealthy_loss() -> u8 {
    100
}
