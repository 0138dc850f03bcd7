//! Queries, each with a connection of its own and a deadline.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_types::{
    PlatformState,
    views::{
        DurationBucketView, DurationView, ExportPage, ExportRecord, HistoryRange, IncidentView,
        PlatformHistoryView, PlatformUptimeView, SpanView, TimelineView, UptimeView,
    },
};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use crate::{
    rollup::{RollupCell, RollupTier},
    store::{self, decode_state, rolled_before},
    timeline::{self, HostRun, PlatformIncident, StoredChange, StoredState, TimelineSpan},
};

/// The reason why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no file.
    #[error("{} does not exist: a host that keeps a history creates it", .0.display())]
    NoFile(PathBuf),
    /// The file was written by a newer host.
    #[error("{} has schema version {found}, and this program knows up to {}: use the newer program", .path.display(), store::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// It took too long.
    #[error("the query took longer than {0:?}: the disk is slow or busy; ask for less")]
    TimedOut(Duration),
    /// SQLite refuses, for this reason.
    #[error("cannot read {}: {source}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
}

/// Runs queries about the past; they block.
#[derive(Clone, Debug)]
pub struct HistoryReader {
    path: PathBuf,
    deadline: Duration,
}

/// A platform in the file.
struct StoredPlatform {
    id: i64,
    name: String,
    group: Option<String>,
}

impl HistoryReader {
    /// Creates a reader of a file, which each query opens; a query takes at most `deadline`.
    #[must_use]
    pub fn new(path: &Path, deadline: Duration) -> Self {
        Self {
            path: path.to_owned(),
            deadline,
        }
    }

