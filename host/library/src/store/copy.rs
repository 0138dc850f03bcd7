//! The lifecycle of a private copy: it exists while it has holders, and is written again if it vanishes earlier.

use std::{
    collections::HashMap,
    fmt,
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read as _, Seek as _, Write as _},
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    super::{LibraryHash, refusal::RuleViolation, trust::OpenedFile},
    run::RunFolder,
};
#[cfg(windows)]
use crate::trust;

/// Keeps a private copy in place; the copy is removed with its last holder.
#[derive(Clone)]
pub(crate) struct CopyHolder(Arc<PrivateCopy>);

/// One copy, shared by its holders.
struct PrivateCopy {
    holders: StoreCopies,
    hash: LibraryHash,
    path: PathBuf,
    /// The copy as last written or verified. Open, so that its content outlives its name.
    verified: Mutex<Option<VerifiedCopy>>,
}

/// The copies of a store.
#[derive(Clone, Debug)]
pub(super) struct StoreCopies {
    run: Arc<RunFolder>,
    copies: Arc<Mutex<CopyTable>>,
}

#[derive(Default)]
struct CopyTable {
    held: HashMap<LibraryHash, Weak<PrivateCopy>>,
    /// Copies without holders that could not be removed: Windows refuses that while a process has them loaded.
    leftover: Vec<(LibraryHash, PathBuf)>,
}

impl CopyTable {
    fn is_held(&self, hash: &LibraryHash) -> bool {
        self.held
            .get(hash)
            .is_some_and(|copy| copy.strong_count() > 0)
    }

    /// Removes the copies that have no holders any more, as far as the OS allows.
    fn remove_leftover(&mut self) {
        for (hash, path) in mem::take(&mut self.leftover) {
            if self.is_held(&hash) {
                continue;
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::debug!(file = %path.display(), %error, "cannot remove a private copy yet");
                    self.leftover.push((hash, path));
                }
                _ => {}
            }
        }
    }
}

impl fmt::Debug for CopyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyTable").finish_non_exhaustive()
    }
}

impl StoreCopies {
    pub(super) fn new(run: Arc<RunFolder>) -> Self {
        Self {
            run,
            copies: Arc::default(),
        }
    }

    /// Writes the copy at `path`, unless it exists, and keeps it from being removed.
    pub(super) fn hold(
        &self,
        hash: LibraryHash,
        path: &Path,
        bytes: &[u8],
    ) -> Result<CopyHolder, RuleViolation> {
        self.run.restore()?;
        let copy = self.share(hash, path);
        // Other holders of the same copy wait until it is written.
        let mut verified = copy.verified();
        *verified = match VerifiedCopy::open(path, &hash) {
            Some(found) => Some(found),
            None => {
                // Windows cannot replace an open file.
                *verified = None;
                Some(copy.write(bytes)?)
            }
        };
        drop(verified);
        Ok(CopyHolder(copy))
    }

    /// Closes the copies, which the OS would not remove otherwise; one that a thread is reading stays open.
    pub(super) fn close(&self) {
        let held: Vec<_> = self
            .lock()
            .held
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        for copy in held {
            if let Ok(mut verified) = copy.verified.try_lock() {
                *verified = None;
            }
        }
    }

    /// Removes the copies without holders that could not be removed before.
    pub(super) fn remove_leftover(&self) {
        self.lock().remove_leftover();
    }

    /// Returns the copy with this hash, which its first holder still has to write.
    fn share(&self, hash: LibraryHash, path: &Path) -> Arc<PrivateCopy> {
        let mut copies = self.lock();
        copies.remove_leftover();
        if let Some(copy) = copies.held.get(&hash).and_then(Weak::upgrade) {
            return copy;
        }
        let copy = Arc::new(PrivateCopy {
            holders: self.clone(),
            hash,
            path: path.to_owned(),
            verified: Mutex::default(),
        });
        copies.held.insert(hash, Arc::downgrade(&copy));
        copy
    }

    fn lock(&self) -> MutexGuard<'_, CopyTable> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CopyHolder {
    /// Returns the copy's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Verifies that the copy exists, belongs to the host and has the vetted content; otherwise writes it again, from
    /// the open descriptor or from the file at `origin`. Returns `true` if that was necessary.
    pub(crate) fn verify_or_restore(&self, origin: &Path) -> Result<bool, RuleViolation> {
        self.0.verify_or_restore(origin)
    }
}

