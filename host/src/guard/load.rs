//! Stands before the loading of one plugin, and counts its stuck calls.
//!
//! The same breaker as for checks, so that a plugin that does not load is tried again on the breaker's schedule: never
//! given up for good, and never in a tight loop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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
    /// Calls the host has given up on that have not returned.
    stuck: AtomicUsize,
    stuck_limit: usize,
    inner: Locked<Inner>,
}

struct Inner {
    breaker: Breaker,
    state: LoadState,
    loaded: Option<Loaded>,
}

/// What is known of the library a plugin was loaded from.
#[derive(Clone)]
struct Loaded {
    description: Description,
    vetted: Arc<Vetted>,
}

impl PluginGuard {
    /// A guard for a plugin that is not loaded yet; from `stuck_limit` stuck calls on it gets no further ones.
    pub fn new(
        id: &str,
        settings: Settings,
        stuck_limit: usize,
        metrics: Arc<PluginMetrics>,
    ) -> Self {
        Self {
            id: id.into(),
            metrics,
            stuck: AtomicUsize::new(0),
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

    /// Records how the loading went.
    pub fn ended(
        &self,
        ticket: Ticket,
        now: Duration,
        result: Result<(Description, Arc<Vetted>), LoadError>,
    ) {
        let mut inner = self.inner.lock();
        let outcome = match result {
            Ok((description, vetted)) => {
                self.metrics.set_info(PluginInfo {
                    version: description.version.clone(),
                    api_version: description.api.to_string(),
                    isolation: Isolation::InProcess,
                    sha256: vetted.sha256.to_string(),
                });
                tracing::info!(
                    plugin = &*self.id,
                    "loaded version {} from {}",
                    description.version,
                    vetted.origin.display()
                );
                inner.state = LoadState::Loaded;
                inner.loaded = Some(Loaded {
                    description,
                    vetted,
                });
                Outcome::Success
            }
            Err(error) => {
                if !matches!(&inner.state, LoadState::Failed(before) if before.message == error.message)
                {
                    tracing::error!(plugin = &*self.id, "not loaded: {error}");
                    if let Some(detail) = &error.detail {
                        tracing::debug!(plugin = &*self.id, "{detail}");
                    }
                }
                inner.state = LoadState::Failed(error);
                Outcome::Failure
            }
        };
        // A lost lease means that another load is under way by now, whose outcome will count.
        let _ = inner.breaker.record(ticket, outcome, now);
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
        self.stuck.load(Ordering::Relaxed) >= self.stuck_limit
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
            stuck_calls: self.stuck.load(Ordering::Relaxed),
            quarantined: self.is_quarantined(),
        }
    }

    /// A call of this plugin's got stuck.
    pub(super) fn call_stuck(&self) {
        let stuck = self.stuck.fetch_add(1, Ordering::Relaxed) + 1;
        self.metrics.stuck_calls(stuck as u64);
        if stuck == self.stuck_limit {
            tracing::error!(
                plugin = &*self.id,
                "quarantined: {stuck} of its calls are stuck; it gets no further ones until some return"
            );
        }
    }

    /// A stuck call returned after all.
    pub(super) fn call_returned(&self) {
        let before = self.stuck.fetch_sub(1, Ordering::Relaxed);
        self.metrics.stuck_calls(before as u64 - 1);
        if before == self.stuck_limit {
            tracing::info!(
                plugin = &*self.id,
                "out of quarantine: a stuck call returned"
            );
        }
    }
}

/// How long a loading may take before another one may be tried.
const LOAD_LEASE: Duration = Duration::from_secs(60);
