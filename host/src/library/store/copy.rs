//! How long a private copy is there: as long as anybody holds it.

use std::{
    collections::HashMap,
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::super::Hash;

/// Keeps a private copy where it is; the copy is removed with the last of its holders.
///
/// A library that is loaded already may lose its file on unix. Where an OS refuses to remove it, it goes with the
/// folder of the run.
pub(in crate::library) struct Holder {
    holders: Holders,
    hash: Hash,
    path: PathBuf,
}

/// How many hold each copy of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders(Arc<Mutex<HashMap<Hash, usize>>>);

impl Holders {
    /// Holds the copy at `path`, which need not be written yet: from now on nobody removes it.
    pub(super) fn hold(&self, hash: Hash, path: &Path) -> Holder {
        *self.lock().entry(hash).or_default() += 1;
        Holder {
            holders: self.clone(),
            hash,
            path: path.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// The copy.
    pub(in crate::library) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let mut holders = self.holders.lock();
        let left = holders.get_mut(&self.hash).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left > 0 {
            return;
        }
        holders.remove(&self.hash);
        // Under the lock, so that it is not the new copy of somebody who has begun to hold it meanwhile.
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

#[cfg(test)]
impl Holder {
    /// Of a copy that is nowhere.
    pub(in crate::library) fn made_up() -> Self {
        Holders::default().hold(Hash([0; 32]), Path::new("/nowhere/x.so"))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Store, tests::hash},
        *,
    };

    #[test]
    fn a_copy_goes_with_the_last_that_holds_it_and_comes_back() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let one = store.keep(b"library", &hash()).unwrap();
        let two = store.keep(b"library", &hash()).unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(path.exists());
        drop(two);
        assert!(!path.exists());
        let again = store.keep(b"library", &hash()).unwrap();
        assert_eq!(fs::read(again.path()).unwrap(), b"library");
    }

    #[test]
    fn a_copy_that_comes_back_while_the_old_one_goes_is_whole() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let copy = store.keep(b"library", &hash()).unwrap();
                        assert_eq!(fs::read(copy.path()).unwrap(), b"library");
                    }
                });
            }
        });
        let listed = fs::read_dir(store.folder()).unwrap().count();
        assert_eq!(listed, 1, "the lock alone");
    }

    #[test]
    fn a_copy_that_cannot_be_written_leaves_nothing_and_is_no_hindrance_later() {
        let base = tempfile::tempdir().unwrap();
        let store = Store::open(base.path()).unwrap();
        let path = store.keep(b"library", &hash()).unwrap().path().to_owned();
        fs::create_dir(&path).unwrap();
        assert!(store.keep(b"library", &hash()).is_err());
        fs::remove_dir(&path).unwrap();
        store.keep(b"library", &hash()).unwrap();
        let listed = fs::read_dir(store.folder()).unwrap().count();
        assert_eq!(listed, 1, "the lock alone");
    }
}
