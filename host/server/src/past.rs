//! The past of platforms: uptime, incidents, states over time, and the export of what is stored.
//!
//! Queries read a database that may be on a slow disk. They have turns of their own, so that they delay no other request.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use axum::{
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use conductor_config::{LONGEST_DURATION, parse_duration};
use conductor_types::views::{
    ExportPage, HistoryRange, IncidentView, PlatformHistoryView, PlatformUptimeView,
};
use serde::Serialize;

use super::{
    control::no_such_platform,
    routes::{RouterState, busy},
};

/// The source of platforms' past; called on threads that may block.
pub trait PastSource: Send + Sync {
    /// Returns a platform's past; `None` if nothing is known of a platform with this name.
    ///
    /// # Errors
    /// When there is no history, or it cannot be read now.
    fn platform(
        &self,
        name: &str,
        range: HistoryRange,
    ) -> Result<Option<PlatformHistoryView>, PastError>;

    /// Returns incidents, the latest first.
    ///
    /// # Errors
    /// When there is no history, or it cannot be read now.
    fn incidents(&self, query: &IncidentQuery) -> Result<Vec<IncidentView>, PastError>;

    /// Returns the uptime of these platforms, or of all that are monitored; those without a past are left out.
    ///
    /// # Errors
    /// When there is no history, or it cannot be read now.
    fn uptime(&self, platforms: &[String]) -> Result<Vec<PlatformUptimeView>, PastError>;

    /// Returns a part of the stored changes.
    ///
    /// # Errors
    /// When there is no history, or it cannot be read now.
    fn export(&self, query: ExportQuery) -> Result<ExportPage, PastError>;
}

/// The incidents that a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct IncidentQuery {
    /// Length of the past that they overlap, in seconds back from now.
    pub since: f64,
    /// Names of the platforms; empty for all.
    pub platforms: Vec<String>,
    /// Greatest number of incidents.
    pub limit: usize,
}

impl Default for IncidentQuery {
    fn default() -> Self {
        Self {
            since: HistoryRange::Week.length().as_secs_f64(),
            platforms: Vec::new(),
            limit: INCIDENTS,
        }
    }
}

/// The stored changes that a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ExportQuery {
    /// Length of the past, in seconds back from now; `None` for all of it.
    pub since: Option<f64>,
    /// [`ExportPage::next`] of the page before.
    pub after: Option<i64>,
}

/// The reason why there is no answer about the past.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PastError {
    /// The config turns the history off.
    #[error("this host keeps no history: `[history] enabled` is false in its config")]
    Disabled,
    /// It cannot be read at present, for this reason.
    #[error("the history cannot be read now: {0}")]
    Unavailable(String),
}

/// A source without a past.
pub struct NoPast;

impl PastSource for NoPast {
    fn platform(&self, _: &str, _: HistoryRange) -> Result<Option<PlatformHistoryView>, PastError> {
        Err(PastError::Disabled)
    }

    fn incidents(&self, _: &IncidentQuery) -> Result<Vec<IncidentView>, PastError> {
        Err(PastError::Disabled)
    }

    fn uptime(&self, _: &[String]) -> Result<Vec<PlatformUptimeView>, PastError> {
        Err(PastError::Disabled)
    }

    fn export(&self, _: ExportQuery) -> Result<ExportPage, PastError> {
        Err(PastError::Disabled)
    }
}

pub(super) async fn platform(
    State(shown): State<RouterState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let range = match range(query.as_deref()) {
        Ok(range) => range,
        Err(error) => return invalid(&error),
    };
    let asked = name.clone();
    let answer = answer(&shown, move |past| past.platform(&asked, range)).await;
    match answer.status() {
        StatusCode::NOT_FOUND => no_such_platform(&name),
        _ => answer,
    }
}

pub(super) async fn incidents(
    State(shown): State<RouterState>,
    RawQuery(query): RawQuery,
) -> Response {
    match incident_query(query.as_deref()) {
        Ok(query) => answer(&shown, move |past| past.incidents(&query).map(Some)).await,
        Err(error) => invalid(&error),
    }
}

pub(super) async fn uptime(
    State(shown): State<RouterState>,
    RawQuery(query): RawQuery,
) -> Response {
    let mut platforms = Vec::new();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "platform" => platforms.push(value.into_owned()),
            _ => return invalid(&QueryError::unknown(&key, "platform")),
        }
    }
    answer(&shown, move |past| past.uptime(&platforms).map(Some)).await
}

pub(super) async fn export(
    State(shown): State<RouterState>,
    RawQuery(query): RawQuery,
) -> Response {
    match export_query(query.as_deref()) {
        Ok(query) => answer(&shown, move |past| past.export(query).map(Some)).await,
        Err(error) => invalid(&error),
    }
}

/// A parameter of the URL that is wrong.
#[derive(Debug, PartialEq, thiserror::Error)]
enum QueryError {
    #[error("unknown parameter `{key}`: the parameters are {known}")]
    Unknown { key: String, known: &'static str },
    #[error("`{key}` is `{value}`: {expected}")]
    Value {
        key: &'static str,
        value: String,
        expected: String,
    },
}

impl QueryError {
    fn unknown(key: &str, known: &'static str) -> Self {
        Self::Unknown {
            key: key.to_owned(),
            known,
        }
    }
}

fn range(query: Option<&str>) -> Result<HistoryRange, QueryError> {
    let mut range = HistoryRange::default();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "range" => {
                range = value.parse().map_err(|error| QueryError::Value {
                    key: "range",
                    value: value.to_string(),
                    expected: format!("{error}"),
                })?;
            }
            _ => return Err(QueryError::unknown(&key, "`range`")),
        }
    }
    Ok(range)
}

