//! The lifecycle of a private copy: it exists while it has holders, and is written again if it vanishes earlier.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    super::{Hash, refusal::Problem},
    run::RunFolder,
};

/// Keeps a private copy in place; the copy is removed with its last holder.
///
/// On Unix, the file of a loaded library may be removed. If an OS refuses that, it is removed with the run's folder.
pub(crate) struct Holder {
    holders: Holders,
    hash: Hash,
    path: PathBuf,
    /// The copy as last written or verified. Open, so that its content outlives its name.
    verified: Mutex<Option<VerifiedCopy>>,
}

/// The number of holders of each copy of a store.
#[derive(Clone, Debug)]
pub(super) struct Holders {
    run: Arc<RunFolder>,
    counts: Arc<Mutex<HashMap<Hash, usize>>>,
}

impl Holders {
    pub(super) fn new(run: Arc<RunFolder>) -> Self {
        Self {
            run,
            counts: Arc::default(),
        }
    }

    /// Writes the copy at `path`, unless it exists, and keeps it from being removed.
    pub(super) fn hold(&self, hash: Hash, path: &Path, bytes: &[u8]) -> Result<Holder, Problem> {
        *self.lock().entry(hash).or_default() += 1;
        let holder = Holder {
            holders: self.clone(),
            hash,
            path: path.to_owned(),
            verified: Mutex::default(),
        };
        self.run.restore()?;
        match VerifiedCopy::open(path, &hash) {
            Some(copy) => holder.replace(copy),
            None => holder.write(bytes)?,
        }
        Ok(holder)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Returns the copy's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Verifies that the copy exists, belongs to the host and has the vetted content; otherwise writes it again, from
    /// the open descriptor or from the file at `origin`. Returns `true` if that was necessary.
    pub(crate) fn verify_or_restore(&self, origin: &Path) -> Result<bool, Problem> {
        if self.is_untouched() {
            return Ok(false);
        }
        self.holders.run.restore()?;
        if let Some(copy) = VerifiedCopy::open(&self.path, &self.hash) {
            self.replace(copy);
            return Ok(false);
        }
        let is_vetted = |bytes: &Vec<u8>| Hash::of(bytes) == self.hash;
        let of_the_origin = || fs::read(origin).ok().filter(is_vetted);
        let bytes = self.still_open().filter(is_vetted).or_else(of_the_origin);
        let bytes = bytes.ok_or_else(|| {
            Problem::new(
                "its private copy was removed or changed, and the file itself is not the one that was vetted any more",
                "put the library there again",
            )
        })?;
        self.write(&bytes)?;
        Ok(true)
    }

    fn is_untouched(&self) -> bool {
        let verified = self.verified();
        verified.as_ref().is_some_and(|copy| copy.is_at(&self.path))
    }

    fn still_open(&self) -> Option<Vec<u8>> {
        self.verified().as_ref()?.read().ok()
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Problem> {
        let run = &self.holders.run;
        write_copy(run.path(), &self.path, bytes).map_err(|error| run.cannot_write(&error))?;
        let copy = VerifiedCopy::open(&self.path, &self.hash).ok_or_else(|| {
            run.cannot_write(&io::Error::other("what was written reads differently"))
        })?;
        self.replace(copy);
        Ok(())
    }

    fn replace(&self, copy: VerifiedCopy) {
        *self.verified() = Some(copy);
    }

    fn verified(&self) -> MutexGuard<'_, Option<VerifiedCopy>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Closed first: some OSes cannot remove an open file.
        *self.verified() = None;
        let mut counts = self.holders.lock();
        let left = counts.get_mut(&self.hash).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left > 0 {
            return;
        }
        counts.remove(&self.hash);
        // Under the lock, so that it is not another holder's new copy.
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::debug!(file = %self.path.display(), %error, "cannot remove a private copy yet");
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Holder").field(&self.path).finish()
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Holder {}

#[cfg(any(test, feature = "testing"))]
impl Holder {
    /// Returns the holder of a copy that does not exist.
    pub(crate) fn made_up() -> Self {
        Self {
            holders: Holders::new(Arc::new(RunFolder::over())),
            hash: Hash([0; 32]),
            path: PathBuf::from("/nowhere/x.so"),
            verified: Mutex::default(),
        }
    }
}

/// A copy whose content, owner and mode were verified.
#[derive(Debug)]
struct VerifiedCopy {
    file: File,
    stamp: Stamp,
}

impl VerifiedCopy {
    /// Opens the copy at `path`, if it is a regular file of the host's user, readable only by that user and writable by
    /// none, and has the right content.
    fn open(path: &Path, hash: &Hash) -> Option<Self> {
        let file = open(path).ok()?;
        let metadata = file.metadata().ok()?;
        if !is_private(&metadata) {
            return None;
        }
        let copy = Self {
            file,
            stamp: stamp(&metadata),
        };
        (Hash::of(&copy.read().ok()?) == *hash).then_some(copy)
    }

    /// Returns `true` if the file at `path` is this one, unchanged: every change of content, owner or mode changes the
    /// stamp.
    fn is_at(&self, path: &Path) -> bool {
        let there = fs::symlink_metadata(path);
        there.is_ok_and(|there| is_private(&there) && stamp(&there) == self.stamp)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).rewind()?;
        (&self.file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn is_private(file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = file.uid() == rustix::process::geteuid().as_raw();
    file.is_file() && own && file.mode() & 0o7777 == MODE
}

#[cfg(not(unix))]
fn is_private(file: &Metadata) -> bool {
    file.is_file()
}

/// Device, inode, size, and seconds and nanoseconds of the last change of content or attributes.
#[cfg(unix)]
type Stamp = (u64, u64, u64, i64, i64);

#[cfg(unix)]
fn stamp(file: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    (
        file.dev(),
        file.ino(),
        file.size(),
        file.ctime(),
        file.ctime_nsec(),
    )
}

#[cfg(not(unix))]
type Stamp = (u64, Option<std::time::SystemTime>);

#[cfg(not(unix))]
fn stamp(file: &Metadata) -> Stamp {
    (file.len(), file.modified().ok())
}

/// Written under another name first, so that a partial library is never visible.
fn write_copy(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut copy = tempfile::Builder::new()
        .prefix("new-")
        .tempfile_in(folder)?;
    copy.write_all(bytes)?;
    #[cfg(unix)]
    copy.as_file()
        .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(MODE))?;
    copy.as_file().sync_all()?;
    copy.persist(path)?;
    Ok(())
}

/// Readable and executable only by the host's user.
#[cfg(unix)]
const MODE: u32 = 0o500;

#[cfg(test)]
mod tests {
    use super::{
        super::{Store, tests::hash},
        *,
    };

    const LIBRARY: &[u8] = b"library";

    fn keep(store: &Store) -> Holder {
        store.keep(LIBRARY, &hash(LIBRARY)).unwrap()
    }

    fn listed(store: &Store) -> usize {
        fs::read_dir(store.folder()).unwrap().count()
    }

    #[test]
    fn a_copy_goes_with_the_last_that_holds_it_and_comes_back() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let (one, two) = (keep(&store), keep(&store));
        let path = one.path().to_owned();
        drop(one);
        assert!(path.exists());
        drop(two);
        assert!(!path.exists());
        assert_eq!(fs::read(keep(&store).path()).unwrap(), LIBRARY);
    }

    #[test]
    fn a_copy_that_comes_back_while_the_old_one_goes_is_whole() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        assert_eq!(fs::read(keep(&store).path()).unwrap(), LIBRARY);
                    }
                });
            }
        });
        assert_eq!(listed(&store), 0);
    }

    #[test]
    fn a_copy_that_cannot_be_written_leaves_nothing_and_is_no_hindrance_later() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let path = keep(&store).path().to_owned();
        fs::create_dir(&path).unwrap();
        assert!(store.keep(LIBRARY, &hash(LIBRARY)).is_err());
        fs::remove_dir(&path).unwrap();
        drop(keep(&store));
        assert_eq!(listed(&store), 0);
    }

    #[test]
    #[cfg(unix)]
    fn a_copy_that_was_removed_changed_or_opened_to_others_is_written_again() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let (copy, origin) = (keep(&store), base.path().join("origin.so"));
        let path = copy.path().to_owned();
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let damages: [(&str, &dyn Fn()); 6] = [
            ("removed", &|| fs::remove_file(&path).unwrap()),
            ("replaced", &|| {
                fs::remove_file(&path).unwrap();
                fs::write(&path, "librarx").unwrap();
                set_mode(MODE);
            }),
            ("writable by others", &|| set_mode(0o722)),
            ("a link", &|| {
                fs::remove_file(&path).unwrap();
                symlink("/bin/true", &path).unwrap();
            }),
            ("its folder removed", &|| {
                fs::remove_dir_all(store.folder()).unwrap();
            }),
            ("the state folder removed", &|| {
                fs::remove_dir_all(base.path().join("libraries")).unwrap();
            }),
        ];
        for (what, damage) in damages {
            assert!(!copy.verify_or_restore(&origin).unwrap(), "before: {what}");
            damage();
            assert!(copy.verify_or_restore(&origin).unwrap(), "{what}");
            assert_eq!(fs::read(&path).unwrap(), LIBRARY, "{what}");
            let mode = fs::symlink_metadata(&path).unwrap().mode();
            assert_eq!(mode & 0o7777, MODE, "{what}");
        }
        let another = Store::open(base.path()).unwrap();
        assert!(path.exists(), "the folder that was made again is locked");
        drop(another);
    }

    #[test]
    #[cfg(unix)]
    fn a_copy_changed_in_place_comes_from_the_original_or_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let (copy, origin) = (keep(&store), base.path().join("origin.so"));
        let spoil = || {
            fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(copy.path(), "spoilt!").unwrap();
            fs::set_permissions(copy.path(), fs::Permissions::from_mode(MODE)).unwrap();
        };
        spoil();
        let problem = copy.verify_or_restore(&origin).unwrap_err();
        assert_eq!(problem.cure, "put the library there again");
        fs::write(&origin, "another version").unwrap();
        assert!(copy.verify_or_restore(&origin).is_err());
        fs::write(&origin, LIBRARY).unwrap();
        assert!(copy.verify_or_restore(&origin).unwrap());
        assert_eq!(fs::read(copy.path()).unwrap(), LIBRARY);
    }

    #[test]
    fn nothing_is_copied_again_once_the_run_is_over() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let (copy, origin) = (keep(&store), base.path().join("origin.so"));
        fs::write(&origin, LIBRARY).unwrap();
        store.clear();
        assert!(copy.verify_or_restore(&origin).is_err());
        assert!(!store.folder().exists());
    }
}
