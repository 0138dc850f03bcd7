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
    breaker::{Breaker, Outcome, Settings, Ticket},
    locked::Locked,
};
use conductor_library::{Vetted, printable};
use conductor_runtime::{Description, Ended, Failure, LoadError, loader::Confinement};
use conductor_types::{ErrorType, Isolation, RestartReason, views::PluginView};

use super::log::NOT_LOADED;
use crate::{
    metrics::{PluginInfo, PluginMetrics},
    resources::workers::Usage,
    state::LoadState,
};

/// Guards the generations of one plugin.
pub struct PluginGuard {
    id: Arc<str>,
    metrics: Arc<PluginMetrics>,
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
    inner: Locked<Inner>,
}

struct Inner {
    loading: Breaker,
    lives: Breaker,
    state: LoadState,
    running: Option<Life>,
    last_taken: Option<Arc<Vetted>>,
    /// The number of the last generation started.
    last: u64,
    /// A note for the operator, while the plugin runs.
    note: Option<String>,
    /// Its percent of the machine's CPU, if its checks are stretched for it.
    stretched: Option<f64>,
}

/// Permission to start one generation.
pub struct Birth {
    /// Its number, from 1.
    pub number: u64,
    loading: Ticket,
    life: Ticket,
}

/// A generation that can be called.
#[derive(Clone, Debug)]
pub struct Running {
    /// The plugin's description of itself.
    pub description: Description,
    /// The library.
    pub vetted: Arc<Vetted>,
    /// Its isolation.
    pub isolation: Isolation,
    /// The reason why it runs in a worker although the config says in-process.
    pub held: Option<String>,
    /// Its process, if it has a separate one.
    pub pid: Option<u32>,
    /// Confinement that is still to be enforced.
    pub confinement: Option<Arc<Confinement>>,
}

struct Life {
    running: Running,
    ticket: Ticket,
    since: Duration,
    /// The last measured usage of its process.
    usage: Option<Usage>,
    /// The number of cores it keeps busy.
    cores: Option<f64>,
}

impl PluginGuard {
    /// Creates a guard for a plugin without generations.
    pub fn new(
        id: &str,
        settings: Settings,
        stuck_limit: u64,
        metrics: Arc<PluginMetrics>,
    ) -> Self {
        Self {
            id: id.into(),
            metrics,
            stuck_limit: AtomicU64::new(stuck_limit),
            asynchronous: AtomicBool::new(false),
            generation: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
            last_start: AtomicU64::new(0),
            inner: Locked::new(Inner {
                loading: Breaker::new(settings, 0),
                lives: Breaker::new(settings.more_patient(PATIENCE), 1),
                state: LoadState::Waiting,
                running: None,
                last_taken: None,
                last: 0,
                note: None,
                stretched: None,
            }),
        }
    }

    /// Returns the id by which platforms refer to the plugin.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of the current generation; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Returns the current generation.
    pub fn running(&self) -> Option<Running> {
        let inner = self.inner.lock();
        inner.running.as_ref().map(|life| life.running.clone())
    }

    /// Returns `true` if calls past their deadline have not returned, in any generation.
    pub fn has_stuck_calls(&self) -> bool {
        self.metrics.stuck_calls() > 0
    }

    /// Returns the library of the last generation that took over.
    pub fn last_taken(&self) -> Option<Arc<Vetted>> {
        self.inner.lock().last_taken.clone()
    }

    /// Replaces the settings, for a reload.
    pub fn reconfigure(&self, settings: Settings, stuck_limit: u64) {
        let mut inner = self.inner.lock();
        inner.loading.set_settings(settings);
        inner.lives.set_settings(settings.more_patient(PATIENCE));
        self.stuck_limit.store(stuck_limit, Ordering::Relaxed);
    }

    /// Requests permission to start a generation now, to be returned to [`took_over`](Self::took_over) or one of its
    /// siblings. `None` while a breaker is open.
    pub fn begin(&self, now: Duration) -> Option<Birth> {
        let mut inner = self.inner.lock();
        let loading = inner.loading.admit(now, LOAD_LEASE).ok()?;
        let Ok(life) = inner.lives.admit(now, LOAD_LEASE + PROBATION) else {
            // Nothing was tried, so a trial is freed. It cannot be stale, as the lock is held.
            let _ = inner.loading.record(loading, Outcome::Ignored, now);
            return None;
        };
        // The last error is shown until there is a new result.
        if matches!(inner.state, LoadState::Waiting) {
            inner.state = LoadState::Loading;
        }
        inner.last += 1;
        Some(Birth {
            number: inner.last,
            loading,
            life,
        })
    }

