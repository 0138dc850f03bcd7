//! The driver's handling of the machine: samples, the resulting mode, and the cause of a shortage.

use std::sync::Arc;

use conductor_core::schedule::ResourceMode;
use conductor_runtime::redaction;
use conductor_types::{DegradedMode, Resource, Tracked};

use super::{SchedulerCommand, SchedulerDriver, plugin::ScheduledPlugin};
use crate::resources::{MachineSample, culprits::MachineCpu};

impl SchedulerDriver {
    pub(super) fn start_monitor(&mut self) {
        let commands = self.commands.clone();
        let on_sample = move |sample| {
            let _ = commands.send(SchedulerCommand::Sampled(sample));
        };
        let (clock, disks) = (self.shared.clock, self.board.disk_paths());
        let monitor = self
            .environment
            .start_monitor(clock, disks, Box::new(on_sample));
        match monitor {
            Ok(monitor) => self.monitor = Some(monitor),
            Err(error) => {
                tracing::error!("resource monitor not started: cannot start its thread: {error}")
            }
        }
    }

    /// Handles the resource monitor's turn.
    pub(super) fn sample(&self) {
        self.shared.follow_wall_clock();
        self.track();
        self.shared.log_first_reports();
        if let Some(monitor) = &self.monitor
            && !monitor.request()
        {
            tracing::debug!("the resource monitor is still busy with its last sample");
        }
    }

    /// Updates the metrics of tracked objects.
    pub(super) fn track(&self) {
        let metrics = &self.shared.metrics;
        let probes = self.plugins.iter().map(ScheduledPlugin::open_probes);
        metrics.track(Tracked::Platform, self.platforms.count());
        metrics.track(Tracked::Probe, probes.sum());
        metrics.track(Tracked::Plugin, self.plugins.count());
        metrics.track(Tracked::LogTail, self.board.platforms_with_lines());
        metrics.track(Tracked::Secret, redaction::known());
    }

    pub(super) fn judge(&mut self, sample: &MachineSample) {
        let now = self.shared.clock.now();
        let judgement = self.judge.observe(now, sample);
        self.stretch = judgement.stretch;
        self.find_culprits(sample);
        let metrics = &self.shared.metrics;
        metrics.degraded_mode(match judgement.shown {
            ResourceMode::Normal => DegradedMode::Normal,
            ResourceMode::Degraded => DegradedMode::Degraded,
            ResourceMode::Critical => DegradedMode::Critical,
        });
        for (resource, percent) in [
            (Resource::Cpu, sample.cpu_percent),
            (Resource::Ram, sample.memory_percent),
            (
                Resource::Disk,
                sample.disk.as_ref().map(|disk| disk.percent),
            ),
        ] {
            if let Some(percent) = percent {
                metrics.resource(resource, percent);
            }
        }
        if let Some(change) = &judgement.changed {
            let effect = match (judgement.stretch, self.culprits.spare_others()) {
                (ResourceMode::Normal, _) => "checks on schedule",
                (ResourceMode::Degraded, true) => "other checks on schedule",
                (ResourceMode::Degraded, false) => "checks stretched",
                (ResourceMode::Critical, _) => "checks stretched or paused",
            };
            match change.to {
                ResourceMode::Normal => tracing::info!("machine normal, {effect}: {}", change.why),
                to => tracing::warn!("machine {}, {effect}: {}", to.name(), change.why),
            }
        }
        self.board
            .judged(sample, &judgement, self.culprits.describe());
    }

    /// Finds the plugins that cause a shortage of CPU.
    pub(super) fn find_culprits(&mut self, sample: &MachineSample) {
        if !self.judge.is_short_of_cpu_alone() {
            for plugin in self.culprits.clear() {
                if let Some(at) = self.plugin_ix(&plugin) {
                    self.plugins[at].guard.set_stretched(None);
                }
            }
            return;
        }
        let (Some(percent), Some(cores)) = (sample.cpu_percent, sample.cores) else {
            return;
        };
        let guards = self.plugins.iter().map(|plugin| &plugin.guard);
        let loads = guards.filter_map(|guard| Some((guard.id().into(), guard.cores()?)));
        let loads: Vec<(Arc<str>, f64)> = loads.collect();
        let machine = MachineCpu {
            percent,
            cores,
            limit: self.limits.degraded_above(),
        };
        for (plugin, percent) in self.culprits.observe(machine, &loads) {
            if let Some(at) = self.plugin_ix(&plugin) {
                self.plugins[at].guard.set_stretched(Some(percent));
            }
        }
    }
}
