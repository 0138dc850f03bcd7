//! Detects when a name opened to a worker leads to another file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::SandboxPolicy;

/// The files that a policy opened by name, as they were at that time.
///
/// A worker keeps the files it was given: when `/etc/resolv.conf` or a declared file is replaced, the new one is closed
/// to it. The host keeps an `NamedFileSnapshot` for each worker, checks it periodically, and starts a new generation on a
/// change.
#[derive(Debug)]
pub struct NamedFileSnapshot(Arc<[(PathBuf, Option<Identity>)]>);

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
        let found = self.find_together().unwrap_or_else(|| {
            // One at a time, so that a path that does not respond hides no change of another.
            self.0
                .iter()
                .position(|(path, before)| is_another(identity(path), *before))
        });
        found.map(|nth| self.0[nth].0.as_path())
    }

    /// Returns the position of a changed name, found with a single hand-over to the thread that looks; `None` if a path
    /// does not respond.
    #[cfg(unix)]
    fn find_together(&self) -> Option<Option<usize>> {
        let names = Arc::clone(&self.0);
        let key = Path::new("files of a worker");
        let look = move || {
            let mut names = names.iter();
            names.position(|(path, before)| is_another(identity_now(path), *before))
        };
        conductor_library::file_reader::within(key, PATIENCE, look).ok()
    }

    #[cfg(not(unix))]
    fn find_together(&self) -> Option<Option<usize>> {
        Some(None)
    }
}

/// Returns `true` if a name leads to another file than before.
fn is_another(now: Option<Identity>, before: Option<Identity>) -> bool {
    now.is_some() && now != before
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use conductor_library::file_reader;

    // A path on a mount that is down must not keep the host from supervising its workers.
    let path = path.to_owned();
    file_reader::within(&path.clone(), file_reader::PATIENCE, move || {
        identity_now(&path)
    })
    .ok()?
}

#[cfg(unix)]
fn identity_now(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Maximum time for all names together; local files respond within microseconds.
#[cfg(unix)]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

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
