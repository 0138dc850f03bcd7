//! The states that plugins, and for some platforms the host, store: in memory, and in files of the host's state folder.
//!
//! A thread writes what has changed, each second, so that no check waits for a disk. A file is replaced as a whole: a host
//! that is killed leaves the old one or the new one.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use conductor_library::printable;
use conductor_plugin_api::MAX_STATE;
use conductor_runtime::ProbeStates;
use sha2::{Digest as _, Sha256};

use crate::state_file::{UNFINISHED, replace};

/// The states of all platforms of a host; clones share them.
#[derive(Clone)]
pub struct ProbeStateFolder {
    shared: Arc<SharedStates>,
}

struct SharedStates {
    /// `None` for states that are lost with the process.
    files: Option<StateFiles>,
    table: Mutex<StateTable>,
    /// Notified after a change, and when the thread should end.
    changed: Condvar,
}

/// The folder of a running host.
struct StateFiles {
    path: PathBuf,
    /// The start of the host.
    opened: SystemTime,
}

#[derive(Default)]
struct StateTable {
    /// States by file name.
    known: HashMap<String, Arc<[u8]>>,
    /// The names of the files that were there at the start and that no platform has asked for since.
    unclaimed: HashSet<String>,
    /// The names of the files to write or remove.
    changed: HashSet<String>,
    /// The names of the states that the host writes itself, not their plugins.
    written_by_host: HashSet<String>,
    closing: bool,
}

impl ProbeStateFolder {
    /// Returns states that are lost with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::of(None, HashMap::new())
    }

    /// Returns the states in the folder `probes` of the host's state folder, which is created; `now` is the start of the host.
    ///
    /// A folder that cannot be used is logged; states are then lost with the process.
    #[must_use]
    pub fn open(state_dir: &Path, now: SystemTime) -> Self {
        let path = state_dir.join(FOLDER);
        match create(&path).and_then(|()| read_all(&path)) {
            Ok(known) => Self::of(Some(StateFiles { path, opened: now }), known),
            Err(error) => {
                tracing::warn!(
                    "plugins lose their platforms' states at the next restart: the folder {} cannot be used: {error}",
                    printable::path(&path)
                );
                Self::in_memory()
            }
        }
    }

    /// Returns the states in the folder `probes` of a host's state folder without changing anything there: what is stored is
    /// lost with the process.
    #[must_use]
    pub fn read_only(state_dir: &Path) -> Self {
        // A host that has stored nothing yet has no such folder.
        Self::of(None, read_all(&state_dir.join(FOLDER)).unwrap_or_default())
    }

    fn of(files: Option<StateFiles>, known: HashMap<String, Arc<[u8]>>) -> Self {
        Self {
            shared: Arc::new(SharedStates {
                files,
                table: Mutex::new(StateTable {
                    unclaimed: known.keys().cloned().collect(),
                    known,
                    ..StateTable::default()
                }),
                changed: Condvar::new(),
            }),
        }
    }

    /// Returns the states of one plugin's platforms.
    #[must_use]
    pub fn of_plugin(&self, plugin: &str) -> Arc<dyn ProbeStates> {
        Arc::new(PluginStates {
            shared: Arc::clone(&self.shared),
            plugin: plugin.into(),
        })
    }

    /// Makes these platforms' states, each by plugin and platform, those that the host [writes](Self::update) itself; no
    /// others.
    pub fn set_written_by_host<'a>(&self, platforms: impl Iterator<Item = (&'a str, &'a str)>) {
        let names = platforms.map(|(plugin, platform)| file_name(plugin, platform));
        self.shared.lock().written_by_host = names.collect();
    }

    /// Replaces a platform's state by what `f` returns for it.
    pub fn update(&self, plugin: &str, platform: &str, f: impl FnOnce(&[u8]) -> Vec<u8>) {
        let name = file_name(plugin, platform);
        let mut table = self.shared.lock();
        let state = f(table.known.get(&name).map_or(&[][..], AsRef::as_ref));
        self.shared.replace(&mut table, name, &state);
    }

    /// Starts the thread that writes what has changed.
    ///
    /// # Errors
    /// When the OS starts no thread.
    pub fn start(&self) -> io::Result<StateWriter> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name("probe-states".to_owned())
            .spawn(move || shared.write_changes())?;
        Ok(StateWriter {
            shared: Arc::clone(&self.shared),
            thread: Some(thread),
        })
    }
}

/// The thread that writes states; writes the last ones when it is dropped.
pub struct StateWriter {
    shared: Arc<SharedStates>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has logged what it could not write.
            let _ = thread.join();
        }
    }
}

impl SharedStates {
    fn load(&self, name: &str) -> Arc<[u8]> {
        let mut table = self.lock();
        table.unclaimed.remove(name);
        table.known.get(name).cloned().unwrap_or_default()
    }

    /// Stores what a plugin stores, unless the host writes this state itself.
    fn store(&self, name: String, state: &[u8]) {
        let mut table = self.lock();
        if !table.written_by_host.contains(&name) {
            self.replace(&mut table, name, state);
        }
    }

