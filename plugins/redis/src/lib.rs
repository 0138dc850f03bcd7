//! The `redis` probe: checks a Redis or Valkey server: login, role, replication, memory, clients, keys and latency.
//!
//! ```toml
//! [platform.cache]
//! plugin = "redis"
//! config = { address = "cache.example", password = { file = "/etc/conductor/cache.password" }, replicas = { unhealthy_below = 1 } }
//!
//! [platform.cache-replica]
//! plugin = "redis"
//! config = { address = "cache2.example:6380", tls = {}, role = "replica", lag = { unhealthy_above = "1m" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | server, `HOST` or `HOST:PORT`; an IPv6 address with a port in brackets; a Unix socket as `unix:/PATH`. The default port is 6379 |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `username`, `password` | no login | user to log in as; without `username` the server's default user |
//! | `role` | any | `"primary"` or `"replica"`: the role that the server must have |
//! | `replicas` | none | limits of the replicas that a primary has online, those excepted that are silent for longer than `lag.unhealthy_above` |
//! | `lag` | above 15 s and 30 s | limits of the time since a replica heard from its primary |
//! | `memory_percent` | above 80 and 95 | limits of the used memory in percent of `maxmemory`; the default applies only where the server evicts no keys |
//! | `memory` | none | limits of the used memory, such as `{ degraded_above = "6GiB" }` |
//! | `clients_percent` | above 80 and 95 | limits of the connected clients in percent of `maxclients` |
//! | `keys` | none | limits of the keys in all databases |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase, such as `{ ping = "50ms" }` |
//!
//! Each check opens a connection and sends AUTH (with a password), PING and INFO; and CLUSTER INFO to a server of a
//! cluster. The user needs no more rights: `ACL SETUSER monitor on >PASSWORD +ping +info +cluster|info`.
//!
//! The plugin may use the Unix sockets of this machine; `allow = ["network"]` in `[plugin.redis]` takes that away.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_redis_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `tls` (with TLS), `auth` (with a password), `ping` and `info` |
//! | `conductor_redis_duration_seconds` | | the whole check |
//! | `conductor_redis_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//! | `conductor_redis_uptime_seconds` | | time since the server started |
//! | `conductor_redis_clients`, `conductor_redis_max_clients`, `conductor_redis_blocked_clients` | | connected clients, the most that the server accepts, and those that wait for a blocking command |
//! | `conductor_redis_used_memory_bytes`, `conductor_redis_max_memory_bytes` | | used memory, and `maxmemory`, absent without that limit |
//! | `conductor_redis_memory_used_ratio` | | part of `maxmemory` that is used; absent without that limit |
//! | `conductor_redis_keys`, `conductor_redis_expiring_keys` | | keys in all databases, and those that expire |
//! | `conductor_redis_is_replica` | | 1 for a replica, 0 for a primary; absent for Sentinel |
//! | `conductor_redis_replicas` | | replicas that are online; of a primary |
//! | `conductor_redis_replication_link_up` | | 1 if a replica is connected to its primary, else 0 |
//! | `conductor_redis_replication_lag_seconds` | | time since a replica heard from its primary; of a primary, since its slowest replica acknowledged |
//! | `conductor_redis_replication_behind_bytes` | | writes that the slowest replica has not acknowledged; of a primary |
//! | `conductor_redis_commands_total`, `conductor_redis_keyspace_hits_total`, `conductor_redis_keyspace_misses_total`, `conductor_redis_evicted_keys_total`, `conductor_redis_rejected_connections_total` | | totals since the server started |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, no reply in time,
//! a server that does not speak the protocol or refuses the login or a command (also while it loads its data set), another
//! role than `role`, a replica without a link to its primary, a cluster that is not `ok`, and a limit `unhealthy_…` that is
//! exceeded. A replica that copies its primary's data, a failed save to disk, and a limit `degraded_…` make it degraded.
//!
//! Limits are tables with `degraded_above`, `unhealthy_above`, `degraded_below` and `unhealthy_below`.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod conditions;
mod config;
mod info;
mod metrics;
mod resp;
mod session;
#[cfg(test)]
mod tests;

use conductor_net::{CheckError, PhaseClock, ServerEndpoint, TimeLimit};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, export_plugin};

use crate::{
    conditions::ServerConditions,
    config::RedisConfig,
    metrics::*,
    session::{ServerLogin, ServerReplies, examine},
};

export_plugin! {
    id: "redis",
    async_probe: RedisProbe,
    name: "Redis",
    needs: ["network", "unix-sockets"],
    metrics: [
        PHASE, DURATION, CERTIFICATE_EXPIRY, UPTIME, CLIENTS, MAX_CLIENTS, BLOCKED_CLIENTS, USED_MEMORY, MAX_MEMORY,
        MEMORY_USED, KEYS, EXPIRING_KEYS, IS_REPLICA, REPLICAS, REPLICATION_LINK_UP, REPLICATION_LAG,
        REPLICATION_BEHIND, COMMANDS, KEYSPACE_HITS, KEYSPACE_MISSES, EVICTED_KEYS, REJECTED_CONNECTIONS,
    ],
}

struct RedisProbe {
    endpoint: ServerEndpoint,
    login: Option<ServerLogin>,
    conditions: ServerConditions,
}

impl AsyncProbe for RedisProbe {
    type Config = RedisConfig;

    fn create(config: RedisConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut expiry = None;
        let replies = self.ask(&mut clock, &mut expiry).await;
        let took = clock.limit.elapsed();
        let report = match replies {
            Ok(replies) => record(self.conditions.judge(&replies, &clock)?, &replies.info),
            Err(error) => error.into_report()?,
        };
        let report = clock
            .record(report, &PHASE)
            .set(&DURATION, [], took.as_secs_f64());
        Ok(match expiry {
            Some(expiry) => report.set(&CERTIFICATE_EXPIRY, [], expiry),
            None => report,
        })
    }
}

impl RedisProbe {
    async fn ask(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<ServerReplies, CheckError> {
        let opened = self.endpoint.open(clock).await;
        *expiry = opened.expiry;
        examine(opened.outcome?, self.login.as_ref(), clock).await
    }
}
