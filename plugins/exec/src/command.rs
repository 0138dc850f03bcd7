//! Starts a command, reads what it writes, and ends it with everything it started.

use std::{
    fs,
    io::{self, ErrorKind, Read},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use conductor_plugin_api::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    config::ExecConfig,
    outcome::{CapturedOutput, CommandEnd, FinishedCommand},
    process_tree::{self, ProcessTree},
};

/// Runs the command until it ends; `remaining` returns the time to the check's deadline.
///
/// # Errors
/// When the command cannot be started, or has not ended shortly before the deadline or when the check is cancelled: it
/// has been killed then.
pub(crate) fn run(
    config: &ExecConfig,
    remaining: &dyn Fn() -> Duration,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<FinishedCommand, Failure> {
    let limit = CommandLimit::new(remaining, is_cancelled);
    let mut running =
        RunningCommand::start(config).map_err(|error| Failure::new(error.to_string()))?;
    let status = running.wait(&limit);
    match status {
        Ok(Some(status)) => {
            let end = match status.code() {
                Some(code) => CommandEnd::Code(code),
                None => CommandEnd::Signal(status.signal().unwrap_or_default()),
            };
            Ok(running.finish(end))
        }
        Ok(None) => Err(running.end_late(&limit)),
        Err(error) => Err(Failure::new(format!(
            "cannot read the output of the command: {error}"
        ))),
    }
}

/// The time that a command may take: a tenth less than the check, at most 100 ms less, so that it can be killed and
/// reported before the deadline.
struct CommandLimit<'a> {
    /// Returns the time to the deadline.
    remaining: &'a dyn Fn() -> Duration,
    is_cancelled: &'a dyn Fn() -> bool,
    whole: Duration,
    margin: Duration,
}

impl<'a> CommandLimit<'a> {
    fn new(remaining: &'a dyn Fn() -> Duration, is_cancelled: &'a dyn Fn() -> bool) -> Self {
        let whole = remaining();
        Self {
            remaining,
            is_cancelled,
            whole,
            margin: (whole / 10).min(MARGIN),
        }
    }

    /// Returns the time that is left: zero after the limit, or once the check is cancelled.
    fn left(&self) -> Duration {
        match (self.is_cancelled)() {
            true => Duration::ZERO,
            false => (self.remaining)().saturating_sub(self.margin),
        }
    }

    fn elapsed(&self) -> Duration {
        self.whole.saturating_sub((self.remaining)())
    }
}

/// A reason why a command was not started.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0:?} does not exist; install it, or correct key `command`")]
    Missing(String),
    #[error("{0:?} is a folder, not a program; correct key `command`")]
    Folder(String),
    #[error(
        "{0:?} exists, but the interpreter in its first line or its loader does not; install that"
    )]
    NoInterpreter(String),
    #[error("{0:?} is not executable; make it so with `chmod +x {0}`")]
    NotExecutable(String),
    #[error(
        "{0:?} may not be run by this plugin, or not by the host's user: add `run {0}` to `allow` in [plugin.exec], and check its permissions and those of its interpreter"
    )]
    NotAllowed(String),
    #[error(
        "{0:?} is neither a program of this machine nor a script: its first line must name an interpreter, `#!/bin/sh`"
    )]
    NotAProgram(String),
    #[error("key `directory`: {0:?} is not an accessible folder; create it, or correct the key")]
    Directory(String),
    #[error("cannot start {program:?}: {error}")]
    Other { program: String, error: io::Error },
}

impl StartError {
    fn of(config: &ExecConfig, error: io::Error) -> Self {
        let program = config.command[0].clone();
        let is_folder = |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_dir());
        if !is_folder(&config.directory) {
            return Self::Directory(config.directory.display().to_string());
        }
        let metadata = fs::metadata(&program);
        match (error.kind(), metadata) {
            (ErrorKind::NotFound, Err(_)) => Self::Missing(program),
            (ErrorKind::NotFound, Ok(_)) => Self::NoInterpreter(program),
            (ErrorKind::PermissionDenied, Ok(found)) if found.is_dir() => Self::Folder(program),
            (ErrorKind::PermissionDenied, Ok(found)) if found.permissions().mode() & 0o111 == 0 => {
                Self::NotExecutable(program)
            }
            (ErrorKind::PermissionDenied, _) => Self::NotAllowed(program),
            _ if error.raw_os_error() == Some(ENOEXEC) => Self::NotAProgram(program),
            _ => Self::Other { program, error },
        }
    }
}

/// A command that was started; dropping it kills it with everything it started.
struct RunningCommand {
    child: Child,
    /// `true` once nothing is left to kill.
    is_over: bool,
    tree: ProcessTree,
    stdout: OutputReader,
    stderr: OutputReader,
}

