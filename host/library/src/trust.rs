//! Checks that only the operator can have written a file, and reads it once.
//!
//! All checks use the opened file, never its path again: the checked file is the one that is read.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::Path,
};

#[cfg(unix)]
pub(super) use unix::{TrustedUser, distrust, folders, owner, permissions};
#[cfg(windows)]
pub(super) use windows::{TrustedUser, folders, owner, permissions};

use super::{
    cures,
    refusal::{RuleViolation, printable_path},
};
use crate::file_reader::{self, ReadError};

#[cfg(any(windows, test))]
pub(super) mod access_list;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// An opened regular file.
#[derive(Debug)]
pub(super) struct OpenedFile {
    pub(super) file: File,
    pub(super) metadata: Metadata,
}

impl OpenedFile {
    /// Opens a regular file, following links; anything else is not even opened.
    pub(super) fn new(path: &Path) -> Result<Self, RuleViolation> {
        let opened = file_reader::open(path);
        let (file, metadata) = opened.map_err(|error| unopened(path, error))?;
        Ok(Self { file, metadata })
    }

    /// Reads the whole file.
    pub(super) fn read(&self) -> Result<Vec<u8>, RuleViolation> {
        let size = self.metadata.len();
        if size > MAX_SIZE {
            return Err(RuleViolation::new(
                format!("it has {size} bytes, more than {MAX_SIZE} (256 MiB) are not read"),
                if cfg!(unix) {
                    "strip it (strip --strip-unneeded), or build it without debug information"
                } else {
                    "build it without debug information"
                },
            ));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        (&self.file)
            .take(MAX_SIZE)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(&error))?;
        Ok(bytes)
    }
}

fn unopened(path: &Path, error: ReadError) -> RuleViolation {
    match error {
        ReadError::Io(error) => unreachable_file(path, &error),
        ReadError::NotAFile(_) => RuleViolation::new(
            error.to_string(),
            "put the library itself there, or take this out of the plugin folder",
        ),
        other => unread(&other),
    }
}

/// Returns the problem of a library whose folder does not respond.
pub(super) fn unread(error: &ReadError) -> RuleViolation {
    RuleViolation::new(
        format!("it cannot be read: {error}"),
        "copy the library again",
    )
}

fn unreachable_file(path: &Path, error: &io::Error) -> RuleViolation {
    match (error.kind(), fs::read_link(path)) {
        (io::ErrorKind::PermissionDenied, _) => {
            RuleViolation::new("the host's user may not read it", cures::let_read(path))
        }
        (_, Ok(target)) => RuleViolation::new(
            format!(
                "it is a link to {}, which leads nowhere ({error})",
                printable_path(&target)
            ),
            "let the link point to a library, or remove it",
        ),
        (io::ErrorKind::NotFound, Err(_)) => {
            RuleViolation::new("there is no such file", "check its name and folder")
        }
        _ => unreadable(error),
    }
}

fn unreadable(error: &io::Error) -> RuleViolation {
    RuleViolation::new(
        format!("it cannot be read: {error}"),
        "copy the library again",
    )
}

fn replaced() -> RuleViolation {
    RuleViolation::new(
        "it was replaced while it was looked at",
        "let whatever writes there finish, then try again",
    )
}

/// Linux's own limit of links on a path.
const MAX_LINKS: u32 = 40;
/// Libraries with full debug information are well below this.
const MAX_SIZE: u64 = 256 << 20;
