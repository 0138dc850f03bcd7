//! The `icmp` probe: pings a host, and measures loss and round-trip time.
//!
//! ```toml
//! [platform.router]
//! plugin = "icmp"
//! config = { host = "192.0.2.1" }
//!
//! [platform.branch-office]
//! plugin = "icmp"
//! config = { host = "branch.example", ip_version = 6, degraded_above = "80ms", unhealthy_loss = 50 }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `host` | | name or IP address; a link-local address takes its zone, `fe80::1%eth0` |
//! | `ip_version` | both | `4` or `6`: use only addresses of this version |
//! | `count` | 5 | echo requests per check, 1 to 20 |
//! | `size` | 56 | bytes of data in each, 0 to 1452 |
//! | `degraded_loss` | 20 | percent of requests without a reply from which the platform is degraded |
//! | `unhealthy_loss` | 100 | percent from which it is unhealthy |
//! | `degraded_above` | none | average round-trip time above which it is degraded |
//! | `unhealthy_above` | none | average above which it is unhealthy |
//!
//! The requests are sent a fifth of a second apart, or closer if the timeout is short. A reply counts until a second
//! after the last request. The addresses of a name are pinged in parallel, each a quarter of a second after the
//! previous one (RFC 8305), and the first whose replies are complete is reported.
//!
//! # Permission
//! The probe uses datagram sockets for ICMP, which need no privileges: on Linux the group of the host's user must be
//! within `net.ipv4.ping_group_range`, for IPv6 as well. systemd sets it for all groups on most distributions; elsewhere
//! `sysctl -w
//! net.ipv4.ping_group_range="0 2147483647"` does. A worker has no capabilities, so `CAP_NET_RAW` does not help. The need
//! `network` includes pings. The probe is not available on Windows.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_icmp_rtt_seconds` | `stat` | `min`, `avg` and `max` of the round-trip times; absent without a reply |
//! | `conductor_icmp_loss_ratio` | | requests without a reply, 0 to 1; 1 for a host that is unreachable |
//! | `conductor_icmp_resolve_seconds` | | duration of name resolution; absent for an IP address |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, no reply, too few or too slow ones, a router that
//! reports the host as unreachable.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no route or no
//! free file descriptor, or may not ping.

mod config;
mod echo;
mod series;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use conductor_net::{CheckError, NameResolver, PhaseClock, ServerAddress, TimeLimit, race};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    config::{IcmpConfig, IpVersion},
    series::{EchoSeries, PingLimits},
};

export_plugin! {
    id: "icmp",
    async_probe: IcmpProbe,
    name: "ICMP",
    needs: ["network"],
    metrics: [RTT, LOSS, RESOLVE],
}

const RTT: Metric<1> = Metric::gauge("rtt", "Round-trip time of the replies of a check.")
    .unit("seconds")
    .labels(["stat"]);
const LOSS: Metric = Metric::gauge("loss", "Requests without a reply, 0 to 1.").unit("ratio");
const RESOLVE: Metric = Metric::gauge("resolve", "Duration of name resolution.").unit("seconds");

struct IcmpProbe {
    host: ServerAddress,
    ip_version: Option<IpVersion>,
    series: EchoSeries,
    limits: PingLimits,
    resolver: NameResolver,
}

impl AsyncProbe for IcmpProbe {
    type Config = IcmpConfig;

    fn create(config: IcmpConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let report = match self.ping(&mut clock).await {
            Ok(report) => report,
            Err(error) => error.into_report()?,
        };
        Ok(match clock.phases().next() {
            Some((_, took)) => report.set(&RESOLVE, [], took.as_secs_f64()),
            None => report,
        })
    }
}

impl IcmpProbe {
    async fn ping(&mut self, clock: &mut PhaseClock<'_>) -> Result<Report, CheckError> {
        let mut addresses = self.host.resolve(&mut self.resolver, clock).await?;
        if let Some(version) = self.ip_version {
            addresses.retain(|address| version.includes(address));
            if addresses.is_empty() {
                return Err(CheckError::Platform(format!(
                    "{} has no IPv{version} address",
                    self.host.host
                )));
            }
        }
        let series = self.series.within(clock.limit.left());
        let ping = |address: SocketAddr| series.ping(address);
        match race(&addresses, &clock.limit, "respond", ping).await {
            Ok(replies) => Ok(self.limits.judge(&replies)),
            // An alert on the loss must not miss that all is lost.
            Err(CheckError::Platform(fault)) => Ok(Report::unhealthy(fault).set(&LOSS, [], 1.0)),
            Err(ours) => Err(ours),
        }
    }
}
