//! The program and the environment of a worker.

use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::RUST_STACKS;

/// Starts workers from `program` instead of the running one, for programs other than `conductor`: tests and benchmarks.
///
/// The first call counts.
pub fn use_program(program: impl Into<PathBuf>) {
    let _ = PROGRAM.set(program.into());
}

/// Returns this program, even if its file has been replaced since.
pub(super) fn program() -> io::Result<&'static Path> {
    if let Some(program) = PROGRAM.get() {
        return Ok(program);
    }
    let program = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        env::current_exe()?
    };
    Ok(PROGRAM.get_or_init(|| program))
}

/// Returns the environment of a worker.
pub(super) fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let kept = KEPT
        .iter()
        .filter_map(|name| Some((*name, env::var_os(name)?)));
    kept.chain(RUNTIME.map(|(name, value)| (name, value.into())))
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

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
