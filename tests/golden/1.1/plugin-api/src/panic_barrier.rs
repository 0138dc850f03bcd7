//! Panics never cross the ABI: every call from the host runs inside [`catch`], on the plugin's side.
//!
//! It must be on this side, because a host cannot catch the panic of another copy of the standard library: it would
//! abort. The hook belongs to this copy too; it is silent inside the barrier, where the failure carries message, file
//! and line, and logs panics outside it (in the plugin's own threads).

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

use crate::probe::{Failure, FailureKind};

/// Runs `f`, and converts a panic into a failure with its message, file and line.
pub(crate) fn catch<T>(f: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    DEPTH.set(DEPTH.get() + 1);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    result.unwrap_or_else(|payload| Err(failure(payload)))
}

/// Replaces the panic hook of this copy of the standard library; `outside` gets panics outside the barrier.
pub(crate) fn install_hook(outside: fn(&str)) {
    panic::set_hook(Box::new(move |info| {
        if DEPTH.get() > 0 {
            PLACE.set(PanicLocation::of(info));
        } else {
            let message = info.payload_as_str().unwrap_or(NOT_TEXT);
            outside(&format!(
                "a thread of the plugin's own panicked at {}: {message}",
                PanicLocation::of(info)
            ));
        }
    }));
}

/// Installs the hook once, and keeps the previous one for panics outside the barrier, such as a test's own failure.
pub(crate) fn install_hook_once_before_others() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if DEPTH.get() > 0 {
                PLACE.set(PanicLocation::of(info));
            } else {
                others(info);
            }
        }));
    });
}

fn failure(payload: Box<dyn Any + Send>) -> Failure {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| NOT_TEXT.to_owned());
    let place = PLACE.take();
    // The payload belongs to the author, and its drop may panic too; the payload of that second panic is leaked, to end
    // the chain.
    DEPTH.set(DEPTH.get() + 1);
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    DEPTH.set(DEPTH.get() - 1);
    let text = match place.line {
        0 => format!("panicked: {message}"),
        _ => format!("panicked at {place}: {message}"),
    };
    Failure::of(FailureKind::Panic, text)
}

/// File and line in a form whose thread-local needs no destructor: registering one takes the loader's lock.
#[derive(Clone, Copy)]
struct PanicLocation {
    file: [u8; 96],
    line: u32,
}

impl PanicLocation {
    const NONE: Self = Self {
        file: [0; 96],
        line: 0,
    };

    fn of(info: &PanicHookInfo<'_>) -> Self {
        let mut place = Self::NONE;
        if let Some(location) = info.location() {
            // The end of a path is more informative than its beginning.
            let path = location.file().as_bytes();
            let tail = &path[path.len().saturating_sub(place.file.len())..];
            place.file[..tail.len()].copy_from_slice(tail);
            place.line = location.line();
        }
        place
    }
}

impl Default for PanicLocation {
    fn default() -> Self {
        Self::NONE
    }
}

impl std::fmt::Display for PanicLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.file.iter().position(|&b| b == 0).unwrap_or(96);
        let file = String::from_utf8_lossy(&self.file[..end]);
        write!(f, "{file}:{}", self.line)
    }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PLACE: Cell<PanicLocation> = const { Cell::new(PanicLocation::NONE) };
}

const NOT_TEXT: &str = "with a payload that is not text";

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic::panic_any(Self);
        }
    }

    #[test]
    fn a_panic_becomes_a_failure_with_file_and_line() {
        install_hook(|text| eprintln!("{text}"));
        let failure = catch::<()>(|| panic!("no such {}", "thing")).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Panic);
        assert!(
            failure.message().contains("panic_barrier.rs:"),
            "{failure:?}"
        );
        assert!(failure.message().ends_with(": no such thing"), "{failure}");
    }

    #[test]
    fn a_payload_whose_drop_panics_is_contained() {
        install_hook(|text| eprintln!("{text}"));
        let failure = catch::<()>(|| panic::panic_any(Bomb)).unwrap_err();
        assert!(failure.message().ends_with(NOT_TEXT), "{failure}");
    }
}
