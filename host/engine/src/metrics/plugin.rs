//! The series of one plugin.
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use conductor_types::{Isolation, RestartReason};

use super::labels::Counts;

/// What is known of a plugin's current generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// The plugin's version.
    pub version: String,
    /// The version of the plugin API its library was built with.
    pub api_version: String,
    /// Where its code runs.
    pub isolation: Isolation,
    /// The SHA-256 of its library in hexadecimal digits; the first twelve are shown.
    pub sha256: String,
}

/// The counters and gauges of one plugin, kept by whoever runs it.
pub struct PluginMetrics {
    pub(super) name: Arc<str>,
    pub(super) restarts: Counts<RestartReason, { RestartReason::ALL.len() }>,
    stuck_calls: AtomicU64,
    /// What its worker was last seen to use: bytes, and the bits of seconds; not finite is absent.
    memory: AtomicU64,
    cpu_seconds: AtomicU64,
    /// What its workers before that have used: the bits of seconds; not finite before the first.
    cpu_seconds_before: AtomicU64,
    stretched: AtomicBool,
    info: Mutex<Option<PluginInfo>>,
}

impl PluginMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            restarts: Counts::default(),
            stuck_calls: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            cpu_seconds: AtomicU64::new(f64::NAN.to_bits()),
            cpu_seconds_before: AtomicU64::new(f64::NAN.to_bits()),
            stretched: AtomicBool::new(false),
            info: Mutex::default(),
        }
    }

    /// Takes back everything but what was counted, and the calls that are still stuck.
    pub(super) fn clear_gauges(&self) {
        self.worker_gone();
        self.stretched(false);
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A call is past its deadline; answers how many now are and have not come back.
    pub fn call_stuck(&self) -> u64 {
        self.stuck_calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Such a call has come back; answers how many still have not.
    pub fn call_returned(&self) -> u64 {
        self.stuck_calls.fetch_sub(1, Ordering::Relaxed) - 1
    }

    /// How many calls are past their deadline and have not come back.
    pub fn stuck_calls(&self) -> u64 {
        self.stuck_calls.load(Ordering::Relaxed)
    }

    /// Counts one replacement of the plugin's worker.
    pub fn worker_restarted(&self, reason: RestartReason) {
        self.restarts.add(reason, 1);
    }

    /// Sets what the plugin's worker uses: bytes of memory, and seconds of processor time since it was started.
    pub fn worker_uses(&self, memory: u64, cpu_seconds: f64) {
        self.memory.store(memory, Ordering::Relaxed);
        self.cpu_seconds
            .store(cpu_seconds.to_bits(), Ordering::Relaxed);
    }

    /// The worker is gone; the processor time that it used stays counted.
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

    /// Seconds of processor time that its workers have used, if one was seen.
    pub(super) fn worker_cpu_seconds(&self) -> Option<f64> {
        let (before, now) = (finite(&self.cpu_seconds_before), finite(&self.cpu_seconds));
        match (before, now) {
            (Some(before), Some(now)) => Some(before + now),
            (before, now) => before.or(now),
        }
    }

    /// Sets whether the plugin's checks are stretched because of the CPU that it uses.
    pub fn stretched(&self, stretched: bool) {
        self.stretched.store(stretched, Ordering::Relaxed);
    }

    pub(super) fn is_stretched(&self) -> bool {
        self.stretched.load(Ordering::Relaxed)
    }

    /// Bytes of memory that its worker uses, if it was seen.
    pub(super) fn worker_memory(&self) -> Option<u64> {
        finite(&self.cpu_seconds)?;
        Some(self.memory.load(Ordering::Relaxed))
    }

    /// Sets what is shown of the plugin's current generation; there is no such series before the first call.
    pub fn set_info(&self, mut info: PluginInfo) {
        if let Some((end, _)) = info.sha256.char_indices().nth(SHA256_DIGITS) {
            info.sha256.truncate(end);
        }
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
    }

    /// Nothing of the plugin is loaded any more.
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

/// Enough to tell libraries apart at a glance.
const SHA256_DIGITS: usize = 12;
