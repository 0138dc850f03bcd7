//! Stands before the generations of one plugin: when one may be started, how the last one fared, which calls are stuck.
//!
//! Two breakers, so that nothing is given up for good and nothing is tried in a tight loop: one for *loading*, which a
//! library that does not load opens after a few tries, and one for *lives*, which generations open that load and then end
//! soon. The second is more patient: a single platform whose checks crash is stopped by its own breaker before that.

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

use crate::{
    metrics::{PluginInfo, PluginMetrics},
    resources::workers::Usage,
    state::LoadState,
};

/// Stands before the generations of one plugin.
pub struct PluginGuard {
    id: Arc<str>,
    metrics: Arc<PluginMetrics>,
    /// From so many stuck calls of one generation on it gets no further ones.
    stuck_limit: AtomicU64,
    /// Whether its generation's calls take no thread while they wait.
    asynchronous: AtomicBool,
    /// The number of the generation that is called; 0 before the first.
    generation: AtomicU64,
    /// Its stuck calls; changed under the lock.
    stuck: AtomicU64,
    /// When a call into it last started, in nanoseconds; at the latest when it took over.
    last_start: AtomicU64,
    inner: Locked<Inner>,
}

struct Inner {
    loading: Breaker,
    lives: Breaker,
    state: LoadState,
    running: Option<Life>,
    last_taken: Option<Arc<Vetted>>,
    /// The number of the last generation that was started.
    last: u64,
    /// What the operator should know, while the plugin runs.
    note: Option<String>,
    /// Percent of the machine's CPU for which its checks are stretched.
    stretched: Option<f64>,
}

/// Leave to start one generation.
pub struct Birth {
    /// Its number, from 1.
    pub number: u64,
    loading: Ticket,
    life: Ticket,
}

/// What is known of a generation that can be called.
#[derive(Clone, Debug)]
pub struct Running {
    /// What the plugin says of itself.
    pub description: Description,
    /// The library.
    pub vetted: Arc<Vetted>,
    /// Where it runs.
    pub isolation: Isolation,
    /// Why that is a worker although the config wants it in the host's process.
    pub held: Option<String>,
    /// Its process, where it has one of its own.
    pub pid: Option<u32>,
    /// What that is still to be held to.
    pub confinement: Option<Arc<Confinement>>,
}

struct Life {
    running: Running,
    ticket: Ticket,
    since: Duration,
    /// What its process was last seen to use.
    usage: Option<Usage>,
    /// Cores that it keeps busy.
    cores: Option<f64>,
}

impl PluginGuard {
    /// A guard for a plugin of which nothing runs yet.
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

    /// What platforms call the plugin by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of the generation that is called; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// What is known of the generation that is called.
    pub fn running(&self) -> Option<Running> {
        let inner = self.inner.lock();
        inner.running.as_ref().map(|life| life.running.clone())
    }

    /// Whether calls past their deadline have not returned, in any generation.
    pub fn has_stuck_calls(&self) -> bool {
        self.metrics.stuck_calls() > 0
    }

    /// The library of the last generation that took over.
    pub fn last_taken(&self) -> Option<Arc<Vetted>> {
        self.inner.lock().last_taken.clone()
    }

    /// Goes by other settings from now on, as a reload brings them.
    pub fn reconfigure(&self, settings: Settings, stuck_limit: u64) {
        let mut inner = self.inner.lock();
        inner.loading.set_settings(settings);
        inner.lives.set_settings(settings.more_patient(PATIENCE));
        self.stuck_limit.store(stuck_limit, Ordering::Relaxed);
    }

