//! Faults that change state of the whole process.
#![expect(
    unsafe_code,
    reason = "what belongs to the whole process is not for safe code to change"
)]

use std::{env, io};

#[cfg(unix)]
mod unix;

#[cfg(unix)]
pub(crate) use self::unix::{
    block_all_signals, change_umask, close_descriptors, ignore_all_signals,
};

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
    let locales = if cfg!(windows) {
        [c"de-DE", c"German_Germany.1252", c"German", c"C.UTF-8"]
    } else {
        [c"de_DE.UTF-8", c"de_DE.utf8", c"tr_TR.UTF-8", c"C.UTF-8"]
    };
    for locale in locales {
        // SAFETY: zero-terminated text; it races with threads that format numbers, which is the fault.
        if !unsafe { libc::setlocale(libc::LC_ALL, locale.as_ptr()) }.is_null() {
            return;
        }
    }
}
