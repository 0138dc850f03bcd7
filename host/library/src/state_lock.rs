//! Allows one host per state folder: two on the same would check and count every platform twice.
//!
//! The lock is on the folder itself rather than on a file in it: cleaners of temporary folders remove old files, and
//! systemd-tmpfiles skips a locked folder. Commands that read the folder of a running host take no lock.

#[cfg(unix)]
use std::fs;
use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{FolderLock, refusal::printable_path, store::make_private_folder};

/// The lock of this process on its state folder; released when dropped.
#[derive(Debug)]
pub struct StateLock {
    _lock: Option<FolderLock>,
}

/// The reason why a host cannot use its state folder.
#[derive(Debug, Error)]
pub enum StateLockError {
    /// Another host uses it.
    #[error(
        "another host{} already uses the state folder {}: stop it, or give this one a folder of its own with host.state_dir in its config",
        .pid.map_or_else(String::new, |pid| format!(" (process {pid})")),
        printable_path(.folder)
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// The other host, if it runs on this machine and is visible to this process.
        pid: Option<u32>,
    },
    /// The folder cannot be created or opened.
    #[error("the state folder {} cannot be used: {source}; set host.state_dir to a folder that the host's user may write to", printable_path(.folder))]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl StateLock {
    /// Locks the state folder `base`, creating it if necessary.
    ///
    /// On filesystems without locks the folder is used without one.
    ///
    /// # Errors
    /// When another process has the lock, or the folder cannot be created or opened.
    pub fn acquire(base: &Path) -> Result<Self, StateLockError> {
        let unusable = |source| StateLockError::Unusable {
            folder: base.to_owned(),
            source,
        };
        make_private_folder(base).map_err(unusable)?;
        lock(base)
    }
}

fn lock(base: &Path) -> Result<StateLock, StateLockError> {
    match FolderLock::try_acquire(base) {
        Ok(Some(lock)) => Ok(StateLock { _lock: Some(lock) }),
        Ok(None) => Err(StateLockError::Taken {
            folder: base.to_owned(),
            pid: holder(base),
        }),
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(StateLockError::Unusable {
                folder: base.to_owned(),
                source,
            })
        }
        Err(error) => {
            tracing::warn!(
                "cannot lock {} ({error}): make sure that no other host uses it",
                printable_path(base)
            );
            Ok(StateLock { _lock: None })
        }
    }
}

/// Returns the process that has locked the folder, according to the kernel's list of locks.
#[cfg(unix)]
fn holder(folder: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = fs::metadata(folder).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, inode)
}

#[cfg(not(unix))]
fn holder(_: &Path) -> Option<u32> {
    None
}

/// Parses `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`: the holder is 1234, the inode 5678.
#[cfg(unix)]
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields.as_slice() else {
            return None;
        };
        let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
        // Processes in other PID namespaces are 0 or negative.
        is_it.then(|| pid.parse().ok().filter(|pid| *pid > 0))?
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_has_one_host_and_its_process_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("state");
        let first = StateLock::acquire(&base).unwrap();
        let said = StateLock::acquire(&base).unwrap_err().to_string();
        let own = format!("another host (process {})", std::process::id());
        assert!(
            said.contains(&own) || said.contains("another host already"),
            "{said}"
        );
        assert!(said.contains("state_dir"), "{said}");
        drop(first);
        StateLock::acquire(&base).unwrap();
    }

    #[test]
    fn the_holder_is_found_in_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 00:2f:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 00:2f:77 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 13 00:2f:77 0 EOF\n3: FLOCK  ADVISORY  WRITE 0 00:2f:78 0 EOF\n";
        assert_eq!(holder_in(locks, 77), Some(12));
        assert_eq!(holder_in(locks, 78), None);
        assert_eq!(holder_in("", 77), None);
    }
}