    /// Asks to start a generation now; the leave goes to [`took_over`](Self::took_over) or one of its siblings. `None`
    /// while a breaker is open.
    pub fn begin(&self, now: Duration) -> Option<Birth> {
        let mut inner = self.inner.lock();
        let loading = inner.loading.admit(now, LOAD_LEASE).ok()?;
        let Ok(life) = inner.lives.admit(now, LOAD_LEASE + PROBATION) else {
            // Nothing was tried: a trial that this was is free again. It cannot be stale, as the lock is held.
            let _ = inner.loading.record(loading, Outcome::Ignored, now);
            return None;
        };
        // What was wrong the last time is shown until it is known what is wrong this time.
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

    /// Something changed that the breakers have not seen, such as a new library: the next start is not held back.
    pub fn forget_failures(&self, now: Duration) {
        let mut inner = self.inner.lock();
        // Who looks sees what came of it, not that a breaker was reset.
        let _ = (inner.loading.reset(now), inner.lives.reset(now));
    }

    /// Records that a generation was started, and is the one to call from now on.
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
        // A ticket from before a reset is stale, and what it says no longer counts.
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

    /// Records that a generation could not be started; one that runs goes on.
    pub fn not_started(&self, birth: Birth, now: Duration, error: LoadError) {
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Failure, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
        inner.refused(&self.id, error);
    }

    /// Records that a start did not even begin, for a reason of the host's.
    pub fn not_begun(&self, birth: Birth, now: Duration, error: LoadError) {
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Ignored, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
        inner.refused(&self.id, error);
    }

    /// Records that a generation is not wanted any more that was on its way.
    pub fn called_off(&self, birth: Birth, now: Duration) {
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Ignored, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
    }

    /// Records that a generation was started and did not prove itself; the one that runs goes on.
    pub fn rejected(&self, birth: Birth, now: Duration, reason: &str) {
        tracing::error!(plugin = &*self.id, "new library not taken: {reason}");
        let mut inner = self.inner.lock();
        let _ = inner.loading.record(birth.loading, Outcome::Success, now);
        let _ = inner.lives.record(birth.life, Outcome::Ignored, now);
        inner.note = Some(format!("its new library was not taken: {reason}"));
    }

    /// Records that the generation that is called ended without having been asked to.
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

    /// Records that the plugin is no longer to run, such as when its library was taken away.
    pub fn stopped(&self, now: Duration, error: LoadError) {
        tracing::warn!(plugin = &*self.id, "stopped: {error}");
        self.metrics.clear_info();
        let mut inner = self.inner.lock();
        inner.last_taken = None;
        inner.bury(now, false);
        self.metrics.worker_gone();
        inner.state = LoadState::Failed(error);
    }

    /// Notes what the process of a generation was seen to use.
    pub fn uses(&self, generation: u64, usage: Usage) {
        let mut inner = self.inner.lock();
        if generation == self.generation()
            && let Some(life) = &mut inner.running
        {
            life.usage = Some(usage);
            self.metrics.worker_uses(usage.memory, usage.cpu_seconds);
        }
    }

    /// Notes how many cores the process of a generation keeps busy.
    pub fn keeps_busy(&self, generation: u64, cores: Option<f64>) {
        let mut inner = self.inner.lock();
        if generation == self.generation()
            && let Some(life) = &mut inner.running
        {
            life.cores = cores;
        }
    }

    /// Cores that its process keeps busy; none where that is not known.
    pub fn cores(&self) -> Option<f64> {
        self.inner.lock().running.as_ref()?.cores
    }

    /// Says that its checks are stretched because it uses this much of the machine's CPU, in percent, which is short; or
    /// that they no longer are.
    pub fn set_stretched(&self, percent: Option<f64>) {
        let was = std::mem::replace(&mut self.inner.lock().stretched, percent);
        self.metrics.stretched(percent.is_some());
        match (was, percent) {
            (None, Some(percent)) => tracing::warn!(
                plugin = &*self.id,
                "uses {percent:.0} % of the machine's CPU, which is short: its checks are stretched first; limits.cpu_percent holds it to less"
            ),
            (Some(_), None) => tracing::info!(
                plugin = &*self.id,
                "its checks are no longer stretched for the CPU it used"
            ),
            _ => {}
        }
    }

    /// What a check of this plugin's platforms comes to while nothing of it runs.
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

    /// Whether its generation has so many stuck calls that it gets no further ones.
    pub fn is_quarantined(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) >= self.limit()
    }

