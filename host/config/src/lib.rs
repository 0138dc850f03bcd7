//! The configuration: one TOML file, `conductor.toml`, read into settings that need no further checks.
//!
//! A file is read in three steps, and each reports all the mistakes it can find: `syntax` turns text into
//! tables, `schema` holds them against the file's own JSON Schema, and `elements` resolves defaults and
//! checks what one key means for another. A default never contradicts what the operator wrote: it gives way.

mod elements;
mod error;
pub mod for_editors;
mod inline;
mod own;
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

use conductor_core::{clock::Clock, maintenance::Window};
use conductor_library::{Catalog, Policy, Refusal, Store, default_folders, printable};
use conductor_runtime::{
    loader::{How, Loader},
    schema::{Subject, Violation},
    wording::{listed, nearest, pointer},
};
pub use elements::{
    breaker::BreakerConfig,
    duration::{LONGEST as LONGEST_DURATION, parse as parse_duration},
    host::HostConfig,
    platform::{PlatformConfig, is_name as is_platform_name},
    plugin::PluginConfig,
    resources::ResourcesConfig,
    trust::TrustConfig,
};
pub use error::ConfigError;
use error::Fault;
pub use inline::InlineConfig;
pub use own::OwnAddress;
pub use schema::json_schema;
pub use secrets::Secrets;
pub use source::{Location, MAX_BYTES, Source};

/// The commented default configuration, as `conductor config default` prints it.
pub const DEFAULT_TEXT: &str = include_str!("../conductor.toml");

/// A configuration that was read, checked and given its defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the host itself behaves.
    pub host: HostConfig,
    /// The breaker's settings for platforms that give none of their own.
    pub breaker: BreakerConfig,
    /// When the machine counts as short of resources.
    pub resources: ResourcesConfig,
    /// Whose signature a library must have to be loaded.
    pub trust: TrustConfig,
    /// The plugins that have a `[plugin.<id>]` table, by id; [`Config::plugin`] answers for all others too.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// What to watch, in the order of the file; never empty.
    pub platforms: Vec<PlatformConfig>,
    /// When people work on platforms.
    pub maintenance: Vec<Window>,
    /// Whether this is the compiled-in default, whose plugins lie among the libraries of the program's own folder.
    pub is_builtin: bool,
    /// Where libraries are pinned, if they are: `plugins.lock` beside the file; none for the compiled-in default.
    pub lock_file: Option<PathBuf>,
    /// The folder that the paths in the file are relative to.
    pub base_dir: PathBuf,
    /// What does not keep it from being used and should be put right, as `file:line:column: …`.
    pub warnings: Vec<String>,
    /// The file this came from, for messages that point into it.
    pub source: Arc<Source>,
}

impl Config {
    /// The loader of the plugins in the config's folders.
    ///
    /// # Errors
    /// When there is no place for private copies of libraries.
    pub fn loader(&self, clock: Clock) -> Result<Loader, Refusal> {
        let catalog = Catalog::open(
            &self.host.plugin_dirs,
            self.host.plugin_dirs_are_default,
            self.policy(),
            self.host.state_dir.as_deref(),
        )?;
        Ok(Loader::new(Arc::new(catalog), clock))
    }

    /// The way in which a plugin's generations run.
    #[must_use]
    pub fn how(&self, id: &str) -> How {
        let plugin = self.plugin(id);
        How {
            isolation: plugin.isolation,
            call_threads: plugin.call_threads as usize,
            limits: plugin.limits,
            allow: plugin.allow,
            no_udp: plugin.no_udp,
            hidden: self.hidden(),
        }
    }

    /// The host's own files and folders, which no plugin may read.
    #[must_use]
    pub fn hidden(&self) -> Vec<PathBuf> {
        let state = self.host.state_dir.clone();
        let state = state.unwrap_or_else(Store::default_base);
        let config_file = (!self.is_builtin).then(|| PathBuf::from(self.source.name()));
        let secrets = self.platforms.iter().flat_map(|p| p.secrets.files.clone());
        [Some(state), config_file, self.lock_file.clone()]
            .into_iter()
            .flatten()
            .chain(secrets)
            .collect()
    }