    /// Returns a platform's past up to `now`, in milliseconds since 1970; `None` if the file has nothing about it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn platform(
        &self,
        name: &str,
        range: HistoryRange,
        now: i64,
    ) -> Result<Option<PlatformHistoryView>, QueryError> {
        self.ask(|file| {
            let Some(platform) = file.platform(name)? else {
                return Ok(None);
            };
            let runs = file.runs()?;
            let to = known_end(&runs, now);
            let from = to - millis(range.length());
            let longest = to - millis(HistoryRange::Quarter.length());
            let changes = file.changes(platform.id, from.min(longest))?;
            let all = timeline::spans(&changes, &runs, first_at(&changes, from.min(longest)), to);
            let shown = timeline::spans(&changes, &runs, from, to);
            Ok(Some(PlatformHistoryView {
                platform: platform.name.clone(),
                from: seconds(from),
                to: seconds(to),
                uptime: uptime_views(&all, to),
                timeline: TimelineView {
                    from: seconds(from),
                    to: seconds(to),
                    spans: span_views(&shown, from, to),
                },
                incidents: incident_views(&platform, &all, from, to, SHOWN_INCIDENTS),
                durations: file.durations(platform.id, range, from, to)?,
            }))
        })
    }

    /// Returns the incidents of these platforms, or of all, that overlap the last `since` milliseconds; the latest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn incidents(
        &self,
        platforms: &[String],
        since: i64,
        limit: usize,
        now: i64,
    ) -> Result<Vec<IncidentView>, QueryError> {
        self.ask(|file| {
            let runs = file.runs()?;
            let to = known_end(&runs, now);
            let from = to.saturating_sub(since);
            let mut found = Vec::new();
            for platform in file.ever_bad()? {
                if !platforms.is_empty() && !platforms.contains(&platform.name) {
                    continue;
                }
                let changes = file.changes(platform.id, from)?;
                let all = timeline::spans(&changes, &runs, first_at(&changes, from), to);
                found.extend(incident_views(&platform, &all, from, to, limit));
            }
            found.sort_by(|a, b| {
                b.start
                    .total_cmp(&a.start)
                    .then_with(|| a.platform.cmp(&b.platform))
            });
            found.truncate(limit);
            Ok(found)
        })
    }

    /// Returns the uptime of these platforms; those without a past are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn uptime(
        &self,
        platforms: &[String],
        now: i64,
    ) -> Result<Vec<PlatformUptimeView>, QueryError> {
        self.ask(|file| {
            let runs = file.runs()?;
            let to = known_end(&runs, now);
            let from = to - millis(HistoryRange::Quarter.length());
            let mut views = Vec::new();
            for name in platforms {
                let Some(platform) = file.platform(name)? else {
                    continue;
                };
                let changes = file.changes(platform.id, from)?;
                let all = timeline::spans(&changes, &runs, from, to);
                views.push(PlatformUptimeView {
                    platform: platform.name,
                    group: platform.group,
                    windows: uptime_views(&all, to),
                });
            }
            Ok(views)
        })
    }

    /// Returns stored changes, at most 10 000, of the last `since` milliseconds or of all time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn export(
        &self,
        since: Option<i64>,
        after: Option<i64>,
        now: i64,
    ) -> Result<ExportPage, QueryError> {
        self.ask(|file| {
            let mut select = file.connection.prepare_cached(
                "SELECT change.id, at, platform.name, plugin.name, group_label, state, coalesce(message, '')
                 FROM change JOIN platform ON platform.id = platform JOIN plugin ON plugin.id = platform.plugin
                 WHERE change.id > ?1 AND at >= ?2 ORDER BY change.id LIMIT ?3",
            )?;
            let from = since.map_or(i64::MIN, |since| now.saturating_sub(since));
            let limit = i64::try_from(EXPORTED).unwrap_or(i64::MAX);
            let mut rows = select.query(params![after.unwrap_or(i64::MIN), from, limit])?;
            let mut page = ExportPage::default();
            let mut last = None;
            while let Some(row) = rows.next()? {
                let (state, maintenance) = decode_state(row.get(5)?);
                last = Some(row.get(0)?);
                page.records.push(ExportRecord {
                    at: seconds(row.get(1)?),
                    platform: row.get(2)?,
                    plugin: row.get(3)?,
                    group: row.get(4)?,
                    state: state.label().to_owned(),
                    maintenance,
                    message: row.get(6)?,
                });
            }
            if page.records.len() == EXPORTED {
                page.next = last;
            }
            Ok(page)
        })
    }

    /// Opens the file and runs a query on it.
    fn ask<T>(
        &self,
        query: impl FnOnce(&OpenHistory) -> Result<T, rusqlite::Error>,
    ) -> Result<T, QueryError> {
        if !self.path.exists() {
            return Err(QueryError::NoFile(self.path.clone()));
        }
        let answered = OpenHistory::open(&self.path, self.deadline).and_then(|(file, found)| {
            if found > store::VERSION {
                return Ok(Err(found));
            }
            query(&file).map(Ok)
        });
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(found)) => Err(QueryError::Newer {
                path: self.path.clone(),
                found,
            }),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Err(QueryError::TimedOut(self.deadline))
            }
            Err(source) => Err(QueryError::Sqlite {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

/// The file, open for one query.
struct OpenHistory {
    connection: Connection,
}

impl OpenHistory {
    /// Opens the file; returns the version of its schema, too.
    fn open(path: &Path, deadline: Duration) -> Result<(Self, i64), rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(deadline)?;
        let clock = Clock::start();
        connection.progress_handler(STEPS_PER_LOOK, Some(move || clock.now() > deadline))?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        // One state of the file for all of a query.
        connection.execute_batch("BEGIN")?;
        Ok((Self { connection }, version))
    }

    fn platform(&self, name: &str) -> Result<Option<StoredPlatform>, rusqlite::Error> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, name, group_label FROM platform WHERE name = ?1")?;
        select.query_row([name], stored_platform).optional()
    }

    /// Returns the platforms that have ever been part of an incident.
    fn ever_bad(&self) -> Result<Vec<StoredPlatform>, rusqlite::Error> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, name, group_label FROM platform WHERE id IN
             (SELECT platform FROM change WHERE state & 7 IN (2, 3))",
        )?;
        let rows = select.query_map([], stored_platform)?;
        rows.collect()
    }

    fn runs(&self) -> Result<Vec<HostRun>, rusqlite::Error> {
        let mut select = self
            .connection
            .prepare_cached("SELECT start, seen FROM run ORDER BY start, id")?;
        let rows = select.query_map([], |row| {
            Ok(HostRun {
                start: row.get(0)?,
                seen: row.get(1)?,
            })
        })?;
        rows.collect()
    }

    /// Returns a platform's changes from `from` on, and those before that its state at `from`, or the incident that lasts
    /// then, began with.
    fn changes(&self, platform: i64, from: i64) -> Result<Vec<StoredChange>, rusqlite::Error> {
        let mut before = self.connection.prepare_cached(
            "SELECT at, state, message FROM change WHERE platform = ?1 AND at <= ?2 ORDER BY at DESC, id DESC",
        )?;
        let mut changes = Vec::new();
        let mut rows = before.query([platform, from])?;
        while let Some(row) = rows.next()? {
            let change = stored_change(row)?;
            let ends = change.state.is_up();
            changes.push(change);
            if ends || changes.len() == WALKED_BACK {
                break;
            }
        }
        changes.reverse();
        let mut after = self.connection.prepare_cached(
            "SELECT at, state, message FROM change WHERE platform = ?1 AND at > ?2 ORDER BY at, id",
        )?;
        for change in after.query_map([platform, from], stored_change)? {
            changes.push(change?);
        }
        Ok(changes)
    }

    fn durations(
        &self,
        platform: i64,
        range: HistoryRange,
        from: i64,
        to: i64,
    ) -> Result<DurationView, rusqlite::Error> {
        let (tier, per_step) = match range {
            HistoryRange::Day => (RollupTier::Five, 1),
            HistoryRange::Week => (RollupTier::Hour, 1),
            HistoryRange::Month => (RollupTier::Hour, 4),
            HistoryRange::Quarter | HistoryRange::Year => (RollupTier::Day, 1),
        };
        let step = tier.millis() * per_step;
        let mut steps = std::collections::BTreeMap::<i64, RollupCell>::new();
        let mut from = from.div_euclid(step) * step;
        let mut tier = Some(tier);
        // What is not rolled up yet comes from the finer tiers.
        while let Some(current) = tier {
            let until = match current.finer() {
                None => to,
                Some(_) => {
                    rolled_before(&self.connection, current)?.map_or(from, |b| b * current.millis())
                }
            };
            let mut select = self.connection.prepare_cached(&format!(
                "SELECT cell FROM {} WHERE key = ?1",
                current.table()
            ))?;
            let mut at = from.div_euclid(current.millis());
            while at * current.millis() < until.min(to) {
                let cell: Option<Vec<u8>> = select
                    .query_row([store::key(at, platform)], |row| row.get(0))
                    .optional()?;
                if let Some(cell) = cell.and_then(|cell| RollupCell::decode(&cell)) {
                    let start = at * current.millis();
                    steps
                        .entry(start.div_euclid(step) * step)
                        .or_default()
                        .merge(&cell);
                }
                at += 1;
            }
            from = from.max(until);
            tier = current.finer();
        }
        let buckets = steps.into_iter().filter(|(_, cell)| cell.checks > 0);
        Ok(DurationView {
            step: seconds(step),
            buckets: buckets
                .map(|(at, cell)| DurationBucketView {
                    at: seconds(at),
                    checks: cell.checks,
                    p50: cell.durations.percentile(50).as_secs_f64(),
                    p95: cell.durations.percentile(95).as_secs_f64(),
                    max: cell.durations.max().as_secs_f64(),
                })
                .collect(),
        })
    }
}

