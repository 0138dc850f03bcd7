//! The `mysql` probe: logs in to a MySQL or MariaDB server, runs a query, and checks replication, connections and the
//! oldest transaction.
//!
//! ```toml
//! [platform.shop-db]
//! plugin = "mysql"
//! config = { address = "db.example", user = "conductor", password = { file = "/etc/conductor/db.password" }, tls = {}, role = "primary", transaction = { degraded_above = "15m" } }
//!
//! [platform.shop-replica]
//! plugin = "mysql"
//! config = { address = "unix:/run/mysqld/mysqld.sock", user = "conductor", role = "replica", lag = { degraded_above = "30s", unhealthy_above = "5m" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | | `HOST` or `HOST:PORT` (3306), or a Unix socket as `unix:/PATH` |
//! | `user` | | account to log in with |
//! | `password` | none | its password |
//! | `database` | none | database to use |
//! | `tls` | no TLS | trust, client certificate and versions, as for `http`; `tls = {}` trusts the system's CAs |
//! | `query` | none | `sql` with one statement, and conditions on the first column of its first row: `equals`, `not_equals`, `degraded_above`, `unhealthy_above`, `degraded_below`, `unhealthy_below` |
//! | `role` | any | expected role, `primary` or `replica` |
//! | `replicating` | `true` | a replica must receive and apply changes |
//! | `lag` | no limits | limits of the replication lag: `degraded_above`, `unhealthy_above`, `degraded_below`, `unhealthy_below` |
//! | `connections` | 80 and 95 | limits of the connections in use, in percent of `max_connections` |
//! | `transaction` | no limits | limits of the age of the oldest transaction of InnoDB |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase |
//!
//! The account authenticates by `caching_sha2_password`, `mysql_native_password` or, over a Unix socket, by who connects
//! (`unix_socket`, `auth_socket`). A method that sends the password itself is used over TLS or a Unix socket alone;
//! `caching_sha2_password` is one until the server has cached the account. The account needs no privileges, except
//! `PROCESS` for `transaction`, and `REPLICATION CLIENT` (for MariaDB `REPLICA MONITOR`) for `role` and `lag`.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_mysql_phase_seconds` | `phase` | duration of `resolve` (absent for an IP address), `connect`, `greeting`, `tls` (with TLS), `login`, `state` and `query` |
//! | `conductor_mysql_duration_seconds` | | the whole check |
//! | `conductor_mysql_certificate_expiry_timestamp_seconds` | | Unix time until which the server's certificate is valid; with TLS |
//! | `conductor_mysql_read_only` | | 1 if the server refuses writes of ordinary accounts |
//! | `conductor_mysql_connections`, `conductor_mysql_max_connections` | | connections in use, and at most |
//! | `conductor_mysql_oldest_transaction_seconds` | | age of the oldest transaction, 0 if there is none; with `PROCESS` |
//! | `conductor_mysql_replica` | | 1 if the server is a replica, 0 if it is a primary; with the privilege |
//! | `conductor_mysql_replicating` | | of a replica: 1 if it receives and applies changes of all its sources |
//! | `conductor_mysql_replication_lag_seconds` | | largest lag of a replica behind one of its sources |
//! | `conductor_mysql_query_value` | | value of the query, if it is a number |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: no such host, connection refused, a bad certificate, a login that the
//! server refuses, a query that fails, no response in time, bytes of another protocol, more than 1 MiB of them, and every
//! limit and condition that is not met.
//!
//! A *failure* is a check that could not tell: the resolver did not respond, this machine has no network, no CA
//! certificates, no free file descriptor or port, or may not connect; or the account lacks the privilege that a key needs.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod config;
mod limits;
mod login;
mod packets;
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
use tokio::time::timeout;

use crate::{
    config::MysqlConfig,
    limits::ServerLimits,
    login::Login,
    packets::PacketError,
    session::{Session, within},
    state::{ServerState, is_mariadb},
};

