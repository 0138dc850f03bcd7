//! All that is known of one library: from its file, from a load in a worker, and from one check.

use std::{
    collections::BTreeSet,
    fmt,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use super::compare::Facts;
use crate::{
    cli::Exit,
    clock::Clock,
    library::{self, Policy, Store},
    metrics::Isolation,
    plugin::{
        Call, Caller, Failure, LoadedPlugin, ProbeSpec, Report, Waiting,
        loader::{self, How},
        sandbox::Limits,
    },
};

/// Why a library could not be looked at, and how the command ends for it.
pub(super) struct Obstacle {
    pub(super) message: String,
    pub(super) exit: Exit,
}

/// Looks at the library in `file`; with a config, also at what a check by it measures.
///
/// # Errors
/// Why it is refused, why it does not load, or why the check did not report.
pub(super) fn at(file: &Path, config: Option<&str>) -> Result<Facts, Obstacle> {
    let refused = |why: &dyn fmt::Display| Obstacle {
        message: why.to_string(),
        exit: Exit::Refused,
    };
    let inspection = library::inspect(file);
    if let Some(refusal) = inspection.refusal() {
        return Err(refused(&refusal));
    }
    let store = Store::open(&Store::default_base()).map_err(|refusal| refused(&refusal))?;
    let vetted = library::vet(file, &Policy::none(), &store).map_err(|e| refused(&e))?;
    let symbols = library::exports(&vetted.path).map_err(|e| {
        refused(&format!(
            "{}: its symbols cannot be read: {e}",
            file.display()
        ))
    })?;
    let how = How {
        isolation: Isolation::Process,
        call_threads: 1,
        limits: Limits::default(),
        allow: None,
        hidden: Vec::new(),
    };
    let clock = Clock::start();
    let worker = loader::throw_away(&vetted, &how, clock).map_err(|error| refused(&error))?;
    let measured = config
        .map(|config| measured(&worker, config, clock))
        .transpose()
        .map_err(|why| Obstacle {
            message: format!("{}: {why}", file.display()),
            exit: Exit::Unhealthy,
        });
    let description = worker.description().clone();
    worker.end();
    Ok(Facts {
        sha256: vetted.sha256.to_string(),
        libraries: inspection.libraries.into_iter().collect(),
        symbols: symbols.into_iter().collect(),
        schema: description.config_schema,
        asynchronous: description.asynchronous,
        measurements: measured?,
        manifest: vetted.manifest,
    })
}

/// The names of what one check measures.
fn measured(
    plugin: &impl LoadedPlugin,
    config: &str,
    clock: Clock,
) -> Result<BTreeSet<String>, String> {
    let probe = plugin.open(ProbeSpec {
        platform: "diff".into(),
        config: config.into(),
    });
    let (tell, told) = mpsc::channel();
    let caller: Arc<dyn Caller> = Arc::new(OneCheck {
        deadline: clock.now() + TIMEOUT,
        told: tell,
    });
    let call = Call {
        probe,
        caller,
        sequence: 0,
    };
    plugin.start(&mut vec![call]);
    match told.recv_timeout(TIMEOUT + GRACE) {
        Ok(Ok(names)) => Ok(names),
        Ok(Err(failure)) => Err(format!("its check failed: {failure}")),
        Err(_) => Err(format!("its check did not end in {} s", TIMEOUT.as_secs())),
    }
}

/// Whoever waits for the one check; nothing is counted, so no guard stands before it.
struct OneCheck {
    deadline: Duration,
    told: mpsc::Sender<Result<BTreeSet<String>, Failure>>,
}

impl Caller for OneCheck {
    fn started(&self, _: u64, _: Duration) -> Option<Duration> {
        Some(self.deadline)
    }

    fn finished(&self, _: u64, now: Duration, result: Result<&Report, Failure>) -> Waiting {
        let names = result.map(|report| {
            let names = report.measurements.iter().map(|(name, _)| name.clone());
            names.collect()
        });
        match self.told.send(names) {
            Ok(()) if now <= self.deadline => Waiting::Yes,
            _ => Waiting::No,
        }
    }

    fn is_cancelled(&self, _: u64) -> bool {
        false
    }
}

/// How long the check may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much later its end may be known.
const GRACE: Duration = Duration::from_secs(2);
