//! Keys of a PostgreSQL platform's `config` table.

use conductor_net::{
    DatabaseLimits, DurationLimits, DurationRules, Limits, NameResolver, SocketTarget, SqlQuery,
    TOTAL, TimedPhases, TlsConfig,
};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Secret, Size},
    schemars,
};
use serde::Deserialize;

use crate::{
    PostgresProbe,
    limits::{ServerLimits, ServerRole},
    login::Login,
};

/// Logs in to a PostgreSQL server, runs a query, and checks replication, connections and the oldest transaction.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostgresConfig {
    /// Server, `HOST` or `HOST:PORT`; the default port is 5432. A Unix socket as `unix:/PATH`, with the name of the
    /// socket.
    #[schemars(
        length(min = 1),
        example = &"db.example",
        example = &"unix:/run/postgresql/.s.PGSQL.5432"
    )]
    address: String,

    /// Role to log in as.
    #[schemars(length(min = 1, max = 63), example = &"conductor")]
    user: String,

    /// Password of the role, by any method but Kerberos; not sent unless the server asks for it.
    password: Option<Secret>,

    /// Database to connect to.
    #[serde(default = "default_database")]
    #[schemars(length(min = 1, max = 63))]
    database: String,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    tls: Option<TlsConfig>,

    /// Query to run in a read-only transaction, and the conditions on its value: the first column of its first row.
    query: Option<SqlQuery>,

    /// Expected role in replication: unhealthy if the server has the other one.
    role: Option<ServerRole>,

    /// Require that a standby receives WAL from its primary. `false` for one that replays an archive.
    #[serde(default = "default_streaming")]
    streaming: bool,

    /// Number of standbys that must stream from this server.
    #[schemars(range(max = 10_000))]
    min_standbys: Option<u32>,

    /// Limits of the replication lag: the time since the last transaction that a standby replayed, zero if it replayed
    /// everything. On a primary, the lag of its slowest standby.
    lag: Option<Limits<Duration>>,

    /// Limits of the WAL that a standby has not replayed. On a primary, that of its slowest standby.
    backlog: Option<Limits<Size>>,

    /// Limits of the connections in use, in percent of those that ordinary roles may open.
    #[serde(default = "default_connections")]
    #[schemars(extend("default" = {"degraded_above": 80, "unhealthy_above": 95}))]
    connections: Limits<f64>,

    /// Limits of the age of the oldest transaction, prepared ones included.
    transaction: Option<Limits<Duration>>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<SessionPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "query": "500ms"}]))]
    unhealthy_after: Option<DurationLimits<SessionPhases>>,
}

/// The phases of a session.
struct SessionPhases;

impl TimedPhases for SessionPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "From the first attempt to the connection."),
        ("starttls", "The request for TLS."),
        ("tls", "The TLS handshake."),
        ("login", "The login."),
        ("state", "The queries for the state of the server."),
        ("query", "The query of the config."),
    ];
}

impl PostgresConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<PostgresProbe, Failure> {
        let mut faults = Vec::new();
        let target = SocketTarget::parse(&self.address, Some(POSTGRES_PORT))
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)))
            .ok();
        for (key, text) in [("user", &self.user), ("database", &self.database)] {
            if text.is_empty() || text.contains('\0') {
                faults.push(format!(
                    "key `{key}`: {text:?} is not a name; write the name of a {key}"
                ));
            }
        }
        let tls = match (&self.tls, &target) {
            (Some(tls), Some(target)) => target.tls_client(tls, "postgres", &mut faults),
            _ => None,
        };
        if let Some(query) = &self.query {
            query.validate(&mut faults);
        }
        self.validate_limits(&mut faults);
        let load = self.load_limits();
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        match target {
            Some(target) if faults.is_empty() => Ok(PostgresProbe {
                login: Login {
                    target,
                    tls: tls.map(|client| client.offering(&[ALPN])),
                    user: self.user,
                    password: self.password,
                    database: self.database,
                },
                query: self.query,
                durations,
                limits: ServerLimits {
                    role: self.role,
                    streaming: self.streaming,
                    min_standbys: self.min_standbys,
                    lag: self.lag,
                    backlog: self.backlog,
                    load,
                },
                resolver: NameResolver::default(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn validate_limits(&self, faults: &mut Vec<String>) {
        if let Some(limits) = &self.lag {
            limits.validate("lag", faults);
        }
        if let Some(limits) = &self.backlog {
            limits.validate("backlog", faults);
        }
        self.load_limits().validate(faults);
    }

    fn load_limits(&self) -> DatabaseLimits {
        DatabaseLimits {
            connections: self.connections,
            transaction: self.transaction,
        }
    }
}

const POSTGRES_PORT: u16 = 5432;

/// Application protocol, which PostgreSQL 17 and its proxies may select.
const ALPN: &str = "postgresql";

fn default_database() -> String {
    "postgres".to_owned()
}

fn default_streaming() -> bool {
    true
}

fn default_connections() -> Limits<f64> {
    DatabaseLimits::DEFAULT_CONNECTIONS
}
