//! Platforms from files with targets: reads the files, makes platforms of the targets, and adds these to the config.
//!
//! A change takes the way of a reload, so that every unchanged platform keeps slot, breaker and counters.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_config::{
    ConductorConfig, DiscoveryConfig, PlatformConfig, from_template::TemplatedPlatform,
};
use conductor_core::clock::Clock;
use conductor_discovery::{DiscoveredTargets, DiscoveryLimits, FileSource, Target};

use super::Host;

/// The discoveries of the config in force.
pub(super) struct Discoveries {
    clock: Clock,
    known: Mutex<KnownTargets>,
}

#[derive(Default)]
struct KnownTargets {
    /// The config as it is written, without discovered platforms.
    written: Option<Arc<ConductorConfig>>,
    sources: BTreeMap<String, DiscoverySource>,
    /// The reasons why targets are left out, by discovery and name of the platform, each of which is logged once.
    left_out: BTreeMap<(String, String), String>,
}

struct DiscoverySource {
    config: DiscoveryConfig,
    files: FileSource,
    targets: DiscoveredTargets,
    /// The targets that were left out at the last reading, because others have their names.
    duplicates: Vec<String>,
    /// The time of the next reading.
    due: Duration,
}

impl Discoveries {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            known: Mutex::default(),
        }
    }

    /// Follows a config, reads the files that are new in it, and returns it with the platforms of all targets.
    pub(super) fn follow(&self, config: &Arc<ConductorConfig>) -> Arc<ConductorConfig> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.written = Some(Arc::clone(config));
        let mut old = std::mem::take(&mut known.sources);
        for (name, discovery) in &config.discoveries {
            let before = old.remove(name);
            if let Some(source) =
                DiscoverySource::following(discovery, before, name, self.clock.now())
            {
                known.sources.insert(name.clone(), source);
            }
        }
        known.merged(config)
    }

    /// Returns `true` if files are to be read now.
    fn is_due(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        known.sources.values().any(|source| source.due <= now)
    }

    /// Reads the files that are due; returns the config with the platforms of all targets if any of these has changed.
    fn read_due(&self) -> Option<Arc<ConductorConfig>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_changed = false;
        for (name, source) in &mut known.sources {
            if source.due <= self.clock.now() {
                has_changed |= source.read(name, self.clock.now());
            }
        }
        let written = known.written.clone()?;
        has_changed.then(|| known.merged(&written))
    }
}

impl DiscoverySource {
    /// Returns the source of a discovery, which keeps what it has read if the files are the same.
    fn following(
        config: &DiscoveryConfig,
        before: Option<Self>,
        name: &str,
        now: Duration,
    ) -> Option<Self> {
        let paths = |config: &DiscoveryConfig| -> Vec<PathBuf> { config.file_sd.clone() };
        let files = match before {
            Some(before) if paths(&before.config) == paths(config) => before.files,
            // The config was held to the same rules.
            _ => FileSource::try_new(paths(config), DiscoveryLimits::default()).ok()?,
        };
        let mut source = Self {
            config: config.clone(),
            files,
            targets: DiscoveredTargets::default(),
            duplicates: Vec::new(),
            due: now,
        };
        source.read(name, now);
        Some(source)
    }

    /// Reads the files; returns `true` if a target has changed.
    fn read(&mut self, name: &str, now: Duration) -> bool {
        self.due = now + self.config.refresh;
        let reading = self.files.read();
        for error in &reading.new_errors {
            tracing::error!("discovery {name}: {error}");
        }
        for path in &reading.recovered {
            tracing::info!("discovery {name}: {} is used again", path.display());
        }
        let mut targets = self.config.relabelling.apply(reading.targets);
        for target in &mut targets {
            for (label, value) in &self.config.labels {
                let label = target.labels.entry(label.clone());
                label.or_insert_with(|| value.clone());
            }
        }
        let named = self.config.name.name_all(targets);
        for line in &named.duplicates {
            if !self.duplicates.contains(line) {
                tracing::error!("discovery {name}: {line}");
            }
        }
        self.duplicates = named.duplicates;
        let changes = self.targets.update(named.targets);
        if !changes.is_empty() {
            tracing::info!(
                "discovery {name}: {} targets ({} added or changed, {} removed or changed)",
                self.targets.targets().len(),
                changes.added.len(),
                changes.removed.len()
            );
        }
        !changes.is_empty()
    }
}

impl KnownTargets {
    /// Returns a config with the platforms of all targets in addition to its own.
    fn merged(&mut self, config: &Arc<ConductorConfig>) -> Arc<ConductorConfig> {
        if self.sources.is_empty() {
            self.left_out.clear();
            return Arc::clone(config);
        }
        let mut merged = ConductorConfig::clone(config);
        let mut names: HashSet<_> = config.platforms.iter().map(|p| p.name.clone()).collect();
        let mut left_out = BTreeMap::new();
        for (discovery, source) in &self.sources {
            for (name, target) in source.targets.targets() {
                if config.shard.is_some_and(|shard| !shard.owns(name)) {
                    continue;
                }
                let made = if names.contains(name) {
                    Err(format!(
                        "another platform has the name {name}: give the discovery another `name`, for example \
                         \"{discovery}-{{{{target}}}}\""
                    ))
                } else {
                    platform(config, &source.config, name, target)
                };
                match made {
                    Ok(platform) => {
                        names.insert(name.clone());
                        merged.platforms.push(platform);
                    }
                    Err(reason) => {
                        let key = (discovery.clone(), name.clone());
                        if self.left_out.get(&key) != Some(&reason) {
                            tracing::error!(
                                "discovery {discovery}: target {:?} ({}) left out: {reason}",
                                target.target,
                                target.origin
                            );
                        }
                        left_out.insert(key, reason);
                    }
                }
            }
        }
        self.left_out = left_out;
        Arc::new(merged)
    }
}

/// Returns the platform of a target.
fn platform(
    config: &ConductorConfig,
    discovery: &DiscoveryConfig,
    name: &str,
    target: &Target,
) -> Result<PlatformConfig, String> {
    let made = config.platform_from_template(&TemplatedPlatform {
        name,
        template: &discovery.template,
        target: &target.target,
        labels: &target.labels,
        origin: &target.origin,
    });
    made.map_err(|error| error.to_plain())
}

impl Host {
    /// Reads the files that are due and puts the platforms of changed targets in force.
    fn discover(&self) {
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = self.discoveries.read_due() {
            self.put_in_force(&config);
        }
    }
}

/// Follows the files of all discoveries for as long as the host runs.
pub(super) async fn follow_targets(host: Arc<Host>) {
    loop {
        tokio::time::sleep(LOOK_PERIOD).await;
        if host.discoveries.is_due() {
            let host = Arc::clone(&host);
            // The outcome is logged by the reading itself.
            let _ = tokio::task::spawn_blocking(move || host.discover()).await;
        }
    }
}

/// Period of the look at which discoveries are due, as long as the shortest `refresh`.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
