//! The judge of configs, used by `config check`, `run`, a reload and every load of a library.
//!
//! Plugins' parts are tried in throw-away workers, accepted ones are remembered, and errors are mapped to positions in
//! the file.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use conductor_config as config;
use conductor_config::{ConductorConfig, ConfigError, ConfigReadResult, PlatformConfig};
use conductor_core::clock::Clock;
use conductor_engine::judge::{self, ConfigCandidate, ConfigFinding, TrialSettings};
use conductor_library::{FoundLibraries, Vetted};
use conductor_runtime::{
    LoadError,
    loader::{self, GenerationSettings},
    redaction,
    schema::SchemaViolation,
    wording::nearest,
};
use conductor_types::ErrorType;
use sha2::{Digest as _, Sha256};

mod templates;

/// Judges configs, and remembers those that were accepted.
#[derive(Clone)]
pub(crate) struct ConfigJudge {
    clock: Clock,
    accepted: Arc<Mutex<AcceptedConfigs>>,
}

/// Accepted configs: those of the running config, and those tried since.
///
/// A reload forgets those that are neither in it nor in the running config, so there are at most three configs' worth.
#[derive(Default)]
struct AcceptedConfigs {
    running: HashSet<Key>,
    /// Tried in the reload before this one, which may have been rejected.
    before: HashSet<Key>,
    /// Tried or found again since.
    now: HashSet<Key>,
}

impl AcceptedConfigs {
    fn has(&mut self, key: &Key) -> bool {
        let found =
            self.now.contains(key) || self.running.contains(key) || self.before.contains(key);
        if found {
            self.now.insert(*key);
        }
        found
    }

    /// Starts a reload.
    fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Makes the config of this reload the running one.
    fn follow(&mut self) {
        self.running = std::mem::take(&mut self.now);
        self.before = HashSet::new();
    }
}

/// Identifies a library, how it runs, and a platform's config: the first half of a hash.
type Key = [u8; 16];

impl ConfigJudge {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            accepted: Arc::default(),
        }
    }

    /// Tries the configs of all platforms of a plugin, except those accepted before; `creates` enables the creation of
    /// probes. Returns the errors, by platform.
    ///
    /// # Errors
    /// If the library does not load at all.
    pub(crate) fn platforms<'a>(
        &self,
        config: &'a ConductorConfig,
        vetted: &Vetted,
        how: &GenerationSettings,
        creates: bool,
    ) -> Result<Vec<(&'a PlatformConfig, ConfigFinding)>, LoadError> {
        let id = &vetted.manifest.id;
        let platforms = config.platforms.iter().filter(|p| p.plugin == *id);
        let (whole, unresolved): (Vec<_>, Vec<_>) =
            platforms.partition(|p| p.secrets.unresolved.is_empty());
        let (platforms, candidates): (Vec<_>, Vec<_>) = {
            let mut accepted = self.accepted();
            let conditions = conditions(vetted, how);
            let open = whole.into_iter().filter_map(|platform| {
                let candidate = candidate(config, platform);
                let key = |creates| key(conditions.clone(), &candidate, creates);
                // A config that a probe was created with conforms to the schema.
                let keys = match creates {
                    true => vec![key(true), key(false)],
                    false => vec![key(false)],
                };
                let known: Vec<_> = keys.iter().map(|key| accepted.has(key)).collect();
                (!known[0]).then_some(((platform, keys), candidate))
            });
            open.unzip()
        };
        let start = |ended| loader::for_trials(vetted, how, self.clock, ended);
        let mut wrong = Vec::new();
        if !candidates.is_empty() {
            let terms = TrialSettings::new(creates);
            let verdict = judge::judge(start, &candidates, terms, self.clock)?;
            let mut accepted = self.accepted();
            for ((platform, keys), findings) in platforms.into_iter().zip(verdict.findings) {
                if findings.is_empty() {
                    accepted.now.extend(keys);
                }
                wrong.extend(findings.into_iter().map(|finding| (platform, finding)));
            }
        }
        if !unresolved.is_empty() {
            // Without the secrets no probe can be created, nor can any of them be found wrong.
            let candidates: Vec<_> = unresolved.iter().map(|p| candidate(config, p)).collect();
            let verdict = judge::judge(start, &candidates, TrialSettings::new(false), self.clock)?;
            for (platform, findings) in unresolved.into_iter().zip(verdict.findings) {
                for finding in findings {
                    if let ConfigFinding::Violations(violations) = finding {
                        let left = without_unresolved(violations, platform);
                        wrong.extend(left.map(|left| (platform, left)));
                    }
                }
            }
        }
        Ok(wrong)
    }

    /// Forgets the configs that are not in the config of this reload, which is now in force.
    pub(super) fn follow(&self) {
        self.accepted().follow();
    }

    fn accepted(&self) -> MutexGuard<'_, AcceptedConfigs> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn candidate(config: &ConductorConfig, platform: &PlatformConfig) -> ConfigCandidate {
    // A name that the host refuses is not passed to a plugin.
    let name = match config::is_platform_name(&platform.name) {
        true => &platform.name,
        false => "platform",
    };
    ConfigCandidate {
        platform: name.into(),
        config: platform.config.to_string().into(),
        interval: platform.interval,
        labels: platform.labels.clone(),
        subject: config.subject(platform),
    }
}

