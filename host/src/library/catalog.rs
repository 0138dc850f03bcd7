//! What lies in the plugin folders, vetted: by plugin id, and what was refused.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Pins, Refusal, Rule, Store, Vetted, candidates, refusal::Problem, vet};

/// The vetted libraries of the plugin folders.
#[derive(Debug)]
pub struct Catalog {
    dirs: Vec<PathBuf>,
    passes_over_others: bool,
    lock_file: Option<PathBuf>,
    store: Store,
    found: Mutex<Found>,
}

#[derive(Clone, Debug, Default)]
struct Found {
    /// Libraries that keep the rules, so that only those that changed are read again.
    vetted: HashMap<PathBuf, (Stamp, Arc<Vetted>)>,
    by_id: BTreeMap<String, Arc<Vetted>>,
    refused: Vec<Refusal>,
}

/// What tells a file from the one that was at its place before: size, change and, where there is one, inode.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    changed_and_inode: (i64, i64, u64),
}

impl Catalog {
    /// Vets everything in `dirs`, and keeps private copies under `state_dir`, or where [`Store::default_base`] says.
    ///
    /// `passes_over_others`: a library without a manifest is none of ours, as in the folder of the host's own program,
    /// rather than a plugin whose manifest is missing. `lock_file`: where [`Pins`] are read from at each scan.
    ///
    /// # Errors
    /// When there is no place for private copies. What is wrong with single files is in [`Self::refused`].
    pub fn open(
        dirs: &[PathBuf],
        passes_over_others: bool,
        lock_file: Option<&Path>,
        state_dir: Option<&Path>,
    ) -> Result<Self, Refusal> {
        let base = state_dir.map_or_else(Store::default_base, Path::to_owned);
        let catalog = Self {
            dirs: dirs.to_vec(),
            passes_over_others,
            lock_file: lock_file.map(Path::to_owned),
            store: Store::open(&base)?,
            found: Mutex::default(),
        };
        catalog.scan();
        Ok(catalog)
    }

    /// Looks through the folders again: what is new or changed is vetted, what is gone is forgotten.
    pub fn scan(&self) {
        let candidates = candidates(&self.dirs);
        let pins = self
            .lock_file
            .as_deref()
            .map_or_else(Pins::none, Pins::read);
        // Vetting reads whole files, and whoever looks at the catalog does not wait for that.
        let known = self.lock().vetted.clone();
        let mut found = Found {
            refused: candidates.refused,
            ..Found::default()
        };
        for file in candidates.files {
            let stamp = stamp(&file);
            let vetted = match known.get(&file) {
                // The pins may have changed where the file has not.
                Some((seen, vetted)) if *seen == stamp => pins
                    .check(&file, &vetted.sha256)
                    .map(|()| Arc::clone(vetted))
                    .map_err(|problem| Refusal::new(&file, Rule::Pin, problem)),
                _ => vet(&file, &pins, &self.store).map(Arc::new),
            };
            match vetted {
                Ok(vetted) => found.take(file, stamp, vetted),
                Err(refusal) if self.passes_over_others && refusal.is_not_a_plugin() => {
                    tracing::debug!("passed over {}: it has no manifest", file.display());
                }
                Err(refusal) => found.refused.push(refusal),
            }
        }
        let before = std::mem::replace(&mut *self.lock(), found.clone());
        for refusal in found.refused {
            if !before.refused.contains(&refusal) {
                tracing::warn!("{refusal}");
            }
        }
    }

    /// The library of a plugin.
    pub fn find(&self, id: &str) -> Option<Arc<Vetted>> {
        self.lock().by_id.get(id).cloned()
    }

    /// Every plugin's library, by id.
    pub fn libraries(&self) -> Vec<Arc<Vetted>> {
        self.lock().by_id.values().cloned().collect()
    }

    /// What was refused, with the reason.
    pub fn refused(&self) -> Vec<Refusal> {
        self.lock().refused.clone()
    }

    /// Where the private copies lie.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The folders that are searched.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn take(&mut self, file: PathBuf, stamp: Stamp, vetted: Arc<Vetted>) {
        let id = &vetted.manifest.id;
        match self.by_id.get(id) {
            Some(other) => {
                let problem = Problem::new(
                    format!("it is plugin {id}, and so is {}", other.origin.display()),
                    "take one of the two away",
                );
                self.refused.push(Refusal::new(&file, Rule::Id, problem));
            }
            None => {
                self.by_id.insert(id.clone(), Arc::clone(&vetted));
            }
        }
        self.vetted.insert(file, (stamp, vetted));
    }
}

fn stamp(file: &Path) -> Stamp {
    fs::metadata(file).map_or_else(
        |_| Stamp::default(),
        |metadata| Stamp {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            changed_and_inode: changed_and_inode(&metadata),
        },
    )
}

#[cfg(unix)]
fn changed_and_inode(metadata: &fs::Metadata) -> (i64, i64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ctime(), metadata.ctime_nsec(), metadata.ino())
}

#[cfg(not(unix))]
fn changed_and_inode(_: &fs::Metadata) -> (i64, i64, u64) {
    (0, 0, 0)
}
