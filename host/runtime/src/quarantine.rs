//! The quarantine: plugins that may have crashed a host run in a worker, regardless of the config, until an operator
//! clears them.
//!
//! It is a file, `quarantine.toml` in the host's state folder, with a table per plugin id. Every query reads the file,
//! so that `conductor plugin clear` works with or without a running host, which notices at its next load of the plugin.
//! An innocent plugin in quarantine only loses microseconds per check, so every suspect is quarantined, and every
//! plugin while the file cannot be read.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use conductor_library::{
    Store,
    file_reader::{self, ReadError},
};
use conductor_types::Isolation;
use serde::{Deserialize, Serialize};

use super::call_journal::{CallJournal, CrashRecords, CrashSuspect};

/// The quarantine of one state folder.
#[derive(Clone, Debug)]
pub struct QuarantineFile {
    file: PathBuf,
}

/// The reason and time of a plugin's quarantine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineEntry {
    /// One readable line.
    pub reason: String,
    /// The time of its quarantine, for example `2026-11-24T18:30:00Z`.
    pub since: String,
    /// The platform of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The phase of the call: `load`, `create`, `check` or `drop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The hash of the loaded library, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The quarantine's file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}; let the host's user read it, or remove it if nothing is to be held", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: ReadError,
    },
    /// Its text is not a quarantine.
    #[error("{} is damaged: {}; mend it, or remove it if nothing is to be held", .file.display(), .source.message().escape_debug())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: toml::de::Error,
    },
    /// It cannot be written.
    #[error("{} cannot be written: {source}; let the host's user write to its folder, and make room there", .file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl QuarantineFile {
    /// Quarantines the plugins that dead hosts were calling, logs that, and creates the record of this host.
    ///
    /// Errors of either are only logged.
    #[must_use]
    pub fn open_with_record(store: &Store, now: SystemTime) -> (Self, Option<Arc<CallJournal>>) {
        let quarantine = Self::open(store.base());
        match quarantine.hold(CrashRecords::read(&store.records()), now) {
            Ok(lines) => lines.iter().for_each(|line| tracing::error!("{line}")),
            Err(error) => tracing::error!("{error}; until then no plugin runs in-process"),
        }
        let record = CallJournal::create(store.folder());
        if let Err(error) = &record {
            tracing::warn!(
                "calls are not recorded, so a plugin that crashes the host is not identified: {error}"
            );
        }
        (quarantine, record.ok().map(Arc::new))
    }

    /// Returns the quarantine of this state folder, which need not contain a file yet.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join(FILE),
        }
    }

    /// Returns every quarantined plugin, by id.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn all(&self) -> Result<BTreeMap<String, QuarantineEntry>, QuarantineError> {
        let text = match file_reader::read_text(&self.file, MAX_SIZE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => {
                let file = self.file.clone();
                return Err(QuarantineError::Unreadable { file, source });
            }
        };
        toml::from_str(&text).map_err(|source| QuarantineError::Damaged {
            file: self.file.clone(),
            source,
        })
    }

    /// Returns the reason for a plugin's quarantine, if any.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn is_quarantined(&self, id: &str) -> Result<Option<QuarantineEntry>, QuarantineError> {
        Ok(self.all()?.remove(id))
    }

    /// Returns the isolation of a plugin with this configured one, and the reason if they differ.
    #[must_use]
    pub fn isolation(&self, id: &str, configured: Isolation) -> (Isolation, Option<String>) {
        if configured == Isolation::Process {
            return (configured, None);
        }
        match self.is_quarantined(id) {
            Ok(None) => (configured, None),
            Ok(Some(entry)) => (Isolation::Process, Some(entry.told_of(id))),
            Err(error) => (
                Isolation::Process,
                Some(format!("{error}; until then no plugin runs in-process")),
            ),
        }
    }

    /// Quarantines a plugin; replaces its previous entry.
    ///
    /// # Errors
    /// When the file cannot be read or written; it then remains unchanged.
    pub fn add(&self, id: &str, entry: QuarantineEntry) -> Result<(), QuarantineError> {
        self.change(|held| {
            held.insert(id.to_owned(), entry);
        })
    }

    /// Quarantines every suspect of dead hosts, and returns a line for each; then discards the records.
    ///
    /// # Errors
    /// As [`Self::add`]; the records then wait for the next start.
    pub fn hold(
        &self,
        records: CrashRecords,
        now: SystemTime,
    ) -> Result<Vec<String>, QuarantineError> {
        if !records.suspects.is_empty() {
            self.change(|held| {
                for suspect in &records.suspects {
                    held.insert(suspect.plugin.clone(), QuarantineEntry::of(suspect, now));
                }
            })?;
        }
        let line = |suspect: &CrashSuspect| {
            format!(
                "{suspect}; it runs in a worker until conductor plugin clear {}",
                suspect.plugin
            )
        };
        let lines = records.suspects.iter().map(line).collect();
        records.discard();
        Ok(lines)
    }

    /// Releases a plugin; returns its entry, if it was quarantined.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn clear(&self, id: &str) -> Result<Option<QuarantineEntry>, QuarantineError> {
        self.change(|held| held.remove(id))
    }

    /// Reads, changes and writes the file, one process at a time.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, QuarantineEntry>) -> T,
    ) -> Result<T, QuarantineError> {
        let cannot = |source: io::Error| QuarantineError::Unwritable {
            file: self.file.clone(),
            source,
        };
        let _lock = self.lock().map_err(cannot)?;
        let before = self.all()?;
        let mut held = before.clone();
        let answer = change(&mut held);
        if held != before {
            self.write(&held).map_err(cannot)?;
        }
        Ok(answer)
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.file.with_extension("lock");
        let lock = match File::open(&path) {
            // Read access suffices: an operator running as root may have created it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = OpenOptions::new().append(true).create(true).open(&path)?;
                let_all_read(&new)?;
                new
            }
            opened => opened?,
        };
        // Any user with read access to the file can lock it, so the wait is limited.
        let mut waited = Duration::ZERO;
        while let Err(error) = lock.try_lock() {
            match error {
                TryLockError::WouldBlock if waited < file_reader::PATIENCE => {
                    thread::sleep(LOCK_POLL);
                    waited += LOCK_POLL;
                }
                error => return Err(error.into()),
            }
        }
        Ok(lock)
    }

    /// Written under another name first: a reader at the same time, or after a crash, finds the old file or the new
    /// one.
    fn write(&self, held: &BTreeMap<String, QuarantineEntry>) -> io::Result<()> {
        let text = toml::to_string(held).map_err(io::Error::other)?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let mut new = tempfile::Builder::new()
            .prefix(".quarantine-")
            .tempfile_in(folder)?;
        let_all_read(new.as_file())?;
        new.write_all(HEADER.as_bytes())?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(&self.file)?;
        // The new name has to survive a power loss too; not every OS can sync a folder.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    }
}

