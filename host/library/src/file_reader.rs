//! Reads files named by the operator, without ever blocking on them.
//!
//! A name in a config may lead to a pipe, a device, an endless file or a mount that no longer responds, at startup or
//! after a swap between two reloads. So each file is opened non-blocking, must be a regular file, and is read up to a
//! limit, all on a separate thread with a deadline: the caller gets an error in time, and the thread blocked in the
//! kernel is left behind.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use thiserror::Error;

/// Content of a file, with the metadata of the opened file.
#[derive(Debug)]
pub struct FileContent {
    /// All bytes of the file.
    pub bytes: Vec<u8>,
    metadata: Metadata,
}

/// The reason why a file was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The name leads to something other than a file.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// The file has more bytes than the limit.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// The filesystem did not respond in time.
    #[error(
        "no answer within {:.0} s: is it on a network mount that is down?", .0.as_secs_f64().max(1.0)
    )]
    TimedOut(Duration),
    /// An earlier read of the same file still waits for the filesystem.
    #[error(
        "an earlier read of it still waits for an answer: is it on a network mount that is down?"
    )]
    StillWaiting,
    /// The text is in another encoding.
    #[error("{0}: save it as UTF-8")]
    NotUtf8(&'static str),
    /// The operating system returned an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads a regular file of at most `limit` bytes, following links, within [`PATIENCE`].
///
/// # Errors
/// When the file is missing, not readable by this user, of another kind or larger, or does not respond in time.
pub fn read(path: &Path, limit: u64) -> Result<FileContent, ReadError> {
    let file = path.to_owned();
    within(path, PATIENCE, move || read_here(&file, limit))?
}

/// Reads a text like [`read`], without its byte order mark.
///
/// # Errors
/// As [`read`], and when the file is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String, ReadError> {
    read(path, limit)?.into_text()
}

/// Returns the metadata of the target of a name, following links.
///
/// # Errors
/// When it is missing, or does not respond within [`PATIENCE`].
pub fn metadata(path: &Path) -> Result<Metadata, ReadError> {
    let file = path.to_owned();
    Ok(within(path, PATIENCE, move || fs::metadata(file))??)
}

/// Calls `look`, which queries the filesystem about `path`, on a separate thread, and waits for at most `patience`.
///
/// While a call about the same path is blocked in the kernel, further ones fail immediately. While others are blocked,
/// the patience is shorter: a config with a hundred files on a dead mount does not wait a hundred times.
///
/// # Errors
/// [`ReadError::TimedOut`] or [`ReadError::StillWaiting`]; [`ReadError::Io`] when no thread can be started.
pub fn within<T: Send + 'static>(
    path: &Path,
    patience: Duration,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ReadError> {
    let others = {
        let held = held();
        if held.is_held(path) {
            return Err(ReadError::StillWaiting);
        }
        held.count()
    };
    let patience = patience / u32::try_from(others + 1).unwrap_or(u32::MAX);
    let (tell, told) = mpsc::channel();
    let state = Arc::new(AtomicU8::new(RUNNING));
    let end = BlockedCallEnd {
        state: Arc::clone(&state),
        path: path.to_owned(),
    };
    submit(Box::new(move || {
        // Dropped last, also if `look` panics.
        let _end = end;
        let _ = tell.send(look());
    }))?;
    match told.recv_timeout(patience) {
        Ok(found) => return Ok(found),
        Err(RecvTimeoutError::Disconnected) => {
            return Err(io::Error::other("internal error: reading it panicked").into());
        }
        Err(RecvTimeoutError::Timeout) => {}
    }
    // Recorded first: a call that ends from now on removes the record.
    held().hold(path);
    if state.swap(LEFT, Ordering::AcqRel) == ENDED {
        held().release(path);
        return told.recv().map_err(|_| ReadError::TimedOut(patience));
    }
    Err(ReadError::TimedOut(patience))
}

/// Removes the record of a blocked call when that call ends after its caller stopped waiting.
struct BlockedCallEnd {
    state: Arc<AtomicU8>,
    path: PathBuf,
}

impl Drop for BlockedCallEnd {
    fn drop(&mut self) {
        if self.state.swap(ENDED, Ordering::AcqRel) == LEFT {
            held().release(&self.path);
        }
    }
}

const RUNNING: u8 = 0;
const LEFT: u8 = 1;
const ENDED: u8 = 2;

