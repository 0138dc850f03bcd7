//! Turns a path into a vetted private copy of a library, without running any of its code.
//!
//! [`candidates`] lists files that may be plugins, [`vet`] accepts or refuses one file, [`inspect`] returns everything
//! known about it. The host only ever loads [`Vetted::path`], the copy in its [`Store`], never the operator's file.
//!
//! Vetting keeps out files that would crash the loader and files that other users could have planted. It cannot tell
//! whether a library's code behaves, nor find all damage: the first load belongs in a process that may crash.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use conductor_plugin_api::manifest::{ApiVersion, Manifest};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

mod catalog;
mod changes;
mod exports;
pub mod file_reader;
mod file_tracker;
mod folders;
mod image;
mod inspection;
mod language;
pub mod linkage;
mod manifest;
mod mounts;
mod pins;
mod policy;
pub mod printable;
mod refusal;
mod scan;
mod signatures;
mod stamp;
mod state_lock;
mod store;
#[cfg(test)]
mod tests;
mod trust;
mod watch;

pub use catalog::{Catalog, Libraries};
pub use changes::{Changes, PluginChange};
pub use exports::exports;
pub use folders::{default_folders, program_folder};
pub use image::{Format, Kind, Machine};
pub use inspection::{Inspection, Outcome, Verdict};
pub use language::Language;
pub use pins::{Change, Pins};
pub use policy::Policy;
use policy::Terms;
pub use refusal::{Refusal, Rule};
pub use scan::{Candidates, candidates};
pub use signatures::{KeyId, Signer};
pub use state_lock::{StateLock, StateLockError};
pub use store::{CALLS, FolderLock, StateFolder, Store};
pub use watch::Watch;

/// A library that passed every rule, and the host's private copy of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vetted {
    /// The private copy: the only path that may be loaded.
    pub path: PathBuf,
    /// The operator's file; for messages.
    pub origin: PathBuf,
    /// The hash of its content.
    pub sha256: Hash,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub size: usize,
    /// The key that signed it, if the host has trusted keys.
    pub signed_by: Option<KeyId>,
    /// Keeps the private copy in place while this library is in use.
    copy: Arc<store::Holder>,
}

impl Vetted {
    /// Verifies that the private copy has the vetted content, and writes it again if a cleaner of temporary files or
    /// another process removed it. Call it before each load.
    ///
    /// # Errors
    /// When it cannot be written, or the original file has changed as well.
    pub fn restore_copy(&self) -> Result<(), Refusal> {
        match self.copy.verify_or_restore(&self.origin) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                plugin = %self.manifest.id,
                "the private copy of {} was removed or changed while the host was running; it was copied again",
                refusal::printable_path(&self.origin)
            ),
            Err(problem) => return Err(Refusal::new(&self.origin, Rule::Store, problem)),
        }
        Ok(())
    }
}

#[cfg(any(test, feature = "testing"))]
impl Vetted {
    /// Returns a library that does not exist, whose hash is this byte 32 times.
    #[must_use]
    pub fn made_up(id: &str, hash: u8) -> Self {
        let holder = store::Holder::made_up();
        Self {
            path: holder.path().to_owned(),
            origin: PathBuf::from(format!("/plugins/{id}.so")),
            sha256: Hash([hash; 32]),
            manifest: Manifest {
                api: ApiVersion::CURRENT,
                door: conductor_plugin_api::manifest::Door::Rust,
                panics_unwind: true,
                id: id.to_owned(),
                version: format!("1.0.{hash}"),
                name: id.to_owned(),
                needs: Vec::new(),
            },
            size: 0,
            signed_by: None,
            copy: Arc::new(holder),
        }
    }
}

/// Applies every rule to the library at `path`, and makes a private copy of it.
///
/// # Errors
/// The first rule it breaks.
pub fn vet(path: &Path, policy: &Policy, store: &Store) -> Result<Vetted, Refusal> {
    vet_under(path, &policy.terms(), store)
}

fn vet_under(path: &Path, terms: &Terms<'_>, store: &Store) -> Result<Vetted, Refusal> {
    let (inspection, bytes) = examine(path);
    if let Some(refusal) = inspection.refusal() {
        return Err(refusal);
    }
    let (Some(sha256), Some(manifest)) = (inspection.sha256, inspection.manifest) else {
        unreachable!("what has no content or no manifest is refused above");
    };
    let id = manifest.id.clone();
    let refused_by = |rule, problem| Refusal::new(path, rule, problem).of_plugin(&id);
    terms
        .pin(path, &sha256)
        .map_err(|problem| refused_by(Rule::Pin, problem))?;
    let signed_by = terms
        .signature(path, &bytes)
        .map_err(|problem| refused_by(Rule::Signature, problem))?;
    let copy = store
        .keep(&bytes, &sha256)
        .map_err(|problem| refused_by(Rule::Store, problem))?;
    Ok(Vetted {
        path: copy.path().to_owned(),
        origin: path.to_owned(),
        sha256,
        manifest,
        size: bytes.len(),
        signed_by,
        copy: Arc::new(copy),
    })
}

