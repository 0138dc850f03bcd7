//! The facts about one library: from its file, from a load in a worker, and from one check.

use std::{collections::BTreeSet, fmt, path::Path, time::Duration};

use conductor_command::Exit;
use conductor_core::clock::Clock;
use conductor_library as library;
use conductor_library::{Policy, Store, printable};
use conductor_runtime::{
    ProbeSpec,
    loader::{self, How},
};
use conductor_sandbox::Limits;
use conductor_types::Isolation;

use super::compare::Facts;
use crate::desk::Desk;

/// The reason why a library could not be examined, and the command's exit code for it.
pub(super) struct Obstacle {
    pub(super) message: String,
    pub(super) exit: Exit,
}

/// Examines the library in `file`; with a config, also the measurements of a check.
///
/// # Errors
/// If it is refused or does not load, or if the check did not report.
pub(super) fn at(file: &Path, config: Option<&str>) -> Result<Facts, Obstacle> {
    let refused = |why: &dyn fmt::Display| Obstacle {
        message: why.to_string(),
        exit: Exit::Refused,
    };
    let inspection = library::inspect(file);
    if let Some(refusal) = inspection.refusal() {
        return Err(refused(&refusal));
    }
    let store = Store::open_or_default(None).map_err(|refusal| refused(&refusal))?;
    let vetted = library::vet(file, &Policy::none(), &store).map_err(|e| refused(&e))?;
    let symbols = library::exports(&vetted.path).map_err(|e| {
        refused(&format!(
            "{}: its symbols cannot be read: {e}",
            printable::path(file)
        ))
    })?;
    let how = How {
        isolation: Isolation::Process,
        call_threads: 1,
        limits: Limits::default(),
        allow: None,
        no_udp: false,
        hidden: Vec::new(),
    };
    let clock = Clock::start();
    let worker = loader::throw_away(&vetted, &how, clock).map_err(|error| refused(&error))?;
    let desk = Desk::new(worker, clock);
    let measured = config
        .map(|config| measured(&desk, config))
        .transpose()
        .map_err(|why| Obstacle {
            message: format!("{}: {why}", printable::path(file)),
            exit: Exit::Unhealthy,
        });
    let description = desk.plugin.description().clone();
    desk.plugin.end();
    Ok(Facts {
        sha256: vetted.sha256.to_string(),
        libraries: inspection.libraries.into_iter().collect(),
        symbols: symbols.into_iter().collect(),
        schema: description.config_schema.value(),
        asynchronous: description.asynchronous,
        measurements: measured?,
        manifest: vetted.manifest,
    })
}

/// Returns the names of one check's measurements.
fn measured(desk: &Desk, config: &str) -> Result<BTreeSet<String>, String> {
    let probe = desk.plugin.open(ProbeSpec::new("diff", config));
    let end = desk.check(probe, TIMEOUT, GRACE);
    let end = end.ok_or_else(|| format!("its check did not end in {} s", TIMEOUT.as_secs()))?;
    let report = end.result.map_err(|e| format!("its check failed: {e}"))?;
    let measurements = report.measurements.into_iter();
    Ok(measurements.map(|(name, _)| name).collect())
}

/// Timeout of the check.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Extra time until its end is known.
const GRACE: Duration = Duration::from_secs(2);
