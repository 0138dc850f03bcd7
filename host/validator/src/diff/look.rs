//! The facts about one library: from its file, from a load in a worker, and from one check.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_command::CommandExit;
use conductor_core::clock::Clock;
use conductor_library as library;
use conductor_library::{FileRefusal, Store, TrustPolicy, printable};
use conductor_runtime::{
    CallFailure, LoadError, ProbeSpec,
    loader::{self, GenerationSettings},
};
use conductor_sandbox::WorkerLimits;
use conductor_types::Isolation;

use super::compare::{MetricFacts, VersionFacts};
use crate::call_harness::CallHarness;

/// The reason why a library could not be examined.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error(transparent)]
    Refused(#[from] FileRefusal),
    #[error("{}: its symbols cannot be read: {source}", printable::path(.file))]
    Symbols { file: PathBuf, source: io::Error },
    #[error(transparent)]
    NotLoaded(#[from] LoadError),
    #[error("{}: its check did not end in {} s", printable::path(.file), TIMEOUT.as_secs())]
    TimedOut { file: PathBuf },
    #[error("{}: its check failed: {failure}", printable::path(.file))]
    Failed { file: PathBuf, failure: CallFailure },
}

impl CheckError {
    /// Returns the command's exit code for it.
    pub(super) fn exit(&self) -> CommandExit {
        match self {
            Self::Refused(_) | Self::Symbols { .. } | Self::NotLoaded(_) => CommandExit::Refused,
            Self::TimedOut { .. } | Self::Failed { .. } => CommandExit::Unhealthy,
        }
    }
}

/// Examines the library in `file`; with a platform, also the measurements of a check.
///
/// # Errors
/// If it is refused or does not load, or if the check did not report.
pub(super) fn at(file: &Path, platform: Option<&ProbeSpec>) -> Result<VersionFacts, CheckError> {
    let inspection = library::inspect(file);
    if let Some(refusal) = inspection.refusal() {
        return Err(refusal.into());
    }
    let store = Store::open_or_default(None)?;
    let vetted = library::vet(file, &TrustPolicy::none(), &store)?;
    let symbols = library::exports(&vetted.path).map_err(|source| CheckError::Symbols {
        file: file.to_owned(),
        source,
    })?;
    let how = GenerationSettings {
        isolation: Isolation::Process,
        call_threads: 1,
        limits: WorkerLimits::default(),
        allow: None,
        no_udp: false,
        hidden: Vec::new(),
    };
    let clock = Clock::start();
    let worker = loader::throw_away(&vetted, &how, clock)?;
    let harness = CallHarness::new(worker, clock);
    let measured = platform
        .map(|platform| measured(file, &harness, platform))
        .transpose();
    let description = harness.plugin.description().clone();
    harness.plugin.end();
    Ok(VersionFacts {
        sha256: vetted.sha256.to_string(),
        libraries: inspection.libraries.into_iter().collect(),
        symbols: symbols.into_iter().collect(),
        schema: description.config_schema.value(),
        asynchronous: description.asynchronous,
        metrics: description
            .metrics
            .as_slice()
            .iter()
            .map(|metric| {
                let facts = MetricFacts {
                    labels: metric.labels.clone(),
                    help: metric.help.clone(),
                };
                (metric.full_name(), facts)
            })
            .collect(),
        measurements: measured?,
        manifest: vetted.manifest,
    })
}

/// Returns the names of one check's measurements.
fn measured(
    file: &Path,
    harness: &CallHarness,
    platform: &ProbeSpec,
) -> Result<BTreeSet<String>, CheckError> {
    let file = || file.to_owned();
    let probe = harness.plugin.open(platform.clone());
    let end = harness.check(probe, TIMEOUT, GRACE);
    let end = end.ok_or_else(|| CheckError::TimedOut { file: file() })?;
    let failed = |failure| CheckError::Failed {
        file: file(),
        failure,
    };
    let report = end.result.map_err(failed)?;
    let measurements = report.measurements.into_iter();
    Ok(measurements.map(|(name, _)| name).collect())
}

/// Timeout of the check.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Extra time until its end is known.
const GRACE: Duration = Duration::from_secs(2);
