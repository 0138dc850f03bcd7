//! From a path to a vetted private copy of a library, without running a byte of it.
//!
//! [`candidates`] lists what might be a plugin, [`vet`] takes or refuses one file, [`inspect`] tells all that is known
//! of it. What is loaded later is always [`Vetted::path`], the copy in the host's [`Store`], never the operator's file.
//!
//! Vetting keeps out what would kill the loader and what others could have put there. It cannot tell whether the code
//! of a library behaves, nor find all damage: the first load belongs into a process that may die.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use conductor_plugin_api::manifest::{ApiVersion, Manifest};
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

mod catalog;
mod image;
mod inspection;
mod manifest;
mod pins;
mod refusal;
mod scan;
mod store;
#[cfg(test)]
mod tests;
mod trust;

pub use catalog::Catalog;
pub use image::{Format, Kind, Machine};
pub use inspection::{Inspection, Outcome, Verdict};
pub use pins::{Change, Pins};
pub use refusal::{Refusal, Rule};
pub use scan::{Candidates, candidates};
pub use store::Store;

/// A library that keeps every rule, and the host's private copy of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vetted {
    /// The private copy: the one path that may be loaded.
    pub path: PathBuf,
    /// Where the operator put it; for people.
    pub origin: PathBuf,
    /// The hash of its content.
    pub sha256: Hash,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its size in bytes.
    pub size: usize,
}

/// Looks at the library at `path`, rule by rule, and makes a private copy of it.
///
/// # Errors
/// The first rule it breaks.
pub fn vet(path: &Path, pins: &Pins, store: &Store) -> Result<Vetted, Refusal> {
    let (inspection, bytes) = examine(path);
    if let Some(refusal) = inspection.refusal() {
        return Err(refusal);
    }
    let (Some(sha256), Some(manifest)) = (inspection.sha256, inspection.manifest) else {
        unreachable!("what has no content or no manifest is refused above");
    };
    pins.check(path, &sha256)
        .map_err(|problem| Refusal::new(path, Rule::Pin, problem))?;
    let copy = store
        .keep(&bytes, &sha256)
        .map_err(|problem| Refusal::new(path, Rule::Store, problem))?;
    Ok(Vetted {
        path: copy,
        origin: path.to_owned(),
        sha256,
        manifest,
        size: bytes.len(),
    })
}

/// Tells all that is known of the file at `path`, also of one that is refused.
pub fn inspect(path: &Path) -> Inspection {
    examine(path).0
}

/// The SHA-256 of a library; its `Display` is 64 hexadecimal digits, or as many as the precision asks for.
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

/// All rules but the store's, and the bytes they were asked about.
fn examine(path: &Path) -> (Inspection, Vec<u8>) {
    let mut inspection = Inspection::new(path);
    let bytes = read(path, &mut inspection).unwrap_or_default();
    judge_content(&bytes, &mut inspection);
    inspection.leave_the_rest_open();
    (inspection, bytes)
}

/// The rules on the file.
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

/// The rules on the content; any bytes at all are safe to pass.
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
    let manifest = inspection.judge(Rule::Manifest, manifest::read(&image.record));
    inspection.no_manifest = whole.is_some() && image.record == image::Record::None;
    inspection.format = Some(image.format);
    inspection.machine = Some(image.machine);
    inspection.kind = Some(image.kind);
    inspection.libraries = image.needs;
    let manifest = manifest?;
    inspection.judge(
        Rule::ApiVersion,
        manifest::api_version(manifest.api, ApiVersion::CURRENT),
    );
    inspection.judge(Rule::PanicStrategy, manifest::panic_strategy(&manifest));
    inspection.judge(Rule::Door, manifest::door(&manifest));
    inspection.manifest = Some(manifest);
    Some(())
}