impl PrivateCopy {
    fn verify_or_restore(&self, origin: &Path) -> Result<bool, RuleViolation> {
        let mut verified = self.verified();
        if verified.as_ref().is_some_and(|copy| copy.is_at(&self.path)) {
            return Ok(false);
        }
        self.holders.run.restore()?;
        if let Some(copy) = VerifiedCopy::open(&self.path, &self.hash) {
            *verified = Some(copy);
            return Ok(false);
        }
        let is_vetted = |bytes: &Vec<u8>| LibraryHash::of(bytes) == self.hash;
        let of_the_origin = || fs::read(origin).ok().filter(is_vetted);
        let still_open = verified.take().and_then(|copy| copy.read().ok());
        let bytes = still_open.filter(is_vetted).or_else(of_the_origin);
        let bytes = bytes.ok_or_else(|| {
            RuleViolation::new(
                "its private copy was removed or changed, and the file itself is not the one that was vetted any more",
                "put the library there again",
            )
        })?;
        *verified = Some(self.write(&bytes)?);
        Ok(true)
    }

    fn write(&self, bytes: &[u8]) -> Result<VerifiedCopy, RuleViolation> {
        let run = &self.holders.run;
        write_copy(run.path(), &self.path, bytes).map_err(|error| run.cannot_write(&error))?;
        VerifiedCopy::open(&self.path, &self.hash).ok_or_else(|| {
            run.cannot_write(&io::Error::other("what was written reads differently"))
        })
    }

    fn verified(&self) -> MutexGuard<'_, Option<VerifiedCopy>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        // Closed first: Windows cannot remove an open file.
        *self.verified() = None;
        // Under the lock, so that it is not another holder's new copy.
        let mut copies = self.holders.lock();
        if !copies.is_held(&self.hash) {
            copies.held.remove(&self.hash);
            copies.leftover.push((self.hash, self.path.clone()));
        }
        copies.remove_leftover();
    }
}

impl fmt::Debug for CopyHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CopyHolder").field(&self.path()).finish()
    }
}

impl PartialEq for CopyHolder {
    fn eq(&self, other: &Self) -> bool {
        self.path() == other.path()
    }
}

impl Eq for CopyHolder {}

#[cfg(any(test, feature = "testing"))]
impl CopyHolder {
    /// Returns the holder of a copy that does not exist.
    pub(crate) fn made_up() -> Self {
        Self(Arc::new(PrivateCopy {
            holders: StoreCopies::new(Arc::new(RunFolder::over())),
            hash: LibraryHash([0; 32]),
            path: PathBuf::from("/nowhere/x.so"),
            verified: Mutex::default(),
        }))
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
    fn open(path: &Path, hash: &LibraryHash) -> Option<Self> {
        let file = open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let file = OpenedFile { file, metadata };
        if !is_private(&file) {
            return None;
        }
        let OpenedFile { file, metadata } = file;
        let copy = Self {
            file,
            stamp: stamp(&metadata),
        };
        (LibraryHash::of(&copy.read().ok()?) == *hash).then_some(copy)
    }

    /// Returns `true` if the file at `path` is this one, unchanged: every change of content, owner or mode changes the
    /// stamp.
    fn is_at(&self, path: &Path) -> bool {
        let there = fs::symlink_metadata(path);
        there.is_ok_and(|there| there.is_file() && stamp(&there) == self.stamp)
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

/// Opens it for reading only, so that no process can change or remove the file while it is open.
#[cfg(windows)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt as _;
    const FILE_SHARE_READ: u32 = 1;
    File::options()
        .read(true)
        .share_mode(FILE_SHARE_READ)
        .open(path)
}

#[cfg(unix)]
fn is_private(file: &OpenedFile) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let file = &file.metadata;
    let own = file.uid() == rustix::process::geteuid().as_raw();
    file.is_file() && own && file.mode() & 0o7777 == MODE
}

/// Its folder lets no other user read it.
#[cfg(windows)]
fn is_private(file: &OpenedFile) -> bool {
    let (path, who) = (Path::new(""), trust::TrustedUser::runs_the_host());
    file.metadata.is_file()
        && trust::owner(path, file, &who).is_ok()
        && trust::permissions(path, file, &who).is_ok()
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

    fn keep(store: &Store) -> CopyHolder {
        store.keep(LIBRARY, &hash(LIBRARY)).unwrap()
    }

    fn listed(store: &Store) -> usize {
        crate::store::tests::files(store.folder())
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
