//! The host's private folder: one copy of each library it may load, named by its hash.
//!
//! The operator's file is never loaded: copying over a loaded library kills the process, and after a rename the loader
//! still returns the old one. Each run has its own folder, locked while it lasts, and removes it when it ends. The next
//! run removes the folder of a killed one, except its record of calls, which is kept until a host has read it. Copies
//! and folders that vanish while the host runs, for example through a cleaner of temporary files, are created again.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use copy::StoreCopies;
use run::RunFolder;

use super::{
    FileRefusal, LibraryHash, VettingRule,
    refusal::{RuleViolation, quoted},
};

mod copy;
mod location;
mod lock;
mod run;
#[cfg(test)]
mod tests;

pub(super) use copy::CopyHolder;
pub use location::StateFolder;
pub use lock::FolderLock;
pub(super) use run::make_private_folder;

/// The private copies of one run of the host; removed when the store and all its copies are dropped.
#[derive(Debug)]
pub struct Store {
    run: Arc<RunFolder>,
    base: PathBuf,
    holders: StoreCopies,
}

impl Store {
    /// Creates a folder for this run under `base`, and removes those of dead runs.
    ///
    /// # Errors
    /// When others can write to `base`, when libraries cannot be loaded from it (`noexec`), or when it cannot be
    /// written to. The refusal's file is `base`.
    pub fn open(base: &Path) -> Result<Self, FileRefusal> {
        let make = || {
            let base = std::path::absolute(base).map_err(|error| cannot("find", base, &error))?;
            let run = Arc::new(RunFolder::create(&base, &base.join(RECORDS))?);
            Ok(Self {
                holders: StoreCopies::new(Arc::clone(&run)),
                run,
                base,
            })
        };
        make().map_err(|problem| FileRefusal::new(base, VettingRule::Store, problem))
    }

    /// Like [`open`](Self::open); without `base` in the default state folder.
    ///
    /// # Errors
    /// Like [`open`](Self::open); the refusal also lists the folders that were skipped.
    pub fn open_or_default(base: Option<&Path>) -> Result<Self, FileRefusal> {
        if let Some(base) = base {
            return Self::open(base);
        }
        let default = StateFolder::default_for_user();
        Self::open(&default.path).map_err(|refusal| match default.explain() {
            passed_over if passed_over.is_empty() => refusal,
            passed_over => FileRefusal {
                found: format!(
                    "{}; other folders cannot be used ({passed_over})",
                    refusal.found
                ),
                ..refusal
            },
        })
    }

    /// Returns the state folder for a config that names none, see [`StateFolder`].
    pub fn default_base() -> PathBuf {
        StateFolder::default_for_user().path.clone()
    }

    /// Returns the folder shared by all runs, for data that outlives them.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Returns the folder with the call records of dead runs, one file each.
    pub fn records(&self) -> PathBuf {
        self.base.join(RECORDS)
    }

    /// Returns the folder of this run.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Removes this run's folder and all copies now, even if a stuck thread still uses some of them; later copies fail.
    ///
    /// Windows does not remove what a process has loaded; the next host does then.
    pub fn clear(&self) {
        self.holders.close();
        self.run.close();
    }

    /// Removes the copies that were replaced, but still loaded at that time.
    pub(super) fn remove_leftover(&self) {
        self.holders.remove_leftover();
    }

    /// Keeps a private copy of `bytes` while the result is alive; equal bytes share a copy.
    pub(super) fn keep(
        &self,
        bytes: &[u8],
        hash: &LibraryHash,
    ) -> Result<CopyHolder, RuleViolation> {
        let extension = env::consts::DLL_EXTENSION;
        let path = self.folder().join(format!("{hash}.{extension}"));
        self.holders.hold(*hash, &path, bytes)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.clear();
    }
}

fn cannot(doing: &str, base: &Path, error: &io::Error) -> RuleViolation {
    use io::ErrorKind as E;
    let base = quoted(base);
    match error.kind() {
        E::StorageFull | E::QuotaExceeded => RuleViolation::new(
            format!("no private copy can be kept: {base} is full"),
            "make room there, or set state_dir to a folder on another disk",
        ),
        E::ReadOnlyFilesystem => RuleViolation::new(
            format!("no private copy can be kept: {base} is on a read-only file system"),
            if cfg!(unix) {
                "set state_dir to a writable folder, such as a tmpfs mounted with exec"
            } else {
                "set state_dir to a writable folder"
            },
        ),
        _ => RuleViolation::new(
            format!("the host's user cannot {doing} its private folder in {base}: {error}"),
            "let it write there, or set state_dir to a folder of its own",
        ),
    }
}

/// The file in a run's folder in which the host records its calls into in-process plugins.
pub const CALLS: &str = "calls";
/// Next to the folder of the runs.
const RECORDS: &str = "died";