    /// Clears the failures after a change such as a new library, so that the next start is not delayed.
    pub fn forget_failures(&self, now: Duration) {
        let mut inner = self.inner.lock();
        // Not reported: only the result of the start matters, not that a breaker was reset.
        let _ = (inner.loading.reset(now), inner.lives.reset(now));
    }

    /// Records that a generation has started and is now the current one.
    pub fn took_over(
        &self,
        birth: Birth,
        now: Duration,
        running: Running,
        restart: Option<RestartReason>,
    ) {
        self.log_start(&running, birth.number, restart);
        if let Some(reason) = restart {
            self.metrics.worker_restarted(reason);
        }
        self.metrics.set_info(PluginInfo {
            version: running.description.version.clone(),
            api_version: running.description.api.to_string(),
            isolation: running.isolation,
            sha256: running.vetted.sha256.to_string(),
        });
        if let Some(held) = &running.held {
            tracing::warn!(plugin = &*self.id, "it runs in a worker: {held}");
        }
        let mut inner = self.inner.lock();
        let sick = matches!(restart, Some(RestartReason::Hang | RestartReason::Limit));
        inner.bury(now, sick);
        self.metrics.worker_gone();
        // A ticket from before a reset is stale, and its result no longer counts.
        let _ = inner.loading.record(birth.loading, Outcome::Success, now);
        inner.state = LoadState::Loaded;
        inner.note = None;
        let asynchronous = running.description.asynchronous;
        self.asynchronous.store(asynchronous, Ordering::Relaxed);
        inner.last_taken = Some(Arc::clone(&running.vetted));
        inner.running = Some(Life {
            running,
            ticket: birth.life,
            since: now,
            usage: None,
            cores: None,
        });
        self.stuck.store(0, Ordering::Relaxed);
        self.call_started(now);
        self.generation.store(birth.number, Ordering::Relaxed);
    }

    /// Records that a generation could not be started; the current one stays.
    pub fn not_started(&self, birth: Birth, now: Duration, error: LoadError) {
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Failure, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
        inner.refused(&self.id, error);
    }

    /// Records that a start did not begin because of the host.
    pub fn not_begun(&self, birth: Birth, now: Duration, error: LoadError) {
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Ignored, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
        inner.refused(&self.id, error);
    }

    /// Records that a generation being started is no longer wanted.
    pub fn called_off(&self, birth: Birth, now: Duration) {
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Ignored, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
    }

    /// Records that a generation failed verification; the current one stays.
    pub fn rejected(&self, birth: Birth, now: Duration, reason: &str) {
        tracing::error!(plugin = &*self.id, "new library rejected: {reason}");
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Success, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
        inner.note = Some(format!("its new library was rejected: {reason}"));
    }

    /// Records that the current generation ended unexpectedly.
    pub fn ended(&self, now: Duration, ended: &Ended) {
        tracing::error!(plugin = &*self.id, "its worker {}", ended.message);
        let mut inner = self.inner.lock();
        inner.bury(now, true);
        self.metrics.worker_gone();
        inner.state = LoadState::Failed(LoadError {
            kind: ended.kind,
            message: format!(
                "its worker {}; a new one starts on the breaker's schedule",
                ended.message
            ),
            detail: None,
        });
    }

    /// Records that the plugin must no longer run, for example because its library was removed.
    pub fn stopped(&self, now: Duration, error: LoadError) {
        tracing::warn!(plugin = &*self.id, "stopped: {error}");
        self.metrics.clear_info();
        let mut inner = self.inner.lock();
        inner.last_taken = None;
        inner.bury(now, false);
        self.metrics.worker_gone();
        inner.state = LoadState::Failed(error);
    }

    /// Records the measured usage of a generation's process.
    pub fn uses(&self, generation: u64, usage: Usage) {
        let mut inner = self.inner.lock();
        if generation == self.generation()
            && let Some(life) = &mut inner.running
        {
            life.usage = Some(usage);
            self.metrics.worker_uses(usage.memory, usage.cpu_seconds);
        }
    }

    /// Records the number of cores that a generation's process keeps busy.
    pub fn keeps_busy(&self, generation: u64, cores: Option<f64>) {
        let mut inner = self.inner.lock();
        if generation == self.generation()
            && let Some(life) = &mut inner.running
        {
            life.cores = cores;
        }
    }

    /// Returns the number of cores that its process keeps busy; `None` if unknown.
    pub fn cores(&self) -> Option<f64> {
        self.inner.lock().running.as_ref()?.cores
    }

