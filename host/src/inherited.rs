//! Undoes what the process that started this one left behind: blocked and ignored signals.
//!
//! A signal mask and ignored signals survive `exec`. A supervisor that blocks all signals while it starts its children
//! would otherwise make a host that no SIGTERM can stop, and one that ignores SIGCHLD a host that never learns how its
//! workers ended. Workers, and what plugins start in them, inherit from the host.
#![cfg_attr(
    target_os = "linux",
    expect(
        unsafe_code,
        reason = "masks and actions of signals are set through functions of the C library"
    )
)]

/// Unblocks all signals and restores the default action of SIGCHLD; for the start of a process, before it has threads.
pub(crate) fn reset_signals() {
    #[cfg(target_os = "linux")]
    // SAFETY: both functions only read and write the set on this stack, which `sigemptyset` initialises, and settings of
    // this process, which has one thread. SIG_DFL is no handler that could run.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
