//! Processes of the OS, seen and acted on from outside.
//!
//! `unix` and `windows` implement the same interface; signals by name are Unix's alone.

#[cfg(unix)]
#[path = "processes/unix.rs"]
mod os;
#[cfg(windows)]
#[path = "processes/windows.rs"]
mod os;

#[cfg(unix)]
pub(super) use self::os::send;
pub(super) use self::os::{
    ask_to_stop, crash, exit_text, kill, list, mentions, prepare_host, without_core_dumps,
};
pub(super) use self::os::{resume, suspend};

/// A process.
pub(super) struct ProcessEntry {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// When it started, in units of the OS; it distinguishes reused process IDs.
    pub(super) started: u64,
    /// `true` if only its entry is left.
    pub(super) is_dead: bool,
}

/// The way in which a host was asked to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StopRequest {
    /// It will shut down in order.
    Sent,
    /// It cannot be asked on this machine, and was killed.
    Killed,
}