export_plugin! {
    id: "mysql",
    async_probe: MysqlProbe,
    name: "MySQL",
    needs: ["network", "unix-sockets"],
    metrics: [
        PHASE, DURATION, CERTIFICATE_EXPIRY, READ_ONLY, CONNECTIONS, MAX_CONNECTIONS, OLDEST_TRANSACTION, REPLICA,
        REPLICATING, LAG, QUERY_VALUE,
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
const READ_ONLY: Metric = Metric::gauge(
    "read_only",
    "1 if the server refuses writes of ordinary accounts.",
);
const CONNECTIONS: Metric = Metric::gauge("connections", "Connections in use.");
const MAX_CONNECTIONS: Metric = Metric::gauge("max_connections", "Connections at most.");
const OLDEST_TRANSACTION: Metric = Metric::gauge(
    "oldest_transaction",
    "Age of the oldest transaction, 0 if there is none.",
)
.unit("seconds");
const REPLICA: Metric = Metric::gauge(
    "replica",
    "1 if the server is a replica, 0 if it is a primary.",
);
const REPLICATING: Metric = Metric::gauge(
    "replicating",
    "1 if the replica receives and applies changes of all its sources.",
);
const LAG: Metric = Metric::gauge(
    "replication_lag",
    "Largest lag of the replica behind one of its sources.",
)
.unit("seconds");
const QUERY_VALUE: Metric = Metric::gauge("query_value", "Value that the query returned.");

struct MysqlProbe {
    login: Login,
    query: Option<SqlQuery>,
    limits: ServerLimits,
    durations: DurationRules,
    resolver: NameResolver,
}

/// The results of a session: the state, and the value of the configured query.
struct SessionResult {
    state: ServerState,
    value: Option<QueryValue>,
}

impl AsyncProbe for MysqlProbe {
    type Config = MysqlConfig;

    fn create(config: MysqlConfig, _: &Context<'_>) -> Result<Self, Failure> {
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
        Ok(set(report, &CERTIFICATE_EXPIRY, expiry))
    }
}

impl MysqlProbe {
    async fn ask(
        &mut self,
        clock: &mut PhaseClock<'_>,
        expiry: &mut Option<f64>,
    ) -> Result<SessionResult, CheckError> {
        let mut session = self.login.open(&mut self.resolver, clock, expiry).await?;
        let result = self.ask_session(&mut session, clock).await;
        let _ = timeout(clock.limit.left(), session.end()).await;
        result
    }

    async fn ask_session(
        &self,
        session: &mut Session,
        clock: &mut PhaseClock<'_>,
    ) -> Result<SessionResult, CheckError> {
        clock.enter("state");
        let what = "cannot read the state of the server";
        let reading = ServerState::read(session);
        let state = within(clock, "the state of the server", what, reading).await?;
        let value = match &self.query {
            None => None,
            Some(query) => {
                clock.enter("query");
                let asking = run_query(session, &query.sql, clock.limit.left());
                Some(within(clock, "the query", "the query failed", asking).await?)
            }
        };
        clock.end();
        Ok(SessionResult { state, value })
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
        let role = state
            .role()
            .map_or(String::new(), |role| format!(", {role}"));
        let report = verdict.into_report(format!(
            "{}{role}, {} of {} connections, in {}",
            state.product,
            state.load.connections,
            state.load.max_connections,
            show_duration(took)
        ))?;
        let number = value.as_ref().and_then(QueryValue::number);
        let report = measure(report, state);
        Ok(set(report, &QUERY_VALUE, number.filter(|n| n.is_finite())))
    }
}

/// Runs the query of the config, which can change nothing, and which the server gives up in time too.
async fn run_query(
    session: &mut Session,
    sql: &str,
    left: Duration,
) -> Result<QueryValue, PacketError> {
    let limit = match is_mariadb(&session.version) {
        true => format!("max_statement_time = {:.3}", left.as_secs_f64()),
        false => format!("max_execution_time = {}", left.as_millis().max(1)),
    };
    match session.query(&format!("SET SESSION {limit}")).await {
        Err(error) if !error.is(UNKNOWN_VARIABLE) => return Err(error),
        // Older servers have no such limit.
        _ => {}
    }
    // A read-only transaction would be ended by a statement that defines something, such as CREATE TABLE.
    session.query("SET SESSION TRANSACTION READ ONLY").await?;
    Ok(session.query(sql).await?.first())
}

fn measure(report: Report, state: &ServerState) -> Report {
    let number = |flag: bool| if flag { 1.0 } else { 0.0 };
    let report = report
        .set(&READ_ONLY, [], number(state.is_read_only))
        .set(&CONNECTIONS, [], state.load.connections)
        .set(&MAX_CONNECTIONS, [], state.load.max_connections);
    let age = state.load.oldest_transaction.unwrap_or(0.0);
    let age = state.sees_transactions.then_some(age);
    let channels = state.channels.as_ref().filter(|all| !all.is_empty());
    let runs = channels.map(|all| number(all.iter().all(|channel| channel.is_running())));
    let report = set(report, &OLDEST_TRANSACTION, age);
    let report = set(report, &REPLICA, state.is_replica().map(number));
    let report = set(report, &REPLICATING, runs);
    set(report, &LAG, state.lag())
}

fn set(report: Report, metric: &Metric, value: Option<f64>) -> Report {
    match value {
        Some(value) => report.set(metric, [], value),
        None => report,
    }
}

/// Number of the error for a setting that the server does not have.
const UNKNOWN_VARIABLE: u16 = 1193;
