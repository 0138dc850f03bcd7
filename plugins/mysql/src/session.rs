//! A session after the login: queries and their rows.

use conductor_net::{CheckError, PhaseClock, QueryValue};
use mysql_common::{constants::CapabilityFlags, io::ParseBuf, packets::Column};
use tokio::time::timeout;

use crate::packets::{PacketError, PacketStream};

/// An open session.
pub(crate) struct Session {
    pub(crate) packets: PacketStream,
    pub(crate) capabilities: CapabilityFlags,
    /// Version in the greeting of the server.
    pub(crate) version: String,
}

/// The rows of a result. Values are texts.
#[derive(Debug, Default)]
pub(crate) struct QueryResult {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl QueryResult {
    /// Returns the first value of the first row.
    pub(crate) fn first(&self) -> QueryValue {
        match self.rows.first().and_then(|row| row.first()) {
            None => QueryValue::NoRow,
            Some(None) => QueryValue::Null,
            Some(Some(text)) => QueryValue::Text(text.clone()),
        }
    }

    /// Returns the rows, whose values are found by the name of their column.
    pub(crate) fn rows(&self) -> impl Iterator<Item = NamedRow<'_>> {
        self.rows.iter().map(|values| NamedRow {
            columns: &self.columns,
            values,
        })
    }
}

/// A row of a result.
#[derive(Clone, Copy)]
pub(crate) struct NamedRow<'a> {
    columns: &'a [String],
    values: &'a [Option<String>],
}

impl<'a> NamedRow<'a> {
    /// Returns the value of the first of these columns that exists and is not NULL.
    pub(crate) fn text(&self, names: &[&str]) -> Option<&'a str> {
        let mut places = names
            .iter()
            .filter_map(|name| self.columns.iter().position(|column| column == name));
        let place = places.next()?;
        self.values.get(place)?.as_deref()
    }
}

impl Session {
    /// Runs a statement and reads all its rows.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<QueryResult, PacketError> {
        self.packets.command(COM_QUERY, sql).await?;
        let head = self.packets.read(self.capabilities).await?;
        match head.first() {
            Some(0) => return Ok(QueryResult::default()),
            Some(&LOCAL_INFILE) => {
                return Err(PacketError::Unexpected("a request for a file".to_owned()));
            }
            _ => {}
        }
        let count = ParseBuf(&head).checked_eat_lenenc_int();
        let mut columns = Vec::new();
        for _ in 0..count.unwrap_or(0) {
            let payload = self.packets.read(self.capabilities).await?;
            let column: Column = ParseBuf(&payload).parse(())?;
            columns.push(column.name_str().into_owned());
        }
        self.end_of_columns().await?;
        let mut rows = Vec::new();
        loop {
            let payload = self.packets.read(self.capabilities).await?;
            if is_end(&payload) {
                return Ok(QueryResult { columns, rows });
            }
            let row = read_row(&payload, columns.len());
            rows.push(row.ok_or_else(|| PacketError::Unexpected("a short row".to_owned()))?);
        }
    }

    async fn end_of_columns(&mut self) -> Result<(), PacketError> {
        let payload = self.packets.read(self.capabilities).await?;
        match is_end(&payload) {
            true => Ok(()),
            false => Err(PacketError::Unexpected("more columns".to_owned())),
        }
    }

    /// Ends the session, so that the server does not log an error.
    pub(crate) async fn end(mut self) {
        let _ = self.packets.command(COM_QUIT, "").await;
    }
}

/// Waits for an answer within the limit; `awaited` names it in the message of a timeout, `what` failed in others.
pub(crate) async fn within<T>(
    clock: &PhaseClock<'_>,
    awaited: &str,
    what: &str,
    answer: impl Future<Output = Result<T, PacketError>>,
) -> Result<T, CheckError> {
    match timeout(clock.limit.left(), answer).await {
        Ok(answer) => answer.map_err(|error| error.into_check_error(what)),
        Err(_) => Err(CheckError::Platform(format!(
            "no answer within {} (waiting for {awaited})",
            clock.limit.show()
        ))),
    }
}

/// Returns the values of a row; `None` if they are cut off.
fn read_row(payload: &[u8], columns: usize) -> Option<Vec<Option<String>>> {
    let mut buffer = ParseBuf(payload);
    let mut value = || {
        if buffer.0.first() == Some(&NULL) {
            buffer.skip(1);
            return Some(None);
        }
        let text = buffer.checked_eat_lenenc_str()?;
        Some(Some(String::from_utf8_lossy(text).into_owned()))
    };
    (0..columns).map(|_| value()).collect()
}

/// Returns `true` for the packet after the last column or row.
fn is_end(payload: &[u8]) -> bool {
    payload.first() == Some(&END) && payload.len() < 9
}

const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;

/// First byte of a response that asks for a file of the client.
const LOCAL_INFILE: u8 = 0xfb;

/// First byte of the value NULL in a row.
const NULL: u8 = 0xfb;

/// First byte of the packet that ends columns or rows.
const END: u8 = 0xfe;