    /// Sets the percent of the machine's scarce CPU for which its checks are stretched; `None` if they no longer are.
    pub fn set_stretched(&self, percent: Option<f64>) {
        let was = std::mem::replace(&mut self.inner.lock().stretched, percent);
        self.metrics.stretched(percent.is_some());
        match (was, percent) {
            (None, Some(percent)) => tracing::warn!(
                plugin = &*self.id,
                "checks stretched: uses {percent:.0} % of CPU"
            ),
            (Some(_), None) => tracing::info!(plugin = &*self.id, "checks no longer stretched"),
            _ => {}
        }
    }

    /// Returns the failure of this plugin's checks while no generation runs.
    pub fn failure(&self) -> Failure {
        match &self.inner.lock().state {
            LoadState::Failed(error) => Failure::new(error.kind, format!("{NOT_LOADED}: {error}")),
            LoadState::Waiting | LoadState::Loading | LoadState::Loaded => Failure::new(
                ErrorType::Load,
                format!("plugin {} is still being loaded", self.id),
            ),
        }
    }

    /// Returns `true` if its generation has too many stuck calls and gets no further ones.
    pub fn is_quarantined(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) >= self.limit()
    }

    /// Returns the number of stuck calls from which it gets no further ones.
    ///
    /// Those of an asynchronous plugin use no thread, and all that wait for the same dead network time out together:
    /// their number says nothing. One that *stays* stuck shows that the plugin ignores cancellation, for which the
    /// driver starts a new generation.
    fn limit(&self) -> u64 {
        match self.asynchronous.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => self.stuck_limit.load(Ordering::Relaxed),
        }
    }

    /// Returns the view for the status page and the API.
    pub fn view(&self) -> PluginView {
        let inner = self.inner.lock();
        let life = inner.running.as_ref();
        let running = life.map(|life| &life.running);
        let usage = life.and_then(|life| life.usage);
        PluginView {
            id: self.id.to_string(),
            state: inner.state.name().to_owned(),
            error: match &inner.state {
                LoadState::Failed(error) => Some(error.message.clone()),
                _ => None,
            },
            note: inner.shown_note(),
            version: running.map(|r| r.description.version.clone()),
            api_version: running.map(|r| r.description.api.to_string()),
            isolation: running.map(|r| r.isolation.label().to_owned()),
            generation: life.map(|_| self.generation()),
            pid: running.and_then(|r| r.pid),
            memory_bytes: usage.map(|usage| usage.memory),
            cpu_seconds: usage.map(|usage| usage.cpu_seconds),
            sha256: running.map(|r| r.vetted.sha256.to_string()),
            file: running.map(|r| printable::path(&r.vetted.origin)),
            stuck_calls: self.metrics.stuck_calls(),
            quarantined: self.is_quarantined(),
            held_in_worker: running.and_then(|r| r.held.clone()),
        }
    }

    /// Returns the JSON Schema of its config, once loaded; `None` if it is too long to show.
    pub fn config_schema(&self) -> Option<serde_json::Value> {
        let schema = {
            let inner = self.inner.lock();
            let life = inner.running.as_ref()?;
            life.running.description.config_schema.clone()
        };
        (schema.as_str().len() <= MAX_SHOWN_SCHEMA).then(|| schema.value())
    }

    /// Returns the last start of a call into its generation, or the time it took over.
    pub fn last_start(&self) -> Duration {
        Duration::from_nanos(self.last_start.load(Ordering::Relaxed))
    }

    /// Records the start of a call.
    pub(super) fn call_started(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last_start.store(nanos, Ordering::Relaxed);
    }

    /// Records a stuck call; returns `true` if it was one too many.
    pub(super) fn call_stuck(&self, generation: u64) -> bool {
        self.metrics.call_stuck();
        let _changing = self.inner.lock();
        generation == self.generation()
            && self.stuck.fetch_add(1, Ordering::Relaxed) + 1 == self.limit()
    }

    /// Logs that there are too many stuck calls.
    pub(super) fn log_quarantine(&self) {
        tracing::error!(
            plugin = &*self.id,
            "saturated: {} stuck calls, no new calls",
            self.stuck_limit.load(Ordering::Relaxed)
        );
    }

    /// Records that a stuck call returned, or that its generation is gone.
    pub(super) fn call_returned(&self, generation: u64) {
        self.metrics.call_returned();
        let changing = self.inner.lock();
        let out_of_quarantine = generation == self.generation()
            && self.stuck.fetch_sub(1, Ordering::Relaxed) == self.limit();
        drop(changing);
        if out_of_quarantine {
            tracing::info!(plugin = &*self.id, "no longer saturated: a call returned");
        }
    }

    fn log_start(&self, running: &Running, number: u64, restart: Option<RestartReason>) {
        let (plugin, version) = (&*self.id, &running.description.version);
        let place = match running.pid {
            Some(pid) => format!("worker {pid}"),
            None => "in-process".to_owned(),
        };
        match restart {
            None => tracing::info!(plugin, "loaded version {version} ({place})"),
            Some(reason) => {
                let event = match reason {
                    RestartReason::Crash => "restarted after a crash",
                    RestartReason::Hang => "restarted after a hang",
                    RestartReason::Limit => "restarted after exceeding a limit",
                    RestartReason::Replace => "replaced by a new generation",
                };
                tracing::info!(plugin, "{event} ({place})");
            }
        }
        tracing::debug!(
            plugin,
            "generation {number} is version {version} from {}",
            printable::path(&running.vetted.origin)
        );
    }
}

