//! The seccomp layer: which system calls a worker, its threads and the programs it runs may make.
//!
//! All but the listed ones pass, so that a C library of tomorrow still works. Listed is what landlock does not cover
//! (UDP, raw and other sockets, running programs, owners, modes and times of files, processes of the same user), what
//! would get around the limits or the host's hold on the worker, and what only weakens the kernel. A refused call
//! answers EPERM.
//!
//! `clone3` and, on x86-64, the calls of the x32 ABI answer ENOSYS, as on a kernel without them: the filter cannot see
//! the arguments of the one, and the others are the same calls over again under other numbers. Calls of another
//! architecture, such as 32-bit ones, end the process.
//!
//! # Process groups
//! `setsid` and `setpgid` are closed, so that all that a worker starts stays in the group that it was started in: where
//! there is no cgroup, killing the group is how the host ends them.

mod calls;

use std::{collections::BTreeMap, env, process};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

use super::Capabilities;

/// Closes the listed calls; says so where there is no filter for this machine.
///
/// `scopes_signals` tells that landlock keeps signals from reaching others.
pub(super) fn apply(
    capabilities: &Capabilities,
    scopes_signals: bool,
) -> Result<Option<String>, String> {
    let Ok(architecture) = TargetArch::try_from(env::consts::ARCH) else {
        return Ok(Some(format!(
            "there is no filter of system calls for {}: a plugin can use any socket and run any program",
            env::consts::ARCH
        )));
    };
    let failed = |error: &dyn std::fmt::Display| format!("cannot filter system calls: {error}");
    let refused = filter(capabilities, scopes_signals, architecture).map_err(|e| failed(&e))?;
    for program in [refused, not_there()] {
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
            Err(error) => return Err(failed(&error)),
        }
    }
    let deaf = !capabilities.run.is_empty() && !scopes_signals;
    Ok(deaf.then(|| {
        "the kernel's landlock does not know signals: a plugin cannot end the programs it runs"
            .to_owned()
    }))
}

fn filter(
    capabilities: &Capabilities,
    scopes_signals: bool,
    architecture: TargetArch,
) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = calls::refused(capabilities, scopes_signals, process::id())?;
    let mut by_number: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (number, rules) in rules {
        by_number.entry(number).or_default().extend(rules);
    }
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(by_number, SeccompAction::Allow, refusal, architecture)?.try_into()
}

/// Answers ENOSYS to `clone3` and to every number of the x32 ABI.
fn not_there() -> BpfProgram {
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        #[expect(clippy::cast_possible_truncation, reason = "codes of BPF have 16 bits")]
        code: code as u16,
        jt,
        jf,
        k,
    };
    let answer = |with: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, with);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "system calls are numbered from 0 to some hundreds"
    )]
    let clone3 = libc::SYS_clone3.cast_unsigned() as u32;
    vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0, X32),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, clone3),
        answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        answer(libc::SECCOMP_RET_ALLOW),
    ]
}

/// The bit that marks numbers of the x32 ABI; no other number is as high.
const X32: u32 = 0x4000_0000;
