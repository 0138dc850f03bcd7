//! A worker's connection on Unix: two socket pairs and a pipe, waited for with `poll`.
//!
//! Uses `send` and `recv`, which fail on anything but a socket: after a plugin closed descriptors at random, the number
//! of this one may belong to a file, which must not fill up with frames.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{EventSources, ReadOutcome, WorkerEvents};
use crate::worker::process::WorkerProcess;

/// The worker's end of its channel, which becomes its standard input.
pub(in super::super) type WorkerEnd = OwnedFd;
/// The worker's end of its output pipe.
pub(in super::super) type OutputEnd = PipeWriter;

/// One end of the connection between the host and a worker.
pub(in super::super) struct WorkerChannel(UnixStream);

impl WorkerChannel {
    /// Creates a connection: the host's end, and the worker's.
    pub(in super::super) fn pair() -> io::Result<(Self, WorkerEnd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs.into()))
    }

    /// Takes over the worker's end.
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on Windows")]
    pub(in super::super) fn of_worker(end: WorkerEnd) -> io::Result<Self> {
        Ok(Self(end.into()))
    }

    /// Sends what fits now, without waiting.
    pub(in super::super) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, NO_SIGNAL | SendFlags::DONTWAIT)?)
    }

    /// Sends everything, blocking until it is accepted.
    pub(in super::super) fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match send(&self.0, bytes, NO_SIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives the available data, without waiting.
    pub(in super::super) fn receive_now(&self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        match recv(&self.0, buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Ok(ReadOutcome::End),
            Ok((bytes, _)) => Ok(ReadOutcome::Bytes(bytes)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(ReadOutcome::Nothing),
            // The other side is gone, with unread data.
            Err(rustix::io::Errno::CONNRESET) => Ok(ReadOutcome::End),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for data or the end of the stream; returns `false` if neither came within `patience`.
    pub(in super::super) fn wait(&self, patience: Option<Duration>) -> io::Result<bool> {
        let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// Wakes the thread that waits for a worker.
pub(in super::super) struct SupervisorWaker(UnixStream);

/// The wake-ups of a [`SupervisorWaker`].
pub(in super::super) struct WakeUps(UnixStream);

impl SupervisorWaker {
    pub(in super::super) fn pair() -> io::Result<(Self, WakeUps)> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok((Self(wake), WakeUps(woken)))
    }

    pub(in super::super) fn wake(&self) {
        // If it is full, the thread has not yet handled an earlier wake-up.
        let _ = send(&self.0, &[0], NO_SIGNAL | SendFlags::DONTWAIT);
    }
}

impl WakeUps {
    /// Takes the wake-ups so far.
    pub(in super::super) fn clear(&self) {
        while matches!((&self.0).read(&mut [0; 64]), Ok(1..)) {}
    }
}

/// The host's end of the pipe from a worker's standard output and error.
pub(in super::super) struct OutputPipe(PipeReader);

impl OutputPipe {
    pub(in super::super) fn pair() -> io::Result<(Self, OutputEnd)> {
        let (ours, theirs) = io::pipe()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((Self(ours), theirs))
    }

    /// Reads the available output, without waiting.
    pub(in super::super) fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Waits for the events of a worker.
pub(in super::super) fn wait(sources: &EventSources<'_>) -> io::Result<WorkerEvents> {
    let timeout = sources
        .timeout
        .and_then(|timeout| Timespec::try_from(timeout).ok());
    let unsent = match sources.unsent {
        true => PollFlags::OUT,
        false => PollFlags::empty(),
    };
    let output = sources.output.map(|pipe| pipe.0.as_fd());
    let ended = sources.process.and_then(WorkerProcess::ended);
    let channel = sources.channel.0.as_fd();
    // The channel takes the place of what is missing.
    let mut polled = [
        PollFd::from_borrowed_fd(channel, PollFlags::IN | unsent),
        PollFd::new(&sources.wake_ups.0, PollFlags::IN),
        PollFd::from_borrowed_fd(output.unwrap_or(channel), PollFlags::IN),
        PollFd::from_borrowed_fd(ended.unwrap_or(channel), PollFlags::IN),
    ];
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let [channel, woken, printed, exited] = polled.each_ref().map(PollFd::revents);
    Ok(WorkerEvents {
        readable: channel.intersects(!PollFlags::OUT),
        writable: channel.contains(PollFlags::OUT),
        woken: !woken.is_empty(),
        printed: output.is_some() && !printed.is_empty(),
        ended: ended.is_some() && !exited.is_empty(),
    })
}

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// Apple's has no such flag; Rust programs ignore SIGPIPE.
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();
