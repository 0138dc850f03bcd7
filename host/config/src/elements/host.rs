//! `[host]`: the settings of the host itself.

use std::{
    num::NonZeroU16,
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_library::{default_folders, program_folder};
use conductor_sandbox::WorkerLimits;
use conductor_types::Isolation;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    check::TableValidator,
    confirmation::{ConfirmationConfig, RawConfirmation},
    duration::{self, LONGEST, SHORTEST, given},
    limits,
};

/// The settings of the host itself.
#[derive(Clone, Debug, PartialEq)]
pub struct HostConfig {
    /// Folders searched for plugin libraries, in this order; relative ones are resolved against the file's own folder.
    pub plugin_dirs: Vec<PathBuf>,
    /// `true` if the file names no folders and these are the defaults: around the program and of the system.
    pub plugin_dirs_are_default: bool,
    /// Period between two starts of a platform's check, from one tick to a year.
    pub interval: Duration,
    /// Gap between the starts of neighbouring platforms, from one tick to the interval.
    pub stagger: Duration,
    /// Longest time one check may take, at most the interval.
    pub timeout: Duration,
    /// Confirmation of the states of platforms without their own settings.
    pub confirmation: ConfirmationConfig,
    /// Checks due within this time start together, 1 ms to 1 s.
    pub tick: Duration,
    /// Isolation of plugins without their own setting.
    pub isolation: Isolation,
    /// Maximum number of threads one plugin may keep busy, 1–4096.
    pub call_threads: u32,
    /// Maximum number of stuck calls of one plugin before a new generation replaces it, from 1 to `call_threads`.
    pub stuck_limit: u32,
    /// Resource limits of a plugin in its own process.
    pub limits: WorkerLimits,
    /// Time that running checks get to finish when the host stops; may be zero.
    pub shutdown_grace: Duration,
    /// Samples also go to the log if there was no scrape for this long; zero means always.
    pub metrics_log_after: Duration,
    /// Age up to which platforms' states from before a restart are resumed; zero for none.
    pub resume: Duration,
    /// Folder for private copies of plugin libraries and what plugins store, resolved against the file's own folder; `None` for the store's
    /// default.
    pub state_dir: Option<PathBuf>,
}

/// `[host]`, as it is written.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Host", description = "Settings of the host itself.")]
pub(crate) struct RawHostConfig {
    /// Folders that are searched for plugin libraries, in this order, relative to the config file. Without it: the
    /// program's folder, `plugins` in it, `../lib/conductor/plugins` from there, `/usr/local/lib/conductor/plugins` and
    /// `/usr/lib/conductor/plugins`.
    #[schemars(with = "Vec<String>", length(min = 1), inner(length(min = 1)))]
    #[serde(default)]
    plugin_dirs: Option<Vec<String>>,
    /// Period between two starts of a platform's check.
    #[schemars(with = "duration::RawDuration", extend("default" = "5s"))]
    #[serde(default)]
    interval: Option<duration::RawDuration>,
    /// Gap between the starts of neighbouring platforms; at most the interval.
    #[schemars(with = "duration::RawDuration", extend("default" = "500ms"))]
    #[serde(default)]
    stagger: Option<duration::RawDuration>,
    /// Longest time that one check may take; at most the interval.
    #[schemars(with = "duration::RawDuration", extend("default" = "4s"))]
    #[serde(default)]
    timeout: Option<duration::RawDuration>,
    /// Number of consecutive results worse than a platform's state that change it, at most 1000. A failed check counts as
    /// a result. Until then, the state of the last check is shown as soft.
    #[schemars(with = "u16", range(min = 1, max = 1000), extend("default" = 1))]
    #[serde(default)]
    unhealthy_after: Option<NonZeroU16>,
    /// Number of consecutive results better than a platform's state that change it, at most 1000.
    #[schemars(with = "u16", range(min = 1, max = 1000), extend("default" = 1))]
    #[serde(default)]
    healthy_after: Option<NonZeroU16>,
    /// Time from a check whose result is not confirmed yet to the next one, at most the interval; `"0s"` leaves it to the
    /// schedule.
    #[schemars(with = "duration::RawDuration", extend("default" = "0s"))]
    #[serde(default)]
    retry_interval: Option<duration::RawDuration>,
    /// Checks that are due within this time start together, from 1ms to 1s. A longer tick costs less CPU.
    #[schemars(with = "duration::RawDuration", extend("default" = "10ms"))]
    #[serde(default)]
    tick: Option<duration::RawDuration>,
    /// Isolation of plugins: `process` runs each in a worker process of its own, `in-process` runs them inside the host
    /// and trusts them fully.
    #[schemars(with = "Isolation", extend("default" = "process"))]
    #[serde(default)]
    isolation: Isolation,
    /// Maximum number of threads that one plugin may keep busy.
    #[schemars(with = "u32", range(min = 1, max = 4096), extend("default" = 64))]
    #[serde(default)]
    call_threads: Option<u32>,
    /// Number of stuck calls of one plugin at which a new generation replaces it; at most `call_threads`.
    #[schemars(with = "u32", range(min = 1, max = 4096), extend("default" = 8))]
    #[serde(default)]
    stuck_limit: Option<u32>,
    /// Resource limits of each worker.
    #[schemars(with = "limits::RawLimits")]
    #[serde(default)]
    limits: limits::RawLimits,
    /// Time that running checks get to finish when the host stops.
    #[schemars(with = "duration::RawDuration", extend("default" = "5s"))]
    #[serde(default)]
    shutdown_grace: Option<duration::RawDuration>,
    /// Samples also go to the log if `/metrics` was not scraped for this long; `"0s"` means always.
    #[schemars(with = "duration::RawDuration", extend("default" = "5m"))]
    #[serde(default)]
    metrics_log_after: Option<duration::RawDuration>,
    /// Platforms' states, breakers and slots from before a restart are resumed if they are at most this old; `"0s"` resumes
    /// none. Breakers held by an operator and maintenance windows started by command continue at any age.
    #[schemars(with = "duration::RawDuration", extend("default" = "1h"))]
    #[serde(default)]
    resume: Option<duration::RawDuration>,
    /// Folder of private library copies, quarantine and plugin states, relative to the config file; one host per
    /// folder. Without it, the first of these that is writable and not mounted `noexec`: `$STATE_DIRECTORY`,
    /// `$RUNTIME_DIRECTORY`, `$XDG_STATE_HOME/conductor`, `/var/lib/conductor`, `~/.local/state/conductor`,
    /// `/run/conductor`, `$XDG_RUNTIME_DIR/conductor`; else the temporary folder.
    #[schemars(with = "String", length(min = 1))]
    #[serde(default)]
    state_dir: Option<String>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            plugin_dirs: program_folder()
                .map(|folder| default_folders(&folder))
                .unwrap_or_default(),
            plugin_dirs_are_default: true,
            interval: Duration::from_secs(5),
            stagger: Duration::from_millis(500),
            timeout: Duration::from_secs(4),
            confirmation: ConfirmationConfig::default(),
            tick: Duration::from_millis(10),
            isolation: Isolation::Process,
            call_threads: 64,
            stuck_limit: 8,
            limits: WorkerLimits::default(),
            shutdown_grace: Duration::from_secs(5),
            metrics_log_after: Duration::from_secs(300),
            resume: Duration::from_secs(3600),
            state_dir: None,
        }
    }
}