/// Returns everything known about the file at `path`, even if it is refused.
pub fn inspect(path: &Path) -> Inspection {
    examine(path).0
}

/// Like [`inspect`], with the rules of a policy; pins identify the file by this `path`.
///
/// A rule that the policy does not require is reported as not checked, never as passed.
pub fn inspect_under(path: &Path, policy: &Policy) -> Inspection {
    let terms = policy.terms();
    let (mut inspection, bytes) = examine(path);
    let Some(sha256) = inspection.sha256 else {
        return inspection;
    };
    match terms.pin(path, &sha256) {
        Err(problem) => drop(inspection.judge::<()>(Rule::Pin, Err(problem))),
        Ok(()) => {
            let (outcome, note) = terms.describe_pin();
            inspection.note(Rule::Pin, outcome, note);
        }
    }
    match terms.signature(path, &bytes) {
        Err(problem) => drop(inspection.judge::<()>(Rule::Signature, Err(problem))),
        Ok(signer) => {
            let (outcome, note) = terms.describe_signature(path, signer);
            inspection.note(Rule::Signature, outcome, note);
        }
    }
    inspection
}

/// Applies the rules on content to any `bytes`; for the fuzz targets.
#[doc(hidden)]
pub fn inspect_bytes(bytes: &[u8]) -> Inspection {
    let mut inspection = Inspection::new(Path::new("bytes"));
    inspection.size = Some(bytes.len());
    judge_content(bytes, &mut inspection);
    inspection.leave_the_rest_open();
    inspection
}

/// The SHA-256 of a library; its `Display` is 64 hexadecimal digits, or as many as the precision requests.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&digits)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Applies all rules but the store's; also returns the bytes that were read.
fn examine(path: &Path) -> (Inspection, Vec<u8>) {
    let file = path.to_owned();
    let found = file_reader::within(path, VETTING_TIME, move || {
        let mut inspection = Inspection::new(&file);
        let bytes = read(&file, &mut inspection).unwrap_or_default();
        (inspection, bytes)
    });
    let (mut inspection, bytes) = found.unwrap_or_else(|error| {
        let mut inspection = Inspection::new(path);
        inspection.judge::<()>(Rule::RegularFile, Err(trust::unread(&error)));
        (inspection, Vec::new())
    });
    judge_content(&bytes, &mut inspection);
    inspection.leave_the_rest_open();
    (inspection, bytes)
}

/// Applies the rules on the file.
fn read(path: &Path, inspection: &mut Inspection) -> Option<Vec<u8>> {
    let opened = inspection.judge(Rule::RegularFile, trust::Opened::new(path))?;
    #[cfg(unix)]
    {
        let (file, who) = (&opened.metadata, trust::Who::runs_the_host());
        inspection.judge(Rule::Owner, trust::owner(path, file, who));
        inspection.judge(Rule::Permissions, trust::permissions(path, file, who));
        inspection.judge(Rule::Folder, trust::folders(path, Some(file), who));
    }
    let bytes = inspection.judge(Rule::Size, opened.read())?;
    inspection.size = Some(bytes.len());
    inspection.sha256 = Some(Hash::of(&bytes));
    Some(bytes)
}

/// Applies the rules on the content; accepts any bytes.
fn judge_content(bytes: &[u8], inspection: &mut Inspection) -> Option<()> {
    inspection.size?;
    let image = match image::Image::read(bytes) {
        Ok(image) => image,
        Err(problem) => return inspection.judge(Rule::Format, Err(problem)),
    };
    inspection.judge(Rule::Format, image.is_of_this_format());
    inspection.judge(Rule::Architecture, image.is_for_this_machine());
    let whole = inspection.judge(Rule::Segments, image.is_whole());
    inspection.judge(Rule::Kind, image.is_a_shared_library());
    let dependencies = linkage::without_neighbours(&inspection.file, bytes);
    inspection.judge(Rule::Dependencies, dependencies);
    let manifest = inspection.judge(Rule::Manifest, manifest::read(&image.record));
    inspection.no_manifest = whole.is_some() && image.record == image::Record::None;
    inspection.format = Some(image.format);
    inspection.machine = Some(image.machine);
    inspection.kind = Some(image.kind);
    inspection.libraries = image.needs;
    let manifest = manifest?;
    inspection.judge(
        Rule::ApiVersion,
        manifest::api_version(manifest.door, manifest.api, ApiVersion::CURRENT),
    );
    inspection.judge(Rule::PanicStrategy, manifest::panic_strategy(&manifest));
    inspection.judge(Rule::Door, manifest::door(&manifest, bytes));
    inspection.manifest = Some(manifest);
    Some(())
}

/// The longest time that reading one library may take; with full debug information it can have hundreds of MB.
const VETTING_TIME: Duration = Duration::from_secs(30);
