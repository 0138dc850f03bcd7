//! The `postgres` probe: logs in to a PostgreSQL server, runs a query, and checks replication, connections and the
//! oldest transaction.
//!
//! ```toml
//! [platform.shop-db]
//! plugin = "postgres"
//! config = { address = "db.example", user = "conductor", password = { file = "/etc/conductor/db.password" }, tls = {}, role = "primary", min_standbys = 1, transaction = { degraded_above = "15m" } }
//!
//! [platform.shop-standby]
//! plugin = "postgres"
//! config = { address = "unix:/run/postgresql/.s.PGSQL.5432", user = "conductor", role = "standby", lag = { degraded_above = "30s", unhealthy_above = "5m" } }
//!
//! [platform.jobs]
//! plugin = "postgres"
//! config = { address = "db.example", user = "conductor", password = { file = "/etc/conductor/db.password" }, database = "shop", query = { sql = "SELECT count(*) FROM jobs WHERE state = 'failed'", degraded_above = 10, unhealthy_above = 100 } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | `HOST` or `HOST:PORT` (5432), or a Unix socket as `unix:/PATH` |
//! | `user` | | role to log in as |
//! | `password` | none | its password |
//! | `database` | `postgres` | database to connect to |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `query` | none | `sql` with one statement, and conditions on the first column of its first row: `equals`, `not_equals`, `degraded_above`, `unhealthy_above`, `degraded_below`, `unhealthy_below` |
//! | `role` | any | expected role, `primary` or `standby` |
//! | `streaming` | `true` | a standby must receive WAL from its primary |
//! | `min_standbys` | none | number of standbys that must stream from the server |
//! | `lag` | no limits | limits of the replication lag: `degraded_above`, `unhealthy_above`, `degraded_below`, `unhealthy_below` |
//! | `backlog` | no limits | limits of the WAL that a standby has not replayed |
//! | `connections` | 80 and 95 | limits of the connections in use, in percent of those that ordinary roles may open |
//! | `transaction` | no limits | limits of the age of the oldest transaction, prepared ones included |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! `tls` is what libpq calls `verify-full`; `tls = { skip_verify = true }` is its `require`, and without `tls` it is its
//! `disable`. Passwords are sent as the server asks for them: by SCRAM, MD5 or in clear text.
//!
//! Everything runs in one read-only transaction, which the server ends too when the check runs out of time. The role needs
//! no privileges, except `pg_monitor` for `transaction` and, on a primary, for `lag`, `backlog` and `min_standbys`:
//! `CREATE ROLE conductor LOGIN PASSWORD '…'; GRANT pg_monitor TO conductor;`. PostgreSQL 10 or newer is required.
//!
//! The lag of a standby is the time since the last transaction that it replayed, or zero while it is connected and has
//! replayed everything. One above a limit is read a second time: the first transaction after a quiet hour would look like
//! a lag of an hour. A primary reports the slowest of its standbys.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_postgres_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `starttls` and `tls` (with TLS), `login`, `state` and `query` |
//! | `conductor_postgres_duration_seconds` | | the whole check |
//! | `conductor_postgres_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//! | `conductor_postgres_standby` | | 1 if the server is a standby, 0 if it is a primary |
//! | `conductor_postgres_connections`, `conductor_postgres_max_connections` | | client connections in use, and those that ordinary roles may open |
//! | `conductor_postgres_oldest_transaction_seconds` | | age of the oldest transaction, 0 if there is none; with `pg_monitor` |
//! | `conductor_postgres_streaming` | | of a standby: 1 if it receives WAL from its primary |
//! | `conductor_postgres_standbys` | | standbys that stream from the server; with `pg_monitor` |
//! | `conductor_postgres_replication_lag_seconds`, `conductor_postgres_replication_backlog_bytes` | | lag and WAL not replayed, of this standby or of the slowest of this primary |
//! | `conductor_postgres_query_value` | | value of the query, if it is a number |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, a login that the
//! server refuses, a query that fails, no response in time, bytes of another protocol, more than 1 MiB of them, and every
//! limit and condition that is not met.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect; or the role lacks `pg_monitor` where a key needs it.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod frames;
mod limits;
mod login;
mod session;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use conductor_net::{
    CheckError, DurationRules, LimitVerdict, NameResolver, PhaseClock, QueryValue, SqlQuery,
    TimeLimit, show_duration,
};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Metric, Report, export_plugin};

use crate::{
    config::PostgresConfig,
    limits::ServerLimits,
    login::Login,
    session::{Questions, SessionResult},
    state::ServerState,
};

