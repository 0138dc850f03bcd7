//! The configuration: one TOML file, `conductor.toml`, read into settings that need no further checks.
//!
//! A file is read in three steps, each of which reports all the mistakes it can find: `syntax` parses text into tables,
//! `schema` validates them against the file's own JSON Schema, and `elements` fills in defaults and checks keys against
//! each other. A default never contradicts what the operator wrote: it is adjusted.

mod default_text;
mod elements;
mod error;
mod escapes;
mod expansion;
pub mod for_editors;
pub mod from_template;
mod includes;
mod inline;
mod joining;
mod own;
mod parameters;
mod schema;
mod secrets;
mod source;
pub mod spans;
mod syntax;
#[cfg(test)]
mod tests;
pub mod web;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use conductor_core::{clock::Clock, maintenance::MaintenanceWindow, shard::Shard};
use conductor_library::{Catalog, FileRefusal, Store, TrustPolicy, default_folders, printable};
use conductor_runtime::{
    loader::{CatalogLoader, GenerationSettings},
    schema::{SchemaViolation, ValueLocation},
    wording::{listed, nearest, pointer},
};
pub use default_text::{default_text, system_disk};
pub use elements::{
    breaker::BreakerConfig,
    confirmation::ConfirmationConfig,
    discovery::DiscoveryConfig,
    duration::{DurationError, LONGEST as LONGEST_DURATION, parse as parse_duration},
    history::HistoryConfig,
    host::HostConfig,
    metrics::{MetricsConfig, SeriesDetail},
    notify::{NotifyConfig, ReceiverConfig, WebhookConfig},
    platform::{PlatformConfig, is_label_name, is_name as is_platform_name},
    plugin::PluginConfig,
    probe::{ProbeConfig, TargetRule},
    resources::ResourcesConfig,
    template::TemplateConfig,
    trust::TrustConfig,
};
use error::ConfigMistake;
pub use error::{ConfigError, ErrorSummary};
use expansion::TemplateSet;
pub use inline::InlineConfig;
pub use own::OwnAddress;
pub use schema::json_schema;
pub use secrets::PlatformSecrets;
pub use source::{MAX_BYTES, SourceLocation, SourceText};

/// A validated configuration with defaults filled in.
#[derive(Clone, Debug)]
pub struct ConductorConfig {
    /// The settings of the host itself.
    pub host: HostConfig,
    /// The breaker settings of platforms without their own.
    pub breaker: BreakerConfig,
    /// The thresholds at which the machine counts as short of resources.
    pub resources: ResourcesConfig,
    /// The series of `/metrics`.
    pub metrics: MetricsConfig,
    /// Retention of the past of platforms.
    pub history: HistoryConfig,
    /// The signatures that a library needs to be loaded.
    pub trust: TrustConfig,
    /// The plugins with a `[plugin.<id>]` table, by id; [`ConductorConfig::plugin`] covers all others too.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// The platforms to watch, in file order; empty only in a config with templates.
    pub platforms: Vec<PlatformConfig>,
    /// The limits of `/probe`.
    pub probe: ProbeConfig,
    /// The modules of `/probe`, by name.
    pub templates: BTreeMap<String, TemplateConfig>,
    /// The files with targets that become platforms, by the name of the discovery.
    pub discoveries: BTreeMap<String, DiscoveryConfig>,
    /// The maintenance windows.
    pub maintenance: Vec<MaintenanceWindow>,
    /// The receivers of notifications, by name.
    pub receivers: BTreeMap<String, NotifyConfig>,
    /// The share of the platforms that this host checks, if it does not check all.
    pub shard: Option<Shard>,
    /// `true` for the compiled-in default, whose plugins are among the libraries in the program's own folder.
    pub is_builtin: bool,
    /// The file that pins libraries: `plugins.lock` next to the config file; `None` for the compiled-in default.
    pub lock_file: Option<PathBuf>,
    /// The folder that the paths in the file are relative to.
    pub base_dir: PathBuf,
    /// Problems that do not prevent its use, as `file:line:column: …`.
    pub warnings: Vec<String>,
    /// The file it was read from, for messages that point into it.
    pub source: Arc<SourceText>,
    /// All templates, from which more platforms can be made.
    templates_joined: Arc<TemplateSet>,
    /// The address that it was read for.
    own: OwnAddress,
}

