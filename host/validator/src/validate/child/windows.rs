//! A test's process on Windows: its pipe, and its end.

use std::{io, process};

use conductor_runtime::worker::{LineChannel, exit};

use crate::validate::catalogue::{self, TestMethod};

/// The connection to the validator.
pub(in super::super) struct ValidatorChannel(LineChannel);

impl ValidatorChannel {
    /// Takes it over. This process ends with the validator, whose job it is in.
    pub(super) fn of_standard_input() -> io::Result<Self> {
        LineChannel::of_standard_input().map(Self)
    }

    /// Waits for a line.
    pub(super) fn receive(&mut self) -> io::Result<String> {
        self.0.wait_for_line()
    }

    /// Sends a line.
    pub(in super::super) fn send(&mut self, line: &str) -> io::Result<()> {
        self.0.send(line)
    }
}

/// Ends this process, with the library's exit code only if that is what the test is about.
#[expect(
    clippy::disallowed_methods,
    reason = "the normal end of a process is what is tested"
)]
pub(super) fn leave(test: &str) -> ! {
    let how = catalogue::find(test).map(|test| &test.how);
    match how {
        Some(TestMethod::Process(how)) if how.runs_exit_code => process::exit(0),
        _ => exit(0),
    }
}
