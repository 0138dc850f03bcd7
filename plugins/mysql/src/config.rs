//! Keys of a MySQL platform's `config` table.

use conductor_net::{
    DatabaseLimits, DurationLimits, DurationRules, Limits, NameResolver, SocketTarget, SqlQuery,
    TOTAL, TimedPhases, TlsConfig,
};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Secret},
    schemars,
};
use serde::Deserialize;

use crate::{
    MysqlProbe,
    limits::{ServerLimits, ServerRole},
    login::Login,
};

/// Logs in to a MySQL or MariaDB server, runs a query, and checks replication, connections and the oldest transaction.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MysqlConfig {
    /// Server, `HOST` or `HOST:PORT`; the default port is 3306. A Unix socket as `unix:/PATH`.
    #[schemars(
        length(min = 1),
        example = &"db.example",
        example = &"unix:/run/mysqld/mysqld.sock"
    )]
    address: String,

    /// Account to log in with.
    #[schemars(length(min = 1, max = 128), example = &"conductor")]
    user: String,

    /// Password of the account. It is sent itself only over TLS or a Unix socket.
    password: Option<Secret>,

    /// Database to use.
    #[schemars(length(min = 1, max = 64))]
    database: Option<String>,

    /// Use TLS: trust, client certificate and versions. `tls = {}` trusts the system's CAs.
    tls: Option<TlsConfig>,

    /// Query to run in a read-only session, and the conditions on its value: the first column of its first row.
    query: Option<SqlQuery>,

    /// Expected role in replication: unhealthy if the server has the other one.
    role: Option<ServerRole>,

    /// Require that a replica receives and applies changes. `false` for one that is stopped at times.
    #[serde(default = "default_replicating")]
    replicating: bool,

    /// Limits of the replication lag, as a replica reports it.
    lag: Option<Limits<Duration>>,

    /// Limits of the connections in use, in percent of `max_connections`.
    #[serde(default = "default_connections")]
    #[schemars(extend("default" = {"degraded_above": 80, "unhealthy_above": 95}))]
    connections: Limits<f64>,

    /// Limits of the age of the oldest transaction of InnoDB.
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
        ("greeting", "From there to the greeting of the server."),
        ("tls", "The TLS handshake."),
        ("login", "The login."),
        ("state", "The queries for the state of the server."),
        ("query", "The query of the config."),
    ];
}

impl MysqlConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<MysqlProbe, Failure> {
        let mut faults = Vec::new();
        let target = SocketTarget::parse(&self.address, Some(MYSQL_PORT))
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)))
            .ok();
        let names = [
            ("user", Some(&self.user)),
            ("database", self.database.as_ref()),
        ];
        for (key, name) in names {
            if let Some(name) = name
                && (name.is_empty() || name.contains('\0'))
            {
                faults.push(format!(
                    "key `{key}`: {name:?} is not a name; write the name of a {key}"
                ));
            }
        }
        let tls = match (&self.tls, &target) {
            (Some(tls), Some(target)) => target.tls_client(tls, "mysql", &mut faults),
            _ => None,
        };
        if let Some(query) = &self.query {
            query.validate(&mut faults);
        }
        if let Some(limits) = &self.lag {
            limits.validate("lag", &mut faults);
        }
        let load = DatabaseLimits {
            connections: self.connections,
            transaction: self.transaction,
        };
        load.validate(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        match target {
            Some(target) if faults.is_empty() => Ok(MysqlProbe {
                login: Login {
                    target,
                    tls,
                    user: self.user,
                    password: self.password,
                    database: self.database,
                },
                query: self.query,
                limits: ServerLimits {
                    role: self.role,
                    replicating: self.replicating,
                    lag: self.lag,
                    load,
                },
                durations,
                resolver: NameResolver::default(),
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}

const MYSQL_PORT: u16 = 3306;

fn default_replicating() -> bool {
    true
}

fn default_connections() -> Limits<f64> {
    DatabaseLimits::DEFAULT_CONNECTIONS
}
