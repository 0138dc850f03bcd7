//! The vetted libraries of the plugin folders, by plugin id, and the refused ones.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_core::clock::Clock;

use super::{
    CatalogChanges, FileRefusal, LibraryPins, Store, TrustPolicy, Vetted, candidates,
    changes::ReportedState,
    file_tracker::{FileTracker, FolderListing, ListedFile, RefusedFile},
    mounts::FolderMounts,
    refusal::printable_path,
    stamp::LibraryStamp,
    vet_under,
};
use crate::file_reader::{self, ReadError};

/// The vetted libraries of the plugin folders.
///
/// A library remains available while its file is being replaced, is refused, or cannot be reached; its private copy
/// exists as long as it is in use.
#[derive(Debug)]
pub struct Catalog {
    store: Store,
    clock: Clock,
    /// Settings of the next scan, if they changed since the last one.
    wanted: Mutex<Option<ScanSettings>>,
    /// Locked during a scan.
    looks: Mutex<ScanState>,
    /// The result of the last scan. Vetting reads whole files, and readers of the catalog do not wait for that.
    found: Mutex<FoundLibraries>,
}

/// The state that a scan needs from earlier ones.
#[derive(Clone, Debug)]
struct ScanState {
    settings: ScanSettings,
    /// `true` if the next scan vets all new files immediately.
    at_once: bool,
    tracker: FileTracker,
    mounts: FolderMounts,
    pins: LibraryPins,
    refused: Vec<RefusedFile>,
    /// `true` if no later scan will settle files that may still be being written.
    is_last: bool,
    reported: ReportedState,
}

#[derive(Clone, Debug)]
struct ScanSettings {
    dirs: Vec<PathBuf>,
    are_default: bool,
    policy: TrustPolicy,
}

/// The libraries found by a scan of the plugin folders.
#[derive(Clone, Debug, Default)]
pub struct FoundLibraries {
    /// The folders that were searched.
    pub dirs: Vec<PathBuf>,
    /// Those of `dirs` that do not exist.
    pub missing: Vec<PathBuf>,
    /// `true` if the config names no folders.
    pub are_default: bool,
    /// The library of each plugin, by id.
    pub by_id: BTreeMap<String, Arc<Vetted>>,
    /// The refused files, with reasons.
    pub refused: Vec<FileRefusal>,
}

impl FoundLibraries {
    /// Returns the refusal of plugin `id`'s library, if one was found and refused.
    #[must_use]
    pub fn refused(&self, id: &str) -> Option<&FileRefusal> {
        self.refused.iter().find(|refusal| refusal.is_about(id))
    }

    /// Lists the searched folders and their contents, for the message that a plugin was not found.
    #[must_use]
    pub fn searched(&self) -> String {
        let found = self;
        let folders = found.dirs.iter().map(|dir| {
            let in_dir = |file: &Path| file.parent() == Some(dir);
            let ids: Vec<_> = found
                .by_id
                .iter()
                .filter(|(_, library)| in_dir(&library.origin))
                .map(|(id, _)| id.as_str())
                .collect();
            let mut holds = Vec::new();
            if found.missing.contains(dir) {
                holds.push("no such folder".to_owned());
            } else if let Some(refusal) = found.refused.iter().find(|r| r.file == *dir) {
                holds.push(refusal.found.clone());
            }
            if !ids.is_empty() {
                holds.push(format!("has {}", ids.join(", ")));
            }
            let refused: Vec<_> = found.refused.iter().filter(|r| in_dir(&r.file)).collect();
            match refused.as_slice() {
                [] => {}
                [only] => holds.push(format!("1 file refused: {only}")),
                [first, ..] => holds.push(format!(
                    "{} files refused, the first: {first}",
                    refused.len()
                )),
            }
            if holds.is_empty() {
                holds.push("no plugins in it".to_owned());
            }
            format!("{} ({})", printable_path(dir), holds.join("; "))
        });
        let folders: Vec<_> = folders.collect();
        let key = if found.are_default {
            "; host.plugin_dirs in the config names other folders"
        } else {
            ""
        };
        format!("{}{key}", folders.join(", "))
    }
}

impl Catalog {
    /// Vets everything in `dirs`, and keeps private copies under `state_dir`, or in the default
    /// [`StateFolder`](super::StateFolder).
    ///
    /// `are_default`: the operator names no folders, and `dirs` are the default ones. A missing folder is no error
    /// then, and a library without a manifest is ignored as foreign instead of refused. `policy`: the additional
    /// requirements on libraries.
    ///
    /// # Errors
    /// When there is no usable folder for private copies. Problems of single files are in [`Self::refused`].
    pub fn open(
        dirs: &[PathBuf],
        are_default: bool,
        policy: TrustPolicy,
        state_dir: Option<&Path>,
    ) -> Result<Self, FileRefusal> {
        let catalog = Self {
            store: Store::open_or_default(state_dir)?,
            clock: Clock::start(),
            wanted: Mutex::default(),
            looks: Mutex::new(ScanState {
                settings: ScanSettings {
                    dirs: dirs.to_vec(),
                    are_default,
                    policy,
                },
                at_once: true,
                tracker: FileTracker::default(),
                mounts: FolderMounts::default(),
                pins: LibraryPins::none(),
                refused: Vec::new(),
                is_last: false,
                reported: ReportedState::default(),
            }),
            found: Mutex::default(),
        };
        // A newly opened catalog contains everything that exists.
        catalog.changes();
        Ok(catalog)
    }

