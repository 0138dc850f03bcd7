//! Faults that change state of the whole process.
#![expect(
    unsafe_code,
    reason = "what belongs to the whole process is not for safe code to change"
)]

use std::{env, io, mem, ptr};

pub(crate) fn close_descriptors() {
    for descriptor in 0..=10 {
        // SAFETY: unsound on purpose, as other code owns them.
        unsafe { libc::close(descriptor) };
    }
}

pub(crate) fn change_directory() -> io::Result<()> {
    env::set_current_dir("/")
}

pub(crate) fn change_environment() {
    let names: Vec<_> = env::vars_os().map(|(name, _)| name).collect();
    // SAFETY: unsound on purpose, as another thread may be reading the environment.
    unsafe {
        for name in names {
            env::remove_var(name);
        }
        for (name, value) in [
            ("PATH", "/nowhere"),
            ("HOME", "/nowhere"),
            ("TZ", "Nowhere/At_all"),
            ("LC_ALL", "tlh"),
            ("LD_PRELOAD", "/nowhere/at-all.so"),
            ("CONDUCTOR_LOG_LEVEL", "nonsense"),
        ] {
            env::set_var(name, value);
        }
    }
}

/// Changes to a locale with a decimal comma, if the machine has one.
pub(crate) fn change_locale() {
    for locale in [c"de_DE.UTF-8", c"de_DE.utf8", c"tr_TR.UTF-8", c"C.UTF-8"] {
        // SAFETY: zero-terminated text; it races with threads that format numbers, which is the fault.
        if !unsafe { libc::setlocale(libc::LC_ALL, locale.as_ptr()) }.is_null() {
            return;
        }
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