    /// From so many stuck calls on it gets no further ones.
    ///
    /// Those of an asynchronous plugin keep no thread, and all that wait for the same dead network run into their deadlines
    /// together: any number of them says no more than one. One that *stays* stuck says that the plugin does not heed its
    /// cancelling, for which the driver has a new generation take over.
    fn limit(&self) -> u64 {
        match self.asynchronous.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => self.stuck_limit.load(Ordering::Relaxed),
        }
    }

    /// What the status page and the API show.
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

    /// Returns the JSON Schema of its config, once it is loaded; `None` for one too long to be shown.
    pub fn config_schema(&self) -> Option<serde_json::Value> {
        let schema = {
            let inner = self.inner.lock();
            let life = inner.running.as_ref()?;
            life.running.description.config_schema.clone()
        };
        (schema.as_str().len() <= MAX_SHOWN_SCHEMA).then(|| schema.value())
    }

    /// When a call into its generation last started, or that took over.
    pub fn last_start(&self) -> Duration {
        Duration::from_nanos(self.last_start.load(Ordering::Relaxed))
    }

    /// A call starts.
    pub(super) fn call_started(&self, now: Duration) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last_start.store(nanos, Ordering::Relaxed);
    }

    /// A call into a generation got stuck; says whether that was one too many.
    pub(super) fn call_stuck(&self, generation: u64) -> bool {
        self.metrics.call_stuck();
        let _changing = self.inner.lock();
        generation == self.generation()
            && self.stuck.fetch_add(1, Ordering::Relaxed) + 1 == self.limit()
    }

    /// Says that there are too many stuck calls.
    pub(super) fn log_quarantine(&self) {
        tracing::error!(
            plugin = &*self.id,
            "quarantined: {} of its calls are stuck; it gets no further ones until some return or a new generation takes over",
            self.stuck_limit.load(Ordering::Relaxed)
        );
    }

    /// A stuck call returned after all, or its generation is gone.
    pub(super) fn call_returned(&self, generation: u64) {
        self.metrics.call_returned();
        let changing = self.inner.lock();
        let out_of_quarantine = generation == self.generation()
            && self.stuck.fetch_sub(1, Ordering::Relaxed) == self.limit();
        drop(changing);
        if out_of_quarantine {
            tracing::info!(
                plugin = &*self.id,
                "out of quarantine: a stuck call returned"
            );
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
            Some(reason) => tracing::info!(
                plugin,
                "generation {number} took over after {} ({place})",
                reason.label()
            ),
        }
        tracing::debug!(
            plugin,
            "version {version} from {}",
            printable::path(&running.vetted.origin)
        );
    }
}

impl Inner {
    fn shown_note(&self) -> Option<String> {
        let stretched = self.stretched.map(|percent| {
            format!(
                "its checks are stretched: it uses {percent:.0} % of the machine's CPU, which is short"
            )
        });
        match (&self.note, stretched) {
            (Some(note), Some(stretched)) => Some(format!("{note}; {stretched}")),
            (note, stretched) => stretched.or_else(|| note.clone()),
        }
    }

    /// The generation that ran is over; `early` if that was not its host's wish.
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

    /// Says and shows why nothing new runs, once.
    fn refused(&mut self, plugin: &str, error: LoadError) {
        if self.running.is_some() {
            let note = format!("no new generation could be started: {error}");
            if self.note.as_ref() != Some(&note) {
                tracing::error!(plugin, "{note}; the one that runs stays");
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

/// How long a breaker waits for a trial start.
const LOAD_LEASE: Duration = Duration::from_secs(60);
/// A generation that lives for so long was no failure.
const PROBATION: Duration = Duration::from_secs(10);
/// How many times as many early ends as failures it takes: a platform that crashes its plugin is stopped by its own
/// breaker first, and must not take the plugin's other platforms with it.
const PATIENCE: u32 = 3;
/// Longest config schema that is shown, in bytes.
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
