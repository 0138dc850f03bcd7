//! Loads plugins by id.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::{Catalog, LibraryHash, PluginLanguage, Vetted, printable};
use conductor_plugin_api::manifest::Need;
use conductor_sandbox::{NamedFileSnapshot, SandboxPolicy, WorkerLimits, capabilities};
use conductor_types::{ErrorType, Isolation};

use super::{
    LoadError, LoadedPlugin, PluginDescription, UnexpectedExit,
    call_journal::CallJournal,
    in_process::InProcess,
    quarantine::QuarantineFile,
    worker::{self, Worker},
};

/// Finds plugins in the catalog and loads them.
#[derive(Clone, Debug)]
pub struct CatalogLoader {
    catalog: Arc<Catalog>,
    clock: Clock,
    quarantine: Option<QuarantineFile>,
    record: Option<Arc<CallJournal>>,
}

/// The settings for a plugin's generations.
#[derive(Clone, Debug)]
pub struct GenerationSettings {
    /// The isolation.
    pub isolation: Isolation,
    /// Maximum number of concurrent calls.
    pub call_threads: usize,
    /// The resource limits of a worker.
    pub limits: WorkerLimits,
    /// The operator's permissions, if given.
    pub allow: Option<Vec<Need>>,
    /// `true` if the operator closes UDP and name lookups.
    pub no_udp: bool,
    /// The host's own files and folders, which no worker may read.
    pub hidden: Vec<PathBuf>,
}

/// An order to load a generation.
pub struct LoadOrder {
    /// Its number among the plugin's generations, from 1.
    pub number: u64,
    /// The library to load; `None` for the catalog's.
    pub library: Option<Arc<Vetted>>,
    /// The library to load instead of a rejected one.
    pub fallback: Option<FallbackLibrary>,
    /// `true` to use a worker, whatever the config says: the plugin got stuck in-process too often.
    pub in_worker: bool,
    /// Called if it ends unexpectedly, once its calls have ended.
    pub ended: Box<dyn FnOnce(UnexpectedExit) + Send>,
}

/// A rejected library, and its replacement.
#[derive(Clone, Debug)]
pub struct FallbackLibrary {
    /// The hash of the rejected library.
    pub rejected: LibraryHash,
    /// The replacement.
    pub library: Arc<Vetted>,
}

/// Restrictions that the host enforces while a worker runs.
#[derive(Debug)]
pub struct WorkerConfinement {
    /// The permissions and resource limits.
    pub policy: SandboxPolicy,
    /// The files it can see, as of its start.
    pub openings: NamedFileSnapshot,
}

/// One loaded instance of a plugin, from its load to its retirement.
pub struct LoadedGeneration {
    /// Its number among the plugin's generations, from 1.
    pub number: u64,
    /// The callable plugin.
    pub plugin: Box<dyn LoadedPlugin>,
    /// The library.
    pub vetted: Arc<Vetted>,
    /// The actual isolation.
    pub isolation: Isolation,
    /// The reason for running in a worker although the config requests the host's process.
    pub held: Option<String>,
    /// Restrictions still to be enforced on a worker.
    pub confinement: Option<WorkerConfinement>,
    /// The maximum number of threads for its calls.
    pub call_threads: usize,
}

impl LoadedGeneration {
    /// Returns the plugin's description.
    pub fn description(&self) -> &PluginDescription {
        self.plugin.description()
    }

    /// Returns the PID of its process, if it runs in its own.
    pub fn pid(&self) -> Option<u32> {
        self.plugin.pid()
    }

    /// Returns the restrictions that are not in force on its own process, a line each.
    pub fn unconfined(&self) -> &[String] {
        self.plugin.unconfined()
    }
}

