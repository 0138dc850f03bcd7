//! The meaning of the file's tables: fills in defaults and checks keys against each other.

pub(super) mod breaker;
mod check;
pub(super) mod confirmation;
pub(super) mod discovery;
pub(super) mod duration;
pub(super) mod heartbeat;
pub(super) mod history;
pub(super) mod host;
mod limits;
mod maintenance;
pub(super) mod metrics;
pub(super) mod notify;
pub(super) mod platform;
pub(super) mod plugin;
pub(super) mod probe;
pub(super) mod resources;
pub(super) mod salvage;
mod shard;
pub(super) mod template;
pub(super) mod trust;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use breaker::BreakerConfig;
use check::TableValidator;
use conductor_core::{maintenance::MaintenanceWindow, shard::Shard};
use conductor_library::file_reader;
use discovery::DiscoveryConfig;
use history::HistoryConfig;
use host::HostConfig;
use metrics::MetricsConfig;
use notify::NotifyConfig;
use platform::PlatformConfig;
use plugin::PluginConfig;
use probe::ProbeConfig;
use resources::ResourcesConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use template::TemplateConfig;
use trust::TrustConfig;

use super::{
    ConductorConfig,
    error::ConfigMistake,
    expansion::{self, TemplateSet},
    joining,
    own::OwnAddress,
    schema,
    secrets::{PlatformSecrets, SecretResolver},
    source::SourceText,
    spans::SpanTree,
    syntax,
};

/// The whole file, as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "conductor.toml",
    description = "The configuration of a Conductor host."
)]
pub(super) struct RawConfig {
    /// Further config files, relative to this one: files, folders (every `*.toml` in it) and patterns such as
    /// `"conductor.d/*.toml"`. Their order has no effect, and they include no others.
    #[schemars(inner(length(min = 1)))]
    #[serde(default)]
    #[expect(dead_code, reason = "files are read before they are joined")]
    include: Vec<String>,
    /// Settings of the host itself.
    #[serde(default)]
    host: host::RawHostConfig,
    /// Circuit breaker of each platform: when its checks are suspended, and for how long.
    #[serde(default)]
    breaker: breaker::RawBreakerConfig,
    /// Thresholds at which the machine counts as short of CPU, memory or disk.
    #[serde(default)]
    resources: resources::RawResourcesConfig,
    /// Series of `/metrics`.
    #[serde(default)]
    metrics: metrics::RawMetricsConfig,
    /// Retention of the past of platforms, by age and size.
    #[serde(default)]
    history: history::RawHistoryConfig,
    /// Signatures that a library needs to be loaded.
    #[serde(default)]
    trust: trust::RawTrustConfig,
    /// Settings of single plugins, by plugin id.
    #[serde(default)]
    plugin: BTreeMap<String, plugin::RawPluginConfig>,
    /// Monitored platforms, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = platform::name_rule()))]
    platform: BTreeMap<String, platform::RawPlatformConfig>,
    /// Targets that clients may have checked through `/probe`.
    #[serde(default)]
    probe: probe::RawProbeConfig,
    /// Settings for targets that clients name, the modules of `/probe`, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = platform::name_rule()))]
    template: BTreeMap<String, template::RawTemplateConfig>,
    /// Files with targets, each of which becomes a platform, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = platform::name_rule()))]
    discovery: BTreeMap<String, discovery::RawDiscoveryConfig>,
    /// Maintenance windows, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = platform::name_rule()))]
    maintenance: BTreeMap<String, maintenance::RawMaintenance>,
    /// Receivers of notifications about platforms, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = platform::name_rule()))]
    notify: BTreeMap<String, notify::RawNotify>,
    /// Share of the platforms that this host checks.
    #[serde(default)]
    shard: shard::RawShardConfig,
}

/// The settings read from a file.
pub(super) struct ConfigSections {
    pub(super) host: HostConfig,
    pub(super) breaker: BreakerConfig,
    pub(super) resources: ResourcesConfig,
    pub(super) metrics: MetricsConfig,
    pub(super) history: HistoryConfig,
    pub(super) trust: TrustConfig,
    pub(super) plugins: BTreeMap<String, PluginConfig>,
    pub(super) platforms: Vec<PlatformConfig>,
    pub(super) probe: ProbeConfig,
    pub(super) templates: BTreeMap<String, TemplateConfig>,
    pub(super) warnings: Vec<String>,
    pub(super) discoveries: BTreeMap<String, DiscoveryConfig>,
    pub(super) maintenance: Vec<MaintenanceWindow>,
    pub(super) receivers: BTreeMap<String, NotifyConfig>,
    pub(super) shard: Option<Shard>,
    /// All templates, also those that are no modules.
    pub(super) expanded: TemplateSet,
}

