//! The refusal of a library: one rule, the finding, and the fix.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

pub(super) use crate::printable::{name as printable, path as printable_path};

/// The refusal of a file or folder; its `Display` is one line of printable text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileRefusal {
    /// The file or folder, as the operator named it.
    pub file: PathBuf,
    /// The first rule it violates.
    pub rule: VettingRule,
    /// The id of the plugin in it, if its manifest could be read.
    pub id: Option<Box<str>>,
    /// The finding; printable.
    pub found: String,
    /// The fix; printable.
    pub cure: String,
    /// The library that remains in use; printable.
    pub stays: Option<Box<str>>,
    pub(super) no_manifest: bool,
}

impl FileRefusal {
    pub(super) fn new(file: &Path, rule: VettingRule, problem: RuleViolation) -> Self {
        Self {
            file: file.to_owned(),
            rule,
            id: None,
            found: problem.found,
            cure: problem.cure,
            stays: None,
            no_manifest: false,
        }
    }

    /// Adds the id of the plugin in the library.
    pub(super) fn of_plugin(self, id: &str) -> Self {
        Self {
            id: Some(id.into()),
            ..self
        }
    }

    /// Returns `true` if this concerns the library of plugin `id`: by its manifest, or by its name if that was not
    /// read.
    pub(super) fn is_about(&self, id: &str) -> bool {
        let named = |stem: &str| {
            let bare = stem.strip_prefix("lib").unwrap_or(stem);
            let bare = bare.strip_prefix("conductor_plugin_").unwrap_or(bare);
            bare.replace('_', "-") == id
        };
        match &self.id {
            Some(own) => **own == *id,
            None => self
                .file
                .file_stem()
                .and_then(OsStr::to_str)
                .is_some_and(named),
        }
    }

    /// Returns `true` if the file is an intact library without a manifest.
    ///
    /// In a folder that also contains other libraries, for example the one of the host's own binary, such a file does
    /// not claim to be a plugin, and may be ignored silently.
    pub fn is_not_a_plugin(&self) -> bool {
        self.no_manifest
    }
}

impl fmt::Display for FileRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable_path(&self.file);
        let (rule, found, cure) = (self.rule, &self.found, &self.cure);
        write!(f, "{file}: refused by rule {rule}: {found}; {cure}")?;
        match &self.stays {
            Some(what) => write!(f, "; {what} stays in use"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FileRefusal {}

/// The rules for libraries, in the order of checking.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum VettingRule {
    /// It exists, is a regular file, and is readable.
    RegularFile,
    /// It belongs to root or to the host's user; on Windows to that user, SYSTEM, Administrators or TrustedInstaller.
    Owner,
    /// No other user can write to it.
    Permissions,
    /// No other user can replace it by another file or link.
    Folder,
    /// It is small enough to be read into memory.
    Size,
    /// It is an object file of this OS's kind.
    Format,
    /// It is built for this processor and OS.
    Architecture,
    /// All parts in its headers are inside the file.
    Segments,
    /// It is a shared library.
    Kind,
    /// It needs no library from its own folder.
    Dependencies,
    /// It has exactly one manifest, which is well-formed.
    Manifest,
    /// It was built for an API version that this host supports.
    ApiVersion,
    /// Its panics unwind, so that they can be caught.
    PanicStrategy,
    /// It has an ABI that this host supports.
    Door,
    /// If libraries are pinned, it is one of them, and unchanged.
    Pin,
    /// If signatures are checked, it has a valid one by a trusted key.
    Signature,
    /// The host can keep a private copy.
    Store,
    /// No other library in the plugin folders has its id.
    Id,
}

impl VettingRule {
    /// The rules on a single file: those that need neither a config nor other files.
    pub(super) const ON_FILES: [Self; 14] = [
        Self::RegularFile,
        Self::Owner,
        Self::Permissions,
        Self::Folder,
        Self::Size,
        Self::Format,
        Self::Architecture,
        Self::Segments,
        Self::Kind,
        Self::Dependencies,
        Self::Manifest,
        Self::ApiVersion,
        Self::PanicStrategy,
        Self::Door,
    ];

    /// The rule's short name, which stays the same in later versions.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RegularFile => "regular-file",
            Self::Owner => "owner",
            Self::Permissions => "permissions",
            Self::Folder => "folder",
            Self::Size => "size",
            Self::Format => "format",
            Self::Architecture => "architecture",
            Self::Segments => "segments",
            Self::Kind => "kind",
            Self::Dependencies => "dependencies",
            Self::Manifest => "manifest",
            Self::ApiVersion => "api-version",
            Self::PanicStrategy => "panic-strategy",
            Self::Door => "door",
            Self::Pin => "pin",
            Self::Signature => "signature",
            Self::Store => "store",
            Self::Id => "id",
        }
    }
}

impl fmt::Display for VettingRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for VettingRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A violation of a rule, not yet tied to a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct RuleViolation {
    pub(super) found: String,
    pub(super) cure: String,
}

impl RuleViolation {
    pub(super) fn new(found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            cure: cure.into(),
        }
    }
}

/// Quotes a path for use on a command line.
pub(super) fn quoted(path: &Path) -> String {
    let marks = if cfg!(windows) {
        r"/._-+=:@,\"
    } else {
        "/._-+=:@%,"
    };
    let text = printable_path(path);
    if text
        .chars()
        .all(|c| c.is_alphanumeric() || marks.contains(c))
    {
        text
    } else if cfg!(windows) {
        // No name has a quotation mark there.
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_file_is_known_by_its_manifest_or_else_by_its_name() {
        let refusal = |file: &str| {
            let problem = RuleViolation::new("found", "cure");
            FileRefusal::new(Path::new(file), VettingRule::Owner, problem)
        };
        for file in [
            "/p/libconductor_plugin_my_disk.so",
            "/p/my-disk.so",
            "/p/libmy_disk.so",
        ] {
            assert!(refusal(file).is_about("my-disk"), "{file}");
            assert!(!refusal(file).of_plugin("tape").is_about("my-disk"));
        }
        assert!(!refusal("/p/disk.so").is_about("my-disk"));
        assert!(refusal("/p/x.so").of_plugin("my-disk").is_about("my-disk"));
    }

    #[test]
    #[cfg(windows)]
    fn commands_in_cures_can_be_pasted() {
        assert_eq!(quoted(Path::new(r"C:\a\b-1.dll")), r"C:\a\b-1.dll");
        assert_eq!(quoted(Path::new(r"C:\a b\c.dll")), r#""C:\a b\c.dll""#);
    }

    #[test]
    #[cfg(unix)]
    fn commands_in_cures_can_be_pasted() {
        assert_eq!(quoted(Path::new("/a/b-1.so")), "/a/b-1.so");
        assert_eq!(quoted(Path::new("/a b/it's.so")), "'/a b/it'\\''s.so'");
    }
}