    fn replace(&self, table: &mut StateTable, name: String, state: &[u8]) {
        table.unclaimed.remove(&name);
        if table.known.get(&name).map_or(&[][..], AsRef::as_ref) == state {
            return;
        }
        if state.is_empty() {
            table.known.remove(&name);
        } else {
            table.known.insert(name.clone(), state.into());
        }
        if self.files.is_some() && table.changed.insert(name) && table.changed.len() == 1 {
            self.changed.notify_all();
        }
    }

    /// Writes what has changed until the folder is closed.
    fn write_changes(&self) {
        let Some(files) = &self.files else {
            return;
        };
        let mut complained = false;
        loop {
            let (changed, closing) = self.next_changes();
            let mut failed = Vec::new();
            for name in changed {
                if let Err(error) = self.write(&files.path, &name) {
                    failed.push((name, error));
                }
            }
            match failed.first() {
                Some((name, error)) if closing || !complained => {
                    let (number, file) = (failed.len(), printable::path(&files.path.join(name)));
                    let retried = if closing {
                        "lost"
                    } else {
                        "tried again each second"
                    };
                    tracing::warn!(
                        "the states of {number} platforms cannot be written and are {retried}; the first, {file}: {error}"
                    );
                    complained = true;
                }
                first => complained = first.is_some(),
            }
            if closing {
                return self.remove_old(files);
            }
            let names = failed.into_iter().map(|(name, _)| name);
            self.lock().changed.extend(names);
        }
    }

    /// Waits for changes, and a while longer for others to be written with them; returns `true` with the last ones.
    fn next_changes(&self) -> (HashSet<String>, bool) {
        let table = self.changed.wait_while(self.lock(), |table| {
            table.changed.is_empty() && !table.closing
        });
        let table = table.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(table, WRITE_INTERVAL, |table| !table.closing);
        let (mut table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut table.changed), table.closing)
    }

    fn write(&self, folder: &Path, name: &str) -> io::Result<()> {
        let state = self.lock().known.get(name).cloned();
        let file = folder.join(name);
        match state {
            Some(state) => replace(&file, &state),
            None => fs::remove_file(&file).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
        }
    }

    /// Removes the states of platforms that this host did not have, once they are old.
    fn remove_old(&self, files: &StateFiles) {
        for name in &self.lock().unclaimed {
            let file = files.path.join(name);
            let written = fs::metadata(&file).and_then(|found| found.modified());
            let age =
                written.map(|written| files.opened.duration_since(written).unwrap_or_default());
            if age.is_ok_and(|age| age > MAX_AGE) {
                // What cannot be removed now is tried again at the end of the next host.
                let _ = fs::remove_file(file);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, StateTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct PluginStates {
    shared: Arc<SharedStates>,
    plugin: Box<str>,
}

impl ProbeStates for PluginStates {
    fn load(&self, platform: &str) -> Vec<u8> {
        self.shared
            .load(&file_name(&self.plugin, platform))
            .to_vec()
    }

    fn store(&self, platform: &str, state: &[u8]) {
        self.shared.store(file_name(&self.plugin, platform), state);
    }

    fn is_written_by_host(&self, platform: &str) -> bool {
        let name = file_name(&self.plugin, platform);
        self.shared.lock().written_by_host.contains(&name)
    }
}

/// Returns the name of the file with a platform's state: legal on every OS, and another for each platform and plugin.
fn file_name(plugin: &str, platform: &str) -> String {
    let mut name = format!("{plugin}.");
    for byte in platform.bytes() {
        // Without upper-case letters, which not every filesystem tells from lower-case ones.
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "_{byte:02x}");
        }
    }
    if name.len() > MAX_NAME {
        let digest = Sha256::digest(platform.as_bytes());
        name.truncate(MAX_NAME - 34);
        name.push_str("__");
        for byte in &digest[..16] {
            let _ = write!(name, "{byte:02x}");
        }
    }
    name
}

/// Reads the states of a folder; one that cannot be read is logged, and lost alone.
fn read_all(folder: &Path) -> io::Result<HashMap<String, Arc<[u8]>>> {
    let mut known = HashMap::new();
    for entry in fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        if name.ends_with(UNFINISHED) {
            continue;
        }
        let file = folder.join(&name);
        match read(&file) {
            Ok(state) => drop(known.insert(name, state.into())),
            Err(error) => {
                let file = printable::path(&file);
                tracing::warn!("a platform's state is lost: {file}: {error}");
            }
        }
    }
    Ok(known)
}

fn create(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(file)?.len();
    if length > MAX_STATE as u64 {
        return Err(io::Error::other(format!(
            "it has {length} bytes, at most {MAX_STATE} are allowed"
        )));
    }
    fs::read(file)
}

/// The folder of the states within the host's state folder.
const FOLDER: &str = "probes";
/// Time between two writes of a state.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Age at which the state of a platform that a host did not have is removed when it stops.
pub const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Maximum length of a file's name, in bytes; most filesystems allow 255.
const MAX_NAME: usize = 200;

#[cfg(test)]
mod tests;