/// Reads the settings from a file and collects all mistakes. If there are any, the settings cover the valid parts, so
/// that these can be validated further; `None` if that is impossible.
pub(super) fn read(
    source: &SourceText,
    base_dir: &Path,
    own: &OwnAddress,
) -> (Option<ConfigSections>, Vec<ConfigMistake>) {
    let syntax::ParsedToml {
        mut values,
        mut places,
        mut faults,
        refused,
    } = match joining::parse(source) {
        Ok(parsed) => parsed,
        Err(faults) => return (None, faults),
    };
    let (of_shape, misshapen) = schema::own_faults(&values, &places, refused);
    faults.extend(of_shape);
    let has_none = |table: &str| {
        let table = values[table].as_object();
        table.is_none_or(serde_json::Map::is_empty)
    };
    let is_complete = source.not_included.is_empty();
    faults.extend(source.not_included.iter().cloned());
    if is_complete && has_none("platform") && has_none("template") && misshapen.is_empty() {
        faults.push(no_platform(source));
    }
    let templates = values["template"].as_object();
    let declared = templates
        .into_iter()
        .flat_map(|templates| templates.keys().cloned())
        .collect();
    let are_libraries_known = salvage::drop_misshapen(&mut values, &misshapen);
    let expanded = expansion::expand(&mut values, &mut places, &declared, &mut faults);
    let ([mut secrets, mut of_templates], mut lookup) =
        look_up_secrets(&mut values, base_dir, own, &places, &expanded);
    let mut of_receivers = notify::look_up_secrets(&mut values, &mut lookup);
    faults.extend(lookup.faults);
    let written = match serde_json::from_value::<RawConfig>(values) {
        Ok(written) => written,
        // The missing values are those that were removed.
        Err(_) if !misshapen.is_empty() => return (None, faults),
        Err(error) => {
            faults.push(
                ConfigMistake::new(format!(
                    "it does not match the schema of the config: {error}"
                ))
                .at(0..0),
            );
            return (None, faults);
        }
    };
    let mut warnings = Vec::new();
    let check = TableValidator::new(&places, &mut faults, &mut warnings);
    let mut parts = written.resolve(source, base_dir, &expanded, check);
    if !misshapen.is_empty() {
        // What was removed from the file may be what a selector is about.
        warnings.clear();
    }
    if !are_libraries_known {
        return (None, faults);
    }
    for platform in &mut parts.platforms {
        platform.secrets = secrets.remove(&platform.name).unwrap_or_default();
    }
    for (name, template) in &mut parts.templates {
        template.secrets = of_templates.remove(name).unwrap_or_default();
    }
    parts.expanded = expanded.clone();
    for (name, receiver) in &mut parts.receivers {
        receiver.secrets = of_receivers.remove(name).unwrap_or_default();
    }
    let of_files = source.include_warnings.iter().cloned();
    parts.warnings = of_files
        .chain(lookup.warnings)
        .chain(warnings)
        .map(|(place, text)| format!("{text} ({})", source.location(place.start)))
        .collect();
    parts
        .warnings
        .extend(unsearched_folder(source, base_dir, &parts.host));
    (Some(parts), faults)
}

