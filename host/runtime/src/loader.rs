//! Loads plugins by id.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::{Catalog, Hash, Language, Vetted, printable};
use conductor_plugin_api::manifest::Need;
use conductor_sandbox::{Limits, Openings, Policy, capabilities};
use conductor_types::{ErrorType, Isolation};

use super::{
    Description, Ended, LoadError, LoadedPlugin,
    call_journal::Record,
    in_process::InProcess,
    quarantine::Quarantine,
    worker::{self, Worker},
};

/// Finds plugins in the catalog and loads them.
#[derive(Clone, Debug)]
pub struct Loader {
    catalog: Arc<Catalog>,
    clock: Clock,
    quarantine: Option<Quarantine>,
    record: Option<Arc<Record>>,
}

/// The settings for a plugin's generations.
#[derive(Clone, Debug)]
pub struct How {
    /// The isolation.
    pub isolation: Isolation,
    /// Maximum number of concurrent calls.
    pub call_threads: usize,
    /// The resource limits of a worker.
    pub limits: Limits,
    /// The operator's permissions, if given.
    pub allow: Option<Vec<Need>>,
    /// `true` if the operator closes UDP and name lookups.
    pub no_udp: bool,
    /// The host's own files and folders, which no worker may read.
    pub hidden: Vec<PathBuf>,
}

/// A rejected library, and its replacement.
#[derive(Clone, Debug)]
pub struct Instead {
    /// The hash of the rejected library.
    pub of: Hash,
    /// The replacement.
    pub take: Arc<Vetted>,
}

/// Restrictions that the host enforces while a worker runs.
#[derive(Debug)]
pub struct Confinement {
    /// The permissions and resource limits.
    pub policy: Policy,
    /// The files it can see, as of its start.
    pub openings: Openings,
}

/// A loaded plugin, and its source.
pub struct Loaded {
    /// The callable plugin.
    pub plugin: Arc<dyn LoadedPlugin>,
    /// The library.
    pub vetted: Arc<Vetted>,
    /// The actual isolation.
    pub isolation: Isolation,
    /// The reason for running in a worker although the config requests the host's process.
    pub held: Option<String>,
    /// Restrictions still to be enforced on a worker.
    pub confinement: Option<Arc<Confinement>>,
}

impl Loader {
    /// Creates a loader for this catalog; probes use this clock.
    pub fn new(catalog: Arc<Catalog>, clock: Clock) -> Self {
        Self {
            catalog,
            clock,
            quarantine: None,
            record: None,
        }
    }

