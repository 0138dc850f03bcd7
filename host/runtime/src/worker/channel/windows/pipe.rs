//! One end of a named pipe, with at most one read and one write in flight.
//!
//! Overlapped operations need memory that stays in place until they complete: each pipe owns one buffer per direction,
//! and waits for cancelled operations before it frees them.

use std::{
    io,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, RawHandle},
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use windows_sys::Win32::{
    Foundation::{
        ERROR_BROKEN_PIPE, ERROR_IO_INCOMPLETE, ERROR_IO_PENDING, ERROR_PIPE_NOT_CONNECTED,
        GetLastError, INVALID_HANDLE_VALUE,
    },
    Storage::FileSystem::{
        CreateFileW, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, OPEN_EXISTING, ReadFile,
        WriteFile,
    },
    System::{
        IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED},
        Pipes::{CreateNamedPipeW, PIPE_REJECT_REMOTE_CLIENTS, PIPE_TYPE_BYTE},
        Threading::SetEvent,
    },
};

use super::new_event;

/// One end of a pipe.
pub(super) struct OverlappedPipe {
    handle: OwnedHandle,
    /// Set while data, the end or an error can be taken.
    read: OwnedHandle,
    /// Set while no write is in flight.
    written: OwnedHandle,
    reading: Mutex<PendingRead>,
    writing: Mutex<PendingWrite>,
}

/// The kernel writes to `overlapped` and `buffer` while a read is in flight, so both are boxed.
struct PendingRead {
    overlapped: Box<OVERLAPPED>,
    buffer: Box<[u8]>,
    state: ReadState,
}

#[derive(Clone, Copy)]
enum ReadState {
    Idle,
    InFlight,
    /// These bytes of the buffer have not been taken.
    Complete {
        from: usize,
        to: usize,
    },
    /// It failed with this error code, and so will all others.
    Failed(u32),
}

struct PendingWrite {
    overlapped: Box<OVERLAPPED>,
    buffer: Vec<u8>,
    in_flight: bool,
}

// SAFETY: the raw pointers in an `OVERLAPPED` are the kernel's and a handle; each is accessed with its lock held.
unsafe impl Send for OverlappedPipe {}
// SAFETY: as above.
unsafe impl Sync for OverlappedPipe {}

impl OverlappedPipe {
    /// Takes over an end that was opened for overlapped operations.
    pub(super) fn new(handle: OwnedHandle) -> io::Result<Self> {
        let (read, written) = (new_event(false)?, new_event(true)?);
        let overlapped = |event: &OwnedHandle| {
            Box::new(OVERLAPPED {
                hEvent: event.as_raw_handle(),
                ..Default::default()
            })
        };
        Ok(Self {
            reading: Mutex::new(PendingRead {
                overlapped: overlapped(&read),
                buffer: vec![0; AT_A_TIME].into(),
                state: ReadState::Idle,
            }),
            writing: Mutex::new(PendingWrite {
                overlapped: overlapped(&written),
                buffer: Vec::new(),
                in_flight: false,
            }),
            handle,
            read,
            written,
        })
    }

    /// Begins to read, and returns the event that is set once there is something to take.
    pub(super) fn readable(&self) -> RawHandle {
        self.begin_read(&mut lock(&self.reading));
        self.read.as_raw_handle()
    }

    /// Returns the event that is set while no write is in flight.
    pub(super) fn writable(&self) -> RawHandle {
        self.written.as_raw_handle()
    }

    fn begin_read(&self, reading: &mut PendingRead) {
        if !matches!(reading.state, ReadState::Idle) {
            return;
        }
        let size = u32::try_from(reading.buffer.len()).expect("the buffer has 64 KiB");
        // SAFETY: buffer and `OVERLAPPED` stay in place until the read completes, see `Drop`.
        let done = unsafe {
            ReadFile(
                self.handle.as_raw_handle(),
                reading.buffer.as_mut_ptr(),
                size,
                ptr::null_mut(),
                &raw mut *reading.overlapped,
            )
        };
        reading.state = match error_of(done) {
            0 | ERROR_IO_PENDING => ReadState::InFlight,
            error => {
                // SAFETY: the handle is an open event's.
                unsafe { SetEvent(self.read.as_raw_handle()) };
                ReadState::Failed(error)
            }
        };
    }

