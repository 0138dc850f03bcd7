//! Returns the past that the server asks for, from the host's history.

use std::{path::Path, sync::Arc, time::Duration};

use conductor_config::HistoryConfig;
use conductor_engine::{board::StatusBoard, guard::GuardContext};
use conductor_history::{FILE, HistoryReader, QueryError};
use conductor_server::{ExportQuery, IncidentQuery, NoPast, PastError, PastSource};
use conductor_types::views::{
    DurationView, ExportPage, HistoryRange, IncidentView, PlatformHistoryView, PlatformUptimeView,
    SpanView, TimelineView, UptimeView,
};

use super::millis;

/// The past in the file of a running host.
pub(in crate::host) struct StoredPast {
    reader: HistoryReader,
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
}

impl StoredPast {
    /// Returns the source of the past of a host with this config.
    pub(in crate::host) fn source(
        config: &HistoryConfig,
        state_dir: &Path,
        shared: &Arc<GuardContext>,
        board: &Arc<StatusBoard>,
    ) -> Arc<dyn PastSource> {
        if !config.enabled {
            return Arc::new(NoPast);
        }
        Arc::new(Self {
            reader: HistoryReader::new(&state_dir.join(FILE), DEADLINE),
            shared: Arc::clone(shared),
            board: Arc::clone(board),
        })
    }

    fn now(&self) -> i64 {
        millis(self.shared.unix_seconds(self.shared.clock.now()))
    }

    /// Returns the past of a platform whose first result is not stored yet.
    fn nothing_yet(&self, name: &str, range: HistoryRange) -> PlatformHistoryView {
        let to = self.shared.unix_seconds(self.shared.clock.now());
        let from = to - range.length().as_secs_f64();
        let windows = HistoryRange::UPTIME.into_iter();
        PlatformHistoryView {
            platform: name.to_owned(),
            from,
            to,
            uptime: windows
                .map(|window| UptimeView {
                    window: window.label().to_owned(),
                    up: None,
                    known: 0.0,
                })
                .collect(),
            timeline: TimelineView {
                from,
                to,
                spans: vec![SpanView {
                    from,
                    to,
                    state: None,
                    maintenance: false,
                    message: String::new(),
                }],
            },
            incidents: Vec::new(),
            durations: DurationView {
                step: 300.0,
                buckets: Vec::new(),
            },
        }
    }
}

impl PastSource for StoredPast {
    fn platform(
        &self,
        name: &str,
        range: HistoryRange,
    ) -> Result<Option<PlatformHistoryView>, PastError> {
        let found = self.reader.platform(name, range, self.now());
        let found = found.map_err(|error| unavailable(&error))?;
        let is_monitored = || self.board.guard(name).is_some();
        Ok(found.or_else(|| is_monitored().then(|| self.nothing_yet(name, range))))
    }

    fn incidents(&self, query: &IncidentQuery) -> Result<Vec<IncidentView>, PastError> {
        let found = self.reader.incidents(
            &query.platforms,
            millis(query.since),
            query.limit,
            self.now(),
        );
        found.map_err(|error| unavailable(&error))
    }

    fn uptime(&self, platforms: &[String]) -> Result<Vec<PlatformUptimeView>, PastError> {
        let all: Vec<String>;
        let platforms = if platforms.is_empty() {
            all = self.board.names().iter().map(ToString::to_string).collect();
            &all
        } else {
            platforms
        };
        let found = self.reader.uptime(platforms, self.now());
        found.map_err(|error| unavailable(&error))
    }

    fn export(&self, query: ExportQuery) -> Result<ExportPage, PastError> {
        let since = query.since.map(millis);
        let found = self.reader.export(since, query.after, self.now());
        found.map_err(|error| unavailable(&error))
    }
}

fn unavailable(error: &QueryError) -> PastError {
    PastError::Unavailable(error.to_string())
}

/// The longest time that a query may take.
const DEADLINE: Duration = Duration::from_secs(8);
