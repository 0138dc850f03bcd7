//! The reasons why a host does not run.

use std::io;

use conductor_library::{FileRefusal, StateLockError};
use tokio::task::JoinError;

/// The reason why a host could not start, or stopped without a request.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its state folder cannot be used, or another host uses it.
    #[error(transparent)]
    State(#[from] StateLockError),
    /// It has no place for private copies of libraries.
    #[error(transparent)]
    Store(#[from] FileRefusal),
    /// Its scheduler has no thread.
    #[error("cannot start the scheduler's thread: {0}")]
    Thread(#[source] io::Error),
    /// Its start panicked.
    #[error("cannot start: {0}")]
    Start(#[from] JoinError),
    /// Its port cannot be served.
    #[error("cannot serve on the open port: {0}")]
    Port(#[source] io::Error),
    /// It cannot be stopped or reloaded by signals.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] io::Error),
    /// Its scheduler has ended.
    #[error("internal error: the scheduler has stopped, so no platform is checked")]
    SchedulerEnded,
}
