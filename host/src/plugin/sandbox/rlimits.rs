//! Limits of a process's own: memory, open files, core dumps.
//!
//! Memory is RLIMIT_DATA, which counts what is private and writable. RLIMIT_AS would count what is only set aside as
//! well, 64 MiB for the heap of each thread, and refuse threads instead of memory. What RLIMIT_DATA does not see, shared
//! memory without a file, is closed by the seccomp filter.
//!
//! RLIMIT_NPROC is left alone. It counts all processes and threads of the *user*, and the host, its workers and whatever
//! else the user runs are all of one: whoever starts a thread last would be refused for what the others did. For root it
//! counts nothing at all. A cgroup's `pids.max` counts what is meant.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Limits;

/// Sets the limits, hard and soft; answers which of them had to be lower than was asked for.
pub(super) fn apply(limits: &Limits) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    lines.extend(set("memory", Resource::Data, limits.memory)?);
    lines.extend(set(
        "open_files",
        Resource::Nofile,
        limits.open_files.into(),
    )?);
    let cores = if limits.core_dumps { u64::MAX } else { 0 };
    set("core_dumps", Resource::Core, cores)?;
    // What it may make at all is its own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(lines)
}

fn set(name: &str, resource: Resource, wanted: u64) -> Result<Option<String>, String> {
    // Only root can go above what the host itself was started with, and may have lost that right too.
    let granted = |limit: u64| setrlimit(resource, both(limit)).map(|()| limit);
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = granted(wanted)
        .or_else(|_| granted(wanted.min(most)))
        .map_err(|error| format!("cannot limit {name} to {wanted}: {error}"))?;
    Ok((limit < wanted).then(|| {
        format!("limits.{name} is {wanted}, but the host itself may have only {limit}: raise the host's own limit, or lower it")
    }))
}

fn both(limit: u64) -> Rlimit {
    Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    }
}
