//! Restricts a worker to its policy: applied inside the worker, before its library is opened.
//!
//! Every probe can use these without declaring them: threads, name lookups, UDP, the fill level of any filesystem, the
//! addresses of this machine, the C library's files, CAs, time zones, `/proc` and `/sys`. A plugin also gets what its
//! manifest declares and the operator allows ([`capabilities`]). Everything else is refused with EACCES or EPERM. Each
//! layer covers what the others cannot; the `seccomp` and `files` modules list the rules and their reasons.
//!
//! | layer | restricts |
//! |---|---|
//! | `rlimits` | memory, open files, core dumps |
//! | `privileges` | root capabilities, `no_new_privs`, access of other processes to this one |
//! | `landlock` | files, TCP, signals and abstract sockets, by name |
//! | `seccomp` | system calls, by number and plain arguments |
//! | [`cgroup`] | memory, processes and CPU of a worker together with its children, and kills them together |
//!
//! UDP is open to every plugin unless the operator closes it, because name lookups need it. Replies too long for UDP,
//! which a resolver requests again over TCP, only reach a plugin with `network`.
//!
//! A worker can see as much of other processes as any user of the machine: command lines and states in `/proc`.
//! Landlock, the missing capabilities and, where it is called, [`protect_host`] close their memory, environment and
//! open files to it.

mod capabilities;
#[cfg(target_os = "linux")]
pub mod cgroup;
mod error;
#[cfg(target_os = "linux")]
mod files;
pub mod holdings;
#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "linux")]
mod privileges;
mod replaced;
#[cfg(unix)]
mod rlimits;
// The architectures that the seccomp compiler supports.
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
mod seccomp;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use capabilities::{UndeclaredNeed, capabilities};
pub use error::SandboxError;
#[cfg(target_os = "linux")]
pub use files::readable_files;
pub use replaced::NamedFileSnapshot;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use seccomp::listing as system_calls;
use serde::{Deserialize, Serialize};

/// The restrictions on a worker.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SandboxPolicy {
    /// The capabilities that the plugin declared and the operator allows.
    pub capabilities: PluginCapabilities,
    /// The resource limits.
    pub limits: WorkerLimits,
    /// The library to open, set by the code that starts the worker; readable even in a folder named in `hidden`.
    pub library: Option<PathBuf>,
    /// The host's own files and folders, which no worker may read even if another rule opens them.
    pub hidden: Vec<PathBuf>,
    /// Bytes reserved for the stacks of its threads, on top of `limits.memory`; set by the code that starts the worker.
    pub stacks: u64,
}

/// The permissions of a plugin beyond what every probe needs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PluginCapabilities {
    /// Connecting to other hosts over the network; name lookups work without it.
    pub network: bool,
    /// Connecting to Unix sockets of this machine.
    pub unix_sockets: bool,
    /// Absolute paths of files and folders it may read.
    pub read: Vec<PathBuf>,
    /// Absolute paths of programs it may run, and of folders for all programs in them.
    pub run: Vec<PathBuf>,
    /// UDP, and with it name lookups, closed by the operator; open to every other plugin.
    pub no_udp: bool,
}

/// The resource limits of a worker.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct WorkerLimits {
    /// Bytes of memory of a worker and the programs it runs. Enforced by a cgroup with a memory controller where the
    /// host has one; elsewhere a worker far above the limit is killed within a second.
    pub memory: u64,
    /// Maximum number of open files and sockets in each process.
    pub open_files: u32,
    /// Maximum number of threads and processes. Enforced by a cgroup with a pids controller where the host has one;
    /// elsewhere a worker far above the limit is killed within a second.
    pub processes: u32,
    /// CPU as a percentage of one core, averaged over 100 ms; above 100 for several cores. Enforced where the host has
    /// a cgroup with a cpu controller.
    pub cpu_percent: u32,
    /// `true` if a crash leaves a core file, subject to the system's settings; other processes of the same user can
    /// then inspect the worker.
    pub core_dumps: bool,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            open_files: 1024,
            processes: 256,
            cpu_percent: 100,
            core_dumps: false,
        }
    }
}

