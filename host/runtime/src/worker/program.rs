//! The program and the environment of a worker.
//!
//! On Linux, ordinary workers are started from a program of their own, `conductor-worker`, if it is installed with the
//! host: without the web server, the terminal UI and the validator of config schemas, a worker takes half of the memory.
//! Workers that run trials of configs, and all workers elsewhere, are started from the host's own program.

#[cfg(target_os = "linux")]
mod installed;

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use conductor_library::printable::path;

#[cfg(target_os = "linux")]
pub use self::installed::hold_program;
#[cfg(target_os = "linux")]
use self::installed::worker_program;
use crate::RUST_STACKS;

/// Starts all workers from `program`, for programs other than `conductor`: tests and benchmarks.
///
/// The first call counts.
pub fn use_program(program: impl Into<PathBuf>) {
    let _ = CHOSEN.set(program.into());
}

/// Returns the program to execute for a worker: as it was when the host started, even if its file has been replaced
/// since.
pub(super) fn program(trials: bool) -> io::Result<&'static Path> {
    if let Some(program) = CHOSEN.get() {
        return Ok(program);
    }
    #[cfg(target_os = "linux")]
    if let Some(program) = worker_program().filter(|_| !trials) {
        return Ok(program.executed());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = trials;
    if let Some(program) = OWN.get() {
        return Ok(program);
    }
    let program = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        env::current_exe()?
    };
    Ok(OWN.get_or_init(|| program))
}

/// Returns the name of the program that workers are started from, for messages.
pub(super) fn shown() -> String {
    if let Some(program) = CHOSEN.get() {
        return path(program);
    }
    #[cfg(target_os = "linux")]
    if let Some(program) = worker_program() {
        return path(program.path());
    }
    "of the host".to_owned()
}

/// Does nothing: workers are started from the host's own program.
#[cfg(not(target_os = "linux"))]
pub fn hold_program() {}

/// Returns the environment of a worker.
pub(super) fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((*name, env::var_os(name)?)));
    kept.chain(RUNTIME.map(|(name, value)| (name, value.into())))
}

/// The program that a test or benchmark has chosen.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();
/// The host's own program.
static OWN: OnceLock<PathBuf> = OnceLock::new();

/// Settings of the C library and of Rust's runtime that a plugin depends on.
pub const RUNTIME: [(&str, &str); 2] = [
    RUST_STACKS,
    // Space for libraries with static thread-local storage. Every thread has it on its stack, even the smallest.
    ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=4096"),
];

/// The environment variables passed to a worker. The rest belongs to the host, and may contain secrets.
const KEPT: &[&str] = &[
    // Probes may run programs.
    "PATH",
    // The system's own libraries fail to start without these.
    #[cfg(windows)]
    "SystemRoot",
    #[cfg(windows)]
    "TEMP",
    #[cfg(windows)]
    "TMP",
    // A plugin formats times and texts like the host.
    "TZ",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_NUMERIC",
    "LC_TIME",
    // The location of the system's TLS roots, if unusual.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    // Network access.
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    // For debugging a plugin.
    "RUST_BACKTRACE",
];
