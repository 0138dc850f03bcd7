//! Keys of an NTP platform's `config` table.

use std::time::Duration as StdDuration;

use conductor_net::{NameResolver, ServerAddress};
use conductor_plugin_api::{Failure, config::Duration, schemars};
use serde::Deserialize;

use crate::{NtpProbe, limits::ClockLimits};

/// Checks that a time server is synchronized, and measures the offset of this machine's clock.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NtpConfig {
    /// Time server, `HOST` or `HOST:PORT`; the default port is 123.
    #[schemars(length(min = 1), example = &"ntp.example", example = &"192.0.2.1:1123")]
    server: String,

    /// Offset of this machine's clock, in either direction, above which the platform is degraded.
    #[serde(default = "default_degraded_offset")]
    #[schemars(extend("default" = "100ms"))]
    degraded_offset: Duration,

    /// Offset above which the platform is unhealthy.
    #[serde(default = "default_unhealthy_offset")]
    #[schemars(extend("default" = "1s"))]
    unhealthy_offset: Duration,

    /// Largest distance of the server from a reference clock; 1 has one itself.
    #[serde(default = "default_max_stratum")]
    #[schemars(range(min = 1, max = 15))]
    max_stratum: u8,

    /// Largest error of the server relative to its reference clock: root dispersion and half the root delay.
    #[serde(default = "default_max_dispersion")]
    #[schemars(extend("default" = "1s"))]
    max_dispersion: Duration,
}

impl NtpConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<NtpProbe, Failure> {
        let mut faults = Vec::new();
        let server = ServerAddress::parse(&self.server, Some(NTP_PORT))
            .map_err(|rule| faults.push(format!("key `server`: {:?} {rule}", self.server)))
            .ok();
        if self.degraded_offset > self.unhealthy_offset {
            faults.push(format!(
                "key `degraded_offset`: {} is above `unhealthy_offset`, {}; lower it",
                self.degraded_offset, self.unhealthy_offset
            ));
        }
        if !(1..=15).contains(&self.max_stratum) {
            faults.push(format!(
                "key `max_stratum`: {} is not from 1 to 15; correct it",
                self.max_stratum
            ));
        }
        match server {
            Some(server) if faults.is_empty() => Ok(NtpProbe {
                server,
                limits: ClockLimits {
                    degraded_offset: self.degraded_offset.get(),
                    unhealthy_offset: self.unhealthy_offset.get(),
                    max_stratum: self.max_stratum,
                    max_dispersion: self.max_dispersion.get(),
                },
                resolver: NameResolver::default(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}

const NTP_PORT: u16 = 123;

fn default_degraded_offset() -> Duration {
    StdDuration::from_millis(100).into()
}

fn default_unhealthy_offset() -> Duration {
    StdDuration::from_secs(1).into()
}

fn default_max_stratum() -> u8 {
    15
}

fn default_max_dispersion() -> Duration {
    StdDuration::from_secs(1).into()
}
