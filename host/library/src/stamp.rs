//! Distinguishes a file from its predecessor at the same path, without reading it.

use std::{
    fs::Metadata,
    path::Path,
    time::{Duration, SystemTime},
};

use super::signatures::signature_file;
use crate::file_reader;

/// A library's file and its signature's, as described by the filesystem.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct LibraryStamp {
    library: FileStamp,
    signature: FileStamp,
}

/// Empty if the file does not exist or is not accessible.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct FileStamp {
    size: u64,
    modified: Option<SystemTime>,
    /// Time of change, device and inode, if available.
    identity: (i64, i64, u64, u64),
}

impl LibraryStamp {
    /// Reads the stamp of the current target of `library`.
    pub(super) fn of(library: &Path) -> Self {
        Self {
            library: FileStamp::of(library),
            signature: FileStamp::of(&signature_file(library)),
        }
    }

    /// Returns `true` if it was written shortly before the wall clock showed `now`, so that it may still be being
    /// written.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        [self.library, self.signature].iter().any(|file| {
            let age = file.modified.map(|modified| now.duration_since(modified));
            // A little ahead is a file server's clock, far ahead an archive from the future.
            age.is_some_and(|age| age.unwrap_or_else(|ahead| ahead.duration()) < FRESH)
        })
    }

    #[cfg(test)]
    pub(super) fn made_up(size: u64) -> Self {
        let mut stamp = Self::default();
        stamp.library.size = size;
        stamp
    }
}

impl FileStamp {
    fn of(file: &Path) -> Self {
        file_reader::metadata(file).map_or_else(
            |_| Self::default(),
            |metadata| Self {
                size: metadata.len(),
                modified: metadata.modified().ok(),
                identity: identity(&metadata),
            },
        )
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (i64, i64, u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (
        metadata.ctime(),
        metadata.ctime_nsec(),
        metadata.dev(),
        metadata.ino(),
    )
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> (i64, i64, u64, u64) {
    (0, 0, 0, 0)
}

/// Longer than the coarsest timestamp of a filesystem, FAT's two seconds.
const FRESH: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_written_a_moment_ago_is_fresh_whichever_way_the_clocks_differ() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut stamp = LibraryStamp::default();
        assert!(!stamp.is_fresh(at(0)), "there is nothing");
        stamp.library.modified = Some(at(1000));
        for (now, fresh) in [(1001, true), (999, true), (1004, false), (996, false)] {
            assert_eq!(stamp.is_fresh(at(now)), fresh, "{now}");
        }
    }

    #[test]
    fn a_file_its_successor_and_its_signature_have_different_stamps() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.so");
        let mut seen = vec![LibraryStamp::of(&file)];
        fs::write(&file, "one").unwrap();
        seen.push(LibraryStamp::of(&file));
        fs::write(&file, "longer").unwrap();
        seen.push(LibraryStamp::of(&file));
        fs::write(signature_file(&file), "by me").unwrap();
        seen.push(LibraryStamp::of(&file));
        for (at, stamp) in seen.iter().enumerate() {
            assert_eq!(
                seen.iter().filter(|other| *other == stamp).count(),
                1,
                "{at}"
            );
        }
        assert_eq!(LibraryStamp::of(&file), seen[3]);
    }
}
