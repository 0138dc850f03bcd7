//! Decides after each scan of the plugin folders which files to vet, which libraries to use, and which are gone.
//!
//! Reads no files and no clock: the caller passes observations and times. Files are compared by [`LibraryStamp`]s from two
//! scans, never by comparing their times with a clock, so clock jumps do not matter.
//!
//! - While the host runs, a file is vetted once it has been unchanged for [`SETTLE`].
//! - An accepted library remains in use while its file is changed, damaged or refused, and while its folder cannot be
//!   listed.
//! - It is removed once its folder exists without its file, or once the operator's policy withdraws it, in two
//!   consecutive scans at least [`SETTLE`] apart. Then another file with its id can replace it.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sighting::TrackedFile;

use super::{
    FileRefusal, Vetted, VettingRule,
    refusal::{RuleViolation, printable_path},
    stamp::LibraryStamp,
};
use crate::printable;

#[cfg(test)]
mod properties;
mod sighting;
#[cfg(test)]
mod tests;

/// All files seen, and the libraries in use.
#[derive(Clone, Debug, Default)]
pub(super) struct FileTracker {
    files: BTreeMap<PathBuf, TrackedFile>,
    taken: BTreeMap<String, LibraryInUse>,
    /// The reasons why libraries are no longer in use.
    gone: BTreeMap<String, String>,
}

/// The result of one scan of the folders.
#[derive(Clone, Debug, Default)]
pub(super) struct FolderListing {
    /// The searched folders.
    pub(super) folders: Vec<PathBuf>,
    /// Those of them that cannot be listed.
    pub(super) unavailable: Vec<FileRefusal>,
    /// Those of them that do not exist.
    pub(super) missing: Vec<PathBuf>,
    /// Files named like a library, in the order of precedence for ids.
    pub(super) files: Vec<ListedFile>,
    /// `true` to vet new files immediately.
    pub(super) at_once: bool,
}

/// A file in the result of one scan.
#[derive(Clone, Debug)]
pub(super) struct ListedFile {
    pub(super) path: PathBuf,
    pub(super) stamp: LibraryStamp,
    /// `true` if it was written recently, as far as the clocks can be trusted.
    pub(super) is_fresh: bool,
}

/// A file that was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RefusedFile {
    pub(super) refusal: FileRefusal,
    /// `true` if it may still be being written; it is checked again soon.
    pub(super) is_provisional: bool,
    /// `true` for a plugin folder itself.
    pub(super) is_folder: bool,
}

#[derive(Clone, Debug)]
struct LibraryInUse {
    vetted: Arc<Vetted>,
    gone_since: Option<Duration>,
}

impl FileTracker {
    /// Records a scan at time `now`; returns the files to vet.
    pub(super) fn observe(&mut self, now: Duration, look: &FolderListing) -> Vec<PathBuf> {
        let there: HashSet<_> = look.files.iter().map(|seen| &seen.path).collect();
        self.files
            .retain(|path, _| there.contains(path) || look.lost_sight_of(path));
        let mut due = Vec::new();
        for seen in &look.files {
            let new = || TrackedFile::new(now, seen, look.at_once);
            let sighting = self.files.entry(seen.path.clone()).or_insert_with(new);
            sighting.seen(now, seen.stamp);
            if sighting.is_due(now) {
                due.push(seen.path.clone());
            }
        }
        due
    }

    /// Records the result of vetting the file at `now`; `after` is its stamp afterwards.
    pub(super) fn judged(
        &mut self,
        now: Duration,
        path: &Path,
        after: LibraryStamp,
        result: Result<Vetted, FileRefusal>,
    ) {
        if let Some(sighting) = self.files.get_mut(path) {
            sighting.judged(now, after, result);
        }
    }

    /// Invalidates the policy's verdicts, or all.
    pub(super) fn ask_again(&mut self, all: bool) {
        for sighting in self.files.values_mut() {
            sighting.ask_again(all);
        }
    }

    /// Decides which libraries are in use after a scan at time `now`; returns the refusals.
    ///
    /// `withdraws`: why the policy no longer allows a library, if so. `passes_over_others`: ignores libraries without a
    /// manifest.
    pub(super) fn conclude(
        &mut self,
        now: Duration,
        look: &FolderListing,
        withdraws: impl Fn(&Vetted) -> Option<(VettingRule, RuleViolation)>,
        passes_over_others: bool,
    ) -> Vec<RefusedFile> {
        self.let_go(now, look, &withdraws);
        let mut refused: Vec<_> = look
            .unavailable
            .iter()
            .map(|refusal| self.of_folder(refusal))
            .collect();
        for seen in &look.files {
            let path = &seen.path;
            let Some(file) = self.files.get(path) else {
                continue;
            };
            let is_provisional = file.is_pending();
            let Some(result) = file.result().cloned() else {
                continue;
            };
            let problem = match result {
                Ok(vetted) => match withdraws(&vetted) {
                    Some((rule, problem)) => {
                        FileRefusal::new(path, rule, problem).of_plugin(&vetted.manifest.id)
                    }
                    None => match self.take(&vetted) {
                        Ok(()) => continue,
                        Err(problem) => FileRefusal::new(path, VettingRule::Id, problem),
                    },
                },
                Err(refusal) => refusal,
            };
            let stays = self.taken_from(path).map(|vetted| {
                let version = &vetted.manifest.version;
                format!("version {version}, taken from there before,").into()
            });
            if problem.is_not_a_plugin() && passes_over_others && stays.is_none() {
                tracing::debug!("passed over {}: it has no manifest", printable::path(path));
                continue;
            }
            refused.push(RefusedFile {
                refusal: FileRefusal { stays, ..problem },
                is_provisional,
                is_folder: false,
            });
        }
        refused
    }

