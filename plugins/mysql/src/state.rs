//! The state of a server: its settings, load and replication.

use conductor_net::DatabaseLoad;

use crate::{
    packets::PacketError,
    session::{NamedRow, QueryResult, Session},
};

/// The state of a server at one moment.
#[derive(Debug)]
pub(crate) struct ServerState {
    /// Product and version, such as "MariaDB 10.11.6".
    pub(crate) product: String,
    pub(crate) is_read_only: bool,
    pub(crate) load: DatabaseLoad,
    /// The account may see the transactions of others.
    pub(crate) sees_transactions: bool,
    /// Sources that the server replicates, none if it is a primary; `None` if the account may not see them.
    pub(crate) channels: Option<Vec<ReplicationChannel>>,
}

/// The replication of one source.
#[derive(Debug)]
pub(crate) struct ReplicationChannel {
    /// Empty for the default channel.
    pub(crate) name: String,
    /// The thread that receives is connected to the source.
    pub(crate) is_receiving: bool,
    /// The thread that applies runs.
    pub(crate) is_applying: bool,
    /// The errors of both threads, or an empty text.
    pub(crate) error: String,
    /// Seconds behind the source; `None` while replication is stopped.
    pub(crate) lag: Option<f64>,
}

impl ServerState {
    /// Reads the state by a few queries.
    pub(crate) async fn read(session: &mut Session) -> Result<Self, PacketError> {
        let settings = session
            .query("SELECT @@GLOBAL.read_only, @@GLOBAL.max_connections")
            .await?;
        let threads = session
            .query("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
            .await?;
        let setting = |name: &str| number(settings.rows().next()?, &[name]);
        let connections = threads
            .rows()
            .next()
            .and_then(|row| number(row, &["Value"]));
        let unread = |what: &str| PacketError::Unexpected(format!("no number for {what}"));
        let (oldest, sees_transactions) = match session.query(TRANSACTIONS).await {
            Ok(found) => (oldest_transaction(&found), true),
            Err(error) if error.is(ACCESS_DENIED) => (None, false),
            Err(error) => return Err(error),
        };
        Ok(Self {
            product: product(&session.version),
            is_read_only: setting("@@GLOBAL.read_only").is_some_and(|number| number > 0.0),
            load: DatabaseLoad {
                connections: connections.ok_or_else(|| unread("Threads_connected"))?,
                max_connections: setting("@@GLOBAL.max_connections")
                    .ok_or_else(|| unread("max_connections"))?,
                oldest_transaction: oldest,
            },
            sees_transactions,
            channels: read_channels(session).await?,
        })
    }

    /// Returns `true` if the server replicates another one; `None` if the account may not see it.
    pub(crate) fn is_replica(&self) -> Option<bool> {
        Some(!self.channels.as_ref()?.is_empty())
    }

    /// Returns the largest lag of all sources, if it is known.
    pub(crate) fn lag(&self) -> Option<f64> {
        let lags = self
            .channels
            .iter()
            .flatten()
            .filter_map(|channel| channel.lag);
        lags.reduce(f64::max)
    }
}

impl ReplicationChannel {
    fn read(row: NamedRow<'_>) -> Self {
        let text = |names: &[&str]| row.text(names).unwrap_or_default();
        let errors = [text(&["Last_IO_Error"]), text(&["Last_SQL_Error"])];
        let errors: Vec<_> = errors
            .into_iter()
            .filter(|error| !error.is_empty())
            .collect();
        Self {
            name: text(&["Connection_name", "Channel_Name"]).to_owned(),
            is_receiving: text(&["Replica_IO_Running", "Slave_IO_Running"]) == "Yes",
            is_applying: text(&["Replica_SQL_Running", "Slave_SQL_Running"]) == "Yes",
            error: errors.join("; "),
            lag: number(row, &["Seconds_Behind_Source", "Seconds_Behind_Master"]),
        }
    }
}

/// Reads the channels by the first of the statements that this server knows.
async fn read_channels(
    session: &mut Session,
) -> Result<Option<Vec<ReplicationChannel>>, PacketError> {
    let statements: &[&str] = match is_mariadb(&session.version) {
        true => &["SHOW ALL SLAVES STATUS"],
        // Since 8.0.22, and before; 8.4 knows only the first.
        false => &["SHOW REPLICA STATUS", "SHOW SLAVE STATUS"],
    };
    let mut unknown = None;
    for statement in statements {
        match session.query(statement).await {
            Ok(found) => return Ok(Some(found.rows().map(ReplicationChannel::read).collect())),
            Err(error) if error.is(ACCESS_DENIED) => return Ok(None),
            Err(error) if error.is(SYNTAX_ERROR) => unknown = Some(error),
            Err(error) => return Err(error),
        }
    }
    match unknown {
        Some(error) => Err(error),
        None => Ok(None),
    }
}

pub(crate) fn is_mariadb(version: &str) -> bool {
    version.contains("MariaDB")
}

/// Returns product and version; MariaDB puts a version of MySQL before its own.
fn product(version: &str) -> String {
    let name = match is_mariadb(version) {
        true => "MariaDB",
        false => "MySQL",
    };
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    format!("{name} {}", version.split('-').next().unwrap_or_default())
}

fn oldest_transaction(found: &QueryResult) -> Option<f64> {
    let age = number(found.rows().next()?, &["age"])?;
    Some(age.max(0.0))
}

fn number(row: NamedRow<'_>, names: &[&str]) -> Option<f64> {
    row.text(names)?
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite())
}

/// Transactions of InnoDB but that of the probe; their start is in the time zone of the system.
const TRANSACTIONS: &str = "\
SELECT TIMESTAMPDIFF(SECOND, MIN(trx_started), CONVERT_TZ(NOW(), @@SESSION.time_zone, 'SYSTEM')) AS age \
FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id <> CONNECTION_ID()";

/// Number of the error for a missing privilege.
const ACCESS_DENIED: u16 = 1227;

/// Number of the error for a statement that the server does not know.
const SYNTAX_ERROR: u16 = 1064;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_named_with_their_own_version() {
        for (version, expected) in [
            ("5.5.5-10.11.6-MariaDB-0+deb12u1", "MariaDB 10.11.6"),
            ("11.4.2-MariaDB-log", "MariaDB 11.4.2"),
            ("8.0.36", "MySQL 8.0.36"),
            ("8.4.0-commercial", "MySQL 8.4.0"),
        ] {
            assert_eq!(product(version), expected);
        }
    }
}