fn stored_platform(row: &rusqlite::Row<'_>) -> Result<StoredPlatform, rusqlite::Error> {
    Ok(StoredPlatform {
        id: row.get(0)?,
        name: row.get(1)?,
        group: row.get(2)?,
    })
}

fn stored_change(row: &rusqlite::Row<'_>) -> Result<StoredChange, rusqlite::Error> {
    let (state, maintenance) = decode_state(row.get(1)?);
    Ok(StoredChange {
        at: row.get(0)?,
        state,
        maintenance,
        message: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
    })
}

/// Returns the end of what a view covers: the last batch of a running host, whose next one is not stored yet, or now.
fn known_end(runs: &[HostRun], now: i64) -> i64 {
    let seen = runs.last().map_or(now, |run| run.seen);
    if (0..RUNNING).contains(&(now - seen)) {
        seen
    } else {
        now
    }
}

/// Returns the time from which a platform's spans are computed, so that an incident has its true start.
fn first_at(changes: &[StoredChange], from: i64) -> i64 {
    changes.first().map_or(from, |change| change.at.min(from))
}

fn uptime_views(spans: &[TimelineSpan<'_>], to: i64) -> Vec<UptimeView> {
    let windows = HistoryRange::UPTIME.into_iter();
    windows
        .map(|window| {
            let time = timeline::uptime(spans, to - millis(window.length()), to);
            UptimeView {
                window: window.label().to_owned(),
                up: (time.known > 0).then(|| seconds(time.up) / seconds(time.known)),
                known: seconds(time.known),
            }
        })
        .collect()
}

/// Returns views of the spans; if there are too many, of the worst state in each of equal slices.
fn span_views(spans: &[TimelineSpan<'_>], from: i64, to: i64) -> Vec<SpanView> {
    let joined = timeline::joined(spans);
    if joined.len() <= SHOWN_SPANS {
        return joined.iter().map(span_view).collect();
    }
    let slices = i64::try_from(SHOWN_SPANS / 2).unwrap_or(1);
    let slice = ((to - from) / slices).max(1);
    let mut worst: Vec<TimelineSpan<'_>> = Vec::new();
    let urgency = |span: &TimelineSpan<'_>| match span.state() {
        Some(StoredState::Unhealthy) => 4,
        Some(StoredState::Failed) => 3,
        Some(StoredState::Degraded) => 2,
        Some(StoredState::Healthy) => 1,
        Some(StoredState::None) | None => 0,
    };
    for span in &joined {
        match worst.last_mut() {
            Some(last) if span.to - last.from < slice || last.to - last.from < slice => {
                if urgency(span) > urgency(last) {
                    last.change = span.change;
                }
                last.to = span.to;
            }
            _ => worst.push(*span),
        }
    }
    worst.iter().map(span_view).collect()
}

fn span_view(span: &TimelineSpan<'_>) -> SpanView {
    let state = span.state();
    let change = span.change.filter(|_| state.is_some());
    SpanView {
        from: seconds(span.from),
        to: seconds(span.to),
        state: state.and_then(StoredState::shown),
        maintenance: change.is_some_and(|change| change.maintenance),
        message: change
            .map(|change| change.message.clone())
            .unwrap_or_default(),
    }
}

/// Returns views of the latest incidents that overlap a range, the latest first.
fn incident_views(
    platform: &StoredPlatform,
    spans: &[TimelineSpan<'_>],
    from: i64,
    to: i64,
    limit: usize,
) -> Vec<IncidentView> {
    let view = |incident: PlatformIncident| IncidentView {
        platform: platform.name.clone(),
        group: platform.group.clone(),
        start: seconds(incident.start),
        end: incident.end.map(seconds),
        duration: seconds(incident.end.unwrap_or(to) - incident.start),
        state: match incident.state {
            StoredState::Unhealthy => PlatformState::Unhealthy,
            _ => PlatformState::Unknown,
        },
        message: incident.message,
        maintenance: incident.maintenance,
    };
    let found = timeline::incidents(spans).into_iter().rev();
    found
        .filter(|incident| incident.end.is_none_or(|end| end > from))
        .take(limit)
        .map(view)
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285 000 years")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

/// A host whose last batch is at most this old counts as running, in milliseconds.
const RUNNING: i64 = 60_000;
/// SQLite's steps between two looks at the deadline.
const STEPS_PER_LOOK: i32 = 10_000;
/// The most changes before a range that are read for the start of its first incident.
const WALKED_BACK: usize = 1_000;
/// The most incidents in the view of one platform.
const SHOWN_INCIDENTS: usize = 200;
/// The most spans in a view.
const SHOWN_SPANS: usize = 2_000;
/// The records of one page of an export.
const EXPORTED: usize = 10_000;

#[cfg(test)]
mod tests;