impl RawConfig {
    fn resolve(
        self,
        source: &SourceText,
        base_dir: &Path,
        expanded: &TemplateSet,
        mut check: TableValidator<'_>,
    ) -> ConfigSections {
        let host = self.host.resolve(base_dir, &mut check.table(&["host"]));
        let breaker = self
            .breaker
            .resolve(&BreakerConfig::default(), &mut check.table(&["breaker"]));
        let resources = self
            .resources
            .resolve(&host, &mut check.table(&["resources"]));
        let metrics = self.metrics.resolve(&mut check.table(&["metrics"]));
        let history = self.history.resolve(&mut check.table(&["history"]));
        let trust = self.trust.resolve(base_dir, &mut check.table(&["trust"]));
        let probe = self.probe.resolve(&mut check.table(&["probe"]));
        let templates: BTreeMap<_, _> = self
            .template
            .into_iter()
            .filter(|(name, _)| expanded.is_module(name))
            .filter_map(|(name, template)| {
                let mut check = check.table(&["template", &name]);
                Some((name.clone(), template.resolve(name, &host, &mut check)?))
            })
            .collect();
        let mut discoveries = BTreeMap::new();
        for (name, discovery) in self.discovery {
            let mut check = check.table(&["discovery", &name]);
            if let Some(discovery) = discovery.resolve(base_dir, expanded, &mut check) {
                discoveries.insert(name, discovery);
            }
        }
        let plugins: BTreeMap<_, _> = self
            .plugin
            .into_iter()
            .map(|(id, plugin)| {
                let plugin = plugin.resolve(&host, &mut check.table(&["plugin", &id]));
                (id, plugin)
            })
            .collect();
        let mut platforms: Vec<(usize, PlatformConfig)> = self
            .platform
            .into_iter()
            .map(|(name, platform)| {
                let mut check = check.table(&["platform", &name]);
                let at = check.place().start;
                let location = source.location(at);
                (
                    at,
                    platform.resolve(name, location, &host, &breaker, &mut check),
                )
            })
            .collect();
        platforms.sort_by_key(|(at, _)| *at);
        let platforms: Vec<_> = platforms
            .into_iter()
            .map(|(_, platform)| platform)
            .collect();
        for id in plugins.keys() {
            let of_platform = platforms.iter().any(|platform| platform.plugin == *id);
            let of_template = templates.values().any(|template| template.plugin == *id);
            let of_discovery = discoveries
                .values()
                .any(|discovery| expanded.plugin(&discovery.template) == Some(id));
            if !of_platform && !of_template && !of_discovery {
                let mut check = check.table(&["plugin", id]);
                let name = check.own_name();
                check.warn_of_table(format!(
                    "{name}: no platform uses this plugin, so the table has no effect"
                ));
            }
        }
        let labels = platforms.iter().map(|platform| &platform.labels);
        metrics.warn(labels, &mut check.table(&["metrics"]));
        let shard = self.shard.resolve(&mut check.table(&["shard"]));
        let receivers = self.notify.into_iter().filter_map(|(name, receiver)| {
            let receiver =
                receiver.resolve(base_dir, &platforms, &mut check.table(&["notify", &name]))?;
            Some((name, receiver))
        });
        let receivers = receivers.collect();
        let maintenance = self.maintenance.into_iter().filter_map(|(name, window)| {
            window.resolve(&name, &platforms, &mut check.table(&["maintenance", &name]))
        });
        ConfigSections {
            shard,
            discoveries,
            expanded: TemplateSet::default(),
            receivers,
            maintenance: maintenance.collect(),
            host,
            breaker,
            resources,
            metrics,
            history,
            trust,
            plugins,
            platforms,
            probe,
            templates,
            warnings: Vec::new(),
        }
    }
}

/// Returns a warning if the file names no folders and a folder called `plugins` is next to it.
fn unsearched_folder(source: &SourceText, base_dir: &Path, host: &HostConfig) -> Option<String> {
    let folder = base_dir.join("plugins");
    let searched = host.plugin_dirs.clone();
    let is_there = host.plugin_dirs_are_default
        && file_reader::within(&folder.clone(), file_reader::PATIENCE, move || {
            let real = |folder: &PathBuf| std::fs::canonicalize(folder).ok();
            folder.is_dir() && !searched.iter().any(|other| real(other) == real(&folder))
        })
        .unwrap_or_default();
    is_there.then(|| {
        format!(
            "the folder `plugins` is not searched: add plugin_dirs = [\"plugins\"] to [host] in {}",
            source.name()
        )
    })
}

/// Fills secrets into the configs of platforms and templates; returns those of platforms and those of templates by name.
fn look_up_secrets<'a>(
    values: &mut Value,
    base_dir: &'a Path,
    own: &'a OwnAddress,
    places: &'a SpanTree,
    expanded: &TemplateSet,
) -> ([BTreeMap<String, PlatformSecrets>; 2], SecretResolver<'a>) {
    let mut lookup = SecretResolver::new(base_dir, own, places);
    let secrets = ["platform", "template"].map(|table| {
        let mut secrets = BTreeMap::new();
        let configs = values.get_mut(table).and_then(Value::as_object_mut);
        for (name, entry) in configs.into_iter().flatten() {
            let is_read = table == "platform" || expanded.is_module(name);
            if let Some(entry) = entry.as_object_mut().filter(|_| is_read) {
                secrets.insert(name.clone(), lookup.of_table(table, name, entry));
            }
        }
        secrets
    });
    (secrets, lookup)
}

/// Fills in the defaults of a platform that is not in the file; its places are those of its template.
pub(super) fn resolve_platform(
    raw: platform::RawPlatformConfig,
    name: &str,
    config: &ConductorConfig,
    places: &SpanTree,
    faults: &mut Vec<ConfigMistake>,
) -> PlatformConfig {
    let mut warnings = Vec::new();
    let mut check = TableValidator::new(places, faults, &mut warnings);
    let mut check = check.table(&["platform", name]);
    let location = config.source.location(check.place().start);
    let (host, breaker) = (&config.host, &config.breaker);
    raw.resolve(name.to_owned(), location, host, breaker, &mut check)
}

fn no_platform(source: &SourceText) -> ConfigMistake {
    let text = &source.text()[source.files()[0].range.clone()];
    let last_line = text.trim_end().rfind('\n').map_or(0, |newline| newline + 1);
    ConfigMistake::new("the config has no platform")
        .help("add one, for example [platform.disk] with plugin = \"disk\"")
        .at(last_line..text.trim_end().len())
}