    /// Reads the configuration file at `path`; the folders in it are relative to its own.
    ///
    /// # Errors
    /// When the file cannot be read, and for every mistake in it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_for(path, &OwnAddress::default())
    }

    /// As [`Self::read`], for a host that serves at `own`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_for(path: &Path, own: &OwnAddress) -> Result<Self, ConfigError> {
        Reading::of(path, own).into_result()
    }

    /// Reads a configuration from `text`, which messages call `name`; the folders in it are relative to `base_dir`.
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
        Self::from_source(Source::new(name, text)?, base_dir, own)
    }

    /// The compiled-in default, which finds its plugins in `exe_dir`, the folder of the running binary.
    ///
    /// # Panics
    /// If the default text were wrong, which a test rules out.
    #[must_use]
    pub fn builtin(exe_dir: &Path) -> Self {
        Self::builtin_for(exe_dir, &OwnAddress::default())
    }

    /// As [`Self::builtin`], for a host that serves at `own`.
    ///
    /// # Panics
    /// As [`Self::builtin`].
    #[must_use]
    pub fn builtin_for(exe_dir: &Path, own: &OwnAddress) -> Self {
        let name = "built-in conductor.toml";
        let mut config = Self::parse_for(DEFAULT_TEXT.to_owned(), name, exe_dir, own)
            .expect("a test reads the default text");
        config.host.plugin_dirs = default_folders(exe_dir);
        config.is_builtin = true;
        config.lock_file = None;
        config
    }

    fn from_source(source: Source, base_dir: &Path, own: &OwnAddress) -> Result<Self, ConfigError> {
        Reading::of_source(source, base_dir, own).into_result()
    }

    /// What a library must be to be loaded, beyond the rules that hold on every host.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            lock_file: self.lock_file.clone(),
            signers: self.trust.minisign_keys.clone(),
            require_signature: self.trust.require_signature,
        }
    }

    /// The ids of the plugins that platforms name, sorted.
    #[must_use]
    pub fn plugins_in_use(&self) -> BTreeSet<&str> {
        self.platforms
            .iter()
            .map(|platform| platform.plugin.as_str())
            .collect()
    }

    /// The settings of plugin `id`: its own table's where it has one, and the host's.
    #[must_use]
    pub fn plugin(&self, id: &str) -> PluginConfig {
        self.plugins
            .get(id)
            .cloned()
            .unwrap_or_else(|| PluginConfig::of_host(&self.host))
    }

    /// Checks that every plugin the file names is one of `known`, the ids of the plugins at hand; `refused` returns why a
    /// plugin's library was refused, if one was found.
    ///
    /// # Errors
    /// Names each platform and each `[plugin.<id>]` table whose plugin is unknown.
    pub fn check_plugins<'a>(
        &self,
        known: &[&str],
        refused: impl Fn(&str) -> Option<&'a Refusal>,
    ) -> Result<(), ConfigError> {
        let platforms = self.platforms.iter().map(|platform| {
            let path = ["platform", &platform.name, "plugin"];
            (spans::path(&path), platform.plugin.as_str())
        });
        let tables = self
            .plugins
            .keys()
            .map(|id| (spans::path(&["plugin", id]), id.as_str()));
        let faults = platforms
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
    pub fn subject(&self, platform: &PlatformConfig) -> Subject {
        Subject {
            base: spans::path(&["platform", &platform.name, "config"]),
            hidden: platform.secrets.paths().to_vec(),
        }
    }

    /// The violations as mistakes in this file.
    #[must_use]
    pub fn mistakes(&self, violations: Vec<Violation>) -> ConfigError {
        let faults = schema::placed(violations, self.source.places()).collect();
        ConfigError::new(Arc::clone(&self.source), faults)
    }

    /// A mistake for which all of a platform's table is to blame.
    #[must_use]
    pub fn mistake_of_platform(
        &self,
        platform: &PlatformConfig,
        message: &str,
        help: &str,
    ) -> ConfigError {
        let (path, places) = (
            spans::path(&["platform", &platform.name]),
            self.source.places(),
        );
        let message = format!("{}: {message}", places.name(&path));
        let fault = Fault::new(message).help(help).at(places.key_at(&path));
        ConfigError::new(Arc::clone(&self.source), vec![fault])
    }

    /// A mistake in what is found in the plugin folders.
    #[must_use]
    pub fn mistake_of_plugin_dirs(&self, message: &str, help: &str) -> ConfigError {
        let places = self.source.places();
        let place = places.value_at(&spans::path(&["host", "plugin_dirs"]));
        let fault = Fault::new(format!("host.plugin_dirs: {message}"));
        ConfigError::new(Arc::clone(&self.source), vec![fault.help(help).at(place)])
    }

    /// Where in the file the value at `json_pointer` inside a platform's `config` table stands, or else its
    /// nearest parent that the file has.
    #[must_use]
    pub fn locate(&self, platform: &str, json_pointer: &str) -> Location {
        let mut path = spans::path(&["platform", platform, "config"]);
        path.extend(pointer(json_pointer));
        let place = self.source.places().value_at(&path);
        self.source.location(place.start)
    }
}

