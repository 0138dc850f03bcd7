//! The quarantine: plugins that may have taken a host down run in a worker, whatever the config says, until an operator
//! clears them.
//!
//! It is a file, `quarantine.toml` in the host's state folder, a table per plugin id. Every question reads it anew, so
//! that `conductor plugin clear` works with or without a running host, which notices at its next load of the plugin.
//! A plugin that is held for no fault of its own loses microseconds a check and nothing else; so whoever is suspected is
//! held, and while the file cannot be read, everyone is.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use conductor_library::{Store, file_reader};
use conductor_types::Isolation;
use serde::{Deserialize, Serialize};

use super::call_journal::{Record, Remains, Suspect};

/// The quarantine of one state folder.
#[derive(Clone, Debug)]
pub struct Quarantine {
    file: PathBuf,
}

/// Why a plugin is held, and since when.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// One line for people.
    pub reason: String,
    /// When it was put there, as in `2026-11-24T18:30:00Z`.
    pub since: String,
    /// The platform that the plugin was called for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What the call was: `load`, `create`, `check` or `drop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Of the library that was loaded, 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The quarantine's file cannot be read or written.
#[derive(Debug)]
pub struct QuarantineError {
    file: PathBuf,
    found: String,
    cure: &'static str,
}

impl Quarantine {
    /// Holds whom hosts that died were inside of, says so in the log, and begins the record of this host.
    ///
    /// What goes wrong with either goes to the log: it stops nobody.
    #[must_use]
    pub fn open_with_record(store: &Store, now: SystemTime) -> (Self, Option<Arc<Record>>) {
        let quarantine = Self::open(store.base());
        match quarantine.hold(Remains::read(&store.records()), now) {
            Ok(lines) => lines.iter().for_each(|line| tracing::error!("{line}")),
            Err(error) => tracing::error!("{error}; until then no plugin runs in-process"),
        }
        let record = Record::create(store.folder());
        if let Err(error) = &record {
            tracing::warn!(
                "no record of calls is kept, so a plugin that ends the host will not be named: {error}"
            );
        }
        (quarantine, record.ok().map(Arc::new))
    }

    /// The quarantine in this state folder, which need not have one yet.
    #[must_use]
    pub fn open(state_dir: &Path) -> Self {
        Self {
            file: state_dir.join(FILE),
        }
    }