fn incident_query(query: Option<&str>) -> Result<IncidentQuery, QueryError> {
    let mut wanted = IncidentQuery::default();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "since" => wanted.since = seconds(&value)?,
            "platform" => wanted.platforms.push(value.into_owned()),
            "limit" => wanted.limit = number::<usize>("limit", &value)?.min(INCIDENTS),
            _ => {
                let known = "`since`, `platform` and `limit`";
                return Err(QueryError::unknown(&key, known));
            }
        }
    }
    Ok(wanted)
}

fn export_query(query: Option<&str>) -> Result<ExportQuery, QueryError> {
    let mut wanted = ExportQuery::default();
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*key {
            "since" => wanted.since = Some(seconds(&value)?),
            "after" => wanted.after = Some(number("after", &value)?),
            _ => return Err(QueryError::unknown(&key, "`since` and `after`")),
        }
    }
    Ok(wanted)
}

fn seconds(value: &str) -> Result<f64, QueryError> {
    let wrong = |expected: String| QueryError::Value {
        key: "since",
        value: value.to_owned(),
        expected,
    };
    let since = parse_duration(value).map_err(|error| wrong(error.to_string()))?;
    if since > LONGEST_DURATION * 2 {
        return Err(wrong("it is at most two years".to_owned()));
    }
    Ok(since.as_secs_f64())
}

fn number<T: std::str::FromStr>(key: &'static str, value: &str) -> Result<T, QueryError> {
    value.parse().map_err(|_| QueryError::Value {
        key,
        value: value.to_owned(),
        expected: "it must be a number".to_owned(),
    })
}

fn invalid(error: &QueryError) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

/// Returns a platform's past for its page, which does not wait long for a slow disk.
pub(super) async fn of_platform(
    shown: &RouterState,
    name: &str,
    range: HistoryRange,
) -> Result<Option<PlatformHistoryView>, PastError> {
    let unavailable = |why: &str| PastError::Unavailable(why.to_owned());
    let (past, name) = (shown.state.past.clone(), name.to_owned());
    let look = async {
        let looking = shown
            .pasts
            .start(move || catch_unwind(AssertUnwindSafe(|| past.platform(&name, range))));
        let looking = looking
            .await
            .ok_or_else(|| unavailable("too many queries at once"))?;
        match looking.await {
            Ok(Ok(found)) => found,
            _ => Err(unavailable("the query panicked")),
        }
    };
    match tokio::time::timeout(PAGE_PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => Err(unavailable("it took longer than 2 s")),
    }
}

/// Returns what `look` finds as JSON, or 404 if it finds nothing.
async fn answer<T: Serialize + Send + 'static>(
    shown: &RouterState,
    look: impl FnOnce(&dyn PastSource) -> Result<Option<T>, PastError> + Send + 'static,
) -> Response {
    if !shown.budget.room().await {
        return busy();
    }
    let (past, budget) = (shown.state.past.clone(), shown.budget.clone());
    let looking = shown.pasts.start(move || {
        let found = catch_unwind(AssertUnwindSafe(|| look(&*past)));
        let text = match found {
            Ok(Ok(Some(found))) => serde_json::to_string(&found).map_err(|e| e.to_string()),
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Err(_) => Err("the query panicked".to_owned()),
        };
        let mut text = text.map_err(PastError::Unavailable)?;
        text.shrink_to_fit();
        Ok(Some(budget.charge(text)))
    });
    let Some(looking) = looking.await else {
        return busy();
    };
    let error = match looking.await {
        Ok(Ok(Some(text))) => {
            let json = (header::CONTENT_TYPE, "application/json");
            return ([json, (header::CACHE_CONTROL, "no-store")], text).into_response();
        }
        Ok(Ok(None)) => return StatusCode::NOT_FOUND.into_response(),
        Ok(Err(error)) => error,
        Err(error) => PastError::Unavailable(error.to_string()),
    };
    let code = match error {
        PastError::Disabled => StatusCode::NOT_IMPLEMENTED,
        PastError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{error}\n")).into_response()
}

/// The longest time that a page waits for its platform's past.
const PAGE_PATIENCE: Duration = Duration::from_secs(2);
/// The greatest number of incidents in a response.
const INCIDENTS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_wrong_ones_are_named() {
        assert_eq!(range(None), Ok(HistoryRange::Day));
        assert_eq!(range(Some("range=7d")), Ok(HistoryRange::Week));
        let query = incident_query(Some("since=2d&platform=a&platform=b%2Fc&limit=5"));
        let query = query.unwrap();
        assert_eq!(query.since, 172_800.0);
        assert_eq!(
            (query.platforms, query.limit),
            (vec!["a".into(), "b/c".into()], 5)
        );
        let query = export_query(Some("since=1h&after=7")).unwrap();
        assert_eq!((query.since, query.after), (Some(3600.0), Some(7)));
        let said = |error: Option<QueryError>| error.unwrap().to_string();
        for (error, expected) in [
            (
                range(Some("range=5d")).err(),
                "`range` is `5d`: unknown range: choose from 24h, 7d, 30d, 90d, 365d",
            ),
            (
                range(Some("x=1")).err(),
                "unknown parameter `x`: the parameters are `range`",
            ),
            (
                incident_query(Some("limit=x")).err(),
                "`limit` is `x`: it must be a number",
            ),
            (
                export_query(Some("since=900d")).err(),
                "`since` is `900d`: it is at most two years",
            ),
        ] {
            assert_eq!(said(error), expected);
        }
    }
}