impl CatalogLoader {
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
    pub fn with_suspicion(
        self,
        quarantine: QuarantineFile,
        record: Option<Arc<CallJournal>>,
    ) -> Self {
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

    /// Loads a generation of a plugin, after calling `first` with its library.
    ///
    /// Scans the folders again if no library is known. Otherwise that is left to the watcher: a folder that does not
    /// respond must not keep a plugin from being restarted.
    ///
    /// # Errors
    /// When no library has the id, `first` fails, or the library does not load.
    pub fn load<T>(
        &self,
        id: &str,
        how: &GenerationSettings,
        order: LoadOrder,
        first: impl FnOnce(&Vetted) -> Result<T, LoadError>,
    ) -> Result<(LoadedGeneration, T), LoadError> {
        let vetted = match order.library {
            Some(library) => library,
            None => self.library(id)?,
        };
        let vetted = match order.fallback {
            Some(fallback) if vetted.sha256 == fallback.rejected => fallback.library,
            _ => vetted,
        };
        let done = first(&vetted)?;
        let (isolation, held) = self.place(id, how.isolation, order.in_worker);
        let (plugin, confinement): (Box<dyn LoadedPlugin>, _) = match isolation {
            Isolation::Process => {
                let policy = policy(&vetted, how)?;
                let confinement = WorkerConfinement {
                    openings: NamedFileSnapshot::of(&policy),
                    policy: policy.clone(),
                };
                let worker = start_worker(&vetted, how, policy, false, self.clock, order.ended)?;
                (Box::new(worker), Some(confinement))
            }
            Isolation::InProcess => {
                #[cfg(target_os = "linux")]
                worker::plugins_share_this_process();
                let record = self.record.as_ref();
                let loaded = in_this_process(&vetted, how, self.clock, record)?;
                (Box::new(loaded), None)
            }
        };
        let loaded = LoadedGeneration {
            number: order.number,
            call_threads: how.call_threads,
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
    pub fn describe(
        &self,
        id: &str,
        how: &GenerationSettings,
    ) -> Result<PluginDescription, LoadError> {
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
pub fn throw_away(
    vetted: &Vetted,
    how: &GenerationSettings,
    clock: Clock,
) -> Result<Worker, LoadError> {
    start_worker(vetted, how, policy(vetted, how)?, false, clock, |_| {})
}

/// Loads one library in a worker that compiles its config schema and [tries configs](super::ConfigTrial).
///
/// # Errors
/// When its worker cannot be started, it does not load, or its config schema is not valid.
pub fn for_trials(
    vetted: &Vetted,
    how: &GenerationSettings,
    clock: Clock,
    ended: impl FnOnce(UnexpectedExit) + Send + 'static,
) -> Result<Worker, LoadError> {
    let policy = policy(vetted, how)?;
    let room = usize::try_from(policy.limits.processes / 4).unwrap_or(usize::MAX);
    let how = GenerationSettings {
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
    how: &GenerationSettings,
    clock: Clock,
    record: Option<&Arc<CallJournal>>,
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
    match PluginLanguage::of(vetted.manifest.door, &bytes).runtime() {
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
    how: &GenerationSettings,
    policy: SandboxPolicy,
    trials: bool,
    clock: Clock,
    ended: impl FnOnce(UnexpectedExit) + Send + 'static,
) -> Result<Worker, LoadError> {
    let settings = worker::WorkerSettings {
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
fn policy(vetted: &Vetted, how: &GenerationSettings) -> Result<SandboxPolicy, LoadError> {
    let declared = &vetted.manifest.needs;
    let mut capabilities =
        capabilities(declared, how.allow.as_deref()).map_err(|why| LoadError {
            kind: ErrorType::Load,
            message: format!("[plugin.{}] {why}", vetted.manifest.id),
            detail: None,
        })?;
    capabilities.no_udp = how.no_udp;
    Ok(SandboxPolicy {
        capabilities,
        limits: how.limits,
        hidden: how.hidden.clone(),
        ..SandboxPolicy::default()
    })
}

/// Maximum time for a worker to load its library: a constructor that waits for the network is not worth waiting for.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);
