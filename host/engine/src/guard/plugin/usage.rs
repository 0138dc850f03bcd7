//! The CPU and memory that a plugin's process uses.

use super::PluginGuard;
use crate::resources::workers::ProcessUsage;

impl PluginGuard {
    /// Records the measured usage of a generation's process.
    pub fn uses(&self, generation: u64, usage: ProcessUsage) {
        let mut inner = self.inner.lock();
        if generation == self.generation()
            && let Some(running) = &mut inner.running
        {
            running.usage = Some(usage);
            self.metrics.worker_uses(usage.memory, usage.cpu_seconds);
        }
    }

    /// Records the number of cores that a generation's process keeps busy.
    pub fn keeps_busy(&self, generation: u64, cores: Option<f64>) {
        let mut inner = self.inner.lock();
        if generation == self.generation()
            && let Some(running) = &mut inner.running
        {
            running.cores = cores;
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
}