    /// Adds a quarantine, whose plugins run in workers, and a record of calls into this process.
    #[must_use]
    pub fn with_suspicion(self, quarantine: Quarantine, record: Option<Arc<Record>>) -> Self {
        Self {
            quarantine: Some(quarantine),
            record,
            ..self
        }
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Loads a plugin; calls `first` with its library, and `ended` if its worker later ends unexpectedly.
    ///
    /// Scans the folders again if no library is known. Otherwise that is left to the watcher: a folder that does not
    /// respond must not keep a plugin from being restarted.
    ///
    /// # Errors
    /// When no library has the id, `first` fails, or the library does not load.
    pub fn load<T>(
        &self,
        id: &str,
        how: &How,
        in_worker: bool,
        instead: Option<Instead>,
        first: impl FnOnce(&Vetted) -> Result<T, LoadError>,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<(Loaded, T), LoadError> {
        let vetted = self.library(id)?;
        let vetted = match instead {
            Some(Instead { of, take }) if vetted.sha256 == of => take,
            _ => vetted,
        };
        let done = first(&vetted)?;
        let (isolation, held) = self.place(id, how.isolation, in_worker);
        let (plugin, confinement): (Arc<dyn LoadedPlugin>, _) = match isolation {
            Isolation::Process => {
                let policy = policy(&vetted, how)?;
                let confinement = Confinement {
                    openings: Openings::of(&policy),
                    policy: policy.clone(),
                };
                let worker = self.start_worker(&vetted, how, policy, ended)?;
                (Arc::new(worker), Some(Arc::new(confinement)))
            }
            Isolation::InProcess => {
                #[cfg(target_os = "linux")]
                worker::plugins_share_this_process();
                let record = self.record.as_ref();
                let loaded = in_this_process(&vetted, how, self.clock, record)?;
                (Arc::new(loaded), None)
            }
        };
        let loaded = Loaded {
            plugin,
            vetted,
            isolation,
            held,
            confinement,
        };
        Ok((loaded, done))
    }

    /// Returns the library of a plugin; scans the folders again if none is known.
    ///
    /// # Errors
    /// When no library has the id.
    pub fn library(&self, id: &str) -> Result<Arc<Vetted>, LoadError> {
        let find = || self.catalog.find(id);
        let vetted = find().or_else(|| {
            self.catalog.scan();
            find()
        });
        vetted.ok_or_else(|| self.not_found(id))
    }

    fn start_worker(
        &self,
        vetted: &Vetted,
        how: &How,
        policy: Policy,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<Worker, LoadError> {
        start_worker(vetted, how, policy, false, self.clock, ended)
    }

    /// Returns the isolation of a plugin, and why it differs from the config.
    fn place(
        &self,
        id: &str,
        configured: Isolation,
        in_worker: bool,
    ) -> (Isolation, Option<String>) {
        if configured == Isolation::InProcess && in_worker {
            let why = "too many of its calls got stuck inside the host; it goes back there when the host is restarted";
            return (Isolation::Process, Some(why.to_owned()));
        }
        match &self.quarantine {
            Some(quarantine) => quarantine.isolation(id, configured),
            None => (configured, None),
        }
    }

    /// Returns a plugin's description, from a temporary worker.
    ///
    /// # Errors
    /// When no library has the id, its library does not load, or its config schema is not valid.
    pub fn describe(&self, id: &str, how: &How) -> Result<Description, LoadError> {
        let vetted = self.library(id)?;
        let worker = for_trials(&vetted, how, self.clock, |_| {})?;
        Ok(worker.description().clone())
    }

    fn not_found(&self, id: &str) -> LoadError {
        let found = self.catalog.found();
        let message = match found.refused(id) {
            Some(refusal) => format!("its library is refused: {refusal}"),
            None => format!(
                "there is no plugin {id:?}: add its library to a searched folder, or correct the platform's `plugin`; searched: {}",
                found.searched()
            ),
        };
        LoadError {
            kind: ErrorType::Load,
            message,
            detail: None,
        }
    }
}

/// Loads one library in a worker outside any host; the caller ends it.
///
/// # Errors
/// When its worker cannot be started, or it does not load.
pub fn throw_away(vetted: &Vetted, how: &How, clock: Clock) -> Result<Worker, LoadError> {
    start_worker(vetted, how, policy(vetted, how)?, false, clock, |_| {})
}

/// Loads one library in a worker that compiles its config schema and [tries configs](super::Trial).
///
/// # Errors
/// When its worker cannot be started, it does not load, or its config schema is not valid.
pub fn for_trials(
    vetted: &Vetted,
    how: &How,
    clock: Clock,
    ended: impl FnOnce(Ended) + Send + 'static,
) -> Result<Worker, LoadError> {
    let policy = policy(vetted, how)?;
    let room = usize::try_from(policy.limits.processes / 4).unwrap_or(usize::MAX);
    let how = How {
        call_threads: how.call_threads.max(TRIAL_THREADS.min(room)),
        ..how.clone()
    };
    start_worker(vetted, &how, policy, true, clock, ended)
}

/// Loads one library into this process, once it has passed a load in a temporary worker.
///
/// # Errors
/// When it contains a runtime that takes over the process, and when it does not load in the worker or here.
pub fn in_this_process(
    vetted: &Vetted,
    how: &How,
    clock: Clock,
    record: Option<&Arc<Record>>,
) -> Result<InProcess, LoadError> {
    refuse_runtime(vetted)?;
    // A library that would kill or hang this process kills or hangs another one first.
    drop(throw_away(vetted, how, clock)?);
    restore_copy(vetted)?;
    InProcess::load(vetted, how.call_threads, clock, record)
}

/// Refuses a library whose language has a runtime that takes over the process.
fn refuse_runtime(vetted: &Vetted) -> Result<(), LoadError> {
    let error = |message: String| LoadError {
        kind: ErrorType::Load,
        message: format!("{}: {message}", printable::path(&vetted.origin)),
        detail: None,
    };
    let bytes = fs::read(&vetted.path)
        .map_err(|e| error(format!("its private copy cannot be read: {e}")))?;
    match Language::of(vetted.manifest.door, &bytes).runtime() {
        Some(runtime) => Err(error(format!(
            "it brings {runtime}, which takes over threads and signal handlers of the process that loads it; remove isolation = \"in-process\", so that it runs in a worker"
        ))),
        None => Ok(()),
    }
}

/// Number of concurrent trials, if the plugin may have that many threads: on a busy machine each takes a while, and
/// there may be thousands.
const TRIAL_THREADS: usize = 64;

fn start_worker(
    vetted: &Vetted,
    how: &How,
    policy: Policy,
    trials: bool,
    clock: Clock,
    ended: impl FnOnce(Ended) + Send + 'static,
) -> Result<Worker, LoadError> {
    let settings = worker::Settings {
        call_threads: how.call_threads,
        policy,
        trials,
        load_timeout: LOAD_TIMEOUT,
    };
    restore_copy(vetted)?;
    Worker::load(vetted, &settings, clock, ended)
}

fn restore_copy(vetted: &Vetted) -> Result<(), LoadError> {
    vetted.restore_copy().map_err(|refusal| LoadError {
        kind: ErrorType::Load,
        message: refusal.to_string(),
        detail: None,
    })
}

/// Returns the policy for a worker with this library.
fn policy(vetted: &Vetted, how: &How) -> Result<Policy, LoadError> {
    let declared = &vetted.manifest.needs;
    let mut capabilities =
        capabilities(declared, how.allow.as_deref()).map_err(|why| LoadError {
            kind: ErrorType::Load,
            message: format!("[plugin.{}] {why}", vetted.manifest.id),
            detail: None,
        })?;
    capabilities.no_udp = how.no_udp;
    Ok(Policy {
        capabilities,
        limits: how.limits,
        hidden: how.hidden.clone(),
        ..Policy::default()
    })
}

/// Maximum time for a worker to load its library: a constructor that waits for the network is not worth waiting for.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