impl Inner {
    fn shown_note(&self) -> Option<String> {
        let stretched = self.stretched.map(|percent| {
            format!(
                "its checks are stretched: it uses {percent:.0} % of the machine's CPU, which is short (limits.cpu_percent caps it)"
            )
        });
        match (&self.note, stretched) {
            (Some(note), Some(stretched)) => Some(format!("{note}; {stretched}")),
            (note, stretched) => stretched.or_else(|| note.clone()),
        }
    }

    /// Records the end of the current generation; `early` if the host did not request it.
    fn bury(&mut self, now: Duration, early: bool) {
        let Some(life) = self.running.take() else {
            return;
        };
        let outcome = match early {
            true if now.saturating_sub(life.since) < PROBATION => Outcome::Failure,
            _ => Outcome::Success,
        };
        // Stale if the breaker was reset meanwhile.
        let _ = self.lives.record(life.ticket, outcome, now);
    }

    /// Logs and shows, once, why no new generation runs.
    fn refused(&mut self, plugin: &str, error: LoadError) {
        if self.running.is_some() {
            let note = format!("cannot start a new generation: {error}");
            if self.note.as_ref() != Some(&note) {
                tracing::error!(plugin, "{note}; the old one keeps running");
            }
            self.note = Some(note);
            return;
        }
        let known =
            matches!(&self.state, LoadState::Failed(before) if before.message == error.message);
        if !known {
            tracing::error!(plugin, "not loaded: {error}");
            if let Some(detail) = &error.detail {
                tracing::debug!(plugin, "{}", printable::lines(detail));
            }
        }
        self.state = LoadState::Failed(error);
    }
}

/// The lease of a trial start.
const LOAD_LEASE: Duration = Duration::from_secs(60);
/// The lifetime from which a generation does not count as a failure.
const PROBATION: Duration = Duration::from_secs(10);
/// The factor from failures to early ends: a platform that crashes its plugin is stopped by its own breaker first, and
/// must not stop the plugin's other platforms.
const PATIENCE: u32 = 3;
/// The maximum length of a displayed config schema, in bytes.
const MAX_SHOWN_SCHEMA: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const S: Duration = Duration::from_secs(1);

    fn guard() -> PluginGuard {
        let settings = Settings::try_new(2, 30 * S, 600 * S).unwrap();
        PluginGuard::new("x", settings, 2, Metrics::new().plugin("x"))
    }

    fn error() -> LoadError {
        LoadError {
            kind: ErrorType::Load,
            message: "on purpose".to_owned(),
            detail: None,
        }
    }

    #[test]
    fn a_library_that_does_not_load_is_tried_again_on_the_breakers_schedule_and_at_once_when_it_changed()
     {
        let guard = guard();
        for _ in 0..2 {
            guard.not_started(guard.begin(S).unwrap(), S, error());
        }
        assert!(guard.begin(2 * S).is_none());
        assert!(guard.failure().message.contains("on purpose"));
        guard.not_started(guard.begin(40 * S).unwrap(), 40 * S, error());
        assert!(
            guard.begin(75 * S).is_none(),
            "twice as long after a failed trial"
        );
        guard.forget_failures(75 * S);
        assert!(guard.begin(75 * S).is_some());
    }

    #[test]
    fn stuck_calls_are_counted_against_a_plugin_whose_calls_keep_threads_and_no_other() {
        let guard = guard();
        assert!(!guard.call_stuck(0));
        assert!(guard.call_stuck(0), "one too many");
        assert!(guard.is_quarantined());
        guard.asynchronous.store(true, Ordering::Relaxed);
        assert!(!guard.is_quarantined());
        for _ in 0..1000 {
            assert!(!guard.call_stuck(0));
        }
        assert!(!guard.is_quarantined());
    }

    #[test]
    fn a_start_that_the_other_breaker_refuses_uses_no_trial_up() {
        let guard = guard();
        guard.inner.lock().lives.force_open();
        guard.inner.lock().loading.force_closed();
        assert!(guard.begin(S).is_none());
        guard.inner.lock().lives.force_closed();
        assert_eq!(guard.begin(S).unwrap().number, 1);
    }
}
