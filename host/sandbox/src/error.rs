//! The reason why a process could not be restricted.

#[cfg(any(unix, windows))]
use std::io;

/// The kernel's refusal of a restriction that it supports.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A resource limit.
    #[cfg(unix)]
    #[error("cannot limit {name} to {wanted}: {source}")]
    Limit {
        /// The name of the limit.
        name: &'static str,
        /// Its value, in the unit of the resource.
        wanted: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Dropping capabilities.
    #[cfg(target_os = "linux")]
    #[error("cannot give up {what}: {source}")]
    Capabilities {
        /// The capabilities.
        what: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Keeping programs from gaining privileges.
    #[cfg(target_os = "linux")]
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(#[source] io::Error),
    /// Closing the process to others of the same user.
    #[cfg(target_os = "linux")]
    #[error("cannot close the process to others (PR_SET_DUMPABLE): {0}")]
    Dumpable(#[source] io::Error),
    /// Closing files, and other processes, by name.
    #[cfg(target_os = "linux")]
    #[error("cannot set landlock up: {0}")]
    Landlock(#[from] landlock::RulesetError),
    /// Filtering system calls.
    #[cfg(target_os = "linux")]
    #[error("cannot filter system calls: {0}")]
    Seccomp(#[from] seccompiler::Error),
    /// Closing the process to others of the same user.
    #[cfg(windows)]
    #[error("cannot set the access list of the process: {0}")]
    Process(#[source] io::Error),
}
