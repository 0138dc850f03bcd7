//! Per-process limits: memory, stack, open files, core dumps, and shares of the kernel's tables.
//!
//! RLIMIT_DATA limits memory; it counts private writable pages. Thread stacks count in full, used or not, so the host
//! adds room for them. It is only a first line: memory that is written and then made read-only no longer counts. The
//! cgroup limits the memory actually used or, without one, the host, which watches the worker. RLIMIT_AS limits the
//! address space, far above what runtimes reserve, because page tables grow with it.
//!
//! RLIMIT_NPROC is not set. It counts all processes and threads of the *user*, and the host, its workers and the user's
//! other processes share one: the last to start a thread would be refused because of the others. For root it counts
//! nothing. A cgroup's `pids.max` counts the right processes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{SandboxError, SandboxPolicy};

/// Sets the hard and soft limits; returns a line for each that had to be lower than requested.
pub(super) fn apply(policy: &SandboxPolicy) -> Result<Vec<String>, SandboxError> {
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
    // Files it creates are private to its user.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(lines)
}

fn set(
    name: &'static str,
    resource: Resource,
    wanted: u64,
) -> Result<Option<String>, SandboxError> {
    // Only root can exceed the limits the host was started with, and may have lost that right too.
    let granted = |limit: u64| setrlimit(resource, both(limit)).map(|()| limit);
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = granted(wanted)
        .or_else(|_| granted(wanted.min(most)))
        .map_err(|error| SandboxError::Limit {
            name,
            wanted,
            source: error.into(),
        })?;
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

/// Maximum size of the first thread's stack, bytes: it does not count as memory.
#[cfg(target_os = "linux")]
pub(super) const STACK: u64 = 8 << 20;

/// Address space beyond memory, bytes. Thread heaps and garbage collectors reserve several gigabytes; the page tables
/// for this size take 128 MiB.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const RESERVED: u64 = 64 << 30;
#[cfg(all(target_os = "linux", not(target_pointer_width = "64")))]
const RESERVED: u64 = 4 << 30;

/// Shares of tables that exist once per user or machine.
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
