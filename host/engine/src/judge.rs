//! Tries configs before they are used: each is checked against its plugin's schema, and a probe can be created with it
//! and dropped, in a throw-away worker.
//!
//! A schema and a `create` can hang, use up all memory and kill their process. So each trial and all trials together
//! have a deadline, a worker that dies is replaced, and the trials under way in it are repeated one by one, to identify
//! the config that killed it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use batch::TrialBatch;
use conductor_core::clock::Clock;
use conductor_runtime::{
    CallFailure, ConfigTrial, LoadError, LoadedPlugin, PluginDescription, ProbeSpec,
    UnexpectedExit,
    schema::{SchemaViolation, ValueLocation},
};
use serde_json::Value;

mod batch;

/// A platform's config to try.
#[derive(Clone, Debug)]
pub struct ConfigCandidate {
    /// The platform's name.
    pub platform: Arc<str>,
    /// Its config as JSON text, with secrets in it.
    pub config: Arc<str>,
    /// The time between the starts of its checks.
    pub interval: Duration,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The location of the config, and the secrets in it that must not be shown.
    pub subject: ValueLocation,
}

/// A reason to reject a config.
#[derive(Clone, Debug)]
pub enum ConfigFinding {
    /// It violates the plugin's schema.
    Violations(Vec<SchemaViolation>),
    /// No probe can be created with it.
    Create(CallFailure),
    /// The trial did not end within this time.
    Stuck(Duration),
    /// It killed the worker; the text continues "its worker".
    Killed(String),
    /// It was not tried, because too many others failed.
    NotTried,
    /// It was not tried, because the other trials used up this time, the limit for all.
    NoTime(Duration),
}

/// Findings about the configs of one plugin.
#[derive(Debug)]
pub struct ConfigVerdict {
    /// The plugin's description of itself.
    pub description: PluginDescription,
    /// For each candidate, its problems; empty if there are none.
    pub findings: Vec<Vec<ConfigFinding>>,
}

impl ConfigCandidate {
    /// Returns the config without the keys that the violations are about, if all of them are about keys.
    fn without(&self, violations: &[SchemaViolation]) -> Option<Self> {
        let mut config: Value = serde_json::from_str(&self.config).ok()?;
        for violation in violations {
            let path = violation.path.get(self.subject.base.len()..)?;
            let (key, parents) = path.split_last()?;
            let mut table = &mut config;
            for parent in parents {
                table = match table {
                    Value::Array(list) => list.get_mut(parent.parse::<usize>().ok()?)?,
                    other => other.get_mut(parent)?,
                };
            }
            if !violation.at_key || table.as_object_mut()?.remove(key).is_none() {
                return None;
            }
        }
        Some(Self {
            config: config.to_string().into(),
            ..self.clone()
        })
    }
}

/// Settings of the trials.
#[derive(Clone, Copy, Debug)]
pub struct TrialSettings {
    /// Create probes, and drop them.
    pub creates: bool,
    /// The longest time for one trial.
    pub each: Duration,
    /// The longest time for all trials.
    pub all: Duration,
}

impl TrialSettings {
    /// Returns the terms of a host.
    #[must_use]
    pub fn new(creates: bool) -> Self {
        Self {
            creates,
            each: Duration::from_secs(5),
            all: Duration::from_secs(30),
        }
    }
}

/// Tries the configs of one plugin. `start` starts a worker that [tries configs](conductor_runtime::worker::WorkerSettings),
/// and calls its argument when the worker dies.
///
/// A config whose only mistakes are keys unknown to the schema is tried again without them, so that errors of the
/// probe's `create` are reported in the same round.
///
/// # Errors
/// If the plugin does not load.
pub fn judge<P: LoadedPlugin>(
    start: impl Fn(Box<dyn FnOnce(UnexpectedExit) + Send>) -> Result<P, LoadError>,
    candidates: &[ConfigCandidate],
    terms: TrialSettings,
    clock: Clock,
) -> Result<ConfigVerdict, LoadError> {
    let until = clock.now() + terms.all;
    let (description, found) = try_out(&start, candidates, terms, clock)?;
    let mut findings: Vec<Vec<ConfigFinding>> = found.into_iter().map(Vec::from_iter).collect();
    let without_keys = |(at, found): (usize, &Vec<ConfigFinding>)| match found.as_slice() {
        [ConfigFinding::Violations(violations)] => Some((at, candidates[at].without(violations)?)),
        _ => None,
    };
    let (places, again): (Vec<_>, Vec<_>) = match terms.creates {
        true => findings.iter().enumerate().filter_map(without_keys).unzip(),
        false => (Vec::new(), Vec::new()),
    };
    let left = TrialSettings {
        all: until.saturating_sub(clock.now()),
        ..terms
    };
    if !again.is_empty()
        && let Ok((_, found)) = try_out(&start, &again, left, clock)
    {
        for (at, finding) in places.into_iter().zip(found) {
            let is_of_create = |finding: &ConfigFinding| {
                matches!(
                    finding,
                    ConfigFinding::Create(_) | ConfigFinding::Stuck(_) | ConfigFinding::Killed(_)
                )
            };
            findings[at].extend(finding.filter(is_of_create));
        }
    }
    Ok(ConfigVerdict {
        description,
        findings,
    })
}