impl ConductorConfig {
    /// Returns the loader for the plugins in the config's folders.
    ///
    /// # Errors
    /// When there is no usable folder for private copies of libraries.
    pub fn loader(&self, clock: Clock) -> Result<CatalogLoader, FileRefusal> {
        let catalog = Catalog::open(
            &self.host.plugin_dirs,
            self.host.plugin_dirs_are_default,
            self.policy(),
            self.host.state_dir.as_deref(),
        )?;
        Ok(CatalogLoader::new(Arc::new(catalog), clock))
    }

    /// Returns the way in which a plugin's generations run.
    #[must_use]
    pub fn how(&self, id: &str) -> GenerationSettings {
        let plugin = self.plugin(id);
        GenerationSettings {
            isolation: plugin.isolation,
            call_threads: plugin.call_threads as usize,
            limits: plugin.limits,
            allow: plugin.allow,
            no_udp: plugin.no_udp,
            hidden: self.hidden(),
        }
    }

    /// Returns the host's own files and folders, which no plugin may read.
    #[must_use]
    pub fn hidden(&self) -> Vec<PathBuf> {
        let state = self.host.state_dir.clone();
        let state = state.unwrap_or_else(Store::default_base);
        let config_file = (!self.is_builtin).then(|| PathBuf::from(self.source.name()));
        let secrets = self.secrets().flat_map(|secrets| secrets.files.clone());
        [Some(state), config_file, self.lock_file.clone()]
            .into_iter()
            .flatten()
            .chain(self.source.included())
            .chain(secrets)
            .collect()
    }

