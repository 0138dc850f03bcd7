//! A test's process on Linux: its socket, and its end.
//!
//! It first moves the socket to a high descriptor: a plugin that closes or writes to random low ones must not reach it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{
        fd::{OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use conductor_runtime::worker::exit;
use rustix::process::{Signal, set_parent_process_death_signal};

/// The connection to the validator.
pub(in super::super) struct ValidatorChannel(UnixStream);

impl ValidatorChannel {
    /// Takes it over, and ends this process with the validator from then on.
    pub(super) fn of_standard_input() -> io::Result<Self> {
        let talk: OwnedFd = rustix::io::fcntl_dupfd_cloexec(io::stdin(), HIGH)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(Self(UnixStream::from(talk)))
    }

    /// Waits for a line.
    pub(super) fn receive(&mut self) -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(&self.0).read_line(&mut line)?;
        Ok(line)
    }

    /// Sends a line.
    pub(in super::super) fn send(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(format!("{line}\n").as_bytes())
    }
}

/// Ends this process: the library's exit handlers are not part of a test.
pub(super) fn leave(_: &str) -> ! {
    exit(0)
}

/// Out of reach of code that closes or writes to random descriptors.
const HIGH: RawFd = 200;
