//! Turns a config into the scheduler's plan: a guard for each plugin and platform, and a loader for each plugin.
//!
//! It remembers the guards of the last config, so that a reload keeps the guard of each unchanged item, and with it
//! slot, breaker and counters.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use conductor_config::{
    BreakerConfig, ConductorConfig, ConfigError, ConfigReadResult, PlatformConfig, PluginConfig,
    ResourcesConfig,
};
use conductor_core::breaker;
use conductor_engine::{
    board::StatusBoard,
    guard::{GuardContext, PlatformGuard, PlatformSettings, PluginGuard},
    resources::ResourceLimits,
    scheduler::{CheckTiming, PlatformSetup, PluginSetup, ReloadPlan},
};
use conductor_library::Catalog;
use conductor_runtime::loader::CatalogLoader;
use conductor_server::ServerSecurity;

use super::{
    judging::{ConfigJudge, reason},
    plugin_loader::{ConfiguredLoader, ProbeTrials},
};

/// Builds plans for the scheduler.
pub(super) struct PlanBuilder {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    loader: CatalogLoader,
    judge: ConfigJudge,
    /// The web config, whose key and passwords no plugin may read.
    security: ServerSecurity,
    made: Mutex<ExistingGuards>,
    /// The host's own files that the config names.
    hidden: Arc<Mutex<Vec<PathBuf>>>,
    trials: ProbeTrials,
}

/// The reasons why platforms' configs are refused, by the platform's name.
pub(super) type Reasons = BTreeMap<String, Arc<str>>;

/// The existing guards.
#[derive(Default)]
struct ExistingGuards {
    plugins: BTreeMap<String, GuardedPlugin>,
    platforms: BTreeMap<String, GuardedPlatform>,
}

#[derive(Clone)]
struct GuardedPlugin {
    config: PluginConfig,
    guard: Arc<PluginGuard>,
}

#[derive(Clone)]
struct GuardedPlatform {
    config: PlatformConfig,
    guard: Arc<PlatformGuard>,
}

impl PlanBuilder {
    pub(super) fn new(
        shared: Arc<GuardContext>,
        board: Arc<StatusBoard>,
        loader: CatalogLoader,
        security: ServerSecurity,
    ) -> Self {
        Self {
            judge: ConfigJudge::new(shared.clock),
            shared,
            board,
            loader,
            security,
            made: Mutex::default(),
            hidden: Arc::default(),
            trials: ProbeTrials::default(),
        }
    }