impl RunningCommand {
    fn start(config: &ExecConfig) -> Result<Self, StartError> {
        let (mark_name, mark, tree) = ProcessTree::new();
        let mut command = Command::new(&config.command[0]);
        command
            .args(&config.command[1..])
            .current_dir(&config.directory)
            .env_clear()
            .env("PATH", PATH)
            // Plugins that print numbers in the form of another language would not be understood.
            .env("LC_ALL", "C.UTF-8");
        // The host finds what its workers started by this variable.
        if let Some(worker) = std::env::var_os(WORKER_MARK) {
            command.env(WORKER_MARK, worker);
        }
        for (name, value) in &config.environment {
            command.env(name, value.expose());
        }
        command
            .env(mark_name, mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        process_tree::prepare(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| StartError::of(config, error))?;
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as _);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as _);
        Ok(Self {
            tree: tree.of(&child),
            stdout: OutputReader::new(stdout, MAX_STDOUT),
            stderr: OutputReader::new(stderr, MAX_STDERR),
            child,
            is_over: false,
        })
    }

    /// Reads until the process has ended; returns its status, or `None` if it has not ended within the limit.
    fn wait(&mut self, limit: &CommandLimit<'_>) -> io::Result<Option<ExitStatus>> {
        let mut looked = Duration::ZERO;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let left = limit.left();
            if left.is_zero() {
                return Ok(None);
            }
            let is_open = self.stdout.is_open() || self.stderr.is_open();
            if is_open {
                self.read(left.min(TICK))?;
                // While another process holds the pipes, only the status shows that the command has ended.
                if limit.elapsed() < looked + TICK {
                    continue;
                }
                looked = limit.elapsed();
            }
            if let Some(status) = self.child.try_wait()? {
                if is_open {
                    self.read_what_is_there()?;
                }
                return Ok(Some(status));
            }
            if !is_open {
                thread::sleep(pause.min(left));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Waits for output, and reads once from each pipe that has some; returns `false` if none had.
    fn read(&mut self, patience: Duration) -> io::Result<bool> {
        let readers = [&mut self.stdout, &mut self.stderr];
        let mut ready = [false; 2];
        {
            let mut polled = Vec::new();
            for (nth, reader) in readers.iter().enumerate() {
                if let Some(pipe) = &reader.pipe {
                    polled.push((nth, PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
                }
            }
            let mut fds: Vec<_> = polled.iter().map(|(_, fd)| fd.clone()).collect();
            let patience = Timespec::try_from(patience).unwrap_or_default();
            match poll(&mut fds, Some(&patience)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            for ((nth, _), fd) in polled.iter().zip(&fds) {
                ready[*nth] = !fd.revents().is_empty();
            }
        }
        for (reader, is_ready) in readers.into_iter().zip(ready) {
            if is_ready {
                reader.read()?;
            }
        }
        Ok(ready.contains(&true))
    }

    /// Reads what an ended process has left in the pipes, which other processes may hold open and fill.
    fn read_what_is_there(&mut self) -> io::Result<()> {
        for _ in 0..MOST_READS {
            if !self.read(Duration::ZERO)? {
                break;
            }
        }
        Ok(())
    }

    /// Returns the result of a command that has ended.
    fn finish(mut self, end: CommandEnd) -> FinishedCommand {
        self.tree.root_ended();
        // A process that the command left behind holds them.
        self.is_over = !self.stdout.is_open() && !self.stderr.is_open();
        let is_over = self.is_over;
        let [stdout, stderr] =
            [&mut self.stdout, &mut self.stderr].map(|reader| std::mem::take(&mut reader.output));
        drop(self);
        if is_over {
            process_tree::end_leftovers_sometimes();
        }
        FinishedCommand {
            end,
            stdout,
            stderr,
        }
    }

    /// Kills a command that has not ended in time, and returns the failure.
    fn end_late(mut self, limit: &CommandLimit<'_>) -> Failure {
        let allowed = limit.elapsed();
        let ended = self.tree.end();
        self.is_over = true;
        let what = match ended {
            Ok(0 | 1) => "it was killed".to_owned(),
            Ok(count) => format!(
                "it was killed with the {} processes it had started",
                count - 1
            ),
            Err(error) => format!("it could not be killed: {error}"),
        };
        // Where it was not killed, the call stays stuck: the host counts a timeout, and ends the worker if there are too
        // many of them.
        let _ = self.child.wait();
        let said = String::from_utf8_lossy(&self.stdout.output.bytes);
        let said = said.lines().next().unwrap_or_default().trim();
        let said = match &said[..said.floor_char_boundary(MAX_SAID)] {
            "" => "no output so far".to_owned(),
            said => format!("its output so far: {said}"),
        };
        Failure::timeout(format!(
            "the command did not end within {:.1} s, {what}; raise `timeout`, or give the command a shorter one; {said}",
            allowed.as_secs_f64()
        ))
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if !self.is_over && self.tree.end().is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// Reads one pipe, keeps the beginning, and counts the rest.
struct OutputReader {
    /// `None` once it was closed.
    pipe: Option<Box<dyn OutputPipe>>,
    output: CapturedOutput,
    most: usize,
}

/// A readable end of a pipe.
trait OutputPipe: Read + AsFd {}
impl<P: Read + AsFd> OutputPipe for P {}

impl OutputReader {
    fn new(pipe: Option<Box<dyn OutputPipe>>, most: usize) -> Self {
        Self {
            pipe,
            output: CapturedOutput::default(),
            most,
        }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads once.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        let mut buffer = [0; 32 * 1024];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                let room = self.most - self.output.bytes.len();
                self.output
                    .bytes
                    .extend_from_slice(&buffer[..count.min(room)]);
                self.output.total += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const WORKER_MARK: &str = "CONDUCTOR_WORKER";
/// Most time between the end of a command's time and the deadline.
const MARGIN: Duration = Duration::from_millis(100);
/// Bytes of standard output that are kept: Nagios keeps 8 KiB.
pub(crate) const MAX_STDOUT: usize = 64 * 1024;
/// Bytes of standard error that are kept.
const MAX_STDERR: usize = 4 * 1024;
/// Bytes of the output in the message of a timeout.
const MAX_SAID: usize = 200;
/// Period at which cancellation and the end of the process are looked for while the pipes are open.
const TICK: Duration = Duration::from_millis(50);
/// Pauses between looks for the end of a process that has closed its pipes.
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// Reads from the pipes of an ended process; a pipe holds two of them.
const MOST_READS: usize = 16;
/// Error of a file that is no program.
const ENOEXEC: i32 = 8;