impl FileContent {
    /// Returns the text of the file, without a byte order mark.
    pub fn into_text(self) -> Result<String, ReadError> {
        let bytes = self.bytes;
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(ReadError::NotUtf8("it is UTF-16"));
        }
        let text = String::from_utf8(bytes).map_err(|_| ReadError::NotUtf8("it is not UTF-8"))?;
        Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        })
    }

    /// Returns the reason why others than root and the host's user may have written the file that was read, if any.
    ///
    /// Only Unix tells; elsewhere the rights of the file's folder decide.
    #[must_use]
    pub fn distrust(&self) -> Option<String> {
        #[cfg(unix)]
        return crate::trust::distrust(&self.metadata);
        #[cfg(not(unix))]
        None
    }

    /// Like [`is_world_readable`], for the file that was read.
    pub fn is_world_readable(&self) -> bool {
        is_world_readable(&self.metadata)
    }
}

/// Returns `true` if a file's mode lets users other than owner and group read it.
pub fn is_world_readable(file: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.permissions().mode() & 0o004 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        false
    }
}

impl ReadError {
    /// Returns the kind of the operating system's error; [`io::ErrorKind::Other`] for other errors.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            Self::NotAFile(FOLDER) => io::ErrorKind::IsADirectory,
            _ => io::ErrorKind::Other,
        }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            other => Self::new(other.kind(), other),
        }
    }
}

/// Opens a regular file for reading, following links; never waits for the other end of a pipe.
///
/// # Errors
/// Like [`read`], except for the size.
pub fn open(path: &Path) -> Result<(File, Metadata), ReadError> {
    // Opening a pipe would be visible to its writer, and triggers some devices.
    regular(&fs::metadata(path)?)?;
    let mut waited = Duration::ZERO;
    let file = loop {
        match open_without_waiting(path) {
            // Another process holds a lease on the file, and is being asked to release it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if waited >= LEASE_PATIENCE {
                    return Err(ReadError::TimedOut(LEASE_PATIENCE));
                }
                thread::sleep(LEASE_POLL);
                waited += LEASE_POLL;
            }
            opened => break opened?,
        }
    };
    let metadata = file.metadata()?;
    // It may have been replaced in between.
    regular(&metadata)?;
    Ok((file, metadata))
}

fn read_here(path: &Path, limit: u64) -> Result<FileContent, ReadError> {
    let (file, metadata) = open(path)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(FileContent { bytes, metadata })
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn regular(metadata: &Metadata) -> Result<(), ReadError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    let other = {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            "a named pipe (FIFO)"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "a device"
        }
    };
    #[cfg(not(unix))]
    let other = "no regular file";
    Err(ReadError::NotAFile(if kind.is_dir() {
        FOLDER
    } else {
        other
    }))
}

/// Paths of calls blocked in the kernel, with the number of those calls.
struct BlockedPaths(BTreeMap<PathBuf, usize>);

impl BlockedPaths {
    fn is_held(&self, path: &Path) -> bool {
        self.0.contains_key(path) || self.count() >= MOST_HELD
    }

    fn count(&self) -> usize {
        self.0.values().sum()
    }

    fn hold(&mut self, path: &Path) {
        *self.0.entry(path.to_owned()).or_default() += 1;
    }

    fn release(&mut self, path: &Path) {
        if let Some(count) = self.0.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(path);
            }
        }
    }
}

fn held() -> MutexGuard<'static, BlockedPaths> {
    static HELD: Mutex<BlockedPaths> = Mutex::new(BlockedPaths(BTreeMap::new()));
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads without a job, newest last.
fn idle() -> MutexGuard<'static, Vec<Sender<Job>>> {
    static IDLE: Mutex<Vec<Sender<Job>>> = Mutex::new(Vec::new());
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_idle() -> Option<Sender<Job>> {
    idle().pop()
}

/// Hands a job to an idle thread, or starts one.
fn submit(mut job: Job) -> io::Result<()> {
    while let Some(reader) = take_idle() {
        match reader.send(job) {
            Ok(()) => return Ok(()),
            // It exited in the meantime.
            Err(mpsc::SendError(back)) => job = back,
        }
    }
    let (jobs, queue) = mpsc::channel::<Job>();
    thread::Builder::new()
        .name("file reader".to_owned())
        .spawn(move || {
            job();
            loop {
                {
                    let mut idle = idle();
                    if idle.len() >= MOST_IDLE {
                        return;
                    }
                    idle.push(jobs.clone());
                }
                match queue.recv_timeout(IDLE_TIME) {
                    Ok(job) => job(),
                    Err(_) => return,
                }
            }
        })?;
    Ok(())
}

/// The longest time that one file may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Less than [`PATIENCE`]: this wait ends by itself, and leaves no thread behind.
const LEASE_PATIENCE: Duration = Duration::from_secs(3);
const LEASE_POLL: Duration = Duration::from_millis(10);
/// Each costs a thread.
const MOST_HELD: usize = 256;
const MOST_IDLE: usize = 2;
/// A reload reads many files in a row; between two reloads no thread is needed.
const IDLE_TIME: Duration = Duration::from_secs(2);
const FOLDER: &str = "a folder";

#[cfg(test)]
#[cfg(unix)]
mod tests;
