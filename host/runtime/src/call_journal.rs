//! The record of calls in progress: the in-process plugins that the host was calling when it died.
//!
//! A plugin in the host's own process can end it without a message. So each thread that calls one records the call in a
//! memory-mapped file, with a few plain stores: the kernel keeps them, however the process ends. The next host
//! [reads](CrashRecords) it. The result is only a list of suspects: a kill from outside leaves the same traces, and
//! memory corrupted by one plugin may crash the host in another.
//!
//! Of an asynchronous plugin's checks, only the beginning is a call by the host. Work that continues on the plugin's
//! own threads is not in the record, and a host that dies of it names no plugin: one more reason to run such a plugin
//! in a worker.
//!
//! | event | result for the next host |
//! |---|---|
//! | a plugin crashes the host, or exits | the plugins that were in a call |
//! | the host is killed | the same; none if it had been asked to end before |
//! | the machine loses power or restarts | none |
//! | a host exits normally | no record: the file is removed with its folder |
#![cfg_attr(
    target_os = "linux",
    expect(
        unsafe_code,
        reason = "mapping a file cannot be checked by the compiler: whoever else changes or cuts it is not in its sight"
    )
)]

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use conductor_library::LibraryHash;

mod crash_records;
mod layout;
mod machine;
#[cfg(test)]
mod tests;

pub use crash_records::{CrashRecords, CrashSuspect, suspects_in};
pub use layout::CallPhase;
use layout::{RawJournal, RawSlot, SLOTS};

/// Journal of the calls that this host has in progress.
pub struct CallJournal {
    shared: Arc<SharedJournal>,
}

impl fmt::Debug for CallJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallJournal").finish_non_exhaustive()
    }
}

impl CallJournal {
    /// Creates a record in the private folder of this run, where the next host looks for it.
    ///
    /// # Errors
    /// When there is no space for it, or on an OS without support; the host can run without one.
    pub fn create(run_folder: &Path) -> io::Result<Self> {
        let raw = map(&run_folder.join(FILE))?;
        raw.start(machine::now());
        let shared = SharedJournal {
            raw,
            free: Mutex::new(FreeSlots {
                fresh: 0,
                used: Vec::new(),
                full: false,
            }),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Reserves a slot for the calls of one thread into a plugin.
    ///
    /// If too many threads have one, the calls of this thread are not recorded.
    #[must_use]
    pub fn slot(&self, plugin: &str, sha256: &LibraryHash) -> JournalSlot {
        let Some(at) = self.shared.take() else {
            return JournalSlot::unrecorded();
        };
        self.shared.raw.slots[at].belongs_to(plugin, sha256);
        JournalSlot(Some(ClaimedSlot {
            raw: &self.shared.raw.slots[at],
            at,
            shared: Arc::clone(&self.shared),
        }))
    }

    /// From now on no plugin is blamed for the end of this host: it was asked to end, and may be killed by an impatient
    /// operator.
    pub fn leaving(&self) {
        self.shared.raw.leave();
    }
}

/// A slot in which one thread records its calls; free for another thread when dropped.
pub struct JournalSlot(Option<ClaimedSlot>);

impl JournalSlot {
    /// Returns a slot whose calls are not recorded, as in a worker.
    #[must_use]
    pub const fn unrecorded() -> Self {
        Self(None)
    }

    /// Records that the thread is about to call the plugin for this platform (an empty text for none); the call is over
    /// when the result is dropped.
    #[inline]
    #[must_use]
    pub fn enter(&mut self, platform: &str, phase: CallPhase) -> InCall<'_> {
        let raw = self.0.as_ref().map(|place| place.raw);
        if let Some(raw) = raw {
            raw.enter(platform, phase);
        }
        InCall(raw)
    }
}

/// A call in progress.
pub struct InCall<'slot>(Option<&'slot RawSlot>);

impl Drop for InCall<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(raw) = self.0 {
            raw.leave();
        }
    }
}

struct ClaimedSlot {
    raw: &'static RawSlot,
    at: usize,
    shared: Arc<SharedJournal>,
}

impl Drop for ClaimedSlot {
    fn drop(&mut self) {
        self.shared.give_back(self.at);
    }
}

struct SharedJournal {
    raw: &'static RawJournal,
    free: Mutex<FreeSlots>,
}

/// Unused slots; slots used before are handed out first, so that few pages are ever touched.
struct FreeSlots {
    fresh: usize,
    used: Vec<usize>,
    full: bool,
}

impl SharedJournal {
    fn take(&self) -> Option<usize> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = free.used.pop() {
            return Some(at);
        }
        if free.fresh == SLOTS {
            if !free.full {
                tracing::warn!(
                    "more than {SLOTS} threads are inside in-process plugins; the calls of further ones are not recorded"
                );
            }
            free.full = true;
            return None;
        }
        free.fresh += 1;
        Some(free.fresh - 1)
    }

    fn give_back(&self, at: usize) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.used.push(at);
    }
}

/// Creates the file with all its blocks allocated: a store into a hole faults when the disk is full.
#[cfg(target_os = "linux")]
fn map(path: &Path) -> io::Result<&'static RawJournal> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::{
        fs::{FallocateFlags, fallocate},
        mm::{MapFlags, ProtFlags, mmap},
    };
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let size = size_of::<RawJournal>();
    match fallocate(&file, FallocateFlags::empty(), 0, size as u64) {
        // Written zeros are allocated as well.
        Err(rustix::io::Errno::OPNOTSUPP) => io::Write::write_all(&mut &file, &vec![0; size])?,
        done => done?,
    }
    let (flags, protection) = (MapFlags::SHARED, ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: a new mapping, at an address chosen by the kernel, replaces no memory in use.
    let address = unsafe { mmap(std::ptr::null_mut(), size, protection, flags, &file, 0) }?;
    // SAFETY: the mapping is as large as a `RawJournal`, begins on a page, and is never undone, because a stuck call may store
    // into it at any time. Every bit pattern is a valid `RawJournal`, which is all atomics. The file is never truncated: it
    // was created above, in the host's private folder.
    Ok(unsafe { &*address.cast::<RawJournal>() })
}

#[cfg(not(target_os = "linux"))]
fn map(_: &Path) -> io::Result<&'static RawJournal> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "no record of calls is kept on this OS",
    ))
}

/// The record's name in the folder of its run; the store keeps the file of a dead run.
const FILE: &str = conductor_library::CALLS;
