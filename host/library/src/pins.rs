//! `plugins.lock`: the libraries that may be loaded, by path and hash, if the operator pins them.
//!
//! The file is TOML: a table `[libraries]` of SHA-256 (64 hexadecimal digits) by path, relative to the file's folder.
//! Without the file, every library that passes the other rules is accepted. If it exists and cannot be read, none is: a
//! damaged lock file must not disable the check.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    LibraryHash, Vetted,
    refusal::{RuleViolation, printable, quoted},
};
use crate::file_reader;

/// The content of `plugins.lock` when it was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LibraryPins {
    file: PathBuf,
    state: LockFileState,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum LockFileState {
    /// The file does not exist: nothing is pinned.
    Absent,
    Read(LockFile),
    Unreadable(String),
}

/// The file's content.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    #[serde(default)]
    libraries: BTreeMap<String, String>,
}

/// The change of a library's pin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PinChange {
    /// Newly pinned.
    Added,
    /// Pinned with another hash before.
    Changed,
    /// Already pinned with this hash.
    Unchanged,
    /// The library is gone, and its pin was removed.
    Removed,
}

impl LibraryPins {
    /// Returns an empty set of pins.
    pub fn none() -> Self {
        Self {
            file: PathBuf::new(),
            state: LockFileState::Absent,
        }
    }

    /// Reads `file`, which need not exist.
    pub fn read(file: &Path) -> Self {
        let state = match file_reader::read_text(file, MAX_SIZE) {
            Ok(text) => match toml::from_str(&text) {
                Ok(lock) => LockFileState::Read(LockFile::with_slashes(lock)),
                Err(error) => LockFileState::Unreadable(error.message().to_owned()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => LockFileState::Absent,
            Err(error) => LockFileState::Unreadable(error.to_string()),
        };
        Self {
            file: file.to_owned(),
            state,
        }
    }

    /// Returns `true` if the lock file exists.
    pub(super) fn are_present(&self) -> bool {
        self.state != LockFileState::Absent
    }

    /// Requires the library at `path`, with this hash, to be pinned.
    pub(super) fn check(&self, path: &Path, sha256: &LibraryHash) -> Result<(), RuleViolation> {
        let lock = quoted(&self.file);
        let pinned = match &self.state {
            LockFileState::Absent => return Ok(()),
            LockFileState::Unreadable(why) => {
                return Err(RuleViolation::new(
                    format!(
                        "{lock} cannot be read, so nothing is taken: {}",
                        printable(why.as_bytes())
                    ),
                    "mend it, or remove it and run conductor plugin pin",
                ));
            }
            LockFileState::Read(lock) => lock.libraries.get(&self.key(path)),
        };
        match pinned {
            Some(pinned) if *pinned == sha256.to_string() => Ok(()),
            Some(pinned) => Err(RuleViolation::new(
                format!(
                    "its SHA-256 is {sha256:.12}…, and {lock} pins {:.12}…",
                    printable(pinned.as_bytes())
                ),
                "put the pinned library back, or run conductor plugin pin if the new one is wanted",
            )),
            None => Err(RuleViolation::new(
                format!("{lock} does not name it"),
                "take it away, or run conductor plugin pin if it is wanted",
            )),
        }
    }

    /// Replaces the file by one that pins exactly `libraries`; returns the changes, by path.
    ///
    /// # Errors
    /// When the file cannot be written; the old one remains unchanged.
    pub fn replace(&self, libraries: &[Arc<Vetted>]) -> io::Result<BTreeMap<String, PinChange>> {
        let libraries: BTreeMap<_, _> = libraries
            .iter()
            .map(|library| (self.key(&library.origin), library.sha256.to_string()))
            .collect();
        let none = BTreeMap::new();
        let before = match &self.state {
            LockFileState::Read(lock) => &lock.libraries,
            LockFileState::Absent | LockFileState::Unreadable(_) => &none,
        };
        let change = |(path, hash): (&String, &String)| {
            let change = match before.get(path) {
                None => PinChange::Added,
                Some(known) if known == hash => PinChange::Unchanged,
                Some(_) => PinChange::Changed,
            };
            (path.clone(), change)
        };
        let gone = before
            .keys()
            .filter(|path| !libraries.contains_key(*path))
            .map(|path| (path.clone(), PinChange::Removed));
        let changes = libraries.iter().map(change).chain(gone).collect();
        let text = toml::to_string(&LockFile { libraries }).map_err(io::Error::other)?;
        // Written under another name first, so that a host reading at the same time finds the old file or the new one.
        let folder = match self.file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut new = tempfile::Builder::new();
        #[cfg(unix)]
        new.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut new = new.prefix(".plugins.lock-").tempfile_in(folder)?;
        new.write_all(HEADER.as_bytes())?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(&self.file)?;
        Ok(changes)
    }

    /// Returns `true` if the pins are known, also if there are none.
    pub(super) fn are_readable(&self) -> bool {
        !matches!(self.state, LockFileState::Unreadable(_))
    }

    /// Returns the lock file's path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the library's key in the file.
    fn key(&self, path: &Path) -> String {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let path = path.strip_prefix(folder).unwrap_or(path);
        with_slashes(path.to_string_lossy().into_owned())
    }
}

impl PinChange {
    /// Returns its name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
        }
    }
}

