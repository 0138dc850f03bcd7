//! Detects when a name opened to a worker leads to another file.

use std::path::{Path, PathBuf};

use super::SandboxPolicy;

/// The files that a policy opened by name, as they were at that time.
///
/// A worker keeps the files it was given: when `/etc/resolv.conf` or a declared file is replaced, the new one is closed
/// to it. The host keeps an `NamedFileSnapshot` for each worker, checks it periodically, and starts a new generation on a
/// change.
#[derive(Debug)]
pub struct NamedFileSnapshot(Vec<(PathBuf, Option<Identity>)>);

/// Device and inode.
type Identity = (u64, u64);

impl NamedFileSnapshot {
    /// Records the files of a worker under `policy` that is about to start.
    #[must_use]
    pub fn of(policy: &SandboxPolicy) -> Self {
        #[cfg(target_os = "linux")]
        let names = super::files::names(policy);
        // Without landlock nothing is opened by name.
        #[cfg(not(target_os = "linux"))]
        let names = {
            let _ = policy;
            std::iter::empty::<&Path>()
        };
        Self(
            names
                .map(|path| (path.to_owned(), identity(path)))
                .collect(),
        )
    }

    /// Returns a name that leads to another file now, or to a file where none existed before.
    ///
    /// A missing file is no reason to restart: it is often missing only while it is being replaced.
    #[must_use]
    pub fn changed(&self) -> Option<&Path> {
        let changed = self.0.iter().find(|(path, before)| {
            let now = identity(path);
            now.is_some() && now != *before
        });
        changed.map(|(path, _)| path.as_path())
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    // A path on a mount that is down must not keep the host from supervising its workers.
    let metadata = conductor_library::file_reader::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Path) -> Option<Identity> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;
    use crate::PluginCapabilities;

    #[test]
    fn a_file_that_was_replaced_is_named_and_one_that_was_rewritten_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (file, missing) = (dir.path().join("ca.pem"), dir.path().join("later"));
        fs::write(&file, "one").unwrap();
        let policy = SandboxPolicy {
            capabilities: PluginCapabilities {
                read: vec![file.clone(), missing.clone()],
                ..PluginCapabilities::default()
            },
            ..SandboxPolicy::default()
        };
        let openings = NamedFileSnapshot::of(&policy);
        assert_eq!(openings.changed(), None);
        fs::write(&file, "two").unwrap();
        assert_eq!(openings.changed(), None, "the same file");

        fs::rename(&file, dir.path().join("old")).unwrap();
        assert_eq!(openings.changed(), None, "it may be about to come back");
        fs::write(&file, "three").unwrap();
        assert_eq!(openings.changed(), Some(file.as_path()));
        fs::rename(dir.path().join("old"), &file).unwrap();
        assert_eq!(openings.changed(), None);
        fs::write(&missing, "").unwrap();
        assert_eq!(openings.changed(), Some(missing.as_path()));
    }
}