#[cfg(target_os = "linux")]
impl SandboxPolicy {
    /// Returns a path that the worker may read and that `hidden` closes to it, or the other way round.
    ///
    /// Compares both sets of hidden paths as names: files created or removed below a folder make no difference.
    #[must_use]
    pub fn differs_on<'a>(&'a self, hidden: &'a [PathBuf]) -> Option<&'a Path> {
        let [before, now] = [self.hidden.as_slice(), hidden].map(BTreeSet::<&PathBuf>::from_iter);
        let mut changed = before.symmetric_difference(&now).copied().peekable();
        changed.peek()?;
        let now = Self {
            hidden: hidden.to_vec(),
            ..self.clone()
        };
        let (before, now) = (files::VisiblePaths::of(self), files::VisiblePaths::of(&now));
        changed
            .find(|path| before.reaches(path) != now.reaches(path))
            .map(PathBuf::as_path)
    }
}

#[cfg(not(target_os = "linux"))]
impl SandboxPolicy {
    /// Returns `None`: this OS hides nothing from a worker.
    #[must_use]
    pub fn differs_on<'a>(&'a self, _: &'a [PathBuf]) -> Option<&'a Path> {
        None
    }
}

/// Restricts this process to the policy permanently; returns one line for each restriction that could not be applied
/// and each path that could not be opened.
///
/// Called once, while the process has one thread: the layers apply to the calling thread, and to the threads and
/// programs it starts afterwards.
///
/// # Errors
/// When the kernel refuses a restriction it supports; the worker must not continue then.
#[cfg(target_os = "linux")]
pub fn apply(policy: &SandboxPolicy) -> Result<Vec<String>, SandboxError> {
    let mut lines = Vec::from_iter(privileges::die_before_the_host());
    lines.extend(rlimits::apply(policy)?);
    privileges::drop_all(policy.limits.core_dumps)?;
    let landlock = landlock::apply(policy)?;
    lines.extend(landlock.lines);
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))]
    lines.extend(seccomp::apply(
        &policy.capabilities,
        landlock.scopes_signals,
    )?);
    #[cfg(not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )))]
    lines.push("there is no filter of system calls for this architecture: a plugin can use any socket and run any program".to_owned());
    Ok(lines)
}

/// Applies only the resource limits to this process; the validator uses it for comparison.
///
/// # Errors
/// When the kernel refuses a limit.
#[cfg(target_os = "linux")]
pub fn apply_limits(policy: &SandboxPolicy) -> Result<Vec<String>, SandboxError> {
    rlimits::apply(policy)
}

/// Restricts this process to the policy permanently; returns one line for each restriction that could not be applied.
///
/// # Errors
/// Never.
#[cfg(windows)]
pub fn apply(policy: &SandboxPolicy) -> Result<Vec<String>, SandboxError> {
    Ok(windows::apply(policy))
}

/// Applies the policy to this process as far as this OS supports it; returns what could not be applied.
///
/// # Errors
/// When the OS refuses a restriction it supports; the worker must not continue then.
#[cfg(not(any(target_os = "linux", windows)))]
pub fn apply(policy: &SandboxPolicy) -> Result<Vec<String>, SandboxError> {
    let mut lines = rlimits::apply(policy)?;
    lines.push(
        "this OS has no sandbox that the host knows: a plugin can do what the host's user can"
            .to_owned(),
    );
    Ok(lines)
}

/// Closes this process to others of the same user: its memory, environment and open files. The host calls it at
/// startup.
///
/// From then on the process leaves no core file, and its profilers and debuggers need root.
///
/// # Errors
/// When the kernel refuses, which is not known to happen.
#[cfg(target_os = "linux")]
pub fn protect_host() -> Result<(), SandboxError> {
    privileges::close_to_others()
}

/// Closes this process to others of the same user: its memory and open handles. The host calls it at startup.
///
/// Others can still end it and wait for its end. Debuggers need the privilege of administrators.
///
/// # Errors
/// When Windows refuses, which is not known to happen.
#[cfg(windows)]
pub fn protect_host() -> Result<(), SandboxError> {
    conductor_library::close_process().map_err(SandboxError::Process)
}

/// Does nothing: this OS has no known way to close a process to others of the same user.
///
/// # Errors
/// Never.
#[cfg(not(any(target_os = "linux", windows)))]
pub fn protect_host() -> Result<(), SandboxError> {
    Ok(())
}