/// Returns at most one finding for each candidate.
fn try_out<P: LoadedPlugin>(
    start: &impl Fn(Box<dyn FnOnce(UnexpectedExit) + Send>) -> Result<P, LoadError>,
    candidates: &[ConfigCandidate],
    terms: TrialSettings,
    clock: Clock,
) -> Result<(PluginDescription, Vec<Option<ConfigFinding>>), LoadError> {
    let until = clock.now() + terms.all;
    let mut session = TrialWorker::start(start)?;
    let description = session.plugin.description().clone();
    let mut findings = vec![None; candidates.len()];
    let mut open: VecDeque<usize> = (0..candidates.len()).collect();
    // Trials that were under way together when a worker died.
    let mut suspects = VecDeque::new();
    let mut trouble = 0;
    while let Some(tried) = next(&mut open, &mut suspects, candidates) {
        if trouble >= MOST_TROUBLE || clock.now() >= until {
            let why = match trouble >= MOST_TROUBLE {
                true => ConfigFinding::NotTried,
                false => ConfigFinding::NoTime(terms.all),
            };
            for at in tried.into_iter().chain(suspects).chain(open) {
                findings[at] = Some(why.clone());
            }
            break;
        }
        let outcome = session.run(&tried, candidates, terms, until, clock);
        for (&at, end) in tried.iter().zip(&outcome.ends) {
            match end {
                batch::TrialEnd::Passed => {}
                batch::TrialEnd::Failed(failure) if failure.violations.is_empty() => {
                    findings[at] = Some(ConfigFinding::Create(failure.clone()));
                }
                batch::TrialEnd::Failed(failure) => {
                    findings[at] = Some(ConfigFinding::Violations(failure.violations.clone()));
                }
                batch::TrialEnd::Stuck => {
                    trouble += 1;
                    findings[at] = Some(ConfigFinding::Stuck(terms.each));
                }
                batch::TrialEnd::Died if outcome.died() == 1 => {
                    let message = outcome.ended.as_ref().map(|ended| ended.message.clone());
                    findings[at] = Some(ConfigFinding::Killed(message.unwrap_or_default()));
                }
                batch::TrialEnd::Died => suspects.push_back(at),
                batch::TrialEnd::NotStarted => open.push_front(at),
            }
        }
        trouble += usize::from(outcome.ended.is_some() && outcome.died() <= 1);
        // Hanging calls keep using their worker's CPU.
        let is_worn = outcome.ended.is_some() || outcome.ends.contains(&batch::TrialEnd::Stuck);
        if is_worn && !(open.is_empty() && suspects.is_empty()) && trouble < MOST_TROUBLE {
            session = match TrialWorker::start(start) {
                Ok(session) => session,
                Err(_) => {
                    trouble = MOST_TROUBLE;
                    continue;
                }
            };
        }
    }
    Ok((description, findings))
}

/// Returns the next candidates to try: one suspect, or a batch of the others.
fn next(
    open: &mut VecDeque<usize>,
    suspects: &mut VecDeque<usize>,
    candidates: &[ConfigCandidate],
) -> Option<Vec<usize>> {
    if let Some(suspect) = suspects.pop_front() {
        return Some(vec![suspect]);
    }
    let (mut tried, mut bytes) = (Vec::new(), 0);
    while let Some(&at) = open.front()
        && tried.len() < BATCH
        && bytes < BATCH_BYTES
    {
        open.pop_front();
        tried.push(at);
        bytes += candidates[at].config.len();
    }
    (!tried.is_empty()).then_some(tried)
}

/// A worker and its trials.
struct TrialWorker<P> {
    plugin: P,
    batch: Arc<TrialBatch>,
}

impl<P: LoadedPlugin> TrialWorker<P> {
    fn start(
        start: impl Fn(Box<dyn FnOnce(UnexpectedExit) + Send>) -> Result<P, LoadError>,
    ) -> Result<Self, LoadError> {
        let batch = Arc::new(TrialBatch::default());
        let told = Arc::clone(&batch);
        let plugin = start(Box::new(move |ended| told.worker_ended(ended)))?;
        Ok(Self { plugin, batch })
    }

    fn run(
        &self,
        tried: &[usize],
        candidates: &[ConfigCandidate],
        terms: TrialSettings,
        until: Duration,
        clock: Clock,
    ) -> batch::BatchOutcome {
        let open = |&at: &usize| {
            let candidate = &candidates[at];
            self.plugin.open(ProbeSpec {
                trial: Some(Arc::new(ConfigTrial {
                    subject: candidate.subject.clone(),
                    creates: terms.creates,
                })),
                interval: candidate.interval,
                labels: candidate.labels.clone(),
                ..ProbeSpec::new(
                    Arc::clone(&candidate.platform),
                    Arc::clone(&candidate.config),
                )
            })
        };
        let probes: Vec<_> = tried.iter().map(open).collect();
        let outcome = self
            .batch
            .run(&self.plugin, &probes, terms.each, until, clock);
        for probe in probes {
            self.plugin.close(probe);
        }
        outcome
    }
}

impl<P> Drop for TrialWorker<P> {
    fn drop(&mut self) {
        self.batch.give_up();
    }
}

/// The maximum number of configs tried together, and of bytes in all of them but the last.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// The number of configs of a plugin that may hang or kill its worker; after that, the rest are not tried.
const MOST_TROUBLE: usize = 10;

#[cfg(test)]
mod tests;
