//! The host's private folder: each library it may load lies here once, named by its hash.
//!
//! The operator's path is never loaded: copying over a loaded library kills the process, and after a rename the loader
//! still returns the old one. A run has a folder of its own, locked while it lasts, and removes it when it ends; what a
//! killed run left behind is removed by the next, except its record of calls, which is kept until a host has read it.
//! Copies and folders that vanish while the host runs, as cleaners of temporary files make them, are made again.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use copy::Holders;
use run::RunFolder;

use super::{
    Hash, Refusal, Rule,
    refusal::{Problem, quoted},
};

mod copy;
mod location;
mod lock;
mod run;
#[cfg(test)]
mod tests;

pub(super) use copy::Holder;
pub use location::StateFolder;
pub use lock::FolderLock;

/// The private copies of one run of the host; they are removed when it and all its copies are dropped.
#[derive(Debug)]
pub struct Store {
    run: Arc<RunFolder>,
    base: PathBuf,
    holders: Holders,
}

impl Store {
    /// Makes a folder for this run under `base`, and removes those of dead runs.
    ///
    /// # Errors
    /// When others can write to `base`, when libraries cannot be loaded from there (`noexec`), or when it cannot be
    /// written to. The refusal's file is `base`.
    pub fn open(base: &Path) -> Result<Self, Refusal> {
        let make = || {
            let base = std::path::absolute(base).map_err(|error| cannot("find", base, &error))?;
            let run = Arc::new(RunFolder::create(&base, &base.join(RECORDS))?);
            Ok(Self {
                holders: Holders::new(Arc::clone(&run)),
                run,
                base,
            })
        };
        make().map_err(|problem| Refusal::new(base, Rule::Store, problem))
    }

    /// As [`open`](Self::open); without `base` in the default state folder.
    ///
    /// # Errors
    /// As [`open`](Self::open); the refusal also tells which folders were passed over.
    pub fn open_or_default(base: Option<&Path>) -> Result<Self, Refusal> {
        if let Some(base) = base {
            return Self::open(base);
        }
        let default = StateFolder::default_for_user();
        Self::open(&default.path).map_err(|refusal| match default.explain() {
            passed_over if passed_over.is_empty() => refusal,
            passed_over => Refusal {
                found: format!(
                    "{}; other folders cannot be used ({passed_over})",
                    refusal.found
                ),
                ..refusal
            },
        })
    }

    /// The state folder where the config names none, see [`StateFolder`].
    pub fn default_base() -> PathBuf {
        StateFolder::default_for_user().path.clone()
    }

    /// The folder that all runs share, for what outlives them.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Where the records of calls that dead runs left are kept, each in a file.
    pub fn records(&self) -> PathBuf {
        self.base.join(RECORDS)
    }

    /// The folder of this run.
    pub fn folder(&self) -> &Path {
        self.run.path()
    }

    /// Removes the folder of this run now, with all copies, also while a stuck thread still holds some of them; nothing
    /// is copied any more from now on.
    pub fn clear(&self) {
        self.run.close();
    }

    /// Keeps a private copy of `bytes` while the result is held; the same bytes have the same copy.
    pub(super) fn keep(&self, bytes: &[u8], hash: &Hash) -> Result<Holder, Problem> {
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

fn cannot(doing: &str, base: &Path, error: &io::Error) -> Problem {
    use io::ErrorKind as E;
    let base = quoted(base);
    match error.kind() {
        E::StorageFull | E::QuotaExceeded => Problem::new(
            format!("no private copy can be kept: {base} is full"),
            "make room there, or set state_dir to a folder on another disk",
        ),
        E::ReadOnlyFilesystem => Problem::new(
            format!("no private copy can be kept: {base} is on a read-only file system"),
            "set state_dir to a writable folder, such as a tmpfs mounted with exec",
        ),
        _ => Problem::new(
            format!("the host's user cannot {doing} its private folder in {base}: {error}"),
            "let it write there, or set state_dir to a folder of its own",
        ),
    }
}

/// The file in a run's folder in which the host notes its calls into in-process plugins.
pub const CALLS: &str = "calls";
/// Beside the folder of the runs.
const RECORDS: &str = "died";
