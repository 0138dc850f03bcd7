//! Undoes settings inherited from the parent process, and makes those that plugins in this process rely on.
//!
//! A signal mask and ignored signals survive `exec`. A supervisor that blocks all signals while it starts its children
//! would otherwise make a host that no SIGTERM can stop, and one that ignores SIGCHLD a host that never gets its
//! workers' exit statuses. Workers, and the programs that plugins start in them, inherit from the host.
#![expect(
    unsafe_code,
    reason = "signal masks are set through the C library, and the environment belongs to all threads"
)]

/// Unblocks all signals and restores the default action of SIGCHLD; call it at the start of a process, before it has
/// threads.
pub(crate) fn reset_signals() {
    #[cfg(target_os = "linux")]
    // SAFETY: both functions only read and write the set on this stack, which `sigemptyset` initialises, and settings
    // of this process, which has one thread. SIG_DFL is not a handler that could run.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Gives threads that Rust plugins start in this process the same stacks as in a worker; call it before the process has
/// threads.
///
/// Each plugin has a copy of Rust's standard library, which reads the variable when it starts its first thread.
pub(crate) fn enlarge_stacks() {
    // The standard library of this program keeps the size that it reads at its first thread: the host's own threads are
    // many and need less.
    let _ = std::thread::spawn(|| {}).join();
    let (name, bytes) = conductor_runtime::RUST_STACKS;
    // SAFETY: the thread above has ended, so this process has one, and no other reads or writes the environment meanwhile.
    unsafe { std::env::set_var(name, bytes) };
}
