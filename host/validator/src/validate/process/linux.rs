//! A test's process on Linux: a process group, with a socket as standard input.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, PipeWriter, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::worker::{RUNTIME, describe_end};
use rustix::process::{Pid, Signal, kill_process_group};

use super::ProcessExit;
use crate::validate::child::TestOrder;

/// A process that runs one test.
pub(super) struct TestChild {
    process: Child,
    lines: BufReader<UnixStream>,
    clock: Clock,
}

impl TestChild {
    /// Starts it, and sends its order.
    pub(super) fn start(
        order: &TestOrder,
        stdout: PipeWriter,
        stderr: PipeWriter,
        clock: Clock,
    ) -> io::Result<Self> {
        let (mut talk, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(OsStr::new("plugin-test"))
            .envs(RUNTIME)
            .stdin(OwnedFd::from(theirs))
            .stdout(stdout)
            .stderr(stderr)
            // So that processes it starts can be found and ended.
            .process_group(0);
        let process = command.spawn()?;
        // Its write ends would keep the pipes open.
        drop(command);
        let order = serde_json::to_string(order).map_err(io::Error::other)?;
        talk.write_all(format!("{order}\n").as_bytes())?;
        Ok(Self {
            process,
            lines: BufReader::new(talk),
            clock,
        })
    }

    /// Waits for a line from it; `None` if none came in time.
    ///
    /// The read can also time out within a line, and lose its beginning: the test is late by then anyway.
    ///
    /// # Errors
    /// When the connection is closed or fails.
    pub(super) fn receive(&mut self, patience: Duration) -> io::Result<Option<String>> {
        let mut line = String::new();
        self.lines.get_ref().set_read_timeout(Some(patience))?;
        match self.lines.read_line(&mut line) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(Some(line)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for its exit, at most for `grace`, then kills it and its process group.
    pub(super) fn end(&mut self, grace: Duration) -> ProcessExit {
        let until = self.clock.now() + grace;
        let mut status = self.process.try_wait().ok().flatten();
        while status.is_none() && self.clock.now() < until {
            thread::sleep(Duration::from_millis(2));
            status = self.process.try_wait().ok().flatten();
        }
        let by_itself = status.is_some();
        // Until it was waited for, its process ID is not reused, nor is the group's while it has members.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let status = status.or_else(|| self.process.wait().ok());
        ProcessExit {
            by_itself,
            is_success: status.is_some_and(|status| status.success()),
            text: describe_end(status),
        }
    }
}