    /// Every plugin that is held, by id.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn all(&self) -> Result<BTreeMap<String, Entry>, QuarantineError> {
        let text = match file_reader::read_text(&self.file, MAX_SIZE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => {
                return Err(self.error(
                    format!("cannot be read: {error}"),
                    "let the host's user read it, or remove it if nothing is to be held",
                ));
            }
        };
        toml::from_str(&text).map_err(|error| {
            self.error(
                format!("is damaged: {}", error.message().escape_debug()),
                "mend it, or remove it if nothing is to be held",
            )
        })
    }

    /// Why a plugin is held, if it is.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub fn is_quarantined(&self, id: &str) -> Result<Option<Entry>, QuarantineError> {
        Ok(self.all()?.remove(id))
    }

    /// Where a plugin runs that the config wants to run so, and why, if that is not what the config says.
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

    /// Holds a plugin from now on; what was known of it before is replaced.
    ///
    /// # Errors
    /// When the file cannot be read or written; it then stands as it was.
    pub fn add(&self, id: &str, entry: Entry) -> Result<(), QuarantineError> {
        self.change(|held| {
            held.insert(id.to_owned(), entry);
        })
    }

    /// Holds every suspect that dead hosts left, and answers a line for each; then the remains are discarded.
    ///
    /// # Errors
    /// As [`Self::add`]; the remains then wait for the next start.
    pub fn hold(&self, remains: Remains, now: SystemTime) -> Result<Vec<String>, QuarantineError> {
        if !remains.suspects.is_empty() {
            self.change(|held| {
                for suspect in &remains.suspects {
                    held.insert(suspect.plugin.clone(), Entry::of(suspect, now));
                }
            })?;
        }
        let line = |suspect: &Suspect| {
            format!(
                "{suspect}; it runs in a worker until conductor plugin clear {}",
                suspect.plugin
            )
        };
        let lines = remains.suspects.iter().map(line).collect();
        remains.discard();
        Ok(lines)
    }

    /// Holds a plugin no longer; answers what was known of it, if it was held.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn clear(&self, id: &str) -> Result<Option<Entry>, QuarantineError> {
        self.change(|held| held.remove(id))
    }

    /// Reads, changes and writes the file, one process at a time.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Entry>) -> T,
    ) -> Result<T, QuarantineError> {
        let cannot = |error: io::Error| {
            self.error(
                format!("cannot be written: {error}"),
                "let the host's user write to its folder, and make room there",
            )
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
            // To be read is enough: an operator who is root may have made it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let new = OpenOptions::new().append(true).create(true).open(&path)?;
                let_all_read(&new)?;
                new
            }
            opened => opened?,
        };
        // Any user who may read the file can hold its lock, so it is not waited for without end.
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

    /// Under another name first: whoever reads it meanwhile, or after a crash, finds the old file or the new one.
    fn write(&self, held: &BTreeMap<String, Entry>) -> io::Result<()> {
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
        // The new name has to survive a loss of power too; not every OS can sync a folder.
        #[cfg(unix)]
        File::open(folder)?.sync_all()?;
        Ok(())
    }

    fn error(&self, found: String, cure: &'static str) -> QuarantineError {
        QuarantineError {
            file: self.file.clone(),
            found,
            cure,
        }
    }
}

/// The host's user has to read what root wrote in clearing a plugin, whatever root's umask.
fn let_all_read(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

impl Entry {
    /// One that says why and nothing more.
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

    /// What speaks against a suspect.
    #[must_use]
    pub fn of(suspect: &Suspect, now: SystemTime) -> Self {
        Self {
            platform: suspect.platform.clone(),
            phase: Some(suspect.phase.name().to_owned()),
            sha256: Some(suspect.sha256.to_string()),
            ..Self::new(suspect.to_string(), now)
        }
    }

    /// One line about the plugin that is held.
    #[must_use]
    pub fn told_of(&self, id: &str) -> String {
        format!(
            "quarantined since {}: {}; it runs in a worker until conductor plugin clear {id}",
            self.since, self.reason
        )
    }
}

impl fmt::Display for QuarantineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; {}", self.file.display(), self.found, self.cure)
    }
}

impl std::error::Error for QuarantineError {}

const FILE: &str = "quarantine.toml";
/// In bytes: thousands of plugins fit.
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

    fn entry(reason: &str) -> Entry {
        Entry {
            platform: Some("chat".to_owned()),
            phase: Some("check".to_owned()),
            sha256: Some("00".repeat(32)),
            ..Entry::new(reason, SystemTime::UNIX_EPOCH)
        }
    }

    #[test]
    fn who_is_held_stays_so_until_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::open(dir.path());
        let by_another_host = Quarantine::open(dir.path());
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
            let quarantine = Quarantine::open(dir.path());
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
                let quarantine = Quarantine::open(dir.path());
                scope.spawn(move || quarantine.add(&format!("p{n}"), entry("x")).unwrap());
            }
        });
        assert_eq!(Quarantine::open(dir.path()).all().unwrap().len(), 8);
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 2, "the file and its lock");
    }

    #[test]
    #[cfg(unix)]
    fn what_root_has_written_can_be_read_by_the_hosts_user() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::open(dir.path());
        quarantine.add("http", entry("x")).unwrap();
        for file in fs::read_dir(dir.path()).unwrap() {
            let mode = file.unwrap().metadata().unwrap().mode();
            assert_eq!(mode & 0o444, 0o444, "{mode:o}");
        }
    }
}
