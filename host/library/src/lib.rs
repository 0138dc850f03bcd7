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
mod cures;
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
#[cfg(windows)]
mod security;
mod signatures;
mod stamp;
mod state_lock;
mod store;
#[cfg(test)]
mod tests;
mod trust;
mod watch;

pub use catalog::{Catalog, FoundLibraries};
pub use changes::{CatalogChanges, PluginChange};
pub use exports::exports;
pub use folders::{default_folders, program_folder};
pub use image::{ObjectFormat, ObjectPurpose, TargetMachine};
pub use inspection::{LibraryInspection, RuleOutcome, RuleVerdict};
pub use language::PluginLanguage;
pub use pins::{LibraryPins, PinChange};
use policy::PinnedPolicy;
pub use policy::TrustPolicy;
pub use refusal::{FileRefusal, VettingRule};
pub use scan::{CandidateFiles, candidates};
#[cfg(windows)]
pub use security::{close_process, user_sid};
pub use signatures::{KeyId, TrustedSigner};
pub use state_lock::{StateLock, StateLockError};
pub use store::{CALLS, FolderLock, StateFolder, Store};
pub use watch::FolderWatch;

/// A library that passed every rule, and the host's private copy of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vetted {
    /// The private copy: the only path that may be loaded.
    pub path: PathBuf,
    /// The operator's file; for messages.
    pub origin: PathBuf,
    /// The hash of its content.
    pub sha256: LibraryHash,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub size: usize,
    /// The key that signed it, if the host has trusted keys.
    pub signed_by: Option<KeyId>,
    /// Keeps the private copy in place while this library is in use.
    copy: Arc<store::CopyHolder>,
}

impl Vetted {
    /// Verifies that the private copy has the vetted content, and writes it again if a cleaner of temporary files or
    /// another process removed it. Call it before each load.
    ///
    /// # Errors
    /// When it cannot be written, or the original file has changed as well.
    pub fn restore_copy(&self) -> Result<(), FileRefusal> {
        match self.copy.verify_or_restore(&self.origin) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                plugin = %self.manifest.id,
                "the private copy of {} was removed or changed while the host was running; it was copied again",
                refusal::printable_path(&self.origin)
            ),
            Err(problem) => {
                return Err(FileRefusal::new(&self.origin, VettingRule::Store, problem));
            }
        }
        Ok(())
    }
}

