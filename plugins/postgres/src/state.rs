//! The state of a server, as one query returns it.

use conductor_net::DatabaseLoad;
use tokio_postgres::SimpleQueryRow;

/// Returns one row, for PostgreSQL 10 and newer, on primaries and standbys.
///
/// Only members of `pg_read_all_stats` see the type and the transaction of other sessions, and the positions of standbys.
pub(crate) const STATE: &str = "\
WITH received AS (
  SELECT greatest(pg_last_wal_receive_lsn(), (SELECT latest_end_lsn FROM pg_stat_wal_receiver)) AS lsn,
    EXISTS (SELECT FROM pg_stat_wal_receiver WHERE coalesce(status, 'streaming') = 'streaming') AS is_streaming
), standbys AS (
  SELECT count(*) AS number,
    max(extract(epoch FROM coalesce(replay_lag, interval '0'))) AS lag,
    max(pg_wal_lsn_diff(
      CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, replay_lsn)) AS backlog
  FROM pg_stat_replication AS standby
  WHERE state IN ('streaming', 'catchup') AND NOT EXISTS (
    SELECT FROM pg_replication_slots AS slot WHERE slot.active_pid = standby.pid AND slot.slot_type = 'logical')
), open (since) AS (
  SELECT xact_start FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
  UNION ALL SELECT prepared FROM pg_prepared_xacts
)
SELECT current_setting('server_version'),
  pg_is_in_recovery(),
  pg_has_role('pg_read_all_stats', 'USAGE'),
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true), '0')::int,
  (SELECT count(*) FROM pg_stat_activity
    WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'),
  (SELECT extract(epoch FROM clock_timestamp() - min(since)) FROM open),
  received.is_streaming,
  standbys.number,
  CASE WHEN NOT pg_is_in_recovery() THEN standbys.lag
    WHEN received.is_streaming AND pg_last_wal_replay_lsn() >= received.lsn THEN 0
    ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END,
  CASE WHEN NOT pg_is_in_recovery() THEN standbys.backlog
    ELSE pg_wal_lsn_diff(received.lsn, pg_last_wal_replay_lsn()) END
FROM received, standbys";

/// The state of a server at one moment.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) version: String,
    pub(crate) is_standby: bool,
    /// The role may see the sessions of others.
    pub(crate) sees_all: bool,
    /// Client connections and those that ordinary roles may open; transactions where the role sees all.
    pub(crate) load: DatabaseLoad,
    /// The standby receives WAL from another server.
    pub(crate) is_streaming: bool,
    /// Number of standbys that stream from this server.
    pub(crate) standbys: f64,
    /// Lag of this standby, or of the slowest one of this primary, in seconds.
    pub(crate) lag: Option<f64>,
    /// WAL that this standby, or the slowest one of this primary, has not replayed, in bytes.
    pub(crate) backlog: Option<f64>,
}

impl ServerState {
    /// Reads the row of [`STATE`]; `None` if a value is not as expected.
    pub(crate) fn read(row: &SimpleQueryRow) -> Option<Self> {
        let text = |column| row.try_get(column).ok().flatten();
        let flag = |column| match text(column)? {
            "t" => Some(true),
            "f" => Some(false),
            _ => None,
        };
        let number = |column| text(column)?.parse().ok().filter(|n: &f64| n.is_finite());
        // Clocks differ, and what is received is known a little later than what is replayed.
        let amount = |column| number(column).map(|number| number.max(0.0));
        Some(Self {
            version: text(0)?.split(' ').next()?.to_owned(),
            is_standby: flag(1)?,
            sees_all: flag(2)?,
            load: DatabaseLoad {
                max_connections: number(3)?,
                connections: number(4)?,
                oldest_transaction: amount(5),
            },
            is_streaming: flag(6)?,
            standbys: number(7)?,
            lag: amount(8),
            backlog: amount(9),
        })
    }
}