export_plugin! {
    id: "postgres",
    async_probe: PostgresProbe,
    name: "PostgreSQL",
    needs: ["network", "unix-sockets"],
    metrics: [
        PHASE, DURATION, CERTIFICATE_EXPIRY, STANDBY, CONNECTIONS, MAX_CONNECTIONS, OLDEST_TRANSACTION, STREAMING,
        STANDBYS, LAG, BACKLOG, QUERY_VALUE,
    ],
}

const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the session.")
    .unit("seconds")
    .labels(["phase"]);
const DURATION: Metric = Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
const CERTIFICATE_EXPIRY: Metric = Metric::gauge(
    "certificate_expiry_timestamp",
    "Unix time until which the server's certificate is valid.",
)
.unit("seconds");
const STANDBY: Metric = Metric::gauge(
    "standby",
    "1 if the server is a standby, 0 if it is a primary.",
);
const CONNECTIONS: Metric = Metric::gauge("connections", "Client connections in use.");
const MAX_CONNECTIONS: Metric = Metric::gauge(
    "max_connections",
    "Connections that ordinary roles may open.",
);
const OLDEST_TRANSACTION: Metric = Metric::gauge(
    "oldest_transaction",
    "Age of the oldest transaction, 0 if there is none.",
)
.unit("seconds");
const STREAMING: Metric = Metric::gauge(
    "streaming",
    "1 if the standby receives WAL from its primary.",
);
const STANDBYS: Metric = Metric::gauge("standbys", "Standbys that stream from the server.");
const LAG: Metric = Metric::gauge(
    "replication_lag",
    "Replication lag of the standby, or of the slowest standby of the primary.",
)
.unit("seconds");
const BACKLOG: Metric = Metric::gauge(
    "replication_backlog",
    "WAL that the standby, or the slowest standby of the primary, has not replayed.",
)
.unit("bytes");
const QUERY_VALUE: Metric = Metric::gauge("query_value", "Value that the query returned.");

struct PostgresProbe {
    login: Login,
    query: Option<SqlQuery>,
    limits: ServerLimits,
    durations: DurationRules,
    resolver: NameResolver,
}

impl AsyncProbe for PostgresProbe {
    type Config = PostgresConfig;

    fn create(config: PostgresConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut expiry = None;
        let result = self.ask(&mut clock, &mut expiry).await;
        let took = clock.limit.elapsed();
        let report = match result {
            Ok(result) => self.judge(&result, &clock, took)?,
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

impl PostgresProbe {
    async fn ask(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<SessionResult, CheckError> {
        let opening = self.login.connect(&mut self.resolver, clock, expiry);
        let stream = opening.await?;
        let questions = Questions {
            limits: &self.limits,
            query: self.query.as_ref(),
        };
        questions.ask(&self.login, stream, clock).await
    }

    fn judge(
        &self,
        result: &SessionResult,
        clock: &PhaseClock<'_>,
        took: Duration,
    ) -> Result<Report, Failure> {
        let SessionResult { state, value } = result;
        let mut verdict = LimitVerdict::default();
        self.limits.judge(state, &self.login.user, &mut verdict);
        if let (Some(query), Some(value)) = (&self.query, value) {
            query.judge(value, &mut verdict);
        }
        for (status, slow) in self.durations.judge(took, |phase| clock.took(phase)) {
            verdict.add(status, slow);
        }
        let report = verdict.into_report(format!(
            "PostgreSQL {}, {}, {} of {} connections, in {}",
            state.version,
            state.role(),
            state.load.connections,
            state.load.max_connections,
            show_duration(took)
        ))?;
        let number = value.as_ref().and_then(QueryValue::number);
        let report = measure(report, state);
        Ok(set(report, &QUERY_VALUE, number.filter(|n| n.is_finite())))
    }
}

fn measure(report: Report, state: &ServerState) -> Report {
    let number = |flag: bool| if flag { 1.0 } else { 0.0 };
    let report = report
        .set(&STANDBY, [], number(state.is_standby))
        .set(&CONNECTIONS, [], state.load.connections)
        .set(&MAX_CONNECTIONS, [], state.load.max_connections);
    let streaming = state.is_standby.then(|| number(state.is_streaming));
    let report = set(report, &STREAMING, streaming);
    let report = set(report, &LAG, state.lag);
    let report = set(report, &BACKLOG, state.backlog);
    if !state.sees_all {
        return report;
    }
    report.set(&STANDBYS, [], state.standbys).set(
        &OLDEST_TRANSACTION,
        [],
        state.load.oldest_transaction.unwrap_or(0.0),
    )
}

fn set(report: Report, metric: &Metric, value: Option<f64>) -> Report {
    match value {
        Some(value) => report.set(metric, [], value),
        None => report,
    }
}
