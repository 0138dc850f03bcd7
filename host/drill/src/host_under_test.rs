//! A test host of the drill: its folder, config, process and log.

use std::{
    env::consts::DLL_SUFFIX,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_types::Isolation;
use tempfile::TempDir;

use super::{
    case::{CONTROL_GROUP, CONTROL_PLUGIN, FAULTY, FaultCase, FaultInjection, PLUGIN, SIBLING},
    fixtures::Fixtures,
    host_log::HostLog,
    leftovers::HostLeftovers,
    library_patch::PatchError,
    losses,
    processes::{self, StopRequest, exit_text},
    snapshot::{HostSnapshot, SnapshotError},
};

/// The reason why a host under test is of no further use.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error("cannot create a folder for the host: {0}")]
    Folder(#[source] io::Error),
    #[error("cannot write the host's files: {0}")]
    Files(#[source] io::Error),
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error("cannot start the host: {0}")]
    Start(#[source] io::Error),
    #[error(
        "the host is not listening after {} s; the last line of its log: {last_line}",
        PATIENCE.as_secs()
    )]
    NotListening { last_line: String },
    #[error("the host died: {}", exit_text(*.0))]
    Died(ExitStatus),
    #[error("cannot read the host's exit status: {0}")]
    Wait(#[source] io::Error),
    #[error("the host died when asked to stop: {}", exit_text(*.0))]
    DiedStopping(ExitStatus),
    #[error("the host is still running {} s after it was asked to stop", PATIENCE.as_secs())]
    DoesNotStop,
    #[error("cannot act on process {pid}: {source}")]
    Process { pid: u32, source: io::Error },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A running host with a faulty platform, another one of its plugin, and two that must not be affected.
pub(super) struct HostUnderTest {
    /// The folder of all its files. Dropped last, as the host writes into it.
    folder: TempDir,
    process: Child,
    address: SocketAddr,
    log: HostLog,
    clock: Clock,
    /// The characteristics of its leftovers.
    pub(super) leftovers: HostLeftovers,
    /// The message of the last failed check of the faulty platform.
    pub(super) last_message: Option<String>,
    /// Largest delay of a check of the control group, in seconds.
    pub(super) max_lateness: f64,
}

impl HostUnderTest {
    /// Creates the folder of a case, without starting anything.
    pub(super) fn create_folder() -> Result<TempDir, HostError> {
        let folder = tempfile::Builder::new()
            .prefix("conductor-drill-")
            .tempdir()
            .map_err(HostError::Folder)?;
        for name in [PLUGINS, STATE] {
            fs::create_dir(folder.path().join(name)).map_err(HostError::Folder)?;
        }
        Ok(folder)
    }

    /// Starts a host on it, and waits until it serves.
    pub(super) fn start(
        folder: TempDir,
        fixtures: &Fixtures,
        case: &FaultCase,
        well: u32,
        clock: Clock,
    ) -> Result<Self, HostError> {
        let mark = mark(case.number);
        let mut library = fixtures.fault.clone();
        if let FaultInjection::Library(patch) = case.fault.injection {
            patch.apply(&mut library)?;
        }
        let plugins = folder.path().join(PLUGINS);
        fs::write(plugins.join(format!("fault{DLL_SUFFIX}")), library).map_err(HostError::Files)?;
        fs::write(
            plugins.join(format!("control{DLL_SUFFIX}")),
            &fixtures.control,
        )
        .map_err(HostError::Files)?;
        fs::write(folder.path().join(CONFIG), config_text(case, well, mark))
            .map_err(HostError::Files)?;
        Self::launch(folder, fixtures, mark, clock)
    }

    /// Starts a host on a complete folder, and waits until it serves.
    pub(super) fn launch(
        folder: TempDir,
        fixtures: &Fixtures,
        mark: u64,
        clock: Clock,
    ) -> Result<Self, HostError> {
        let mut command = Command::new(&fixtures.program);
        command
            .args(["run", "--web.listen-address", "127.0.0.1:0"])
            .args(["--log.level", "info", "--log.format", "text"])
            .arg("--config.file")
            .arg(folder.path().join(CONFIG))
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        processes::prepare_host(&mut command);
        let mut process = command.spawn().map_err(HostError::Start)?;
        let log = HostLog::default();
        if let Some(stderr) = process.stderr.take() {
            log.follow(stderr);
        }
        let mut host = Self {
            leftovers: HostLeftovers::of(folder.path(), process.id(), mark),
            folder,
            process,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log,
            clock,
            last_message: None,
            max_lateness: 0.0,
        };
        host.find_address()?;
        Ok(host)
    }

    fn find_address(&mut self) -> Result<(), HostError> {
        let start = self.clock.now();
        loop {
            let log = self.log.text();
            let after = log.split(LISTENING).nth(1);
            // The line may be incomplete.
            let line = after.and_then(|rest| Some(rest.split_once('\n')?.0));
            if let Some(Ok(address)) = line.map(|line| line.trim().parse()) {
                self.address = address;
                return Ok(());
            }
            self.check_alive()?;
            if self.clock.now() - start > PATIENCE {
                let last_line = log.lines().last().unwrap_or("(none)").to_owned();
                return Err(HostError::NotListening { last_line });
            }
            thread::sleep(POLL);
        }
    }

    /// Takes a snapshot of the host, and records the notable values.
    pub(super) fn snapshot(&mut self) -> Result<HostSnapshot, HostError> {
        let now = self.clock.now();
        let snapshot =
            HostSnapshot::take(self.address, now).map_err(|error| self.death_or(error))?;
        if snapshot.platform(FAULTY, "error_type").is_string() {
            self.last_message = snapshot
                .platform(FAULTY, "message")
                .as_str()
                .map(str::to_owned);
        }
        for name in CONTROL_GROUP {
            let late = losses::lateness(&snapshot, name).unwrap_or_default();
            self.max_lateness = self.max_lateness.max(late);
        }
        Ok(snapshot)
    }

    /// The reason of a host's death explains more than a failed request, and comes a little later.
    pub(super) fn death_or(&mut self, error: SnapshotError) -> HostError {
        let start = self.clock.now();
        while self.clock.now() - start < DYING {
            if let Err(died) = self.check_alive() {
                return died;
            }
            thread::sleep(POLL);
        }
        HostError::Snapshot(error)
    }

    /// Returns an error with the host's exit status if it has died.
    pub(super) fn check_alive(&mut self) -> Result<(), HostError> {
        match self.process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(HostError::Died(status)),
            Err(e) => Err(HostError::Wait(e)),
        }
    }

    /// Asks the host to stop, and waits until it has; returns an error if it did not stop properly.
    ///
    /// Returns `Killed` where it could not be asked: what it cleans up at its end is left then.
    pub(super) fn stop(&mut self) -> Result<StopRequest, HostError> {
        self.check_alive()?;
        let request = act(self.process.id(), processes::ask_to_stop)?;
        let start = self.clock.now();
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) if status.success() || request != StopRequest::Sent => {
                    return Ok(request);
                }
                Ok(Some(status)) => return Err(HostError::DiedStopping(status)),
                _ if self.clock.now() - start > PATIENCE => return Err(HostError::DoesNotStop),
                _ => thread::sleep(POLL),
            }
        }
    }

    /// Kills the host.
    pub(super) fn kill(&mut self) {
        // It may have died by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Makes the host reload its config.
    #[cfg(target_os = "linux")]
    pub(super) fn reload(&self) -> Result<(), HostError> {
        act(self.process.id(), |pid| {
            processes::send(pid, rustix::process::Signal::HUP)
        })
    }

    /// Returns the host's address.
    #[cfg(target_os = "linux")]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the host's config file.
    #[cfg(target_os = "linux")]
    pub(super) fn config(&self) -> PathBuf {
        self.folder.path().join(CONFIG)
    }

    /// Returns the host's process ID.
    #[cfg(target_os = "linux")]
    pub(super) fn host_pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the folder with the libraries.
    pub(super) fn plugins(&self) -> PathBuf {
        self.folder.path().join(PLUGINS)
    }

    /// Returns the folder of the host's private copies.
    pub(super) fn state(&self) -> PathBuf {
        state_of(self.folder.path())
    }

    /// Returns the host's log.
    pub(super) fn log(&self) -> &HostLog {
        &self.log
    }
}

