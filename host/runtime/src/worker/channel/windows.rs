//! A worker's connection on Windows: overlapped named pipes and an event, waited for with `WaitForMultipleObjects`.
#![expect(
    unsafe_code,
    reason = "no safe crate has overlapped pipes that a thread without a runtime can wait for"
)]

use std::{
    io,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    ptr,
    sync::Arc,
    time::Duration,
};

use windows_sys::Win32::{
    Foundation::{GENERIC_READ, GENERIC_WRITE, WAIT_FAILED, WAIT_OBJECT_0, WAIT_TIMEOUT},
    Storage::FileSystem::{FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX, PIPE_ACCESS_INBOUND},
    System::Threading::{CreateEventW, INFINITE, ResetEvent, SetEvent, WaitForMultipleObjects},
};

use self::pipe::{OverlappedPipe, named_pipe};
use super::{EventSources, ReadOutcome, WorkerEvents};
use crate::worker::process::WorkerProcess;

mod pipe;

/// The worker's end of its channel, which becomes its standard input.
pub(in super::super) type WorkerEnd = OwnedHandle;
/// The worker's end of its output pipe.
pub(in super::super) type OutputEnd = OwnedHandle;

/// One end of the connection between the host and a worker.
pub(in super::super) struct WorkerChannel(OverlappedPipe);

impl WorkerChannel {
    /// Creates a connection: the host's end, and the worker's.
    pub(in super::super) fn pair() -> io::Result<(Self, WorkerEnd)> {
        let both_ways = GENERIC_READ | GENERIC_WRITE;
        let (ours, theirs) = named_pipe(PIPE_ACCESS_DUPLEX, both_ways, FILE_FLAG_OVERLAPPED)?;
        Ok((Self(OverlappedPipe::new(ours)?), theirs))
    }

    /// Takes over the worker's end.
    pub(in super::super) fn of_worker(end: WorkerEnd) -> io::Result<Self> {
        Ok(Self(OverlappedPipe::new(end)?))
    }

    /// Sends what fits now, without waiting.
    pub(in super::super) fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_now(bytes)
    }

    /// Sends everything, blocking until it is accepted.
    pub(in super::super) fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write_now(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&[self.0.writable()], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        // A process that ends takes a write in flight with it.
        wait_for(&[self.0.writable()], None).map(drop)
    }

    /// Receives the available data, without waiting.
    pub(in super::super) fn receive_now(&self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        match self.0.read_now(buffer) {
            Ok(0) => Ok(ReadOutcome::End),
            Ok(bytes) => Ok(ReadOutcome::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadOutcome::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Waits for data or the end of the stream; returns `false` if neither came within `patience`.
    pub(in super::super) fn wait(&self, patience: Option<Duration>) -> io::Result<bool> {
        Ok(wait_for(&[self.0.readable()], patience)?.is_some())
    }
}

/// Wakes the thread that waits for a worker.
pub(in super::super) struct SupervisorWaker(Arc<OwnedHandle>);

/// The wake-ups of a [`SupervisorWaker`].
pub(in super::super) struct WakeUps(Arc<OwnedHandle>);

impl SupervisorWaker {
    pub(in super::super) fn pair() -> io::Result<(Self, WakeUps)> {
        let event = Arc::new(new_event(false)?);
        Ok((Self(Arc::clone(&event)), WakeUps(event)))
    }

    pub(in super::super) fn wake(&self) {
        // SAFETY: the handle is an open event's.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }
}

impl WakeUps {
    /// Takes the wake-ups so far.
    pub(in super::super) fn clear(&self) {
        // SAFETY: the handle is an open event's.
        unsafe { ResetEvent(self.0.as_raw_handle()) };
    }
}

/// The host's end of the pipe from a worker's standard output and error.
pub(in super::super) struct OutputPipe(OverlappedPipe);

impl OutputPipe {
    pub(in super::super) fn pair() -> io::Result<(Self, OutputEnd)> {
        // The worker's end is not overlapped: its C runtime writes to it like to any other file.
        let (ours, theirs) = named_pipe(PIPE_ACCESS_INBOUND, GENERIC_WRITE, 0)?;
        Ok((Self(OverlappedPipe::new(ours)?), theirs))
    }

    /// Reads the available output, without waiting.
    pub(in super::super) fn read_now(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_now(buffer)
    }
}

/// Waits for the events of a worker.
pub(in super::super) fn wait(sources: &EventSources<'_>) -> io::Result<WorkerEvents> {
    let readable = sources.channel.0.readable();
    let woken = sources.wake_ups.0.as_raw_handle();
    let writable = sources.unsent.then(|| sources.channel.0.writable());
    let printed = sources.output.map(|output| output.0.readable());
    let ended = sources.process.map(WorkerProcess::ended);
    let mut handles = vec![readable, woken];
    handles.extend([writable, printed, ended].into_iter().flatten());
    wait_for(&handles, sources.timeout)?;
    Ok(WorkerEvents {
        readable: is_signalled(readable),
        writable: writable.is_some_and(is_signalled),
        woken: is_signalled(woken),
        printed: printed.is_some_and(is_signalled),
        ended: ended.is_some_and(is_signalled),
    })
}

/// Waits for one of the handles; returns the first that is signalled, or `None` after `timeout`.
pub(in super::super) fn wait_for(
    handles: &[RawHandle],
    timeout: Option<Duration>,
) -> io::Result<Option<usize>> {
    // Rounded up, so that a wait that ends early does not repeat at once.
    let milliseconds = timeout.map_or(INFINITE, |timeout| {
        let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
        u32::try_from(milliseconds).unwrap_or(INFINITE - 1)
    });
    let count = u32::try_from(handles.len()).expect("a worker has five event sources");
    // SAFETY: the handles are open as long as their owners, which the caller borrows.
    match unsafe { WaitForMultipleObjects(count, handles.as_ptr(), 0, milliseconds) } {
        WAIT_FAILED => Err(io::Error::last_os_error()),
        WAIT_TIMEOUT => Ok(None),
        which => Ok(Some((which - WAIT_OBJECT_0) as usize)),
    }
}

/// Returns `true` if a handle is signalled, without waiting.
pub(in super::super) fn is_signalled(handle: RawHandle) -> bool {
    wait_for(&[handle], Some(Duration::ZERO)).is_ok_and(|which| which.is_some())
}

/// Creates an event that stays set until it is reset.
fn new_event(set: bool) -> io::Result<OwnedHandle> {
    // SAFETY: no name and default security; the returned handle has no other owner.
    unsafe {
        let event = CreateEventW(ptr::null(), 1, set.into(), ptr::null());
        if event.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedHandle::from_raw_handle(event))
    }
}

/// Turns the result of a system call that returns 0 on failure into a `Result`.
pub(in super::super) fn check(succeeded: i32) -> io::Result<()> {
    match succeeded {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