    /// Reads the configuration file at `path`; relative folders in it start at the file's own.
    ///
    /// # Errors
    /// When the file cannot be read, and for every mistake in it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_for(path, &OwnAddress::default())
    }

    /// Like [`Self::read`], for a host that serves at `own`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_for(path: &Path, own: &OwnAddress) -> Result<Self, ConfigError> {
        ConfigReadResult::of(path, own).into_result()
    }

    /// Parses a configuration from `text`, named `name` in messages; relative folders in it start at `base_dir`.
    ///
    /// # Errors
    /// For every mistake in the text.
    pub fn parse(text: String, name: &str, base_dir: &Path) -> Result<Self, ConfigError> {
        Self::parse_for(text, name, base_dir, &OwnAddress::default())
    }

    fn parse_for(
        text: String,
        name: &str,
        base_dir: &Path,
        own: &OwnAddress,
    ) -> Result<Self, ConfigError> {
        let source = includes::read(SourceText::new(name, text)?, base_dir);
        Self::from_source(source, base_dir, own)
    }

    /// Returns the compiled-in default, which finds its plugins in `exe_dir`, the folder of the running binary.
    ///
    /// # Panics
    /// If the default text is invalid, which a test rules out.
    #[must_use]
    pub fn builtin(exe_dir: &Path) -> Self {
        Self::builtin_for(exe_dir, &OwnAddress::default())
    }

    /// Like [`Self::builtin`], for a host that serves at `own`.
    ///
    /// # Panics
    /// As [`Self::builtin`].
    #[must_use]
    pub fn builtin_for(exe_dir: &Path, own: &OwnAddress) -> Self {
        let name = "built-in conductor.toml";
        let mut config = Self::parse_for(default_text().to_owned(), name, exe_dir, own)
            .expect("a test reads the default text");
        config.host.plugin_dirs = default_folders(exe_dir);
        config.is_builtin = true;
        config.lock_file = None;
        config
    }

    fn from_source(
        source: SourceText,
        base_dir: &Path,
        own: &OwnAddress,
    ) -> Result<Self, ConfigError> {
        ConfigReadResult::of_source(source, base_dir, own).into_result()
    }

    /// Returns the rules for loading a library, in addition to those of every host.
    #[must_use]
    pub fn policy(&self) -> TrustPolicy {
        TrustPolicy {
            lock_file: self.lock_file.clone(),
            signers: self.trust.minisign_keys.clone(),
            require_signature: self.trust.require_signature,
        }
    }

    /// Leaves out the platforms of other shards. It comes last, so that all hosts judge the same config alike.
    #[must_use]
    pub fn own_share(mut self) -> Self {
        if let Some(shard) = self.shard {
            self.platforms.retain(|platform| shard.owns(&platform.name));
        }
        self
    }

    /// Returns the secrets of each platform, template and receiver.
    pub fn secrets(&self) -> impl Iterator<Item = &PlatformSecrets> {
        let of_platforms = self.platforms.iter().map(|platform| &platform.secrets);
        let of_receivers = self.receivers.values().map(|receiver| &receiver.secrets);
        let of_templates = self.templates.values().map(|template| &template.secrets);
        of_platforms.chain(of_templates).chain(of_receivers)
    }

    /// Returns the sorted ids of the plugins that platforms and templates use.
    #[must_use]
    pub fn plugins_in_use(&self) -> BTreeSet<&str> {
        let of_platforms = self.platforms.iter().map(|platform| &platform.plugin);
        let of_templates = self.templates.values().map(|template| &template.plugin);
        let of_discoveries = self.discoveries.values();
        let of_discoveries =
            of_discoveries.filter_map(|found| self.templates_joined.plugin(&found.template));
        of_platforms
            .chain(of_templates)
            .map(String::as_str)
            .chain(of_discoveries)
            .collect()
    }

    /// Returns `true` if a plugin is to run although no platform uses it: a client or a discovery may name a target for it.
    #[must_use]
    pub fn is_kept(&self, id: &str) -> bool {
        let mut discoveries = self.discoveries.values();
        let plugin = |template: &str| self.templates_joined.plugin(template);
        self.templates
            .values()
            .any(|template| template.plugin == id)
            || discoveries.any(|found| plugin(&found.template) == Some(id))
    }

    /// Returns the settings of plugin `id`: those of its own table, completed by the host's.
    #[must_use]
    pub fn plugin(&self, id: &str) -> PluginConfig {
        self.plugins
            .get(id)
            .cloned()
            .unwrap_or_else(|| PluginConfig::of_host(&self.host))
    }

    /// Checks that every plugin named in the file is one of `known`, the ids of the available plugins; `refused`
    /// returns the reason why a plugin's library was refused, if one was found.
    ///
    /// # Errors
    /// Names each platform, template and `[plugin.<id>]` table whose plugin is unknown.
    pub fn check_plugins<'a>(
        &self,
        known: &[&str],
        refused: impl Fn(&str) -> Option<&'a FileRefusal>,
    ) -> Result<(), ConfigError> {
        let platforms = self.platforms.iter().map(|platform| {
            let path = ["platform", &platform.name, "plugin"];
            (spans::path(&path), platform.plugin.as_str())
        });
        let templates = self.templates.values().map(|template| {
            let path = ["template", &template.name, "plugin"];
            (spans::path(&path), template.plugin.as_str())
        });
        let tables = self
            .plugins
            .keys()
            .map(|id| (spans::path(&["plugin", id]), id.as_str()));
        let faults = platforms
            .chain(templates)
            .chain(tables)
            .filter(|(_, id)| !known.contains(id))
            .map(|(path, id)| {
                let places = self.source.places();
                let table = places.name(&path[..2]);
                let fault = match refused(id) {
                    Some(refusal) => refused_plugin(&table, id, refusal),
                    None => unknown_plugin(&table, id, known),
                };
                fault.at(match path.len() {
                    2 => places.key_at(&path),
                    _ => places.value_at(&path),
                })
            })
            .collect();
        ConfigError::unless_empty(&self.source, faults)
    }

    /// Returns the place of a platform's `config` table in the file, and the secrets inside it.
    #[must_use]
    pub fn subject(&self, platform: &PlatformConfig) -> ValueLocation {
        ValueLocation {
            base: spans::path(&["platform", &platform.name, "config"]),
            hidden: platform.secrets.paths().to_vec(),
        }
    }

    /// Returns the place of a template's `config` table in the file, and the secrets inside it.
    #[must_use]
    pub fn subject_of_template(&self, template: &TemplateConfig) -> ValueLocation {
        ValueLocation {
            base: spans::path(&["template", &template.name, "config"]),
            hidden: template.secrets.paths().to_vec(),
        }
    }

    /// Converts violations to mistakes in this file.
    #[must_use]
    pub fn mistakes(&self, mut violations: Vec<SchemaViolation>) -> ConfigError {
        for violation in &mut violations {
            self.place_in_template(&mut violation.path);
        }
        let faults = schema::placed(violations, self.source.places()).collect();
        ConfigError::new(Arc::clone(&self.source), faults)
    }

    /// Replaces the path of a platform that is not in the file, because it was made from a template, by that of the template.
    fn place_in_template(&self, path: &mut [String]) {
        let [table, name, ..] = path else { return };
        let is_written = || {
            let own = spans::path(&[table, name]);
            self.source.places().exact_key(&own).is_some()
        };
        if table != "platform" || is_written() {
            return;
        }
        let made = self.platforms.iter().find(|made| made.name == *name);
        if let Some(template) = made.and_then(|made| made.template.as_ref()) {
            "template".clone_into(table);
            name.clone_from(template);
        }
    }

    /// Returns a mistake that concerns a platform's whole table.
    #[must_use]
    pub fn mistake_of_platform(
        &self,
        platform: &PlatformConfig,
        message: &str,
        help: &str,
    ) -> ConfigError {
        self.mistake_of_table(["platform", &platform.name], message, help)
    }

    /// Returns a mistake that concerns a template's whole table.
    #[must_use]
    pub fn mistake_of_template(
        &self,
        template: &TemplateConfig,
        message: &str,
        help: &str,
    ) -> ConfigError {
        self.mistake_of_table(["template", &template.name], message, help)
    }

    fn mistake_of_table(&self, path: [&str; 2], message: &str, help: &str) -> ConfigError {
        let (path, places) = (spans::path(&path), self.source.places());
        let message = format!("{}: {message}", places.name(&path));
        let mut at = path;
        self.place_in_template(&mut at);
        let fault = ConfigMistake::new(message)
            .help(help)
            .at(places.key_at(&at));
        ConfigError::new(Arc::clone(&self.source), vec![fault])
    }

    /// Returns a mistake that a plugin has found in a platform's `config`: at the key that the message names as
    /// ``key `NAME` ``, else at `config` itself.
    #[must_use]
    pub fn mistake_of_config(
        &self,
        platform: &PlatformConfig,
        message: &str,
        help: &str,
    ) -> ConfigError {
        let places = self.source.places();
        let own = spans::path(&["platform", &platform.name]);
        let mut path = spans::path(&["platform", &platform.name, "config"]);
        self.place_in_template(&mut path);
        let place = match places.exact_key(&path) {
            // The table of the platform has none.
            None => places.key_at(&path[..2]),
            Some(config) => match key_in(message) {
                None => config,
                Some(key) => {
                    path.extend(
                        key.split(['.', '['])
                            .map(|part| part.trim_end_matches(']').to_owned()),
                    );
                    places.exact_key(&path).unwrap_or(config)
                }
            },
        };
        let message = format!("{}: {message}", places.name(&own));
        let fault = ConfigMistake::new(message).help(help).at(place);
        ConfigError::new(Arc::clone(&self.source), vec![fault])
    }

    /// Returns a mistake about the contents of the plugin folders.
    #[must_use]
    pub fn mistake_of_plugin_dirs(&self, message: &str, help: &str) -> ConfigError {
        let places = self.source.places();
        let place = places.value_at(&spans::path(&["host", "plugin_dirs"]));
        let fault = ConfigMistake::new(format!("host.plugin_dirs: {message}"));
        ConfigError::new(Arc::clone(&self.source), vec![fault.help(help).at(place)])
    }

    /// Returns the location in the file of the value at `json_pointer` inside a platform's `config` table, or of its
    /// nearest parent in the file.
    #[must_use]
    pub fn locate(&self, platform: &str, json_pointer: &str) -> SourceLocation {
        let mut path = spans::path(&["platform", platform, "config"]);
        path.extend(pointer(json_pointer));
        let place = self.source.places().value_at(&path);
        self.source.location(place.start)
    }
}

