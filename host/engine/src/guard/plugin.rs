//! Guards the generations of one plugin: permission to start one, the result of the last one, stuck calls.
//!
//! Two breakers, so that nothing is abandoned for good and nothing is retried in a tight loop: one for *loading*, which
//! opens after several failed loads, and one for *lives*, which opens after generations that load but then end early.
//! The second is more patient: a single platform whose checks crash is stopped by its own breaker first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use conductor_core::{
    breaker::{Breaker, BreakerSettings, Ticket},
    locked::NonPoisoningMutex,
};
use conductor_library::Vetted;
use conductor_runtime::{CallFailure, ProbeStates, loader::LoadedGeneration};
use conductor_types::ErrorType;

pub use self::start::StartPermit;
use super::{log::NOT_LOADED, shared::GuardContext};
use crate::{
    metrics::{HostMetrics, PluginMetrics},
    resources::workers::ProcessUsage,
    state::LoadState,
};

mod start;
mod stuck;
mod usage;
mod view;

/// Guards the generations of one plugin.
pub struct PluginGuard {
    id: Arc<str>,
    metrics: Arc<PluginMetrics>,
    host_metrics: HostMetrics,
    states: Arc<dyn ProbeStates>,
    /// The number of stuck calls from which a generation gets no further calls.
    stuck_limit: AtomicU64,
    /// `true` if its generation's calls use no thread while they wait.
    asynchronous: AtomicBool,
    /// The number of the current generation; 0 before the first.
    generation: AtomicU64,
    /// Its stuck calls; changed under the lock.
    stuck: AtomicU64,
    /// The last start of a call into it, in nanoseconds; at least the time it took over.
    last_start: AtomicU64,
    inner: NonPoisoningMutex<PluginState>,
}

/// The part behind the lock.
struct PluginState {
    loading: Breaker,
    lives: Breaker,
    state: LoadState,
    running: Option<RunningGeneration>,
    last_taken: Option<Arc<Vetted>>,
    /// The number of the last generation started.
    last: u64,
    /// A note for the operator, while the plugin runs.
    note: Option<String>,
    /// Its percent of the machine's CPU, if its checks are stretched for it.
    stretched: Option<f64>,
}

/// The current generation, and its use of the machine.
struct RunningGeneration {
    generation: Arc<LoadedGeneration>,
    life: Ticket,
    since: Duration,
    /// The last measured usage of its process.
    usage: Option<ProcessUsage>,
    /// The number of cores it keeps busy.
    cores: Option<f64>,
}

impl PluginGuard {
    /// Creates a guard for a plugin without generations.
    pub fn new(
        id: &str,
        settings: BreakerSettings,
        stuck_limit: u64,
        shared: &GuardContext,
    ) -> Self {
        let seed = shared.seed_of(id);
        Self {
            id: id.into(),
            metrics: shared.metrics.plugin(id),
            host_metrics: shared.metrics.clone(),
            states: shared.states.of_plugin(id),
            stuck_limit: AtomicU64::new(stuck_limit),
            asynchronous: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
            last_start: AtomicU64::new(0),
            inner: NonPoisoningMutex::new(PluginState {
                loading: Breaker::new(settings, seed),
                lives: Breaker::new(settings.more_patient(PATIENCE), seed.wrapping_add(1)),
                state: LoadState::Waiting,
                running: None,
                last_taken: None,
                last: 0,
                note: None,
                stretched: None,
            }),
        }
    }

    /// Returns the store of its platforms' states.
    pub fn states(&self) -> &Arc<dyn ProbeStates> {
        &self.states
    }

    /// Returns the id by which platforms refer to the plugin.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of the current generation; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Returns the current generation, to be looked at; only the scheduler calls it.
    pub fn running(&self) -> Option<Arc<LoadedGeneration>> {
        let inner = self.inner.lock();
        let running = inner.running.as_ref()?;
        Some(Arc::clone(&running.generation))
    }

    /// Returns the library of the last generation that took over.
    pub fn last_taken(&self) -> Option<Arc<Vetted>> {
        self.inner.lock().last_taken.clone()
    }

    /// Replaces the settings, for a reload.
    pub fn reconfigure(&self, settings: BreakerSettings, stuck_limit: u64) {
        let mut inner = self.inner.lock();
        inner.loading.set_settings(settings);
        inner.lives.set_settings(settings.more_patient(PATIENCE));
        self.stuck_limit.store(stuck_limit, Ordering::Relaxed);
    }

    /// Returns the failure of this plugin's checks while no generation runs.
    pub fn failure(&self) -> CallFailure {
        match &self.inner.lock().state {
            LoadState::Failed(error) => {
                CallFailure::new(error.kind, format!("{NOT_LOADED}: {error}"))
            }
            LoadState::Waiting | LoadState::Loading | LoadState::Loaded => CallFailure::new(
                ErrorType::Load,
                format!("plugin {} is still being loaded", self.id),
            ),
        }
    }
}

/// The factor from failures to early ends: a platform that crashes its plugin is stopped by its own breaker first, and
/// must not stop the plugin's other platforms.
const PATIENCE: u32 = 3;

#[cfg(test)]
mod tests;