/// The host's user must be able to read the file after root cleared a plugin, regardless of root's umask.
fn let_all_read(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

impl QuarantineEntry {
    /// Returns an entry with only a reason.
    #[must_use]
    pub fn new(reason: impl Into<String>, now: SystemTime) -> Self {
        Self {
            reason: reason.into(),
            since: humantime::format_rfc3339_seconds(now).to_string(),
            platform: None,
            phase: None,
            sha256: None,
        }
    }

    /// Returns the entry of a suspect.
    #[must_use]
    pub fn of(suspect: &CrashSuspect, now: SystemTime) -> Self {
        Self {
            platform: suspect.platform.clone(),
            phase: Some(suspect.phase.name().to_owned()),
            sha256: Some(suspect.sha256.to_string()),
            ..Self::new(suspect.to_string(), now)
        }
    }

    /// Describes the quarantined plugin in one line.
    #[must_use]
    pub fn told_of(&self, id: &str) -> String {
        format!(
            "quarantined since {}: {}; it runs in a worker until conductor plugin clear {id}",
            self.since, self.reason
        )
    }
}

const FILE: &str = "quarantine.toml";
/// In bytes; enough for thousands of plugins.
const MAX_SIZE: u64 = 4 << 20;
const LOCK_POLL: Duration = Duration::from_millis(10);
const HEADER: &str =
    "# Plugins that run in a worker whatever the config says, as they may have taken a host down.
# `conductor plugin clear NAME` takes one out.

";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(reason: &str) -> QuarantineEntry {
        QuarantineEntry {
            platform: Some("chat".to_owned()),
            phase: Some("check".to_owned()),
            sha256: Some("00".repeat(32)),
            ..QuarantineEntry::new(reason, SystemTime::UNIX_EPOCH)
        }
    }

    #[test]
    fn who_is_held_stays_so_until_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = QuarantineFile::open(dir.path());
        let by_another_host = QuarantineFile::open(dir.path());
        assert_eq!(quarantine.all().unwrap(), BTreeMap::new());
        quarantine
            .add("http", entry("a \"quoted\"\nreason"))
            .unwrap();
        quarantine.add("tcp", entry("another")).unwrap();
        let held = by_another_host.is_quarantined("http").unwrap().unwrap();
        assert_eq!(held, entry("a \"quoted\"\nreason"));
        let isolation = |id| quarantine.isolation(id, Isolation::InProcess).0;
        assert_eq!(isolation("http"), Isolation::Process);
        assert_eq!(isolation("disk"), Isolation::InProcess);
        assert_eq!(by_another_host.clear("http").unwrap(), Some(held));
        assert_eq!(isolation("http"), Isolation::InProcess);
        assert_eq!(isolation("tcp"), Isolation::Process);
        assert_eq!(quarantine.clear("http").unwrap(), None);
    }

    #[test]
    fn a_damaged_file_lets_nobody_in_and_is_not_overwritten() {
        for damaged in [
            "[http",
            "[http]\nreason = 3\n",
            "\u{1b}[31m",
            "[http]\nreason = \"\"\nsince = \"\"\nnew = 1\n",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(FILE);
            fs::write(&file, damaged).unwrap();
            let quarantine = QuarantineFile::open(dir.path());
            let error = quarantine.add("http", entry("x")).unwrap_err().to_string();
            assert!(error.contains("quarantine.toml is damaged"), "{error}");
            assert!(error.contains("mend it, or remove it"), "{error}");
            assert!(!error.contains(char::is_control), "{error:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
            let (isolation, why) = quarantine.isolation("disk", Isolation::InProcess);
            assert_eq!(isolation, Isolation::Process);
            assert!(
                why.unwrap()
                    .contains("until then no plugin runs in-process")
            );
            let (isolation, why) = quarantine.isolation("disk", Isolation::Process);
            assert_eq!((isolation, why), (Isolation::Process, None));
        }
    }

    #[test]
    fn hosts_that_write_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for n in 0..8 {
                let quarantine = QuarantineFile::open(dir.path());
                scope.spawn(move || quarantine.add(&format!("p{n}"), entry("x")).unwrap());
            }
        });
        assert_eq!(QuarantineFile::open(dir.path()).all().unwrap().len(), 8);
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 2, "the file and its lock");
    }

    #[test]
    #[cfg(unix)]
    fn what_root_has_written_can_be_read_by_the_hosts_user() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let quarantine = QuarantineFile::open(dir.path());
        quarantine.add("http", entry("x")).unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().mode();
            assert_eq!(mode & 0o444, 0o444, "{mode:o}");
        }
    }
}
