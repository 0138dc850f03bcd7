//! What plugins say to platforms' configs: tried out in throw-away workers, remembered, and put in its place in the file.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest as _, Sha256};

use crate::{
    clock::Clock,
    config::{Config, ConfigError, PlatformConfig},
    judge::{self, Candidate, Finding, Terms},
    library::Vetted,
    metrics::ErrorType,
    plugin::{
        LoadError,
        loader::{self, How},
    },
};

/// Judges configs, and remembers those that were accepted.
#[derive(Clone)]
pub(crate) struct Judge {
    clock: Clock,
    accepted: Arc<Mutex<HashSet<Key>>>,
}

/// Stands for a library, how it runs, and a platform's config: the first half of a hash.
type Key = [u8; 16];

impl Judge {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            accepted: Arc::default(),
        }
    }

    /// Tries out the configs of all platforms of a plugin, those that were accepted before aside; `creates` says whether
    /// probes are created. Returns what is wrong, by platform.
    ///
    /// # Errors
    /// When the library does not load at all.
    pub(crate) fn platforms<'a>(
        &self,
        config: &'a Config,
        vetted: &Vetted,
        how: &How,
        creates: bool,
    ) -> Result<Vec<(&'a PlatformConfig, Finding)>, LoadError> {
        let id = &vetted.manifest.id;
        let platforms = config.platforms.iter().filter(|p| p.plugin == *id);
        let (platforms, candidates): (Vec<_>, Vec<_>) = {
            let accepted = self.accepted();
            platforms
                .filter_map(|platform| {
                    let candidate = Candidate {
                        platform: platform.name.as_str().into(),
                        config: platform.config.to_string().into(),
                        subject: config.subject(platform),
                    };
                    let key = |creates| key(vetted, how, &candidate, creates);
                    // What a probe was created with keeps to the schema.
                    let keys = match creates {
                        true => vec![key(true), key(false)],
                        false => vec![key(false)],
                    };
                    (!accepted.contains(&keys[0])).then_some(((platform, keys), candidate))
                })
                .unzip()
        };
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let terms = Terms::new(creates, how.call_threads);
        let start = |ended| loader::for_trials(vetted, how, self.clock, ended);
        let verdict = judge::judge(start, &candidates, terms, self.clock)?;
        let mut accepted = self.accepted();
        let judged = platforms.into_iter().zip(verdict.findings);
        let wrong = judged.filter_map(|((platform, keys), finding)| {
            if finding.is_none() {
                accepted.extend(keys);
            }
            Some((platform, finding?))
        });
        Ok(wrong.collect())
    }

    fn accepted(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(vetted: &Vetted, how: &How, candidate: &Candidate, creates: bool) -> Key {
    let mut hash = Sha256::new();
    hash.update(vetted.sha256.0);
    let How {
        isolation,
        call_threads,
        limits,
        allow,
        no_udp,
        // Which files of the host's are closed to it says nothing about a config.
        hidden: _,
    } = how;
    hash.update(format!(
        "{isolation:?} {call_threads} {limits:?} {allow:?} {no_udp}"
    ));
    for text in [&candidate.platform, &candidate.config] {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.update([u8::from(creates)]);
    let hash: [u8; 32] = hash.finalize().into();
    let (half, _) = hash.split_at(16);
    half.try_into().unwrap_or_default()
}

/// A finding as mistakes in the file.
pub(crate) fn mistakes(
    config: &Config,
    platform: &PlatformConfig,
    finding: Finding,
) -> ConfigError {
    let plugin = &platform.plugin;
    let (message, help) = match finding {
        Finding::Violations(violations) => return config.mistakes(violations),
        Finding::Create(failure) => match failure.kind {
            ErrorType::Panic => (
                format!("plugin {plugin} panics when its probe is created: {failure}"),
                "the plugin must be corrected: tell its author",
            ),
            _ => (
                format!("plugin {plugin} cannot create its probe: {failure}"),
                "correct its `config`",
            ),
        },
        Finding::Stuck(within) => (
            format!(
                "plugin {plugin} does not finish with its config within {}",
                humantime::format_duration(within)
            ),
            "the plugin's schema or its `create` hangs: tell its author",
        ),
        Finding::Killed(end) => (
            format!("plugin {plugin} cannot take its config: its worker {end}"),
            "the plugin's schema or its `create` is wrong, or needs more than `limits` allows: tell its author",
        ),
        Finding::NotTried => (
            format!(
                "plugin {plugin} failed with too many other configs, so this one was not tried"
            ),
            "correct those first",
        ),
    };
    config.mistake_of_platform(platform, &message, help)
}