    /// Warns of refused files that may still be being written; for a catalog without later scans.
    pub fn settle_now(&self) {
        let mut looks = lock(&self.looks);
        looks.is_last = true;
        for refused in looks.refused.iter().filter(|file| file.is_provisional) {
            tracing::warn!("{}", refused.refusal);
        }
    }

    /// Scans the folders again. New or changed files are vetted once they have been unchanged for a second; missing
    /// ones are dropped once they have been missing as long: a single scan settles neither.
    pub fn scan(&self) {
        self.look(&mut lock(&self.looks));
    }

    /// Changes the policy and the folders, and scans immediately.
    ///
    /// # Errors
    /// When the folders do not respond within 30 s. The next scan that completes uses the new settings.
    pub fn reconfigure(
        self: &Arc<Self>,
        dirs: &[PathBuf],
        are_default: bool,
        policy: TrustPolicy,
    ) -> Result<(), ReadError> {
        let settings = ScanSettings {
            dirs: dirs.to_vec(),
            are_default,
            policy,
        };
        self.follow(settings, LOOK_TIME)
    }

    fn follow(
        self: &Arc<Self>,
        settings: ScanSettings,
        patience: Duration,
    ) -> Result<(), ReadError> {
        *lock(&self.wanted) = Some(settings);
        let catalog = Arc::clone(self);
        file_reader::within(self.store.base(), patience, move || catalog.scan())
    }

    /// Returns what [`reconfigure`](Self::reconfigure) would find, without changing anything.
    pub fn preview(
        &self,
        dirs: &[PathBuf],
        are_default: bool,
        policy: TrustPolicy,
    ) -> FoundLibraries {
        let mut looks = lock(&self.looks).clone();
        looks.reconfigure(ScanSettings {
            dirs: dirs.to_vec(),
            are_default,
            policy,
        });
        self.find_in(&mut looks).libraries
    }

    /// Returns the result of the last scan.
    pub fn found(&self) -> FoundLibraries {
        lock(&self.found).clone()
    }

    /// Scans the folders again; returns the changes since the previous call.
    ///
    /// Includes changes found by other scans, which the caller may know already: compare hashes.
    pub(super) fn changes(&self) -> CatalogChanges {
        let mut looks = lock(&self.looks);
        self.look(&mut looks);
        let ScanState {
            tracker,
            refused,
            reported,
            ..
        } = &mut *looks;
        let refused = refused.iter().filter(|refused| !refused.is_provisional);
        let changes = reported.tell(
            &tracker.taken(),
            refused.map(|refused| refused.refusal.clone()).collect(),
            |id| tracker.why_gone(id),
        );
        tracker.forget_gone();
        changes
    }

    /// Returns the time until a scan may settle an open decision; `None` if there is none.
    pub(super) fn until_next_decision(&self) -> Option<Duration> {
        let next = lock(&self.looks).tracker.next_decision()?;
        Some(next.saturating_sub(self.clock.now()))
    }

    /// Returns the library of a plugin.
    pub fn find(&self, id: &str) -> Option<Arc<Vetted>> {
        lock(&self.found).by_id.get(id).cloned()
    }

    /// Returns every plugin's library, by id.
    pub fn libraries(&self) -> Vec<Arc<Vetted>> {
        lock(&self.found).by_id.values().cloned().collect()
    }

    /// Returns the refused files, with reasons.
    pub fn refused(&self) -> Vec<FileRefusal> {
        lock(&self.found).refused.clone()
    }

    /// Returns the store of the private copies.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the searched folders.
    pub fn dirs(&self) -> Vec<PathBuf> {
        lock(&self.found).dirs.clone()
    }

    /// Lists the searched folders and their contents, for the message that a plugin was not found.
    #[must_use]
    pub fn searched(&self) -> String {
        lock(&self.found).searched()
    }

    fn look(&self, looks: &mut ScanState) {
        if let Some(settings) = lock(&self.wanted).take() {
            looks.reconfigure(settings);
        }
        let ScanOutcome {
            libraries,
            refused,
            unavailable,
        } = self.find_in(looks);
        *lock(&self.found) = libraries;
        self.store.remove_leftover();
        log(&looks.refused, &refused, &unavailable, looks.is_last);
        looks.refused = refused;
    }