    /// Returns the guard of a plugin that the config in force uses.
    pub(super) fn plugin_guard(&self, id: &str) -> Option<Arc<PluginGuard>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&made.plugins.get(id)?.guard))
    }

    /// Waits until the probes of all loaded plugins have been tried.
    pub(super) fn finish_trials(&self) {
        self.trials.finish();
    }

    /// Returns the source of the libraries.
    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        self.loader.catalog()
    }

    /// Returns a function that lists the files that no worker may read, as the configs name them when it is called.
    pub(super) fn hidden(&self) -> impl Fn() -> Vec<PathBuf> + Send + 'static {
        let (hidden, security) = (Arc::clone(&self.hidden), self.security.clone());
        move || {
            let mut hidden = hidden
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            hidden.extend(security.private_files());
            hidden
        }
    }

    /// Searches for libraries in the config's folders, under its rules.
    pub(super) fn look_for_libraries(&self, config: &ConductorConfig) {
        let host = &config.host;
        let (dirs, are_default) = (&host.plugin_dirs, host.plugin_dirs_are_default);
        let looked = self
            .catalog()
            .reconfigure(dirs, are_default, config.policy());
        if let Err(error) = looked {
            tracing::warn!(
                "plugin folders not scanned ({error}): the reload uses the known libraries"
            );
        }
    }

    /// Logs each platform and `[plugin.ID]` table without a library, with its position in the file.
    pub(super) fn log_missing_libraries(&self, config: &ConductorConfig) {
        let found = self.catalog().found();
        let known: Vec<_> = found.by_id.keys().map(String::as_str).collect();
        if let Err(error) = config.check_plugins(&known, |id| found.refused(id)) {
            for line in error.to_lines() {
                tracing::error!("{line}");
            }
        }
    }

    /// Judges a config with the libraries it would run with, without changing anything.
    ///
    /// # Errors
    /// All errors in it.
    pub(super) fn judge(
        &self,
        reading: ConfigReadResult,
    ) -> Result<Arc<ConductorConfig>, ConfigError> {
        let catalog = Arc::clone(self.catalog());
        let libraries = move |config: &ConductorConfig| {
            let host = &config.host;
            let (dirs, are_default) = (&host.plugin_dirs, host.plugin_dirs_are_default);
            (catalog.preview(dirs, are_default, config.policy()), ())
        };
        let hidden = self.security.private_files();
        let judged = self.judge.reading(reading, hidden, libraries);
        judged.map_err(|rejection| rejection.error)
    }

    /// Forgets the verdicts on configs that are not in the config of this reload.
    pub(super) fn forget_other_verdicts(&self) {
        self.judge.follow();
    }

    /// Returns the scheduler's plan for this config; `refused` are platforms whose config is not accepted.
    pub(super) fn plan(&self, config: &Arc<ConductorConfig>, refused: &Reasons) -> ReloadPlan {
        *self.hidden.lock().unwrap_or_else(PoisonError::into_inner) = config.hidden();
        let is_relabelled = self.shared.metrics.configure(&config.metrics);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::take(&mut *made);
        // A plugin that no platform names at present keeps its guard, by which the scheduler identifies it, while its
        // library exists or it has stuck calls.
        let in_use = config.plugins_in_use();
        for (id, plugin) in &old.plugins {
            if in_use.contains(id.as_str())
                || self.catalog().find(id).is_some()
                || plugin.guard.has_stuck_calls()
            {
                made.plugins.insert(id.clone(), plugin.clone());
            }
        }
        let plugins: Vec<_> = in_use
            .into_iter()
            .map(|id| self.plugin(config, id, &old, &mut made))
            .collect();
        let platforms: Vec<_> = config
            .platforms
            .iter()
            .map(|platform| self.platform(platform, &old, &mut made, refused))
            .collect();
        if is_relabelled {
            made.platforms.values().for_each(|p| p.guard.show_labels());
        }
        let forgotten = self.forget(&old, &made);
        self.shared.starvation.set_platforms(platforms.len());
        self.board.hang_up(
            platforms.iter().map(|p| Arc::clone(&p.guard)).collect(),
            plugins.iter().map(|p| Arc::clone(&p.guard)).collect(),
        );
        ReloadPlan {
            plugins,
            forgotten,
            platforms,
            timing: CheckTiming {
                interval: config.resources.interval,
                stagger: config.host.stagger,
                tick: config.host.tick,
                shutdown_grace: config.host.shutdown_grace,
            },
            limits: limits(&config.resources),
        }
    }

    /// Returns the platforms whose config is not accepted by the running plugin, with the reasons.
    pub(super) fn refused(&self, config: &ConductorConfig) -> Reasons {
        let running = |id: &str| {
            let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.plugins.get(id)?.guard.running()
        };
        let mut refused = BTreeMap::new();
        for id in config.plugins_in_use() {
            if let Some(running) = running(id)
                // A plugin that no longer loads is replaced, and reports the reason itself.
                && let Ok(wrong) =
                    self.judge
                        .platforms(config, &running.vetted, &config.how(id), false)
            {
                let reason = |(platform, finding)| reason(config, platform, finding);
                refused.extend(wrong.into_iter().map(reason));
            }
        }
        refused
    }

    fn plugin(
        &self,
        config: &Arc<ConductorConfig>,
        id: &str,
        old: &ExistingGuards,
        made: &mut ExistingGuards,
    ) -> PluginSetup {
        let settings = config.plugin(id);
        let breaker = breaker_settings(&config.breaker);
        let known = old.plugins.get(id);
        let guard = match known {
            Some(known) => {
                let guard = Arc::clone(&known.guard);
                guard.reconfigure(breaker, settings.stuck_limit.into());
                guard
            }
            None => Arc::new(PluginGuard::new(
                id,
                breaker,
                settings.stuck_limit.into(),
                &self.shared,
            )),
        };
        let is_kept = config.is_kept(id);
        let renew = known.is_some_and(|known| !known.config.runs_like(&settings));
        let must_end = known.is_some_and(|known| !known.config.permits_like(&settings));
        let plugin = GuardedPlugin {
            config: settings,
            guard: Arc::clone(&guard),
        };
        made.plugins.insert(id.to_owned(), plugin);
        PluginSetup {
            guard,
            loader: Arc::new(self.loader_of(config, id)),
            renew,
            is_kept,
            must_end,
        }
    }

    fn platform(
        &self,
        platform: &PlatformConfig,
        old: &ExistingGuards,
        made: &mut ExistingGuards,
        refused: &Reasons,
    ) -> PlatformSetup {
        let plugin = &made.plugins[&platform.plugin].guard;
        let known = old
            .platforms
            .get(&platform.name)
            .filter(|known| is_same(&known.config, platform));
        let guard = match known {
            Some(known) => Arc::clone(&known.guard),
            None => self.new_guard(platform, plugin, old),
        };
        let confirmation = &platform.confirmation;
        guard.set_confirmation(confirmation.rules, confirmation.retry_interval);
        let remembered = GuardedPlatform {
            config: platform.clone(),
            guard: Arc::clone(&guard),
        };
        made.platforms.insert(platform.name.clone(), remembered);
        PlatformSetup {
            guard,
            config: platform.config.to_string().into(),
            refused: refused.get(&platform.name).cloned(),
        }
    }

    fn new_guard(
        &self,
        platform: &PlatformConfig,
        plugin: &Arc<PluginGuard>,
        old: &ExistingGuards,
    ) -> Arc<PlatformGuard> {
        let settings = PlatformSettings {
            name: platform.name.as_str().into(),
            interval: platform.interval,
            timeout: platform.timeout,
            priority: platform.priority,
            breaker: breaker_settings(&platform.breaker),
            labels: platform.labels.clone(),
            url: platform.url.as_deref().map(Into::into),
            description: platform.description.as_deref().map(Into::into),
        };
        let mut guard = PlatformGuard::new(settings, Arc::clone(plugin), Arc::clone(&self.shared));
        guard.resume_saved(&platform.config.to_string());
        if let Some(before) = old.platforms.get(&platform.name) {
            guard.succeed(&before.guard);
        }
        Arc::new(guard)
    }

    /// Returns the loader of a plugin under this config.
    fn loader_of(&self, config: &Arc<ConductorConfig>, id: &str) -> ConfiguredLoader {
        ConfiguredLoader::new(
            config,
            id,
            self.loader.clone(),
            self.security.clone(),
            self.judge.clone(),
            self.trials.clone(),
        )
    }

    /// Removes from the metrics all items that the new config no longer names; returns the plugins that are removed for
    /// good.
    fn forget(&self, old: &ExistingGuards, made: &ExistingGuards) -> Vec<Arc<PluginGuard>> {
        for (name, platform) in &old.platforms {
            let plugin = &platform.config.plugin;
            let stays = made
                .platforms
                .get(name)
                .is_some_and(|p| p.config.plugin == *plugin);
            if !stays {
                self.shared.metrics.remove_platform(name, plugin);
            }
        }
        let plugins = old.plugins.iter();
        let gone = plugins.filter(|(id, _)| !made.plugins.contains_key(*id));
        gone.map(|(id, plugin)| {
            self.shared.metrics.remove_plugin(id);
            Arc::clone(&plugin.guard)
        })
        .collect()
    }
}

/// Returns `true` if two configs define a platform identically, wherever in the file, except for the confirmation of its
/// state, which its guard can change.
fn is_same(a: &PlatformConfig, b: &PlatformConfig) -> bool {
    let moved = PlatformConfig {
        location: b.location.clone(),
        confirmation: b.confirmation,
        ..a.clone()
    };
    moved == *b
}

/// Returns the settings of breakers that the config gives.
pub(super) fn breaker_settings(config: &BreakerConfig) -> breaker::BreakerSettings {
    breaker::BreakerSettings::try_new(
        config.failure_threshold,
        config.reset_timeout,
        config.max_reset_timeout,
    )
    .expect("the config was held to the same rules")
}

fn limits(config: &ResourcesConfig) -> ResourceLimits {
    ResourceLimits::new(
        config.degraded_above,
        config.recover_below,
        config.critical_above,
    )
    .expect("the config was held to the same rules")
}
