//! A plugin in its own process: the program `conductor-worker`, or this same program, started again as
//! `conductor worker`.
//!
//! ```text
//!  scheduler ──start──► WorkerClient ──socket──► child: InProcess ──► the library
//!                             ▲                       │
//!     guard ◄──finished── WorkerSupervisor ◄──────────┘ responses, log lines, output, its end
//! ```
//!
//! `WorkerClient` contains the messages to the worker and the calls in flight; it never blocks. `WorkerSupervisor` is
//! the one thread per worker that waits: for its messages, its output and its end. `child` is the other side. The host
//! trusts no response: a worker that violates a rule is ended, and its calls fail.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_library::{Vetted, printable};
use conductor_sandbox as sandbox;
use conductor_types::ErrorType;

use self::{
    channel::{OutputPipe, SupervisorWaker, WorkerChannel},
    client::WorkerClient,
    message_handler::LoadedProperties,
    output::WorkerOutput,
    process::WorkerProcess,
    supervisor::WorkerSupervisor,
};
use super::{
    AdmittedCall, LoadError, LoadedPlugin, PluginDescription, ProbeId, ProbeSpec, UnexpectedExit,
    protocol::{
        greeting,
        messages::{HelloMessage, ManifestFacts, ToWorker},
    },
    rust_abi,
    threads::room_for_stacks,
};

mod calls;
mod channel;
mod child;
#[cfg(unix)]
mod children;
mod client;
mod error;
mod limiter;
mod message_handler;
mod numbered;
#[cfg(target_os = "linux")]
mod orphans;
mod output;
mod process;
mod program;
mod supervisor;
#[cfg(windows)]
mod test_process;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod watch;

#[cfg(target_os = "linux")]
pub use self::orphans::{OrphanReaper, plugins_share_this_process};
#[cfg(windows)]
pub use self::test_process::{LineChannel, TestProcess};
#[doc(hidden)]
pub use self::watch::ResourceWatch;
pub use self::{
    child::{child_main, die_of_faults, exit},
    process::describe as describe_end,
    program::{RUNTIME, hold_program, use_program},
};

/// The settings of a worker.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Maximum number of concurrent calls, except for stuck ones.
    pub call_threads: usize,
    /// Its permissions and limits.
    pub policy: sandbox::SandboxPolicy,
    /// `true` to compile the plugin's config schema while loading, for [trials](super::ConfigTrial) of configs.
    pub trials: bool,
    /// Maximum time to load its library.
    pub load_timeout: Duration,
}

/// A library in its own process. Dropping it ends the process.
pub struct Worker {
    description: PluginDescription,
    pid: u32,
    unconfined: Vec<String>,
    client: Arc<WorkerClient>,
}

impl Worker {
    /// Starts a worker that loads a vetted library; waits for that, at most `load_timeout`.
    ///
    /// `ended` is called once, from a thread of the worker, if the worker ends unexpectedly; all its calls have ended
    /// by then.
    ///
    /// # Errors
    /// When the process cannot be started, when it refuses the library, and when it dies or hangs while loading it.
    pub fn load(
        vetted: &Vetted,
        settings: &WorkerSettings,
        clock: Clock,
        ended: impl FnOnce(UnexpectedExit) + Send + 'static,
    ) -> Result<Self, LoadError> {
        let error = |doing: &str, why: &dyn std::fmt::Display| LoadError {
            kind: ErrorType::Load,
            message: format!("{}: {doing}: {why}", printable::path(&vetted.origin)),
            detail: None,
        };
        let started = StartedWorker::new(vetted, settings, clock)
            .map_err(|e| error("its worker cannot be started", &e))?;
        let (pid, client) = (started.supervisor.pid(), started.client);
        let mut unlimited = started.unlimited;
        client
            .say(&ToWorker::Hello(Box::new(hello(vetted, settings, clock))))
            .map_err(|e| error("its worker cannot be told what to load", &e))?;
        let (tell, told) = mpsc::channel();
        let (supervisor, load_timeout) = (started.supervisor, settings.load_timeout);
        thread::Builder::new()
            .name(format!("{} worker", vetted.manifest.id))
            .spawn(move || supervisor.live(load_timeout, &tell, ended))
            .map_err(|e| error("no thread can be started for its worker", &e))?;
        let LoadedProperties {
            config_schema,
            metrics,
            asynchronous,
            mut unconfined,
        } = told
            .recv()
            .map_err(|e| error("the thread of its worker is gone", &e))?
            .map_err(|refused| LoadError {
                message: from_file(&printable::path(&vetted.origin), refused.message),
                ..refused
            })?;
        unconfined.append(&mut unlimited);
        unconfined.iter().for_each(|line| warn_once(line));
        Ok(Self {
            description: PluginDescription {
                id: vetted.manifest.id.clone(),
                version: vetted.manifest.version.clone(),
                api: vetted.manifest.api,
                config_schema,
                metrics,
                asynchronous,
            },
            pid,
            unconfined,
            client,
        })
    }
}