    fn find_in(&self, looks: &mut ScanState) -> ScanOutcome {
        let now = self.clock.now();
        let ScanState {
            settings,
            tracker,
            mounts,
            ..
        } = looks;
        let at_once = std::mem::take(&mut looks.at_once);
        let look = self.see(now, &settings.dirs, mounts, at_once);
        let terms = settings.policy.terms();
        if terms.pins != looks.pins {
            tracker.ask_again(false);
        }
        for path in tracker.observe(now, &look) {
            let result = vet_under(&path, &terms, &self.store);
            tracker.judged(self.clock.now(), &path, LibraryStamp::of(&path), result);
        }
        let mut refused = tracker.conclude(
            now,
            &look,
            |vetted| terms.withdraws(vetted),
            settings.are_default,
        );
        if settings.are_default {
            refused.retain(|refused| !look.missing.contains(&refused.refusal.file));
        }
        let libraries = FoundLibraries {
            dirs: look.folders,
            missing: look.missing,
            are_default: settings.are_default,
            by_id: tracker.taken(),
            refused: refused.iter().map(|r| r.refusal.clone()).collect(),
        };
        looks.pins = terms.pins;
        ScanOutcome {
            libraries,
            refused,
            unavailable: look.unavailable,
        }
    }

    /// Lists the files, without reading any of them.
    fn see(
        &self,
        now: Duration,
        dirs: &[PathBuf],
        mounts: &mut FolderMounts,
        at_once: bool,
    ) -> FolderListing {
        let mut candidates = candidates(dirs);
        let lost = mounts.lost(dirs, &candidates.files);
        candidates.refused.extend(lost);
        let wall = self.clock.wall(now);
        let see = |path: PathBuf| {
            let stamp = LibraryStamp::of(&path);
            ListedFile {
                path,
                stamp,
                is_fresh: stamp.is_fresh(wall),
            }
        };
        FolderListing {
            folders: dirs.to_vec(),
            unavailable: candidates.refused,
            missing: candidates.missing,
            files: candidates.files.into_iter().map(see).collect(),
            at_once,
        }
    }
}

impl ScanState {
    fn reconfigure(&mut self, settings: ScanSettings) {
        let policy_changed = self.settings.policy != settings.policy;
        self.settings = settings;
        self.at_once = true;
        if policy_changed {
            self.tracker.ask_again(true);
        }
    }
}

/// The result of one scan, and its log messages.
struct ScanOutcome {
    libraries: FoundLibraries,
    refused: Vec<RefusedFile>,
    unavailable: Vec<FileRefusal>,
}

/// Logs each refusal once, and folders that are available again; `all` includes files that may still be being written.
fn log(before: &[RefusedFile], now: &[RefusedFile], unavailable: &[FileRefusal], all: bool) {
    let is_known = |new: &RefusedFile| match all {
        true => before.iter().any(|old| old.refusal == new.refusal),
        false => before.contains(new),
    };
    for refused in now.iter().filter(|refused| !is_known(refused)) {
        match refused.is_provisional && !all {
            false => tracing::warn!("{}", refused.refusal),
            true => tracing::debug!("{}; looking again soon", refused.refusal),
        }
    }
    let is_folder =
        |refusal: &FileRefusal| unavailable.iter().any(|other| other.file == refusal.file);
    for refused in before.iter().filter(|refused| refused.is_folder) {
        if !is_folder(&refused.refusal) {
            let folder = printable_path(&refused.refusal.file);
            tracing::info!("the plugin folder {folder} can be listed again");
        }
    }
}

/// The longest time that a reload waits for a scan: vetting one file may take as long.
const LOOK_TIME: Duration = Duration::from_secs(30);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn folders_that_do_not_answer_hold_up_no_reload_and_are_searched_once_they_do() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let old = [folder.path().join("old")];
        let catalog = Catalog::open(&old, false, TrustPolicy::none(), Some(&state)).unwrap();
        let catalog = Arc::new(catalog);
        let settings = |dir: &str| ScanSettings {
            dirs: vec![folder.path().join(dir)],
            are_default: false,
            policy: TrustPolicy::none(),
        };
        // Simulates a scan that waits for a mount.
        let stuck = lock(&catalog.looks);
        let soon = Duration::from_millis(10);
        let first = catalog.follow(settings("first"), soon);
        assert!(matches!(first, Err(ReadError::TimedOut(_))), "{first:?}");
        let second = catalog.follow(settings("second"), soon);
        assert!(matches!(second, Err(ReadError::StillWaiting)), "{second:?}");
        assert_eq!(catalog.dirs(), old);
        drop(stuck);
        while catalog.dirs() == old {
            thread::yield_now();
        }
        assert_eq!(catalog.dirs(), settings("second").dirs);
    }
}
