//! The connection between the host and a worker, and the wait for a worker's events.
//!
//! [`Channel`] is one end of the connection, [`Waker`] wakes the thread that waits for a worker, and [`OutputPipe`]
//! reads what a worker prints. None of them blocks, except [`Channel::send_all`] and the two waits. `unix` and `windows`
//! implement the same interface.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
pub(super) mod windows;

use std::time::Duration;

#[cfg(unix)]
pub(super) use self::unix::{Channel, OutputEnd, OutputPipe, WakeUps, Waker, WorkerEnd, wait};
#[cfg(windows)]
pub(super) use self::windows::{Channel, OutputEnd, OutputPipe, WakeUps, Waker, WorkerEnd, wait};
use super::process::Process;

/// The result of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Received {
    /// Number of bytes.
    Bytes(usize),
    /// No data for now.
    Nothing,
    /// End of the stream.
    End,
}

/// The event sources of one worker.
pub(super) struct EventSources<'a> {
    pub(super) channel: &'a Channel,
    /// `true` to wait until the channel accepts more data.
    pub(super) unsent: bool,
    pub(super) wake_ups: &'a WakeUps,
    /// Its output, unless reading is paused.
    pub(super) output: Option<&'a OutputPipe>,
    pub(super) process: Option<&'a Process>,
    /// Maximum time to wait.
    pub(super) timeout: Option<Duration>,
}

/// The events of one wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) woken: bool,
    pub(super) printed: bool,
    pub(super) ended: bool,
}
