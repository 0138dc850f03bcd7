//! Stands before the loading of one plugin, and counts its stuck calls.
//!
//! The same breaker as for checks, so that a plugin that does not load is tried again on the breaker's schedule: never
//! given up for good, and never in a tight loop.

use std::{sync::Arc, time::Duration};

use super::locked::Locked;
use crate::{
    breaker::{Breaker, Outcome, Settings, Ticket},
    library::Vetted,
    metrics::{ErrorType, Isolation, PluginInfo, PluginMetrics},
    plugin::{Description, Failure, LoadError},
    state::{LoadState, PluginView},
};

/// Stands before the loading of one plugin.
pub struct PluginGuard {
    id: Arc<str>,
    metrics: Arc<PluginMetrics>,
    stuck_limit: u64,
    inner: Locked<Inner>,
}

struct Inner {
    breaker: Breaker,
    state: LoadState,
    loaded: Option<Loaded>,
}

/// What is known of the library a plugin was loaded from.
struct Loaded {
    description: Description,
    vetted: Arc<Vetted>,
}

impl PluginGuard {
    /// A guard for a plugin that is not loaded yet; from `stuck_limit` stuck calls on it gets no further ones.
    pub fn new(
        id: &str,
        settings: Settings,
        stuck_limit: u64,
        metrics: Arc<PluginMetrics>,
    ) -> Self {
        Self {
            id: id.into(),
            metrics,
            stuck_limit,
            inner: Locked::new(Inner {
                breaker: Breaker::new(settings, 0),
                state: LoadState::Waiting,
                loaded: None,
            }),
        }
    }

    /// What platforms call the plugin by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Asks to load the plugin now; the ticket goes to [`ended`](Self::ended). `None` while it is loading, when it is
    /// loaded, and while the breaker is open.
    pub fn begin(&self, now: Duration) -> Option<Ticket> {
        let mut inner = self.inner.lock();
        if matches!(inner.state, LoadState::Loading | LoadState::Loaded) {
            return None;
        }
        let ticket = inner.breaker.admit(now, LOAD_LEASE).ok()?;
        // What was wrong the last time is shown until it is known what is wrong this time.
        if matches!(inner.state, LoadState::Waiting) {
            inner.state = LoadState::Loading;
        }
        Some(ticket)
    }

    /// Records that a loading could not even begin.
    pub fn not_begun(&self, error: LoadError) {
        tracing::error!(plugin = &*self.id, "not loaded: {error}");
        self.inner.lock().state = LoadState::Failed(error);
    }

    /// Records how the loading went.
    pub fn ended(
        &self,
        ticket: Ticket,
        now: Duration,
        result: Result<(Description, Arc<Vetted>), LoadError>,
    ) {
        self.log_load(&result);
        let mut inner = self.inner.lock();
        let outcome = match result {
            Ok((description, vetted)) => {
                self.metrics.set_info(PluginInfo {
                    version: description.version.clone(),
                    api_version: description.api.to_string(),
                    isolation: Isolation::InProcess,
                    sha256: vetted.sha256.to_string(),
                });
                inner.state = LoadState::Loaded;
                inner.loaded = Some(Loaded {
                    description,
                    vetted,
                });
                Outcome::Success
            }
            Err(error) => {
                inner.state = LoadState::Failed(error);
                Outcome::Failure
            }
        };
        // Nobody resets this breaker, and one loading at a time holds its ticket: it cannot be stale.
        let _ = inner.breaker.record(ticket, outcome, now);
    }

    fn log_load(&self, result: &Result<(Description, Arc<Vetted>), LoadError>) {
        let plugin = &*self.id;
        match result {
            Ok((description, vetted)) => tracing::info!(
                plugin,
                "loaded version {} from {}",
                description.version,
                vetted.origin.display()
            ),
            Err(error) => {
                let known = matches!(&self.inner.lock().state, LoadState::Failed(before) if before.message == error.message);
                if !known {
                    tracing::error!(plugin, "not loaded: {error}");
                    if let Some(detail) = &error.detail {
                        tracing::debug!(plugin, "{detail}");
                    }
                }
            }
        }
    }

    /// What a check of this plugin's platforms comes to while it is not loaded.
    pub fn failure(&self) -> Failure {
        match &self.inner.lock().state {
            LoadState::Failed(error) => {
                Failure::new(error.kind, format!("the plugin is not loaded: {error}"))
            }
            LoadState::Waiting | LoadState::Loading | LoadState::Loaded => Failure::new(
                ErrorType::Load,
                format!("plugin {} is still being loaded", self.id),
            ),
        }
    }

    /// Whether it has so many stuck calls that it gets no further ones until some return.
    pub fn is_quarantined(&self) -> bool {
        self.metrics.stuck_calls() >= self.stuck_limit
    }

    /// What the status page and the API show.
    pub fn view(&self) -> PluginView {
        let inner = self.inner.lock();
        let loaded = inner.loaded.as_ref();
        PluginView {
            id: self.id.to_string(),
            state: inner.state.name().to_owned(),
            error: match &inner.state {
                LoadState::Failed(error) => Some(error.message.clone()),
                _ => None,
            },
            version: loaded.map(|l| l.description.version.clone()),
            api_version: loaded.map(|l| l.description.api.to_string()),
            isolation: loaded.map(|_| Isolation::InProcess.label().to_owned()),
            sha256: loaded.map(|l| l.vetted.sha256.to_string()),
            file: loaded.map(|l| l.vetted.origin.display().to_string()),
            stuck_calls: self.metrics.stuck_calls(),
            quarantined: self.is_quarantined(),
            held_in_worker: None,
        }
    }

    /// A call of this plugin's got stuck; says whether that was one too many.
    pub(super) fn call_stuck(&self) -> bool {
        self.metrics.call_stuck() == self.stuck_limit
    }

    /// Says that there are too many stuck calls.
    pub(super) fn log_quarantine(&self) {
        tracing::error!(
            plugin = &*self.id,
            "quarantined: {} of its calls are stuck; it gets no further ones until some return",
            self.stuck_limit
        );
    }

    /// A stuck call returned after all.
    pub(super) fn call_returned(&self) {
        if self.metrics.call_returned() + 1 == self.stuck_limit {
            tracing::info!(
                plugin = &*self.id,
                "out of quarantine: a stuck call returned"
            );
        }
    }
}

/// How long the breaker waits for a trial loading; one that hangs for ever is never tried again, as it holds the loader.
const LOAD_LEASE: Duration = Duration::from_secs(60);
