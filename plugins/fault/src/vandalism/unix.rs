//! State of the process that only Unix has: descriptors, signals, umask.
#![expect(
    unsafe_code,
    reason = "what belongs to the whole process is not for safe code to change"
)]

use std::{mem, ptr};

pub(crate) fn close_descriptors() {
    for descriptor in 0..=10 {
        // SAFETY: unsound on purpose, as other code owns them.
        unsafe { libc::close(descriptor) };
    }
}

pub(crate) fn ignore_all_signals() {
    for signal in 1..32 {
        // SAFETY: ignoring a signal needs no handler; the two that cannot be ignored are refused.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Blocks them for this thread; and ignores SIGTERM for the process, as any other thread would handle it.
pub(crate) fn block_all_signals() {
    // SAFETY: the set is filled before it is read.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut());
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
    }
}

/// Changes to a umask that denies all access to new files.
pub(crate) fn change_umask() {
    // SAFETY: takes only a number.
    unsafe { libc::umask(0o777) };
}