    /// Takes received bytes: none at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there are none yet.
    pub(super) fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut reading = lock(&self.reading);
        self.begin_read(&mut reading);
        if let ReadState::InFlight = reading.state {
            let mut bytes = 0;
            // SAFETY: the read that was begun with this `OVERLAPPED` is in flight.
            let done = unsafe {
                let overlapped = &raw const *reading.overlapped;
                GetOverlappedResult(self.handle.as_raw_handle(), overlapped, &raw mut bytes, 0)
            };
            reading.state = match error_of(done) {
                0 => ReadState::Complete {
                    from: 0,
                    to: bytes as usize,
                },
                ERROR_IO_INCOMPLETE => return Err(io::ErrorKind::WouldBlock.into()),
                error => ReadState::Failed(error),
            };
        }
        match reading.state {
            ReadState::Complete { from, to } => {
                let taken = (to - from).min(into.len());
                into[..taken].copy_from_slice(&reading.buffer[from..from + taken]);
                if from + taken == to {
                    reading.state = ReadState::Idle;
                    // From here on the event is about the next read.
                    self.begin_read(&mut reading);
                } else {
                    let from = from + taken;
                    reading.state = ReadState::Complete { from, to };
                }
                match taken {
                    // The other side wrote nothing, which is not the end.
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(taken),
                }
            }
            ReadState::Failed(ERROR_BROKEN_PIPE | ERROR_PIPE_NOT_CONNECTED) => Ok(0),
            ReadState::Failed(error) => Err(io::Error::from_raw_os_error(error.cast_signed())),
            ReadState::Idle | ReadState::InFlight => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Begins to write, and returns the number of bytes accepted.
    ///
    /// # Errors
    /// `WouldBlock` while the last write is in flight.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut writing = lock(&self.writing);
        let handle = self.handle.as_raw_handle();
        if writing.in_flight {
            let mut sent = 0;
            // SAFETY: the write that was begun with this `OVERLAPPED` is in flight.
            let done = unsafe {
                let overlapped = &raw const *writing.overlapped;
                GetOverlappedResult(handle, overlapped, &raw mut sent, 0)
            };
            match error_of(done) {
                0 => writing.in_flight = false,
                ERROR_IO_INCOMPLETE => return Err(io::ErrorKind::WouldBlock.into()),
                error => return Err(io::Error::from_raw_os_error(error.cast_signed())),
            }
        }
        let accepted = bytes.len().min(AT_A_TIME);
        writing.buffer.clear();
        writing.buffer.extend_from_slice(&bytes[..accepted]);
        let size = u32::try_from(accepted).expect("at most 64 KiB");
        // SAFETY: buffer and `OVERLAPPED` stay in place until the write completes, see `Drop`.
        let done = unsafe {
            WriteFile(
                handle,
                writing.buffer.as_ptr(),
                size,
                ptr::null_mut(),
                &raw mut *writing.overlapped,
            )
        };
        match error_of(done) {
            0 | ERROR_IO_PENDING => {
                writing.in_flight = true;
                Ok(accepted)
            }
            error => Err(io::Error::from_raw_os_error(error.cast_signed())),
        }
    }
}

impl Drop for OverlappedPipe {
    fn drop(&mut self) {
        let handle = self.handle.as_raw_handle();
        let (reading, writing) = (lock(&self.reading), lock(&self.writing));
        let mut bytes = 0;
        // SAFETY: both operations are in flight with these `OVERLAPPED`s, which live until they are over.
        unsafe {
            CancelIoEx(handle, ptr::null());
            if matches!(reading.state, ReadState::InFlight) {
                GetOverlappedResult(handle, &raw const *reading.overlapped, &raw mut bytes, 1);
            }
            if writing.in_flight {
                GetOverlappedResult(handle, &raw const *writing.overlapped, &raw mut bytes, 1);
            }
        }
    }
}

/// Creates a pipe of one instance: the host's end, for overlapped operations, and the worker's.
///
/// Neither is inheritable: a worker gets its end by the list of handles it is started with.
pub(super) fn named_pipe(
    ours: u32,
    theirs: u32,
    their_flags: u32,
) -> io::Result<(OwnedHandle, OwnedHandle)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!(r"\\.\pipe\conductor-{}-{number}", std::process::id());
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // SAFETY: the name ends with 0; the returned handles have no other owner.
    unsafe {
        let server = CreateNamedPipeW(
            name.as_ptr(),
            ours | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
            PIPE_TYPE_BYTE | PIPE_REJECT_REMOTE_CLIENTS,
            1,
            BUFFER_SIZE,
            BUFFER_SIZE,
            0,
            ptr::null(),
        );
        let server = owned(server)?;
        let client = CreateFileW(
            name.as_ptr(),
            theirs,
            0,
            ptr::null(),
            OPEN_EXISTING,
            their_flags,
            ptr::null_mut(),
        );
        Ok((server, owned(client)?))
    }
}

/// Takes over a handle that a system call returned.
///
/// # Safety
/// It has no other owner.
unsafe fn owned(handle: RawHandle) -> io::Result<OwnedHandle> {
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Returns the error code of the last system call on this thread, 0 if it succeeded.
fn error_of(succeeded: i32) -> u32 {
    match succeeded {
        // SAFETY: reads a number of this thread.
        0 => unsafe { GetLastError() },
        _ => 0,
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Maximum bytes per read and per write.
const AT_A_TIME: usize = 64 << 10;
/// The kernel's buffer in each direction, in bytes.
const BUFFER_SIZE: u32 = 64 << 10;