/// A configuration file as far as it makes sense, and what is wrong with it.
#[derive(Debug)]
pub struct Reading {
    /// The settings where the file is right; only for further judging if there is an `error`.
    pub config: Option<Config>,
    /// All that is wrong with its text and its shape.
    pub error: Option<ConfigError>,
}

impl Reading {
    /// Reads the configuration file at `path`, for a host that serves at `own`; the folders in it are relative to its own.
    #[must_use]
    pub fn of(path: &Path, own: &OwnAddress) -> Self {
        match Source::read(path) {
            Ok(source) => Self::of_source(source, path.parent().unwrap_or(Path::new("")), own),
            Err(error) => Self {
                config: None,
                error: Some(error),
            },
        }
    }

    /// Reads the text of a config again, for a host that serves at `own` now.
    #[must_use]
    pub fn again(config: &Config, own: &OwnAddress) -> Self {
        Self::of_source(config.source.copy(), &config.base_dir, own)
    }

    fn of_source(source: Source, base_dir: &Path, own: &OwnAddress) -> Self {
        let source = Arc::new(source);
        let (parts, faults) = elements::read(&source, base_dir, own);
        let config = parts.map(|parts| Config {
            host: parts.host,
            breaker: parts.breaker,
            resources: parts.resources,
            trust: parts.trust,
            plugins: parts.plugins,
            platforms: parts.platforms,
            warnings: parts.warnings,
            maintenance: parts.maintenance,
            is_builtin: false,
            lock_file: Some(base_dir.join("plugins.lock")),
            base_dir: base_dir.to_owned(),
            source: Arc::clone(&source),
        });
        Self {
            config,
            error: ConfigError::unless_empty(&source, faults).err(),
        }
    }

    /// The config of a file without mistakes.
    ///
    /// # Errors
    /// For every mistake in the file.
    pub fn into_result(self) -> Result<Config, ConfigError> {
        match (self.config, self.error) {
            (Some(config), None) => Ok(config),
            (_, Some(error)) => Err(error),
            (None, None) => unreachable!("a file without mistakes makes sense"),
        }
    }
}

impl From<Config> for Reading {
    fn from(config: Config) -> Self {
        Self {
            config: Some(config),
            error: None,
        }
    }
}

fn refused_plugin(table: &str, id: &str, refusal: &Refusal) -> Fault {
    let (file, rule) = (printable::path(&refusal.file), refusal.rule);
    let found = &refusal.found;
    Fault::new(format!(
        "{table}: the library of plugin {id:?} is refused: {file}: rule {rule}: {found}"
    ))
    .help(&refusal.cure)
}

fn unknown_plugin(table: &str, id: &str, known: &[&str]) -> Fault {
    let fault = Fault::new(format!("{table}: there is no plugin {id:?}"));
    match nearest(id, known.iter().copied()) {
        Some(near) => fault.help(format!("did you mean {near:?}?")),
        None if known.is_empty() => fault.help("no plugin was found in host.plugin_dirs"),
        None => fault.help(format!("the plugins found are {}", listed(known))),
    }
}
