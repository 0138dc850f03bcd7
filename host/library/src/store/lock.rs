//! An exclusive lock on a folder, which shows other processes that its owner is alive.
//!
//! On Unix the lock is `flock` on the folder's own descriptor: it needs no file, so a cleaner of temporary folders
//! cannot remove it, and systemd-tmpfiles skips a locked folder and everything below it. The kernel releases it when
//! the process ends, in any way.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// The lock; released when dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    folder: PathBuf,
}

impl FolderLock {
    /// Locks an existing folder; `None` if another process, or another lock of this one, holds it.
    ///
    /// # Errors
    /// When the folder cannot be opened, or its filesystem has no locks.
    pub fn try_acquire(folder: &Path) -> io::Result<Option<Self>> {
        loop {
            let lock = Self::open(folder)?;
            match lock.file.try_lock() {
                Ok(()) if lock.is_in_place() => return Ok(Some(lock)),
                // The folder was replaced between opening and locking.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Locks an existing folder, waiting for its current holder.
    ///
    /// # Errors
    /// When the folder cannot be opened, or its filesystem has no locks.
    pub fn acquire(folder: &Path) -> io::Result<Self> {
        loop {
            let lock = Self::open(folder)?;
            lock.file.lock()?;
            if lock.is_in_place() {
                return Ok(lock);
            }
        }
    }

    /// Returns `true` if the locked folder is still the one at its path; `false` once it was removed or replaced.
    pub fn is_in_place(&self) -> bool {
        is_same(&self.file, &self.folder)
    }

    fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open(folder)?,
            folder: folder.to_owned(),
        })
    }
}

#[cfg(unix)]
fn open(folder: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?.into())
}

#[cfg(unix)]
fn is_same(locked: &File, folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (locked.metadata(), std::fs::metadata(folder)) {
        (Ok(locked), Ok(there)) => (locked.dev(), locked.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Opens a file to lock in place of the folder, which cannot be locked here; its holder keeps it open, so it cannot be
/// removed.
#[cfg(not(unix))]
fn open(folder: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(".lock"))
}

#[cfg(not(unix))]
fn is_same(_: &File, folder: &Path) -> bool {
    folder.is_dir()
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_locked_once_until_the_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::try_acquire(folder.path()).unwrap().unwrap();
        assert!(FolderLock::try_acquire(folder.path()).unwrap().is_none());
        drop(held);
        FolderLock::try_acquire(folder.path()).unwrap().unwrap();
        FolderLock::acquire(folder.path()).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn the_lock_leaves_no_file_that_a_cleaner_could_remove() {
        let folder = tempfile::tempdir().unwrap();
        let _held = FolderLock::try_acquire(folder.path()).unwrap().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_was_removed_or_replaced_is_no_longer_the_locked_one() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        fs::create_dir(&folder).unwrap();
        let held = FolderLock::try_acquire(&folder).unwrap().unwrap();
        assert!(held.is_in_place());
        fs::remove_dir(&folder).unwrap();
        assert!(!held.is_in_place());
        fs::create_dir(&folder).unwrap();
        assert!(!held.is_in_place());
        assert!(FolderLock::try_acquire(&folder).unwrap().is_some());
    }

    #[test]
    fn a_folder_that_does_not_exist_cannot_be_locked() {
        let parent = tempfile::tempdir().unwrap();
        let error = FolderLock::try_acquire(&parent.path().join("none")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
