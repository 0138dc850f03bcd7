//! Limits of a process's own: memory, stack, open files, core dumps, and shares of the kernel's tables.
//!
//! Memory is RLIMIT_DATA, which counts what is private and writable. Stacks of threads count in full, used or not, so the
//! host adds room for them. It is a first line: memory that is written and then made read-only is counted no longer.
//! What is really held is limited by the cgroup, and where there is none by the host, which looks at the worker.
//! RLIMIT_AS bounds what is set aside, far above what runtimes reserve, because page tables grow with it.
//!
//! RLIMIT_NPROC is left alone. It counts all processes and threads of the *user*, and the host, its workers and whatever
//! else the user runs are all of one: whichever starts a thread last would be refused for what the others did. For root
//! it counts nothing at all. A cgroup's `pids.max` counts what is meant.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Policy;

/// Sets the limits, hard and soft; returns a line for each that had to be lower than was asked for.
pub(super) fn apply(policy: &Policy) -> Result<Vec<String>, String> {
    let limits = &policy.limits;
    let mut lines = Vec::new();
    let memory = limits.memory.saturating_add(policy.stacks);
    lines.extend(set("memory", Resource::Data, memory)?);
    lines.extend(set(
        "open_files",
        Resource::Nofile,
        limits.open_files.into(),
    )?);
    let cores = if limits.core_dumps { u64::MAX } else { 0 };
    set("core_dumps", Resource::Core, cores)?;
    #[cfg(target_os = "linux")]
    {
        let reserved = memory.saturating_add(RESERVED);
        set("address space", Resource::As, reserved)?;
        for (name, resource, most) in SHARES {
            set(name, *resource, *most)?;
        }
    }
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

/// Most that the first thread's stack may grow to, bytes: it is not counted as memory.
#[cfg(target_os = "linux")]
pub(super) const STACK: u64 = 8 << 20;

/// Address space beyond memory, bytes. Heaps of threads and garbage collectors reserve some gigabytes; the page tables
/// of this much come to 128 MiB.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const RESERVED: u64 = 64 << 30;
#[cfg(all(target_os = "linux", not(target_pointer_width = "64")))]
const RESERVED: u64 = 4 << 30;

/// Shares of what the user has one table for, or the machine one resource.
#[cfg(target_os = "linux")]
const SHARES: &[(&str, Resource, u64)] = &[
    ("stack", Resource::Stack, STACK),
    // Memory that cannot be swapped out; the kernel's own default.
    ("locked memory", Resource::Memlock, 8 << 20),
    ("pending signals", Resource::Sigpending, 1024),
    ("message queues", Resource::Msgqueue, 0),
    ("priority", Resource::Nice, 0),
    ("real-time priority", Resource::Rtprio, 0),
];
