//! The seccomp layer: the system calls that a worker, its threads and the programs it runs may make.
//!
//! It is an allow-list. `table` decides on every system call of the kernel, `allowed` and `rules` on the arguments of
//! multiplexed calls. A call that is not in the table does not exist for a worker (ENOSYS), as on an older kernel, so
//! that the C library falls back to another. A refused call returns EPERM.
//!
//! The calls of the x32 ABI do not exist either: they are the same calls under other numbers. Calls of another
//! architecture, such as 32-bit ones, end the process.
//!
//! # Process groups
//! `setsid` and `setpgid` are closed, so that everything a worker starts stays in its process group: without a cgroup,
//! the host kills that group.
//!
//! # Signals
//! A plugin that runs programs can signal them. Landlock keeps its signals inside the worker; where it cannot, `broker`
//! sends those of `kill` to the worker's process group alone.

mod allowed;
mod broker;
mod listing;
mod rules;
mod table;

use std::{collections::BTreeMap, env, fs, io, process};

#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(
        unused_imports,
        reason = "`SECURITY.md` lists the calls of this one alone"
    )
)]
pub use listing::listing;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use self::table::FilterDecision;
use super::{PluginCapabilities, SandboxError};

/// The facts about this process and kernel that the rules depend on.
struct FilterEnvironment {
    own_pid: u32,
    signals: SignalControl,
    /// Lowest address that the first thread's stack can grow to.
    stack_bottom: u64,
}

/// The layer that keeps the signals of a worker that runs programs from reaching other processes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SignalControl {
    /// All signals reach the worker and its programs.
    Landlock,
    /// Those of `kill` reach the worker and its programs.
    Broker,
    /// Signals reach the worker alone, or its whole process group.
    Filter,
}

/// Installs the filter; returns a line if this machine has none.
pub(super) fn apply(
    capabilities: &PluginCapabilities,
    scopes_signals: bool,
) -> Result<Option<String>, SandboxError> {
    let Ok(architecture) = TargetArch::try_from(env::consts::ARCH) else {
        return Ok(Some(format!(
            "there is no filter of system calls for {}: a plugin can use any socket and run any program",
            env::consts::ARCH
        )));
    };
    let own_pid = process::id();
    let (signals, unable) = match (capabilities.run.is_empty(), scopes_signals) {
        (true, _) => (SignalControl::Filter, None),
        (false, true) => (SignalControl::Landlock, None),
        (false, false) => {
            let filter = passed_on(own_pid, architecture).map_err(seccompiler::Error::from)?;
            match broker::start(&filter) {
                Ok(()) => (SignalControl::Broker, None),
                Err(error) => (SignalControl::Filter, Some(error)),
            }
        }
    };
    let surroundings = FilterEnvironment {
        own_pid,
        signals,
        stack_bottom: stack_bottom(),
    };
    let refused =
        refused(capabilities, &surroundings, architecture).map_err(seccompiler::Error::from)?;
    let known = known(architecture).map_err(seccompiler::Error::from)?;
    // The second program removes the call that installs filters.
    for program in [refused, known] {
        match apply_filter(&program) {
            Ok(()) => {}
            Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))
                if error.raw_os_error() == Some(libc::ENOSYS) =>
            {
                return Ok(Some(
                    "the kernel has no seccomp: a plugin can use any socket and run any program"
                        .to_owned(),
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unable.map(|error: io::Error| {
        format!(
            "the kernel's landlock does not know signals, and seccomp cannot pass them on ({error}): a plugin cannot end the programs it runs"
        )
    }))
}

/// Passes calls of `kill` on to the broker, except for those to the worker or its process group.
fn passed_on(
    own_pid: u32,
    architecture: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let kill = [(libc::SYS_kill, vec![rules::signal_to_others(own_pid)?])];
    let traced = SeccompAction::Trace(0);
    let filter = SeccompFilter::new(kill.into(), SeccompAction::Allow, traced, architecture)?;
    let mut program = filter.try_into()?;
    broker::pass_on_traced(&mut program);
    Ok(program)
}

/// Returns EPERM for the refused calls, and for the judged ones with refused arguments.
fn refused(
    capabilities: &PluginCapabilities,
    surroundings: &FilterEnvironment,
    architecture: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut by_number: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for group in table::groups().filter(|group| group.decision == FilterDecision::Refused) {
        by_number.extend(group.calls.iter().map(|call| (call.number, Vec::new())));
    }
    for (number, rules) in rules::refused(capabilities, surroundings)? {
        by_number.entry(number).or_default().extend(rules);
    }
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(by_number, SeccompAction::Allow, refusal, architecture)?.try_into()
}

/// Returns ENOSYS for every call that is absent from the table or marked as absent.
fn known(architecture: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let there = table::groups().filter(|group| group.decision != FilterDecision::Absent);
    let numbers = there.flat_map(|group| group.calls).map(|call| call.number);
    let by_number = numbers.map(|number| (number, Vec::new())).collect();
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(by_number, absent, SeccompAction::Allow, architecture)?.try_into()
}

/// Returns the lowest possible address of the stack. Nothing else is mapped above it: the kernel keeps a gap below the
/// stack larger than its limit.
fn stack_bottom() -> u64 {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let top = stack
        .and_then(|line| line.split_once('-')?.1.split_once(' '))
        .and_then(|(top, _)| u64::from_str_radix(top, 16).ok());
    top.map_or(u64::MAX, |top| {
        top.saturating_sub(super::rlimits::STACK + GUARD_GAP)
    })
}

/// The kernel's default distance between a stack and the next mapping, bytes.
const GUARD_GAP: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Checks that every call marked as judged has rules, and that every rule is for such a call.
    #[test]
    fn the_judged_calls_are_those_with_rules() {
        let judged: BTreeSet<i64> = table::groups()
            .filter(|group| group.decision == FilterDecision::Judged)
            .flat_map(|group| group.calls)
            .map(|call| call.number)
            .collect();
        let surroundings = FilterEnvironment {
            own_pid: 1,
            signals: SignalControl::Filter,
            stack_bottom: 1 << 40,
        };
        let rules = rules::refused(&PluginCapabilities::default(), &surroundings).unwrap();
        let ruled: BTreeSet<i64> = rules.into_iter().map(|(number, _)| number).collect();
        assert_eq!(judged, ruled);
    }
}