impl Drop for HostUnderTest {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the folder of private copies below a case's folder.
pub(super) fn state_of(folder: &Path) -> PathBuf {
    folder.join(STATE)
}

/// Acts on a process.
pub(super) fn act<T>(pid: u32, how: impl FnOnce(u32) -> io::Result<T>) -> Result<T, HostError> {
    how(pid).map_err(|source| HostError::Process { pid, source })
}

/// Returns the lifetime of a case's orphans, in milliseconds: unique, to identify them.
pub(super) fn mark(number: usize) -> u64 {
    let drill = u64::from(std::process::id() % 300) * 1000;
    300_000 + drill + u64::try_from(number % 1000).unwrap_or_default()
}

fn config_text(case: &FaultCase, well: u32, mark: u64) -> String {
    let mut text = format!(
        "[host]\nplugin_dirs = [\"{PLUGINS}\"]\nstate_dir = \"{STATE}\"\nisolation = \"{}\"\n\
         interval = \"{}ms\"\nstagger = \"20ms\"\ntimeout = \"{}ms\"\nshutdown_grace = \"300ms\"\n\
         metrics_log_after = \"1h\"\n\
         [breaker]\nfailure_threshold = 3\nreset_timeout = \"300ms\"\nmax_reset_timeout = \"600ms\"\n\
         [metrics]\nseries = \"full\"\n\
         [resources]\ndegraded_above = 100\nrecover_below = 99\ncritical_above = 100\n",
        case.isolation,
        INTERVAL.as_millis(),
        INTERVAL.as_millis(),
    );
    if case.isolation == Isolation::Process {
        // One stuck call is enough to replace the worker.
        text.push_str("[plugin.fault]\nstuck_limit = 1\n");
    }
    let mut platform = |name: &str, plugin: &str, config: &str| {
        text.push_str(&format!(
            "[platform.{name}]\nplugin = \"{plugin}\"\nconfig = {config}\n"
        ));
    };
    platform(FAULTY, PLUGIN, &case.config(well, mark));
    platform(SIBLING, PLUGIN, "{}");
    for name in CONTROL_GROUP {
        // Healthy however full the disk is, which does not matter here.
        let root = if cfg!(windows) { "C:\\" } else { "/" };
        let config = format!("{{ path = '{root}', degraded_above = 100, unhealthy_above = 100 }}");
        platform(name, CONTROL_PLUGIN, &config);
    }
    text
}

/// The period between two checks of each platform.
pub(super) const INTERVAL: Duration = Duration::from_millis(200);
/// Polling period.
pub(super) const POLL: Duration = Duration::from_millis(30);
/// Time limit for any single step.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Time in which a host's death may become visible after a failed request.
const DYING: Duration = Duration::from_secs(1);
const LISTENING: &str = "listening on http://";
pub(super) const PLUGINS: &str = "plugins";
pub(super) const STATE: &str = "state";
pub(super) const CONFIG: &str = "conductor.toml";