    /// Returns the libraries in use, by plugin id.
    pub(super) fn taken(&self) -> BTreeMap<String, Arc<Vetted>> {
        self.taken
            .iter()
            .map(|(id, taken)| (id.clone(), Arc::clone(&taken.vetted)))
            .collect()
    }

    /// Returns the reason why a library is no longer in use.
    pub(super) fn why_gone(&self, id: &str) -> String {
        self.gone.get(id).cloned().unwrap_or_default()
    }

    /// Drops the reasons, which have been reported.
    pub(super) fn forget_gone(&mut self) {
        self.gone.clear();
    }

    /// Returns the time of the next decision, if known, on the same clock as `now`.
    pub(super) fn next_decision(&self) -> Option<Duration> {
        let unsettled = self.files.values().filter(|file| file.is_pending());
        let unsettled = unsettled.map(TrackedFile::since);
        let going = self.taken.values().filter_map(|taken| taken.gone_since);
        unsettled.chain(going).min().map(|since| since + SETTLE)
    }

    /// Drops libraries that have been missing long enough.
    fn let_go(
        &mut self,
        now: Duration,
        look: &FolderListing,
        withdraws: impl Fn(&Vetted) -> Option<(VettingRule, RuleViolation)>,
    ) {
        let files = &self.files;
        let gone = &mut self.gone;
        self.taken.retain(|id, taken| {
            let origin = taken.vetted.origin.clone();
            let file = files.get(&origin);
            if let Some(Ok(vetted)) = file.and_then(TrackedFile::result)
                && vetted.manifest.id == *id
            {
                taken.vetted = Arc::clone(vetted);
            }
            let is_searched = look.searches(&origin);
            let why = if !is_searched {
                Some("plugin_dirs does not name its folder any more".to_owned())
            } else if look.lost_sight_of(&origin) {
                None
            } else {
                why_gone(id, &taken.vetted, file, &withdraws)
            };
            let Some(why) = why else {
                taken.gone_since = None;
                return true;
            };
            let since = *taken.gone_since.get_or_insert(now);
            // A file cannot return to a folder that is not searched: there is nothing to wait for.
            if is_searched && now.saturating_sub(since) < SETTLE {
                return true;
            }
            gone.insert(id.clone(), why);
            false
        });
    }

    /// Accepts a library for its plugin id, unless another has it.
    fn take(&mut self, vetted: &Arc<Vetted>) -> Result<(), RuleViolation> {
        let id = &vetted.manifest.id;
        match self.taken.get(id).map(|taken| &taken.vetted.origin) {
            Some(other) if *other == vetted.origin => Ok(()),
            Some(other) => Err(RuleViolation::new(
                format!("it is plugin {id}, and so is {}", printable_path(other)),
                "take one of the two away",
            )),
            None => {
                let taken = LibraryInUse {
                    vetted: Arc::clone(vetted),
                    gone_since: None,
                };
                self.taken.insert(id.clone(), taken);
                self.gone.remove(id);
                Ok(())
            }
        }
    }

    fn taken_from(&self, path: &Path) -> Option<&Arc<Vetted>> {
        let mut taken = self.taken.values().map(|taken| &taken.vetted);
        taken.find(|vetted| vetted.origin == path)
    }

    fn of_folder(&self, refusal: &FileRefusal) -> RefusedFile {
        let folder = Some(refusal.file.as_path());
        let mut origins = self
            .taken
            .values()
            .map(|taken| taken.vetted.origin.parent());
        let stays = origins
            .any(|parent| parent == folder)
            .then(|| "what was taken from there before".into());
        RefusedFile {
            refusal: FileRefusal {
                stays,
                ..refusal.clone()
            },
            is_provisional: false,
            is_folder: true,
        }
    }
}

/// Returns the reason for dropping a library in use, if there is one.
fn why_gone(
    id: &str,
    vetted: &Vetted,
    file: Option<&TrackedFile>,
    withdraws: impl Fn(&Vetted) -> Option<(VettingRule, RuleViolation)>,
) -> Option<String> {
    let path = printable_path(&vetted.origin);
    let Some(file) = file else {
        return Some(format!("its library {path} was removed"));
    };
    if let Some(Ok(other)) = file.result()
        && other.manifest.id != id
    {
        let other = &other.manifest.id;
        return Some(format!(
            "its library {path} was replaced by one of plugin {other}"
        ));
    }
    // A new library whose pin already exists must not displace the old one before it is vetted.
    if file.is_pending() {
        return None;
    }
    withdraws(vetted)
        .map(|(rule, problem)| FileRefusal::new(&vetted.origin, rule, problem).to_string())
}

impl FolderListing {
    fn searches(&self, path: &Path) -> bool {
        let folder = path.parent();
        self.folders
            .iter()
            .any(|known| Some(known.as_path()) == folder)
    }

    /// Returns `true` if the file's existence cannot be determined.
    fn lost_sight_of(&self, path: &Path) -> bool {
        let folder = path.parent();
        self.unavailable
            .iter()
            .any(|refusal| Some(refusal.file.as_path()) == folder)
    }
}

/// Time a file has to be unchanged before it is vetted, and missing before it counts as removed.
pub(super) const SETTLE: Duration = Duration::from_secs(1);
