//! A session: login, the state of the server, the query, and the end of the session.

use std::{pin::pin, time::Duration};

use conductor_net::{ByteStream, CheckError, PhaseClock, QueryValue, SqlQuery};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};

use crate::{
    frames::FramedStream,
    limits::ServerLimits,
    login::{Login, judge},
    state::{STATE, ServerState},
};

/// The results of a session.
pub(crate) struct SessionResult {
    pub(crate) state: ServerState,
    /// The value of the configured query.
    pub(crate) value: Option<QueryValue>,
}

/// The questions of a session.
pub(crate) struct Questions<'a> {
    pub(crate) limits: &'a ServerLimits,
    pub(crate) query: Option<&'a SqlQuery>,
}

impl Questions<'_> {
    /// Logs in over the stream and asks: the phases `login`, `state` and `query`.
    pub(crate) async fn ask(
        &self,
        login: &Login,
        stream: Box<dyn ByteStream>,
        clock: &mut PhaseClock<'_>,
    ) -> Result<SessionResult, CheckError> {
        clock.enter("login");
        let session = login.session();
        let opening = session.connect_raw(FramedStream::new(stream), NoTls);
        let opened = within(clock, "the login", "cannot log in", opening).await;
        let (client, connection) = opened?;
        let mut connection = pin!(connection);
        let result = {
            let mut asking = pin!(self.ask_session(client, clock));
            tokio::select! {
                biased;
                result = &mut asking => result,
                ended = &mut connection => {
                    return match ended {
                        Err(error) => Err(judge("the session ended", error)),
                        // What was delivered before the end is still to be read.
                        Ok(()) => asking.await,
                    };
                }
            }
        };
        // The library says goodbye once its client is dropped, so that the server does not log an error.
        let _ = timeout(clock.limit.left().min(GOODBYE), connection).await;
        result
    }

    async fn ask_session(
        &self,
        client: Client,
        clock: &mut PhaseClock<'_>,
    ) -> Result<SessionResult, CheckError> {
        clock.enter("state");
        // The server gives up in time too, and no query can change anything.
        let patience = clock.limit.left().as_millis().max(1);
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {patience}; {STATE}");
        let mut state = read_state(&client, &begin, clock).await?;
        if self.limits.is_suspicious(&state) && clock.limit.left() > 4 * PAUSE {
            // The first transaction after a quiet hour looks like a lag of an hour until it is replayed.
            sleep(PAUSE).await;
            state = read_state(&client, STATE, clock).await?;
        }
        let value = match self.query {
            None => None,
            Some(query) => {
                clock.enter("query");
                let asking = client.simple_query(&query.sql);
                let answer = within(clock, "the query", "the query failed", asking).await?;
                Some(first_value(&answer))
            }
        };
        clock.end();
        Ok(SessionResult { state, value })
    }
}

async fn read_state(
    client: &Client,
    sql: &str,
    clock: &PhaseClock<'_>,
) -> Result<ServerState, CheckError> {
    let what = "cannot read the state of the server";
    let answer = within(
        clock,
        "the state of the server",
        what,
        client.simple_query(sql),
    );
    let answer = answer.await?;
    let row = answer.iter().find_map(row);
    row.and_then(ServerState::read)
        .ok_or_else(|| CheckError::Platform(format!("{what}: its values are not as expected")))
}

/// Waits for an answer within the limit; `awaited` names it in the message of a timeout, `what` failed in others.
async fn within<T>(
    clock: &PhaseClock<'_>,
    awaited: &str,
    what: &str,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, CheckError> {
    match timeout(clock.limit.left(), answer).await {
        Ok(answer) => answer.map_err(|error| judge(what, error)),
        Err(_) => Err(CheckError::Platform(format!(
            "no answer within {} (waiting for {awaited})",
            clock.limit.show()
        ))),
    }
}

fn first_value(answer: &[SimpleQueryMessage]) -> QueryValue {
    match answer.iter().find_map(row) {
        None => QueryValue::NoRow,
        Some(row) if row.is_empty() => QueryValue::NoRow,
        Some(row) => match row.get(0) {
            None => QueryValue::Null,
            Some(text) => QueryValue::Text(text.to_owned()),
        },
    }
}

fn row(message: &SimpleQueryMessage) -> Option<&SimpleQueryRow> {
    match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    }
}

/// Time between two readings of a lag.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest time to end a session, after the last response.
const GOODBYE: Duration = Duration::from_millis(100);
