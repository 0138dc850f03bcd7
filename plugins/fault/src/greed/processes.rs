//! Processes that a fault leaves behind.
#![expect(unsafe_code, reason = "fork is not to be had from safe code")]

use std::{ffi::CString, io, mem, time::Duration};

use conductor_plugin_api::Failure;

use super::{reached, refused};
use crate::injection::InjectionConfig;

/// The kind of process left behind.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum LeftoverKind {
    /// A child of this process, which runs `sleep`.
    Child,
    /// The same, orphaned and in its own session.
    Daemon,
    /// An orphan in its own session that is still a copy of this process.
    Fork,
}

/// Leaves processes behind, which inherit every open descriptor.
pub(crate) fn children(injection: &InjectionConfig, kind: LeftoverKind) -> Result<(), Failure> {
    let limit = injection.limit.unwrap_or(1_000);
    let lifetime = Duration::from_millis(injection.millis.unwrap_or(600_000));
    let sleep = SleepDuration::new(lifetime);
    keep_descriptors_on_exec();
    for taken in 0..limit {
        // SAFETY: until exec or exit, the child only makes system calls, with data allocated before.
        match unsafe { libc::fork() } {
            -1 => return Err(refused(taken, "children", &io::Error::last_os_error())),
            0 => become_a_leftover(kind, &sleep),
            child if kind != LeftoverKind::Child => {
                // SAFETY: a null status is allowed.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            }
            _ => {}
        }
    }
    Err(reached(limit, "children"))
}

/// Runs the child; allocates nothing, as another thread may have held the allocator's lock at the fork.
fn become_a_leftover(kind: LeftoverKind, sleep: &SleepDuration) -> ! {
    // SAFETY: only system calls, on zero-terminated text and a null-terminated list.
    unsafe {
        if kind != LeftoverKind::Child {
            libc::setsid();
            if libc::fork() != 0 {
                libc::_exit(0);
            }
        }
        if kind != LeftoverKind::Fork {
            let arguments = [c"sleep".as_ptr(), sleep.seconds.as_ptr(), std::ptr::null()];
            libc::execv(c"/bin/sleep".as_ptr(), arguments.as_ptr());
            libc::execv(c"/usr/bin/sleep".as_ptr(), arguments.as_ptr());
        }
        libc::nanosleep(&raw const sleep.time, std::ptr::null_mut());
        libc::_exit(0)
    }
}

/// A lifetime, as needed by `sleep` and the system call.
struct SleepDuration {
    seconds: CString,
    time: libc::timespec,
}

impl SleepDuration {
    fn new(lifetime: Duration) -> Self {
        let seconds = format!("{}.{:03}", lifetime.as_secs(), lifetime.subsec_millis());
        // SAFETY: only numbers, for which zero is a valid value.
        let mut time: libc::timespec = unsafe { mem::zeroed() };
        time.tv_sec = lifetime.as_secs().try_into().unwrap_or(i32::MAX.into());
        Self {
            seconds: CString::new(seconds).unwrap_or_default(),
            time,
        }
    }
}

/// Makes descriptors inheritable: a reader that waits for the end of a socket must not wait for the heirs.
fn keep_descriptors_on_exec() {
    for descriptor in 0..64 {
        // SAFETY: only numbers; a closed descriptor is refused.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
    }
}