impl LoadedPlugin for Worker {
    fn description(&self) -> &PluginDescription {
        &self.description
    }

    fn open(&self, spec: ProbeSpec) -> ProbeId {
        let secrets = self.description.config_schema.hold_secrets(&spec.config);
        self.client.open(spec, secrets)
    }

    fn close(&self, probe: ProbeId) {
        self.client.close(probe);
    }

    fn start(&self, calls: &mut Vec<AdmittedCall>) -> bool {
        self.client.start(calls)
    }

    fn nudge(&self) -> bool {
        // The worker nudges its own threads, and the thread that waits for the worker sends what is left: this is for
        // calls queued behind one that was given up.
        self.client.send_ready()
    }

    fn abandoned(&self, probe: ProbeId) {
        self.client.abandoned(probe);
    }

    fn pid(&self) -> Option<u32> {
        Some(self.pid)
    }

    fn unconfined(&self) -> &[String] {
        &self.unconfined
    }

    fn open_probes(&self) -> usize {
        self.client.open_probes()
    }

    fn retire(&self) {
        self.client.retire();
    }

    fn end(&self) {
        self.client.end();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.client.end();
    }
}

/// A running worker that has not received a message. Dropping it at this point kills its process.
struct StartedWorker {
    supervisor: WorkerSupervisor,
    client: Arc<WorkerClient>,
    /// The limits that the system did not set on its process.
    unlimited: Vec<String>,
}

impl StartedWorker {
    fn new(vetted: &Vetted, settings: &WorkerSettings, clock: Clock) -> io::Result<Self> {
        let (ours, theirs) = WorkerChannel::pair()?;
        let (waker, wake_ups) = SupervisorWaker::pair()?;
        let (output, their_output) = OutputPipe::pair()?;
        let plugin: Arc<str> = vetted.manifest.id.as_str().into();
        // The worker reads it first.
        ours.send_all(&greeting())?;
        let trials = settings.trials;
        let process =
            WorkerProcess::start(&plugin, &settings.policy, trials, theirs, their_output)?;
        let unlimited = process.unlimited();
        let mut watch = ResourceWatch::new(process.id(), &settings.policy, clock.now());
        if let Some(watch) = &mut watch
            && process.is_limited()
        {
            watch.relax();
        }
        let client = WorkerClient::new(ours, waker, clock, settings.call_threads);
        let client = Arc::new(client);
        let output = WorkerOutput::new(output, Arc::clone(&plugin));
        let supervisor = WorkerSupervisor::new(
            Some(process),
            watch,
            Arc::clone(&client),
            wake_ups,
            output,
            plugin,
        );
        Ok(Self {
            supervisor,
            client,
            unlimited,
        })
    }
}

/// Reports a restriction that is not in force on workers once: it is the same for all.
fn warn_once(what: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    // Limited in number, because a worker could make them up.
    if said.len() < MAX_UNCONFINED && said.insert(what.to_owned()) {
        tracing::warn!("unconfined: {what}");
    }
}

/// Prefixes a message with its file; a worker's message may already have it.
fn from_file(file: &str, message: String) -> String {
    match message.strip_prefix(file) {
        Some(rest) if rest.starts_with(": ") => message,
        _ => format!("{file}: {message}"),
    }
}

fn hello(vetted: &Vetted, settings: &WorkerSettings, clock: Clock) -> HelloMessage {
    let manifest = &vetted.manifest;
    let path = |path: &Path| path.as_os_str().to_owned();
    HelloMessage {
        host: process::own_id(),
        path: path(&vetted.path),
        origin: path(&vetted.origin),
        manifest: ManifestFacts::of(manifest),
        policy: sandbox::SandboxPolicy {
            library: Some(vetted.path.clone()),
            stacks: room_for_stacks(&settings.policy.limits),
            ..settings.policy.clone()
        },
        trials: settings.trials,
        call_threads: u32::try_from(settings.call_threads).unwrap_or(u32::MAX),
        log_level: rust_abi::log_level(),
        clock: clock.anchor(),
    }
}

/// Lines that one worker, and all together, can report about restrictions.
const MAX_UNCONFINED: usize = 20;
