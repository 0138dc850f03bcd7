//! The connection between the host and a worker, and the wait for a worker's events.
//!
//! [`WorkerChannel`] is one end of the connection, [`SupervisorWaker`] wakes the thread that waits for a worker, and [`OutputPipe`]
//! reads what a worker prints. None of them blocks, except [`WorkerChannel::send_all`] and the two waits. `unix` and `windows`
//! implement the same interface.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
pub(super) mod windows;

use std::time::Duration;

#[cfg(unix)]
pub(super) use self::unix::{
    OutputEnd, OutputPipe, SupervisorWaker, WakeUps, WorkerChannel, WorkerEnd, wait,
};
#[cfg(windows)]
pub(super) use self::windows::{
    OutputEnd, OutputPipe, SupervisorWaker, WakeUps, WorkerChannel, WorkerEnd, wait,
};
use super::process::WorkerProcess;

/// The result of a read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadOutcome {
    /// Number of bytes.
    Bytes(usize),
    /// No data for now.
    Nothing,
    /// End of the stream.
    End,
}

/// The event sources of one worker.
pub(super) struct EventSources<'a> {
    pub(super) channel: &'a WorkerChannel,
    /// `true` to wait until the channel accepts more data.
    pub(super) unsent: bool,
    pub(super) wake_ups: &'a WakeUps,
    /// Its output, unless reading is paused.
    pub(super) output: Option<&'a OutputPipe>,
    pub(super) process: Option<&'a WorkerProcess>,
    /// Maximum time to wait.
    pub(super) timeout: Option<Duration>,
}

/// The events of one wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WorkerEvents {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) woken: bool,
    pub(super) printed: bool,
    pub(super) ended: bool,
}
