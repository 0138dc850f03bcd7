//! Starts a process inside a control group, without the wait of a move into it.
//!
//! A move of a running process waits for a grace period of the kernel: 5 to 13 ms on an idle machine. `clone3` with
//! `CLONE_INTO_CGROUP` does not. Nothing in the C library offers it, so this is what its `posix_spawn` does, with that
//! flag: the child shares the memory of the host (a copy of a big host would take tens of milliseconds) while the
//! calling thread is suspended, on a stack of its own, and executes the program at once. Invariants:
//!
//! - The child does nothing but system calls through functions that are safe in a signal handler. It takes no lock,
//!   allocates nothing, and never returns.
//! - All signals are blocked in the calling thread, and so in the child until it has no handlers: none of the host's
//!   handlers runs in it.
//! - Everything the child reads is prepared by the parent, which outlives it: it continues when the child has executed
//!   the program or exited.
#![expect(
    unsafe_code,
    reason = "no safe crate starts a process in a control group, and the child runs on a stack of its own"
)]

use std::{
    arch::asm,
    ffi::{CString, NulError, c_char, c_int},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    ptr,
};

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Pid, WaitId, WaitIdOptions, waitid},
};

use super::spawner::WorkerCommand;

/// The reason why a process was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum CloneError {
    /// The kernel, or a filter of system calls, does not start processes in a control group.
    #[error("no process can be started in a control group: {0}")]
    Clone(#[source] io::Error),
    /// Preparing it, or executing the program, failed.
    #[error(transparent)]
    Start(#[from] io::Error),
}

/// Starts a worker in the control group whose folder is open as `group`; in that of this process without one.
///
/// # Errors
/// [`CloneError::Clone`] where it can be started in another way.
pub(super) fn start_in_group(
    command: &WorkerCommand<'_>,
    group: Option<BorrowedFd<'_>>,
) -> Result<Pid, CloneError> {
    let texts = CommandTexts::of(command).map_err(io::Error::from)?;
    let [arguments, environment] =
        [&texts.arguments, &texts.environment].map(|list| pointers(list));
    // Above the standard descriptors, so that none is overwritten before it is copied.
    let [input, output] = [command.input, command.output]
        .map(|end| fcntl_dupfd_cloexec(end, FIRST_FREE).map_err(io::Error::from));
    let (input, output): (OwnedFd, OwnedFd) = (input?, output?);
    let mut plan = ChildPlan {
        program: texts.program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        standard: [&input, &output, &output].map(|end| end.as_raw_fd()),
        error: 0,
    };
    let pid = clone_into(group, &mut plan).map_err(CloneError::Clone)?;
    if plan.error == 0 {
        return Ok(pid);
    }
    // It has exited.
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
    Err(io::Error::from_raw_os_error(plan.error).into())
}

/// The texts of a command, as the kernel takes them.
struct CommandTexts {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl CommandTexts {
    fn of(command: &WorkerCommand<'_>) -> Result<Self, NulError> {
        let arguments = command.arguments.iter().copied().map(CString::new);
        let environment = command.environment.iter().map(|(name, value)| {
            let bytes = [name.as_bytes(), b"=", value.as_bytes()].concat();
            CString::new(bytes)
        });
        Ok(Self {
            program: CString::new(command.program.as_os_str().as_bytes())?,
            arguments: arguments.collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
        })
    }
}

/// Returns pointers to texts, with a null pointer at the end.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    let texts = texts.iter().map(|text| text.as_ptr());
    texts.chain([ptr::null()]).collect()
}

/// The data of the child, and its result.
#[repr(C)]
struct ChildPlan {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    /// The descriptors that become standard input, output and error.
    standard: [RawFd; 3],
    /// The error number if the program could not be executed.
    error: c_int,
}

/// The arguments of `clone3`, as the kernel defines them.
#[derive(Default)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Creates the child, and returns once it has executed its program or exited.
fn clone_into(group: Option<BorrowedFd<'_>>, plan: &mut ChildPlan) -> io::Result<Pid> {
    // Aligned like the stack.
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let arguments = CloneArguments {
        flags: CLONE_VM
            | CLONE_VFORK
            | CLONE_CLEAR_SIGHAND
            | group.map_or(0, |_| CLONE_INTO_CGROUP),
        exit_signal: SIGCHLD,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK as u64,
        cgroup: group.map_or(0, |group| u64::from(group.as_raw_fd().unsigned_abs())),
        ..CloneArguments::default()
    };
    let signals = BlockedSignals::new()?;
    let mut result = libc::SYS_clone3;
    // SAFETY: the arguments have the layout of the kernel's, and the stack is not used otherwise. The child begins with
    // the same registers, but for the result and the stack pointer, and never leaves `run_child`. This thread sleeps
    // meanwhile, so the plan, which only the child uses then, is not aliased. The system call changes rax, rcx and r11
    // alone.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") result,
            in("rdi") &raw const arguments,
            in("rsi") size_of::<CloneArguments>(),
            in("r12") ptr::from_mut(plan),
            in("r13") run_child as extern "C" fn(*mut ChildPlan) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    drop(signals);
    drop(stack);
    match i32::try_from(result).map_err(io::Error::other)? {
        pid @ 1.. => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// The child's whole life.
extern "C" fn run_child(plan: *mut ChildPlan) -> ! {
    // SAFETY: the parent keeps the plan and all it points to until this process has another memory, and does not touch
    // it meanwhile. The functions are safe in a signal handler; they change the state of this process, not of the
    // parent, except `errno`, which the parent does not read.
    unsafe {
        let plan = &mut *plan;
        let mut is_set_up = libc::setpgid(0, 0) == 0;
        for (number, descriptor) in (0..).zip(plan.standard) {
            is_set_up &= libc::dup2(descriptor, number) >= 0;
        }
        // Rust programs ignore it, and what is ignored stays so.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let none = 0_u64;
        let unblocked = libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        );
        if is_set_up && unblocked == 0 {
            libc::execve(plan.program, plan.arguments, plan.environment);
        }
        plan.error = *libc::__errno_location();
        libc::_exit(127)
    }
}

/// Blocks all signals in this thread until dropped, also those that the C library uses itself.
struct BlockedSignals(u64);

impl BlockedSignals {
    fn new() -> io::Result<Self> {
        let mut before = 0;
        set_mask(u64::MAX, &mut before)?;
        Ok(Self(before))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // It cannot fail with these arguments.
        let _ = set_mask(self.0, &mut 0);
    }
}

fn set_mask(mask: u64, before: &mut u64) -> io::Result<()> {
    // SAFETY: both sets have the size that is passed on, which is the kernel's.
    let done = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            ptr::from_mut(before),
            size_of::<u64>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From the kernel's `linux/sched.h`, as wide as in its arguments.
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const SIGCHLD: u64 = 17;

/// The child's stack, in bytes; it uses a fraction of it.
const STACK: usize = 64 << 10;
/// The first descriptor that is none of the standard ones.
const FIRST_FREE: RawFd = 3;

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsString,
        io::{PipeReader, Read as _, pipe},
        os::fd::AsFd as _,
        path::Path,
    };

    use conductor_sandbox::{WorkerLimits, cgroup::WorkerCgroup};
    use rustix::{
        io::retry_on_intr,
        process::{WaitOptions, waitpid},
    };

    use super::*;

    /// Starts a program with one argument behind `-c`, and returns its output, which ends with it.
    fn start(
        program: &str,
        script: &str,
        group: Option<BorrowedFd<'_>>,
    ) -> Result<(Pid, PipeReader), CloneError> {
        let (input, _) = pipe().unwrap();
        let (output, theirs) = pipe().unwrap();
        let command = WorkerCommand {
            program: Path::new(program),
            arguments: ["name", "-c", script],
            environment: vec![("COLOUR", OsString::from("blue"))],
            input: input.as_fd(),
            output: theirs.as_fd(),
        };
        start_in_group(&command, group).map(|pid| (pid, output))
    }

    fn output_of(script: &str, group: Option<BorrowedFd<'_>>) -> String {
        let (pid, mut output) = start("/bin/sh", script, group).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        let (_, status) = retry_on_intr(|| waitpid(Some(pid), WaitOptions::empty()))
            .unwrap()
            .unwrap();
        assert_eq!(status.exit_status(), Some(0), "{text}");
        text.replace(&pid.to_string(), "OWN")
    }

    #[test]
    fn a_started_program_has_its_arguments_environment_output_and_process_group() {
        let script = "echo $0 $COLOUR $$; ps -o pgid= -p $$; echo error >&2";
        let said = output_of(script, None);
        let words: Vec<_> = said.split_whitespace().collect();
        assert_eq!(words, ["name", "blue", "OWN", "OWN", "error"]);
    }

    /// Both survive the execution of a program.
    #[test]
    fn a_started_program_has_no_blocked_signals_and_does_not_ignore_sigpipe() {
        let said = output_of("grep -E '^Sig(Blk|Ign)' /proc/self/status", None);
        let words: Vec<_> = said.split_whitespace().collect();
        let ["SigBlk:", blocked, "SigIgn:", ignored] = words[..] else {
            panic!("{said}");
        };
        assert_eq!(u64::from_str_radix(blocked, 16), Ok(0));
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_eq!(ignored >> (libc::SIGPIPE - 1) & 1, 0, "{ignored:x}");
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_an_error_and_leaves_no_process() {
        for (program, expected) in [
            ("/nonexistent", io::ErrorKind::NotFound),
            ("/etc/passwd", io::ErrorKind::PermissionDenied),
        ] {
            match start(program, "", None) {
                Err(CloneError::Start(error)) => assert_eq!(error.kind(), expected, "{program}"),
                other => panic!("{program}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_process_starts_inside_its_control_group() {
        // Few machines let a test create one.
        let Some(group) = WorkerCgroup::new("clone", &WorkerLimits::default()) else {
            return;
        };
        let folder = group.open().unwrap();
        let name = group.path().file_name().unwrap().to_str().unwrap();
        let said = output_of("grep ^0: /proc/self/cgroup", Some(folder.as_fd()));
        assert!(said.trim_end().ends_with(name), "{said} is not in {name}");
    }

    #[test]
    fn a_refused_group_leaves_the_other_way_open() {
        let folder = std::fs::File::open("/").unwrap();
        let started = start("/bin/sh", "true", Some(folder.as_fd()));
        assert!(matches!(started, Err(CloneError::Clone(_))), "{started:?}");
    }
}