/// The valid parts of a configuration file, and its mistakes.
#[derive(Debug)]
pub struct ConfigReadResult {
    /// The settings from the valid parts; only for further validation if there is an `error`.
    pub config: Option<ConductorConfig>,
    /// All mistakes in its syntax and structure.
    pub error: Option<ConfigError>,
}

impl ConfigReadResult {
    /// Reads the configuration file at `path` for a host that serves at `own`; relative folders start at the file's
    /// own.
    #[must_use]
    pub fn of(path: &Path, own: &OwnAddress) -> Self {
        match SourceText::read(path) {
            Ok(source) => {
                let base_dir = path.parent().unwrap_or(Path::new(""));
                Self::of_source(includes::read(source, base_dir), base_dir, own)
            }
            Err(error) => Self {
                config: None,
                error: Some(error),
            },
        }
    }

    /// Parses a config's text again, for a host that now serves at `own`.
    #[must_use]
    pub fn again(config: &ConductorConfig, own: &OwnAddress) -> Self {
        Self::of_source(config.source.copy(), &config.base_dir, own)
    }

    fn of_source(source: SourceText, base_dir: &Path, own: &OwnAddress) -> Self {
        let source = Arc::new(source);
        let (parts, faults) = elements::read(&source, base_dir, own);
        let config = parts.map(|parts| ConductorConfig {
            host: parts.host,
            breaker: parts.breaker,
            resources: parts.resources,
            metrics: parts.metrics,
            history: parts.history,
            discoveries: parts.discoveries,
            trust: parts.trust,
            plugins: parts.plugins,
            platforms: parts.platforms,
            probe: parts.probe,
            templates: parts.templates,
            warnings: parts.warnings,
            maintenance: parts.maintenance,
            receivers: parts.receivers,
            shard: parts.shard,
            is_builtin: false,
            lock_file: Some(base_dir.join("plugins.lock")),
            base_dir: base_dir.to_owned(),
            source: Arc::clone(&source),
            templates_joined: Arc::new(parts.expanded),
            own: own.clone(),
        });
        Self {
            config,
            error: ConfigError::unless_empty(&source, faults).err(),
        }
    }

