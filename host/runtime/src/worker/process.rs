//! The worker's process: watching it, killing it with everything it started, and describing its end.
//!
//! `unix` and `windows` implement the same interface.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use self::unix::describe;
#[cfg(unix)]
pub(super) use self::unix::{WorkerProcess, own_id};
#[cfg(windows)]
pub use self::windows::describe;
#[cfg(windows)]
pub(super) use self::windows::{WorkerProcess, end_starts, own_id};
