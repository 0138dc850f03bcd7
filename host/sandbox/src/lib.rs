//! What a worker may do, and how that is held to: applied inside the worker, before its library is opened.
//!
//! What every probe needs works undeclared: threads, name lookups, UDP, the fill of any filesystem, the addresses of
//! this machine, the C library's files, CAs, time zones, `/proc` and `/sys`. What a plugin declares in its manifest and
//! the operator leaves it is opened besides ([`capabilities`]). All else is refused with EACCES or EPERM: each layer
//! covers what the others cannot, and the `seccomp` and `files` rooms say what and why.
//!
//! | layer | holds |
//! |---|---|
//! | `rlimits` | memory, open files, core dumps |
//! | `privileges` | capabilities of root, `no_new_privs`, who may look into the process |
//! | `landlock` | files, TCP, signals and abstract sockets, by name |
//! | `seccomp` | system calls, by number and plain arguments |
//! | [`cgroup`] | memory, processes and CPU of a worker together with its children, and their end |
//!
//! UDP is open to every plugin that the operator does not close it to, as name lookups need it; answers too long for it, which a resolver asks for again over
//! TCP, only reach a plugin with `network`.
//!
//! What a worker can see of others is what any user of the machine can: command lines and states in `/proc`. Their
//! memory, environment and open files are closed to it by landlock, by the missing capabilities, and, where it is
//! called, by [`protect_host`].

mod capabilities;
#[cfg(target_os = "linux")]
pub mod cgroup;
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
// The architectures that the filter's compiler knows.
#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
mod seccomp;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

pub use capabilities::capabilities;
#[cfg(target_os = "linux")]
pub use files::readable_files;
pub use replaced::Openings;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use seccomp::listing as system_calls;
use serde::{Deserialize, Serialize};

/// What a worker may do.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Policy {
    /// What the plugin declared and the operator left it.
    pub capabilities: Capabilities,
    /// How much it may use.
    pub limits: Limits,
    /// The library it will open, which whoever starts the worker fills in; readable even where `hidden` names a folder that it lies in.
    pub library: Option<PathBuf>,
    /// Files and folders of the host's own, which no worker may read, whatever else it may.
    pub hidden: Vec<PathBuf>,
    /// Bytes that the stacks of its threads set aside, on top of `limits.memory`; set by the code that starts the worker.
    pub stacks: u64,
}

/// What a plugin may do beyond what every probe needs.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capabilities {
    /// Connect to others over the network; asking for names works without it.
    pub network: bool,
    /// Connect to Unix sockets of this machine.
    pub unix_sockets: bool,
    /// Files and folders it may read, absolute.
    pub read: Vec<PathBuf>,
    /// Programs it may run, absolute; in a folder, all that lie in it.
    pub run: Vec<PathBuf>,
    /// Closed to it by the operator: UDP, and with it name lookups, which are open to every other plugin.
    pub no_udp: bool,
}

/// How much a worker may use.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of memory of a worker and the programs it runs. Held to by a cgroup with a memory controller where the host
    /// has one; elsewhere a worker that goes far above is ended within a second.
    pub memory: u64,
    /// Files and sockets open at a time, in each process.
    pub open_files: u32,
    /// Threads and processes at a time. Held to by a cgroup with a pids controller where the host has one; elsewhere a
    /// worker that goes far above is ended within a second.
    pub processes: u32,
    /// Of one core, averaged over 100 ms; percent, above 100 for more cores. Held to where the host has a cgroup with a
    /// cpu controller.
    pub cpu_percent: u32,
    /// Whether a crash leaves a core file, as the system's settings have it; other processes of the same user can look
    /// into the worker then.
    pub core_dumps: bool,
}

impl Default for Limits {
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
impl Policy {
    /// A path that the worker may read and that `hidden` closes to it, or the other way round.
    ///
    /// Both sets of hidden paths are compared as names: files that come and go below a folder change nothing.
    #[must_use]
    pub fn differs_on<'a>(&'a self, hidden: &'a [PathBuf]) -> Option<&'a Path> {
        let [before, now] = [self.hidden.as_slice(), hidden].map(BTreeSet::<&PathBuf>::from_iter);
        let mut changed = before.symmetric_difference(&now).copied().peekable();
        changed.peek()?;
        let now = Self {
            hidden: hidden.to_vec(),
            ..self.clone()
        };
        let (before, now) = (files::Sight::of(self), files::Sight::of(&now));
        changed
            .find(|path| before.reaches(path) != now.reaches(path))
            .map(PathBuf::as_path)
    }
}

#[cfg(not(target_os = "linux"))]
impl Policy {
    /// Nothing is hidden from a worker on this OS.
    #[must_use]
    pub fn differs_on<'a>(&'a self, _: &'a [PathBuf]) -> Option<&'a Path> {
        None
    }
}

/// Holds this process to the policy, for good; answers what it could not be held to, or what of it could not be opened,
/// a line each.
///
/// Called once, while the process has one thread: the layers hold the calling thread, and the threads and programs it
/// starts from then on.
///
/// # Errors
/// When something that the kernel knows was refused; the worker must not go on then.
#[cfg(target_os = "linux")]
pub fn apply(policy: &Policy) -> Result<Vec<String>, String> {
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

/// Holds this process to the limits alone; for the validator, which compares.
///
/// # Errors
/// When the kernel refuses a limit.
#[cfg(target_os = "linux")]
pub fn apply_limits(policy: &Policy) -> Result<Vec<String>, String> {
    rlimits::apply(policy)
}

/// Holds this process to the policy, as far as this OS has the means; answers what it could not be held to.
///
/// # Errors
/// When something that the OS knows was refused; the worker must not go on then.
#[cfg(not(target_os = "linux"))]
pub fn apply(policy: &Policy) -> Result<Vec<String>, String> {
    #[cfg(unix)]
    let mut lines = rlimits::apply(policy)?;
    #[cfg(not(unix))]
    let mut lines = Vec::new();
    #[cfg(not(unix))]
    let _ = policy;
    lines.push(
        "this OS has no sandbox that the host knows: a plugin can do what the host's user can"
            .to_owned(),
    );
    Ok(lines)
}

/// Closes this process to others of the same user: its memory, environment and open files. For the host, at its start.
///
/// It leaves no core file from then on, and its profilers and debuggers need root.
///
/// # Errors
/// When the kernel refuses, which is not known to happen.
#[cfg(target_os = "linux")]
pub fn protect_host() -> Result<(), String> {
    privileges::close_to_others()
}

/// Closes this process to others of the same user, where the OS can; this one is not known to.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub fn protect_host() -> Result<(), String> {
    Ok(())
}