impl RawHostConfig {
    pub(super) fn resolve(self, base_dir: &Path, check: &mut TableValidator<'_>) -> HostConfig {
        let default = HostConfig::default();
        for path in self.plugin_dirs.iter().flatten() {
            check.path("plugin_dirs", path);
        }
        if let Some(path) = &self.state_dir {
            check.path("state_dir", path);
        }
        let folder = |folder: &Path| base_dir.join(folder);
        let interval = given(self.interval).unwrap_or(default.interval);
        let tick = given(self.tick).unwrap_or(default.tick.min(interval));
        let stagger = given(self.stagger).unwrap_or(default.stagger.max(tick).min(interval));
        let tick = given(self.tick).unwrap_or(tick.min(stagger));
        let confirmation = RawConfirmation {
            unhealthy_after: self.unhealthy_after,
            healthy_after: self.healthy_after,
            retry_interval: self.retry_interval,
        };
        let call_threads = self.call_threads.unwrap_or(default.call_threads);
        let host = HostConfig {
            plugin_dirs_are_default: self.plugin_dirs.is_none(),
            plugin_dirs: match self.plugin_dirs {
                Some(written) => written
                    .iter()
                    .map(|written| folder(Path::new(written)))
                    .collect(),
                None => default.plugin_dirs,
            },
            interval,
            stagger,
            timeout: given(self.timeout).unwrap_or(default.timeout.min(interval)),
            confirmation: confirmation.resolve(&default.confirmation, interval, tick, check),
            tick,
            isolation: self.isolation,
            call_threads,
            stuck_limit: self
                .stuck_limit
                .unwrap_or(default.stuck_limit.min(call_threads)),
            limits: self.limits.resolve(
                &default.limits,
                Some(call_threads),
                &mut check.table(&["limits"]),
            ),
            shutdown_grace: given(self.shutdown_grace).unwrap_or(default.shutdown_grace),
            metrics_log_after: given(self.metrics_log_after).unwrap_or(default.metrics_log_after),
            resume: given(self.resume).unwrap_or(default.resume),
            state_dir: self.state_dir.map(|written| folder(Path::new(&written))),
        };
        host.check(check);
        host
    }
}

impl HostConfig {
    fn check(&self, check: &mut TableValidator<'_>) {
        let mut ranges = check.duration("tick", self.tick, SHORTEST, Duration::from_secs(1));
        for (key, value) in [
            ("interval", self.interval),
            ("stagger", self.stagger),
            ("timeout", self.timeout),
        ] {
            ranges &= check.duration(key, value, SHORTEST, LONGEST);
        }
        check.duration(
            "shutdown_grace",
            self.shutdown_grace,
            Duration::ZERO,
            LONGEST,
        );
        check.duration(
            "metrics_log_after",
            self.metrics_log_after,
            Duration::ZERO,
            LONGEST,
        );
        check.duration("resume", self.resume, Duration::ZERO, LONGEST);
        check.stuck_limit(self.stuck_limit, self.call_threads);
        if ranges {
            check.timeout(self.timeout, self.interval);
            check.at_least_a_tick("interval", self.interval, self.tick);
            check.at_least_a_tick("stagger", self.stagger, self.tick);
            check.at_most("stagger", self.stagger, "interval", self.interval);
        }
    }
}
