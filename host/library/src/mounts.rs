//! Detects when a filesystem mounted on a plugin folder is gone.
//!
//! The folder below a mount exists and is empty: files on the mount would appear removed, but are not.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use super::{FileRefusal, VettingRule, refusal::RuleViolation};
#[cfg(unix)]
use crate::file_reader;

/// The filesystems of the plugin folders when they were last listed.
#[derive(Clone, Debug, Default)]
pub(super) struct FolderMounts(HashMap<PathBuf, u64>);

impl FolderMounts {
    /// Returns those of `folders` that have lost their mount, given the `files` that were found.
    pub(super) fn lost(&mut self, folders: &[PathBuf], files: &[PathBuf]) -> Vec<FileRefusal> {
        self.0.retain(|folder, _| folders.contains(folder));
        let lost = folders.iter().filter(|folder| {
            let is_empty = !files.iter().any(|file| file.parent() == Some(folder));
            device(folder).is_some_and(|device| self.is_lost(folder, device, is_empty))
        });
        let refusal = |folder: &PathBuf| {
            let problem = RuleViolation::new(
                "it is empty and on another file system than before, as when a mount is gone",
                "mount it again, or put the libraries there",
            );
            FileRefusal::new(folder, VettingRule::Folder, problem)
        };
        lost.map(refusal).collect()
    }

    fn is_lost(&mut self, folder: &Path, device: u64, is_empty: bool) -> bool {
        match self.0.get(folder) {
            Some(known) if *known != device && is_empty => true,
            _ => {
                self.0.insert(folder.to_owned(), device);
                false
            }
        }
    }
}

#[cfg(unix)]
fn device(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = file_reader::metadata(folder).ok()?;
    metadata.is_dir().then(|| metadata.dev())
}

/// Elsewhere a missing drive takes its folders with it.
#[cfg(not(unix))]
fn device(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_on_another_file_system_has_lost_its_mount_until_something_is_there() {
        let mut mounts = FolderMounts::default();
        let folder = Path::new("/p");
        let (disk, mount, another) = (1, 2, 3);
        for (device, is_empty, lost) in [
            (mount, false, false),
            (mount, true, false), // emptied by the operator
            (mount, false, false),
            (disk, true, true),
            (disk, true, true),
            (another, false, false), // mounted again
            (disk, true, true),
            (disk, false, false), // moved to the disk for good
            (disk, true, false),
        ] {
            let found = mounts.is_lost(folder, device, is_empty);
            assert_eq!(found, lost, "{device} {is_empty}");
        }
    }

    #[test]
    fn a_folder_that_was_never_full_is_no_lost_mount() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        let mut mounts = FolderMounts::default();
        for _ in 0..2 {
            assert!(mounts.lost(&folders, &[]).is_empty());
        }
    }
}