#[cfg(any(test, feature = "testing"))]
impl Vetted {
    /// Returns a library that does not exist, whose hash is this byte 32 times.
    #[must_use]
    pub fn made_up(id: &str, hash: u8) -> Self {
        let holder = store::CopyHolder::made_up();
        Self {
            path: holder.path().to_owned(),
            origin: PathBuf::from(format!("/plugins/{id}.so")),
            sha256: LibraryHash([hash; 32]),
            manifest: Manifest {
                api: ApiVersion::CURRENT,
                door: conductor_plugin_api::manifest::Door::Rust,
                panics_unwind: true,
                id: id.to_owned(),
                version: format!("1.0.{hash}"),
                name: id.to_owned(),
                needs: Vec::new(),
                description: String::new(),
                author: String::new(),
                licence: String::new(),
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
pub fn vet(path: &Path, policy: &TrustPolicy, store: &Store) -> Result<Vetted, FileRefusal> {
    vet_under(path, &policy.terms(), store)
}

fn vet_under(path: &Path, terms: &PinnedPolicy<'_>, store: &Store) -> Result<Vetted, FileRefusal> {
    let (inspection, bytes) = examine(path);
    if let Some(refusal) = inspection.refusal() {
        return Err(refusal);
    }
    let (Some(sha256), Some(manifest)) = (inspection.sha256, inspection.manifest) else {
        unreachable!("what has no content or no manifest is refused above");
    };
    let id = manifest.id.clone();
    let refused_by = |rule, problem| FileRefusal::new(path, rule, problem).of_plugin(&id);
    terms
        .pin(path, &sha256)
        .map_err(|problem| refused_by(VettingRule::Pin, problem))?;
    let signed_by = terms
        .signature(path, &bytes)
        .map_err(|problem| refused_by(VettingRule::Signature, problem))?;
    let copy = store
        .keep(&bytes, &sha256)
        .map_err(|problem| refused_by(VettingRule::Store, problem))?;
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
pub fn inspect(path: &Path) -> LibraryInspection {
    examine(path).0
}

/// Like [`inspect`], with the rules of a policy; pins identify the file by this `path`.
///
/// A rule that the policy does not require is reported as not checked, never as passed.
pub fn inspect_under(path: &Path, policy: &TrustPolicy) -> LibraryInspection {
    let terms = policy.terms();
    let (mut inspection, bytes) = examine(path);
    let Some(sha256) = inspection.sha256 else {
        return inspection;
    };
    match terms.pin(path, &sha256) {
        Err(problem) => drop(inspection.judge::<()>(VettingRule::Pin, Err(problem))),
        Ok(()) => {
            let (outcome, note) = terms.describe_pin();
            inspection.note(VettingRule::Pin, outcome, note);
        }
    }
    match terms.signature(path, &bytes) {
        Err(problem) => drop(inspection.judge::<()>(VettingRule::Signature, Err(problem))),
        Ok(signer) => {
            let (outcome, note) = terms.describe_signature(path, signer);
            inspection.note(VettingRule::Signature, outcome, note);
        }
    }
    inspection
}

/// Applies the rules on content to any `bytes`; for the fuzz targets.
#[doc(hidden)]
pub fn inspect_bytes(bytes: &[u8]) -> LibraryInspection {
    let mut inspection = LibraryInspection::new(Path::new("bytes"));
    inspection.size = Some(bytes.len());
    judge_content(bytes, &mut inspection);
    inspection.leave_the_rest_open();
    inspection
}

/// The SHA-256 of a library; its `Display` is 64 hexadecimal digits, or as many as the precision requests.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LibraryHash(pub [u8; 32]);

impl LibraryHash {
    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for LibraryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&digits)
    }
}

impl fmt::Debug for LibraryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LibraryHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Applies all rules but the store's; also returns the bytes that were read.
fn examine(path: &Path) -> (LibraryInspection, Vec<u8>) {
    let file = path.to_owned();
    let found = file_reader::within(path, VETTING_TIME, move || {
        let mut inspection = LibraryInspection::new(&file);
        let bytes = read(&file, &mut inspection).unwrap_or_default();
        (inspection, bytes)
    });
    let (mut inspection, bytes) = found.unwrap_or_else(|error| {
        let mut inspection = LibraryInspection::new(path);
        inspection.judge::<()>(VettingRule::RegularFile, Err(trust::unread(&error)));
        (inspection, Vec::new())
    });
    judge_content(&bytes, &mut inspection);
    inspection.leave_the_rest_open();
    (inspection, bytes)
}

/// Applies the rules on the file.
fn read(path: &Path, inspection: &mut LibraryInspection) -> Option<Vec<u8>> {
    let opened = inspection.judge(VettingRule::RegularFile, trust::OpenedFile::new(path))?;
    let who = trust::TrustedUser::runs_the_host();
    inspection.judge(VettingRule::Owner, trust::owner(path, &opened, &who));
    inspection.judge(
        VettingRule::Permissions,
        trust::permissions(path, &opened, &who),
    );
    let folders = trust::folders(path, Some(&opened), &who);
    inspection.judge(VettingRule::Folder, folders);
    let bytes = inspection.judge(VettingRule::Size, opened.read())?;
    inspection.size = Some(bytes.len());
    inspection.sha256 = Some(LibraryHash::of(&bytes));
    Some(bytes)
}

/// Applies the rules on the content; accepts any bytes.
fn judge_content(bytes: &[u8], inspection: &mut LibraryInspection) -> Option<()> {
    inspection.size?;
    let image = match image::ObjectHeaders::read(bytes) {
        Ok(image) => image,
        Err(problem) => return inspection.judge(VettingRule::Format, Err(problem)),
    };
    inspection.judge(VettingRule::Format, image.is_of_this_format());
    inspection.judge(VettingRule::Architecture, image.is_for_this_machine());
    let whole = inspection.judge(VettingRule::Segments, image.is_whole());
    inspection.judge(VettingRule::Kind, image.is_a_shared_library());
    let dependencies = linkage::without_neighbours(&inspection.file, bytes);
    inspection.judge(VettingRule::Dependencies, dependencies);
    let manifest = inspection.judge(VettingRule::Manifest, manifest::read(&image.record));
    inspection.no_manifest = whole.is_some() && image.record == image::ManifestSection::None;
    inspection.format = Some(image.format);
    inspection.machine = Some(image.machine);
    inspection.kind = Some(image.kind);
    inspection.libraries = image.needs;
    let manifest = manifest?;
    inspection.judge(
        VettingRule::ApiVersion,
        manifest::api_version(manifest.door, manifest.api, ApiVersion::CURRENT),
    );
    inspection.judge(
        VettingRule::PanicStrategy,
        manifest::panic_strategy(&manifest),
    );
    inspection.judge(VettingRule::Door, manifest::door(&manifest, bytes));
    inspection.manifest = Some(manifest);
    Some(())
}

/// The longest time that reading one library may take; with full debug information it can have hundreds of MB.
const VETTING_TIME: Duration = Duration::from_secs(30);