impl LockFile {
    fn with_slashes(self) -> Self {
        let libraries = self.libraries.into_iter();
        Self {
            libraries: libraries
                .map(|(path, hash)| (with_slashes(path), hash))
                .collect(),
        }
    }
}

/// Returns a path with `/` where Windows separates folders by `\`, so that a lock file is the same on every OS.
fn with_slashes(path: String) -> String {
    if cfg!(windows) {
        path.replace('\\', "/")
    } else {
        path
    }
}

/// In bytes; enough for thousands of libraries.
const MAX_SIZE: u64 = 4 << 20;
const HEADER: &str =
    "# The libraries this host may load, each with its SHA-256; written by `conductor plugin pin`.
# While this file is there, any other library is refused.

";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ONE: LibraryHash = LibraryHash([1; 32]);
    const TWO: LibraryHash = LibraryHash([2; 32]);

    fn pins(text: &str) -> LibraryPins {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins.lock");
        fs::write(&file, text).unwrap();
        LibraryPins {
            file: "/etc/conductor/plugins.lock".into(),
            ..LibraryPins::read(&file)
        }
    }

    fn found(pins: &LibraryPins, path: &str, hash: LibraryHash) -> Option<String> {
        let problem = pins.check(Path::new(path), &hash).err()?;
        Some(format!("{}; {}", problem.found, problem.cure))
    }

    #[test]
    fn only_what_is_pinned_is_taken_and_only_as_it_was_pinned() {
        let pins = pins(&format!("[libraries]\n\"plugins/a.so\" = \"{ONE}\"\n"));
        assert_eq!(found(&pins, "/etc/conductor/plugins/a.so", ONE), None);
        let changed = found(&pins, "/etc/conductor/plugins/a.so", TWO).unwrap();
        insta::assert_snapshot!(changed, @"its SHA-256 is 020202020202…, and /etc/conductor/plugins.lock pins 010101010101…; put the pinned library back, or run conductor plugin pin if the new one is wanted");
        let unknown = found(&pins, "/etc/conductor/plugins/b.so", ONE).unwrap();
        insta::assert_snapshot!(unknown, @"/etc/conductor/plugins.lock does not name it; take it away, or run conductor plugin pin if it is wanted");
    }

    #[test]
    #[cfg(windows)]
    fn pins_are_written_with_slashes_and_read_with_either() {
        for written in [r"'plugins\a.dll'", "'plugins/a.dll'"] {
            let pins = pins(&format!("[libraries]\n{written} = \"{ONE}\"\n"));
            assert_eq!(found(&pins, r"/etc/conductor\plugins\a.dll", ONE), None);
            assert!(found(&pins, r"/etc/conductor\plugins\b.dll", ONE).is_some());
        }
        let key = pins("").key(Path::new(r"/etc/conductor\plugins\a.dll"));
        assert_eq!(key, "plugins/a.dll");
    }

    #[test]
    fn without_the_file_everything_is_taken_and_with_a_damaged_one_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let absent = LibraryPins::read(&folder.path().join("plugins.lock"));
        assert_eq!(found(&absent, "/a.so", ONE), None);
        for damaged in [
            "[libraries",
            "[librarys]\n",
            "[libraries]\n\"/a.so\" = 1\n",
            "\u{1b}[31m",
        ] {
            let refusal = found(&pins(damaged), "/a.so", ONE).unwrap();
            assert!(
                refusal.contains("cannot be read, so nothing is taken"),
                "{refusal}"
            );
            assert!(!refusal.contains(char::is_control), "{refusal:?}");
        }
        assert!(
            found(&pins(""), "/a.so", ONE).is_some(),
            "an empty lock pins nothing, and so lets nothing in"
        );
    }
}
