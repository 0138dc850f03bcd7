//! The `ntp` probe: checks that a time server is synchronized, and measures the offset of this machine's clock.
//!
//! ```toml
//! [platform.time]
//! plugin = "ntp"
//! config = { server = "ntp.example", unhealthy_offset = "500ms", max_stratum = 4 }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `server` | | time server, `HOST` or `HOST:PORT`; the default port is 123 |
//! | `degraded_offset` | `"100ms"` | offset of this machine's clock above which the platform is degraded |
//! | `unhealthy_offset` | `"1s"` | offset above which it is unhealthy |
//! | `max_stratum` | 15 | farthest from a reference clock that the server may be, 1 to 15 |
//! | `max_dispersion` | `"1s"` | largest error that the server may have relative to its reference clock (root dispersion and half the root delay) |
//!
//! The probe sends one request of NTP version 4 at a time and repeats it every second until the server responds. The
//! offset is that of this machine relative to the server: positive if this machine's clock is ahead. It is not more
//! exact than half the delay of the network, so a limit is exceeded if the offset is above it by more than that. Each of the addresses of a name is queried a quarter of a second after the
//! previous one (RFC 8305), and the first response counts.
//!
//! | metric | meaning |
//! |---|---|
//! | `conductor_ntp_offset_seconds` | this machine's clock minus the server's |
//! | `conductor_ntp_delay_seconds` | delay of the network, to the server and back |
//! | `conductor_ntp_stratum` | distance of the server from a reference clock: 1 has one itself |
//! | `conductor_ntp_root_delay_seconds` | delay between the server and the reference clock |
//! | `conductor_ntp_root_dispersion_seconds` | largest error of the server relative to the reference clock |
//! | `conductor_ntp_leap` | leap indicator: 0 none, 1 a second is inserted at the end of the day, 2 one is deleted, 3 not synchronized |
//! | `conductor_ntp_resolve_seconds` | duration of name resolution; absent for an IP address |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, no response in time, a server that is not synchronized,
//! too far from a reference clock or too inexact, that asks for fewer requests (`RATE`) or denies them, and an offset above
//! the limit.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no free file
//! descriptor or port.

mod config;
mod exchange;
mod limits;
mod packet;
#[cfg(test)]
mod tests;

use conductor_net::{CheckError, NameResolver, PhaseClock, ServerAddress, TimeLimit, race};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{config::NtpConfig, limits::ClockLimits};

export_plugin! {
    id: "ntp",
    async_probe: NtpProbe,
    name: "NTP",
    needs: ["network"],
    metrics: [OFFSET, DELAY, STRATUM, ROOT_DELAY, ROOT_DISPERSION, LEAP, RESOLVE],
}

const OFFSET: Metric =
    Metric::gauge("offset", "Clock of this machine minus that of the server.").unit("seconds");
const DELAY: Metric =
    Metric::gauge("delay", "Delay of the network, to the server and back.").unit("seconds");
const STRATUM: Metric = Metric::gauge("stratum", "Distance of the server from a reference clock.");
const ROOT_DELAY: Metric = Metric::gauge(
    "root_delay",
    "Delay between the server and its reference clock.",
)
.unit("seconds");
const ROOT_DISPERSION: Metric = Metric::gauge(
    "root_dispersion",
    "Largest error of the server relative to its reference clock.",
)
.unit("seconds");
const LEAP: Metric = Metric::gauge(
    "leap",
    "Leap indicator: 0 none, 1 and 2 a leap second, 3 not synchronized.",
);
const RESOLVE: Metric = Metric::gauge("resolve", "Duration of name resolution.").unit("seconds");

struct NtpProbe {
    server: ServerAddress,
    limits: ClockLimits,
    resolver: NameResolver,
}

impl AsyncProbe for NtpProbe {
    type Config = NtpConfig;

    fn create(config: NtpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let report = match self.query(&mut clock).await {
            Ok(report) => report,
            Err(error) => error.into_report()?,
        };
        Ok(match clock.phases().next() {
            Some((_, took)) => report.set(&RESOLVE, [], took.as_secs_f64()),
            None => report,
        })
    }
}

impl NtpProbe {
    async fn query(&mut self, clock: &mut PhaseClock<'_>) -> Result<Report, CheckError> {
        let addresses = self.server.resolve(&mut self.resolver, clock).await?;
        let answer = race(&addresses, &clock.limit, "respond", exchange::query).await?;
        Ok(self.limits.judge(&answer))
    }
}