    /// Sets the share of the platforms that the command line names, if any, instead of the config's.
    #[must_use]
    pub fn with_shard(mut self, shard: Option<Shard>) -> Self {
        if let Some(config) = &mut self.config {
            config.shard = shard.or(config.shard);
        }
        self
    }

    /// Returns the config of a file without mistakes.
    ///
    /// # Errors
    /// For every mistake in the file.
    pub fn into_result(self) -> Result<ConductorConfig, ConfigError> {
        match (self.config, self.error) {
            (Some(config), None) => Ok(config),
            (_, Some(error)) => Err(error),
            (None, None) => unreachable!("a file without mistakes makes sense"),
        }
    }
}

impl From<ConductorConfig> for ConfigReadResult {
    fn from(config: ConductorConfig) -> Self {
        Self {
            config: Some(config),
            error: None,
        }
    }
}

/// Returns the key that a plugin's message names, as in ``key `ca_file`: not found``.
fn key_in(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("key `")?;
    rest.split_once('`').map(|(key, _)| key)
}

fn refused_plugin(table: &str, id: &str, refusal: &FileRefusal) -> ConfigMistake {
    let (file, rule) = (printable::path(&refusal.file), refusal.rule);
    let found = &refusal.found;
    ConfigMistake::new(format!(
        "{table}: the library of plugin {id:?} is refused: {file}: rule {rule}: {found}"
    ))
    .help(&refusal.cure)
}

fn unknown_plugin(table: &str, id: &str, known: &[&str]) -> ConfigMistake {
    let fault = ConfigMistake::new(format!("{table}: there is no plugin {id:?}"));
    match nearest(id, known.iter().copied()) {
        Some(near) => fault.help(format!("did you mean {near:?}?")),
        None if known.is_empty() => fault.help("no plugin was found in host.plugin_dirs"),
        None => fault.help(format!("the plugins found are {}", listed(known))),
    }
}