/// Returns the violations that do not involve unresolved secrets.
fn without_unresolved(
    mut violations: Vec<SchemaViolation>,
    platform: &PlatformConfig,
) -> Option<ConfigFinding> {
    let depth = ["platform", &platform.name, "config"].len();
    violations.retain(|violation| {
        let path = violation.path.get(depth..).unwrap_or_default();
        !platform.secrets.is_unresolved(path)
    });
    (!violations.is_empty()).then_some(ConfigFinding::Violations(violations))
}

/// Returns the hash of a library and how it runs, which its platforms share.
fn conditions(vetted: &Vetted, how: &GenerationSettings) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(vetted.sha256.0);
    let GenerationSettings {
        isolation,
        call_threads,
        limits,
        allow,
        no_udp,
        // The host's files that are hidden from the plugin do not affect the verdict.
        hidden: _,
    } = how;
    hash.update(format!(
        "{isolation:?} {call_threads} {limits:?} {allow:?} {no_udp}"
    ));
    hash
}

fn key(conditions: Sha256, candidate: &ConfigCandidate, creates: bool) -> Key {
    let mut hash = conditions;
    let labels = format!("{:?} {:?}", candidate.interval, candidate.labels);
    for text in [&*candidate.platform, &candidate.config, &labels] {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update([u8::from(creates)]);
    let hash: [u8; 32] = hash.finalize().into();
    let (half, _) = hash.split_at(16);
    half.try_into().unwrap_or_default()
}

/// The rejection of a config.
#[derive(Debug)]
pub(crate) struct ConfigRejection {
    /// All errors in it.
    pub(crate) error: ConfigError,
    /// `true` if the file is right and only libraries do not load.
    pub(crate) only_loading: bool,
}

impl From<ConfigError> for ConfigRejection {
    fn from(error: ConfigError) -> Self {
        Self {
            error,
            only_loading: false,
        }
    }
}

impl ConfigJudge {
    /// Judges a config with these libraries, and all valid parts of a file with errors; its secrets are redacted from
    /// the output of plugins from now on. `hidden` are further files that no plugin may read; the second value of
    /// `libraries` is kept until the plugins were asked.
    ///
    /// # Errors
    /// All errors: in the text, in its shape, and found by the plugins.
    pub(crate) fn reading<K>(
        &self,
        reading: ConfigReadResult,
        hidden: Vec<PathBuf>,
        libraries: impl FnOnce(&ConductorConfig) -> (FoundLibraries, K) + Send + 'static,
    ) -> Result<Arc<ConductorConfig>, ConfigRejection> {
        let (config, of_shape) = match (reading.config, reading.error) {
            (Some(config), of_shape) => (Arc::new(config), of_shape),
            (None, Some(error)) => return Err(error.into()),
            (None, None) => unreachable!("a reading without errors has a config"),
        };
        redaction::learn(config.secrets().flat_map(|secrets| secrets.texts()));
        self.accepted().begin();
        let (tell, told) = mpsc::channel();
        let (judge, judged) = (self.clone(), Arc::clone(&config));
        let judging = thread::Builder::new()
            .name("judge".to_owned())
            .spawn(move || {
                // The receiver may be gone: a plugin folder may be on a disk that does not respond.
                let (libraries, _keeps_copies) = libraries(&judged);
                let _ = tell.send(judge.plugins(&judged, &hidden, &libraries));
            });
        let verdict = match judging {
            Ok(_) => told.recv_timeout(PATIENCE).ok(),
            Err(_) => None,
        };
        let verdict = verdict.unwrap_or_else(|| {
            let what = format!(
                "the plugins did not check the config within {}",
                humantime::format_duration(PATIENCE)
            );
            PluginConfigErrors {
                mistakes: vec![config.mistake_of_plugin_dirs(
                    &what,
                    "check that the disks of the plugin folders respond",
                )],
                only_loading: false,
            }
        });
        let only_loading = of_shape.is_none() && verdict.only_loading;
        match ConfigError::joined(of_shape.into_iter().chain(verdict.mistakes)) {
            Some(error) => Err(ConfigRejection {
                error,
                only_loading,
            }),
            None => Ok(config),
        }
    }

    /// Asks all plugins in parallel to judge their platforms' configs.
    fn plugins(
        &self,
        config: &ConductorConfig,
        hidden: &[PathBuf],
        libraries: &FoundLibraries,
    ) -> PluginConfigErrors {
        let known: Vec<_> = libraries.by_id.keys().map(String::as_str).collect();
        let refused = |id: &str| libraries.refused(id);
        let unknown = config.check_plugins(&known, refused).err();
        let tables = config.plugins.keys().map(String::as_str);
        let mut named = config.plugins_in_use().into_iter().chain(tables);
        let is_missing = |id: &str| !known.contains(&id) && refused(id).is_none();
        let only_refused = !named.any(is_missing);
        // Of a misspelt id, the folders say nothing.
        let is_misspelt = |id: &str| nearest(id, known.iter().copied()).is_some();
        let missing = config
            .plugins_in_use()
            .into_iter()
            .any(|id| is_missing(id) && !is_misspelt(id));
        let searched = missing.then(|| {
            let searched = format!("searched for plugins: {}", libraries.searched());
            config.mistake_of_plugin_dirs(
                &searched,
                "put the missing libraries into one of these folders; correct or replace refused libraries",
            )
        });
        let mut mistakes: Vec<_> = unknown.into_iter().chain(searched).collect();
        let mut only_loading = only_refused;
        thread::scope(|scope| {
            let ask = |id: &str| {
                let library = libraries.by_id.get(id)?;
                let mut how = config.how(id);
                how.hidden.extend_from_slice(hidden);
                let ask = move || {
                    let wrong = self.platforms(config, library, &how, true)?;
                    Ok((wrong, self.templates(config, library, &how)?))
                };
                Some((id.to_owned(), scope.spawn(ask)))
            };
            let asked: Vec<_> = config
                .plugins_in_use()
                .into_iter()
                .filter_map(ask)
                .collect();
            for (id, answer) in asked {
                match answer.join() {
                    Ok(Ok((wrong, of_templates))) => {
                        only_loading &= wrong.is_empty() && of_templates.is_empty();
                        let wrong = wrong.into_iter();
                        mistakes.extend(
                            wrong.map(|(platform, found)| self::mistakes(config, platform, found)),
                        );
                        mistakes.extend(of_templates);
                    }
                    Ok(Err(error)) => mistakes.extend(does_not_load(config, &id, &error)),
                    Err(_) => {
                        let error = LoadError {
                            kind: ErrorType::Load,
                            message: "internal error while checking its configs".to_owned(),
                            detail: None,
                        };
                        mistakes.extend(does_not_load(config, &id, &error));
                    }
                }
            }
        });
        PluginConfigErrors {
            only_loading: only_loading && !mistakes.is_empty(),
            mistakes,
        }
    }
}

/// Errors found by the plugins.
struct PluginConfigErrors {
    mistakes: Vec<ConfigError>,
    only_loading: bool,
}

/// Reports a library that does not load as an error of the first platform that needs it, or of a template.
fn does_not_load(config: &ConductorConfig, id: &str, error: &LoadError) -> Option<ConfigError> {
    let help = "correct or replace its library";
    let mut platforms = config.platforms.iter().filter(|p| p.plugin == id);
    let Some(first) = platforms.next() else {
        let template = config.templates.values().find(|t| t.plugin == id)?;
        let message = format!("plugin {id} does not load: {error}");
        return Some(config.mistake_of_template(template, &message, help));
    };
    let more = match platforms.count() {
        0 => String::new(),
        1 => " (1 more platform uses it)".to_owned(),
        more => format!(" ({more} more platforms use it)"),
    };
    let message = format!("plugin {id} does not load{more}: {error}");
    Some(config.mistake_of_platform(first, &message, help))
}

/// Converts a finding to errors in the file.
pub(crate) fn mistakes(
    config: &ConductorConfig,
    platform: &PlatformConfig,
    finding: ConfigFinding,
) -> ConfigError {
    match explain(&platform.plugin, finding) {
        Ok((message, help)) => config.mistake_of_config(platform, &message, help),
        Err(violations) => config.mistakes(violations),
    }
}

/// Returns what a finding says, and the cure.
///
/// # Errors
/// The violations, if it consists of those: they have messages of their own.
fn explain(
    plugin: &str,
    finding: ConfigFinding,
) -> Result<(String, &'static str), Vec<SchemaViolation>> {
    Ok(match finding {
        ConfigFinding::Violations(violations) => return Err(violations),
        ConfigFinding::Create(failure) => match failure.kind {
            ErrorType::Panic => (
                format!("plugin {plugin} panics when its probe is created or dropped: {failure}"),
                "report the bug to the author of the plugin",
            ),
            _ => (
                format!("plugin {plugin} cannot create its probe: {failure}"),
                "correct its `config`",
            ),
        },
        ConfigFinding::Stuck(within) => (
            format!(
                "plugin {plugin} does not finish checking this config within {}",
                humantime::format_duration(within)
            ),
            "the plugin's schema or its `create` hangs: report the bug to its author",
        ),
        ConfigFinding::Killed(end) => (
            format!("plugin {plugin} fails on this config: its worker {end}"),
            "the plugin's schema or its `create` crashes or exceeds `limits`: raise the limits, or report the bug to its author",
        ),
        ConfigFinding::NotTried => (
            format!("not tried: plugin {plugin} failed on too many other configs"),
            "correct the other configs first",
        ),
        ConfigFinding::NoTime(within) => (
            format!(
                "not tried: plugin {plugin} took {} to check other configs",
                humantime::format_duration(within)
            ),
            "try again: accepted configs are not checked again",
        ),
    })
}

/// Logs the platforms that a plugin creates no probe for, each with its position in the file, as `config check` reports
/// it.
pub(super) fn log_failed_creates(
    config: &ConductorConfig,
    wrong: Vec<(&PlatformConfig, ConfigFinding)>,
) {
    let of_create = |finding: &ConfigFinding| {
        matches!(
            finding,
            ConfigFinding::Create(_) | ConfigFinding::Stuck(_) | ConfigFinding::Killed(_)
        )
    };
    for (platform, finding) in wrong.into_iter().filter(|(_, finding)| of_create(finding)) {
        let (name, reason) = reason(config, platform, finding);
        tracing::error!(platform = name, plugin = platform.plugin, "{reason}");
    }
}

/// Formats a platform's name and the error in its config in one line.
pub(super) fn reason(
    config: &ConductorConfig,
    platform: &PlatformConfig,
    finding: ConfigFinding,
) -> (String, Arc<str>) {
    let lines = mistakes(config, platform, finding).to_lines();
    (platform.name.clone(), lines.join("; ").into())
}

/// The time limit for judging a whole config: more than that of its plugins, which are asked in parallel.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_is_kept_while_a_config_names_it_and_no_longer() {
        let key = |of: u16, n: u8| {
            let [high, low] = of.to_be_bytes();
            [high, low, n, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        };
        let all = |accepted: &AcceptedConfigs| {
            accepted.running.len() + accepted.before.len() + accepted.now.len()
        };
        let mut accepted = AcceptedConfigs::default();
        accepted.now.extend((0..100).map(|n| key(0, n)));
        for reload in 1..=2000 {
            accepted.begin();
            // One reload in four changes everything, and every third config is rejected.
            let config = reload - reload % 4;
            for n in 0..100 {
                let key = key(config, n);
                let is_known = accepted.has(&key);
                assert_eq!(is_known, reload % 4 != 0, "reload {reload}");
                accepted.now.insert(key);
            }
            if reload % 3 != 0 {
                accepted.follow();
            }
            assert!(all(&accepted) <= 300, "{}", all(&accepted));
        }
    }
}
