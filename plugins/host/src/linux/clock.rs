//! The state of the kernel's clock, as a time service keeps it.
#![expect(unsafe_code, reason = "no crate offers adjtimex safely")]

use std::{io, path::Path, time::Duration};

use super::reading::{Reading, ReadingError};

/// The synchronization of the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockState {
    /// False until a time service has set the clock, and after none has for some hours.
    pub(crate) is_synchronized: bool,
    /// Largest error that the time service allows for; 16 s without one.
    pub(crate) max_error: Duration,
}

/// Queries the clock and changes nothing.
pub(crate) fn clock_state() -> Reading<ClockState> {
    // SAFETY: every field of `timex` is a number, for which zero is valid.
    let mut found: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is that of a `timex` that is exclusively borrowed; `modes` is 0, with which the kernel only writes
    // to it.
    let state = unsafe { libc::adjtimex(&raw mut found) };
    if state == -1 {
        let error = io::Error::last_os_error();
        return Err(ReadingError::unreadable(
            Path::new("the state of the clock"),
            error,
        ));
    }
    let microseconds = u64::try_from(found.maxerror).unwrap_or_default();
    Ok(ClockState {
        is_synchronized: state != libc::TIME_ERROR && found.status & libc::STA_UNSYNC == 0,
        max_error: Duration::from_micros(microseconds),
    })
}
