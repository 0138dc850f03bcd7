//! The series of one plugin.
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use conductor_runtime::DeclaredMetrics;
use conductor_types::{BreakerState, Isolation, RestartReason, SkipReason};

use super::{label_text::rendered, labels::LabelCounters};

/// A plugin's current generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// The plugin's version.
    pub version: String,
    /// The version of the plugin API its library was built with.
    pub api_version: String,
    /// Its isolation.
    pub isolation: Isolation,
    /// The SHA-256 of its library in hexadecimal digits; the first twelve are shown.
    pub sha256: String,
}

/// The counters and gauges of one plugin, updated by its guard.
pub struct PluginMetrics {
    pub(super) name: Arc<str>,
    /// `plugin="…"`, rendered.
    pub(super) labels: Box<str>,
    pub(super) restarts: LabelCounters<RestartReason, { RestartReason::ALL.len() }>,
    /// Skipped checks of all its platforms, including those that were removed.
    pub(super) skips: LabelCounters<SkipReason, { SkipReason::ALL.len() }>,
    /// Transitions of the breakers of all its platforms, including those that were removed.
    pub(super) transitions: LabelCounters<BreakerState, { BreakerState::ALL.len() }>,
    stuck_calls: AtomicU64,
    /// The last measured usage of its worker: bytes, and the bits of seconds; absent if not finite.
    memory: AtomicU64,
    cpu_seconds: AtomicU64,
    /// The usage of its previous workers: the bits of seconds; not finite before the first.
    cpu_seconds_before: AtomicU64,
    stretched: AtomicBool,
    info: Mutex<Option<PluginInfo>>,
    declared: Mutex<Arc<DeclaredMetrics>>,
}

impl PluginMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            labels: rendered([("plugin", &*name)]).into(),
            name,
            restarts: LabelCounters::default(),
            skips: LabelCounters::default(),
            transitions: LabelCounters::default(),
            stuck_calls: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            cpu_seconds: AtomicU64::new(f64::NAN.to_bits()),
            cpu_seconds_before: AtomicU64::new(f64::NAN.to_bits()),
            stretched: AtomicBool::new(false),
            info: Mutex::default(),
            declared: Mutex::default(),
        }
    }

    /// Resets everything except for the counters and the calls that are still stuck.
    pub(super) fn clear_gauges(&self) {
        self.worker_gone();
        self.stretched(false);
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Records that a call is past its deadline; returns the number of stuck calls.
    pub fn call_stuck(&self) -> u64 {
        self.stuck_calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records that a stuck call has returned; returns the number of stuck calls.
    pub fn call_returned(&self) -> u64 {
        self.stuck_calls.fetch_sub(1, Ordering::Relaxed) - 1
    }

    /// Returns the number of calls that are past their deadline and have not returned.
    pub fn stuck_calls(&self) -> u64 {
        self.stuck_calls.load(Ordering::Relaxed)
    }

    /// Counts one replacement of the plugin's worker.
    pub fn worker_restarted(&self, reason: RestartReason) {
        self.restarts.add(reason, 1);
    }

    /// Sets the usage of the plugin's worker: bytes of memory, and seconds of processor time since it was started.
    pub fn worker_uses(&self, memory: u64, cpu_seconds: f64) {
        self.memory.store(memory, Ordering::Relaxed);
        self.cpu_seconds
            .store(cpu_seconds.to_bits(), Ordering::Relaxed);
    }

    /// Records that the worker is gone; its processor time stays counted.
    pub fn worker_gone(&self) {
        let gone = finite(&self.cpu_seconds);
        if let Some(total) = self.worker_cpu_seconds() {
            self.cpu_seconds_before
                .store(total.to_bits(), Ordering::Relaxed);
        }
        if gone.is_some() {
            self.cpu_seconds
                .store(f64::NAN.to_bits(), Ordering::Relaxed);
        }
    }

    /// Returns the processor time of its workers in seconds, if ever measured.
    pub(super) fn worker_cpu_seconds(&self) -> Option<f64> {
        let (before, now) = (finite(&self.cpu_seconds_before), finite(&self.cpu_seconds));
        match (before, now) {
            (Some(before), Some(now)) => Some(before + now),
            (before, now) => before.or(now),
        }
    }

    /// Sets whether the plugin's checks are stretched because of its CPU usage.
    pub fn stretched(&self, stretched: bool) {
        self.stretched.store(stretched, Ordering::Relaxed);
    }

    pub(super) fn is_stretched(&self) -> bool {
        self.stretched.load(Ordering::Relaxed)
    }

    /// Returns the memory of its worker in bytes, if measured.
    pub(super) fn worker_memory(&self) -> Option<u64> {
        finite(&self.cpu_seconds)?;
        Some(self.memory.load(Ordering::Relaxed))
    }

    /// Sets the displayed info of the plugin's current generation; there is no such series before the first call.
    pub fn set_info(&self, mut info: PluginInfo) {
        if let Some((end, _)) = info.sha256.char_indices().nth(SHA256_DIGITS) {
            info.sha256.truncate(end);
        }
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
    }

    /// Sets what the plugin's current generation declares.
    pub(super) fn set_declared(&self, declared: Arc<DeclaredMetrics>) {
        *self.declared.lock().unwrap_or_else(PoisonError::into_inner) = declared;
    }

    /// Returns what the plugin's current or last generation declares.
    pub(super) fn declared(&self) -> Arc<DeclaredMetrics> {
        Arc::clone(&self.declared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records that nothing of the plugin is loaded.
    pub fn clear_info(&self) {
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn info(&self) -> Option<PluginInfo> {
        self.info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn finite(bits: &AtomicU64) -> Option<f64> {
    Some(f64::from_bits(bits.load(Ordering::Relaxed))).filter(|value| value.is_finite())
}

/// Enough to distinguish libraries at a glance.
const SHA256_DIGITS: usize = 12;
