//! The validator's test processes on Windows: started, contained, killed and described like workers.

use std::{io, os::windows::io::OwnedHandle, time::Duration};

use conductor_core::clock::Clock;
use conductor_sandbox::SandboxPolicy;

use super::{
    channel::{ReadOutcome, WorkerChannel},
    child::windows::take_channel,
    process::WorkerProcess,
};

/// A process of this program that runs one test. Killed with everything it started when dropped.
pub struct TestProcess {
    process: WorkerProcess,
    channel: LineChannel,
}

impl TestProcess {
    /// Starts this program with arguments that need no quoting, a [`LineChannel`] as standard input, and these handles
    /// for its output.
    ///
    /// # Errors
    /// When the process or its job cannot be created.
    pub fn start(
        command: &str,
        policy: &SandboxPolicy,
        stdout: &OwnedHandle,
        stderr: &OwnedHandle,
    ) -> io::Result<Self> {
        let (channel, theirs) = WorkerChannel::pair()?;
        Ok(Self {
            process: WorkerProcess::run(command, policy, [&theirs, stdout, stderr])?,
            channel: LineChannel::new(channel),
        })
    }

    /// Returns the connection to it.
    pub fn channel(&mut self) -> &mut LineChannel {
        &mut self.channel
    }

    /// Waits for its exit, at most for `grace`, then kills it and everything it started.
    ///
    /// Returns `true` if it exited by itself, and its exit code.
    pub fn end(&mut self, grace: Duration, clock: Clock) -> (bool, Option<u32>) {
        let by_itself = self.process.wait_a_while(grace, clock);
        (by_itself, self.process.kill())
    }
}

/// One end of a connection that carries lines of text.
pub struct LineChannel {
    channel: WorkerChannel,
    received: Vec<u8>,
}

impl LineChannel {
    fn new(channel: WorkerChannel) -> Self {
        Self {
            channel,
            received: Vec::new(),
        }
    }

    /// Takes over the connection that this process has as standard input.
    ///
    /// # Errors
    /// When it is none.
    pub fn of_standard_input() -> io::Result<Self> {
        take_channel().map(Self::new)
    }

    /// Sends a line.
    ///
    /// # Errors
    /// When the other end is closed.
    pub fn send(&self, line: &str) -> io::Result<()> {
        self.channel.send_all(format!("{line}\n").as_bytes())
    }

    /// Waits for a line, which is returned without its end; `None` if none came in time.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is closed.
    pub fn receive(&mut self, patience: Duration, clock: Clock) -> io::Result<Option<String>> {
        let until = clock.now() + patience;
        loop {
            if let Some(line) = self.take()? {
                return Ok(Some(line));
            }
            let left = until.saturating_sub(clock.now());
            if left.is_zero() || !self.channel.wait(Some(left))? {
                return Ok(None);
            }
        }
    }

    /// Waits for a line without a limit.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn wait_for_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = self.take()? {
                return Ok(line);
            }
            self.channel.wait(None)?;
        }
    }

    /// Takes a line, if a whole one has been received.
    fn take(&mut self) -> io::Result<Option<String>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            match self.channel.receive_now(&mut buffer)? {
                ReadOutcome::Bytes(bytes) => self.received.extend_from_slice(&buffer[..bytes]),
                ReadOutcome::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                ReadOutcome::Nothing => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_one_by_one_and_the_end_is_seen() {
        let clock = Clock::start();
        let (ours, theirs) = WorkerChannel::pair().unwrap();
        let theirs = LineChannel::new(WorkerChannel::of_worker(theirs).unwrap());
        let mut ours = LineChannel::new(ours);
        let mut receive = |patience| ours.receive(patience, clock);
        assert_eq!(receive(Duration::ZERO).unwrap(), None);
        theirs.send("one").unwrap();
        let long = "x".repeat(50_000);
        theirs.send(&long).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(receive(minute).unwrap().as_deref(), Some("one"));
        assert_eq!(receive(minute).unwrap(), Some(long));
        drop(theirs);
        let end = receive(minute).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
