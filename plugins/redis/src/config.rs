//! Keys of a Redis platform's `config` table.

use std::time::Duration as StdDuration;

use conductor_net::{
    DurationLimits, DurationRules, Limits, ServerEndpoint, TOTAL, TimedPhases, TlsConfig,
};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Secret, Size},
    schemars,
};
use serde::Deserialize;

use crate::{RedisProbe, conditions::ServerConditions, session::ServerLogin};

/// Checks that a Redis or Valkey server responds, has its role and its replicas, and has memory and connections left.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisConfig {
    /// Server, `HOST` or `HOST:PORT`; an IPv6 address with a port in brackets. A Unix socket as `unix:/PATH`. The default
    /// port is 6379.
    #[schemars(
        length(min = 1),
        example = &"cache.example",
        example = &"unix:/run/redis/redis-server.sock"
    )]
    address: String,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    tls: Option<TlsConfig>,

    /// User to log in as, with `password`; the server's default user if it is left out.
    #[schemars(length(min = 1), example = &"monitor")]
    username: Option<String>,

    /// Password to log in with.
    password: Option<Secret>,

    /// Role that the server must have: unhealthy if it has the other one.
    role: Option<ServerRole>,

    /// Limits of the replicas that a primary has online; one that is silent for longer than `lag.unhealthy_above` does not
    /// count.
    #[schemars(extend("examples" = [{"unhealthy_below": 1}]))]
    replicas: Option<Limits<u32>>,

    /// Limits of the time since a replica heard from its primary. A primary without writes is heard every
    /// `repl-ping-replica-period`, 10 s by default.
    #[serde(default = "default_lag")]
    #[schemars(extend("default" = {"degraded_above": "15s", "unhealthy_above": "30s"}))]
    lag: Limits<Duration>,

    /// Limits of the used memory in percent of `maxmemory`; 80 and 95 if they are left out and the server evicts no keys
    /// (`maxmemory-policy` is `noeviction`).
    #[schemars(extend("examples" = [{"degraded_above": 80, "unhealthy_above": 95}]))]
    memory_percent: Option<Limits<f64>>,

    /// Limits of the used memory.
    #[schemars(extend("examples" = [{"degraded_above": "6GiB", "unhealthy_above": "8GiB"}]))]
    memory: Option<Limits<Size>>,

    /// Limits of the connected clients in percent of `maxclients`.
    #[serde(default = "default_clients")]
    #[schemars(extend("default" = {"degraded_above": 80, "unhealthy_above": 95}))]
    clients_percent: Limits<f64>,

    /// Limits of the number of keys in all databases.
    #[schemars(extend("examples" = [{"unhealthy_below": 1}]))]
    keys: Option<Limits<u64>>,

    /// Duration after which the server is degraded: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"ping": "50ms"}]))]
    degraded_after: Option<DurationLimits<RedisPhases>>,

    /// Duration after which the server is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "ping": "500ms"}]))]
    unhealthy_after: Option<DurationLimits<RedisPhases>>,
}

/// The role of a server in replication.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerRole {
    /// Takes writes, as Redis's `master`.
    Primary,
    /// Copies a primary, as Redis's `slave`.
    Replica,
}

/// The phases of a check.
struct RedisPhases;

impl TimedPhases for RedisPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("tls", "The TLS handshake."),
        ("auth", "The login."),
        ("ping", "From PING to PONG."),
        ("info", "The reply to INFO."),
    ];
}

impl RedisConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<RedisProbe, Failure> {
        let mut faults = Vec::new();
        let ports = (REDIS_PORT, REDIS_PORT);
        let endpoint = ServerEndpoint::read(
            &self.address,
            self.tls.as_ref(),
            ports,
            "redis",
            &mut faults,
        );
        let conditions = self.conditions(&mut faults);
        if self.username.is_some() && self.password.is_none() {
            faults.push(
                "key `username`: there is no password for the user; add `password`".to_owned(),
            );
        }
        if self
            .password
            .as_ref()
            .is_some_and(|password| password.expose().is_empty())
        {
            faults.push("key `password`: the password is empty; leave the key out".to_owned());
        }
        if self.replicas.is_some() && self.role == Some(ServerRole::Replica) {
            faults.push(
                "key `replicas`: it is a condition of a primary, but `role` is \"replica\"; remove one of the two"
                    .to_owned(),
            );
        }
        match endpoint {
            Some(endpoint) if faults.is_empty() => Ok(RedisProbe {
                endpoint,
                login: self.password.map(|password| ServerLogin {
                    username: self.username,
                    password,
                }),
                conditions,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn conditions(&self, faults: &mut Vec<String>) -> ServerConditions {
        self.lag.validate("lag", faults);
        self.clients_percent.validate("clients_percent", faults);
        for (key, limits) in [
            ("memory_percent", self.memory_percent.as_ref()),
            ("clients_percent", Some(&self.clients_percent)),
        ] {
            validate_percent(key, limits, faults);
        }
        if let Some(limits) = &self.replicas {
            limits.validate("replicas", faults);
        }
        if let Some(limits) = &self.memory_percent {
            limits.validate("memory_percent", faults);
        }
        if let Some(limits) = &self.memory {
            limits.validate("memory", faults);
        }
        if let Some(limits) = &self.keys {
            limits.validate("keys", faults);
        }
        ServerConditions {
            role: self.role,
            replicas: self.replicas,
            lag: self.lag,
            memory_percent: self.memory_percent,
            memory: self.memory,
            clients_percent: self.clients_percent,
            keys: self.keys,
            durations: DurationRules::new(
                self.degraded_after.as_ref(),
                self.unhealthy_after.as_ref(),
                faults,
            ),
        }
    }
}

fn validate_percent(key: &str, limits: Option<&Limits<f64>>, faults: &mut Vec<String>) {
    let Some(limits) = limits else {
        return;
    };
    let percents = [
        limits.degraded_above,
        limits.unhealthy_above,
        limits.degraded_below,
        limits.unhealthy_below,
    ];
    for percent in percents.into_iter().flatten() {
        if !(0.0..=100.0).contains(&percent) {
            faults.push(format!(
                "key `{key}`: {percent} is not a percentage; choose from 0 to 100"
            ));
        }
    }
}

const REDIS_PORT: u16 = 6379;

fn default_lag() -> Limits<Duration> {
    Limits {
        degraded_above: Some(StdDuration::from_secs(15).into()),
        unhealthy_above: Some(StdDuration::from_secs(30).into()),
        ..Limits::default()
    }
}

fn default_clients() -> Limits<f64> {
    FULL
}

/// The limits of something that must not become full, in percent.
pub(crate) const FULL: Limits<f64> = Limits {
    degraded_above: Some(80.0),
    unhealthy_above: Some(95.0),
    degraded_below: None,
    unhealthy_below: None,
};
