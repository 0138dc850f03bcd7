//! The CA certificates that are trusted, read from files and read again when those change.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use conductor_plugin_api::{Failure, tracing};
use tokio::time::Instant;

use super::trust::{self, TrustAnchors};

/// The source of certificates, and the last ones read from it.
pub(crate) struct CaSource {
    source: CaLocation,
    current: Mutex<Option<LoadedAnchors>>,
}

enum CaLocation {
    /// The system's CAs.
    System,
    /// One PEM file, read by the plugin of this id.
    File(PathBuf, &'static str),
}

struct LoadedAnchors {
    trust: TrustAnchors,
    /// The files at the last read, even if it failed.
    stamp: Vec<Stamp>,
    looked: Instant,
}

impl CaSource {
    /// Returns trust in the CAs of this system, shared by all probes.
    pub(crate) fn system() -> Arc<Self> {
        static SYSTEM: LazyLock<Arc<CaSource>> = LazyLock::new(|| CaSource::of(CaLocation::System));
        SYSTEM.clone()
    }

    /// Returns trust in the CAs of one file alone.
    pub(crate) fn file(path: &Path, plugin: &'static str) -> Arc<Self> {
        Self::of(CaLocation::File(path.to_owned(), plugin))
    }

    fn of(source: CaLocation) -> Arc<Self> {
        Arc::new(Self {
            source,
            current: Mutex::default(),
        })
    }

    /// Returns the certificates currently in the files, without waiting for a disk on the runtime's thread.
    pub(crate) async fn now(self: &Arc<Self>) -> Result<TrustAnchors, Failure> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.read())
            .await
            .unwrap_or_else(|error| {
                Err(Failure::new(format!(
                    "cannot read CA certificates: {error}"
                )))
            })
    }

    /// Returns the certificates currently in the files.
    ///
    /// If changed files cannot be used, for example while they are being written, the previous certificates stay.
    pub(crate) fn read(&self) -> Result<TrustAnchors, Failure> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*current
            && loaded.looked.elapsed() < self.source.patience()
        {
            return Ok(loaded.trust.clone());
        }
        // Before reading: a change during the read is noticed next time.
        let (stamp, looked) = (self.source.stamp(), Instant::now());
        if let Some(loaded) = &mut *current
            && loaded.stamp == stamp
        {
            loaded.looked = looked;
            return Ok(loaded.trust.clone());
        }
        let trust = match (self.source.load(), &mut *current) {
            (Ok(trust), before) => {
                if before.is_some() {
                    tracing::info!("reloaded the changed CA certificates");
                }
                trust
            }
            (Err(failure), None) => return Err(failure),
            (Err(failure), Some(before)) => {
                tracing::warn!(
                    "cannot use the changed CA certificates, keeping the previous ones: {}",
                    failure.message()
                );
                before.trust.clone()
            }
        };
        *current = Some(LoadedAnchors {
            trust: trust.clone(),
            stamp,
            looked,
        });
        Ok(trust)
    }
}

impl CaLocation {
    fn load(&self) -> Result<TrustAnchors, Failure> {
        match self {
            Self::System => trust::system(),
            Self::File(path, plugin) => trust::of_file(path, plugin),
        }
    }

    /// Returns the lifetime of a stamp: the system's CAs are some hundred files.
    fn patience(&self) -> Duration {
        match self {
            Self::System => Duration::from_secs(1),
            Self::File(..) => Duration::ZERO,
        }
    }

    fn stamp(&self) -> Vec<Stamp> {
        match self {
            Self::System => system_files().iter().map(|path| stamp(path)).collect(),
            Self::File(path, _) => vec![stamp(path)],
        }
    }
}

/// Returns the files and folders of the system's CAs, and the content of the folders.
#[cfg(all(unix, not(target_os = "macos")))]
fn system_files() -> Vec<PathBuf> {
    let found = openssl_probe::probe();
    let mut files: Vec<_> = found.cert_file.into_iter().collect();
    for folder in found.cert_dir {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut entries: Vec<_> = entries.map(|entry| entry.path()).collect();
        entries.sort();
        files.push(folder);
        files.extend(entries);
    }
    files
}

/// Other systems keep them in a store, which is read once.
#[cfg(not(all(unix, not(target_os = "macos"))))]
fn system_files() -> Vec<PathBuf> {
    Vec::new()
}

/// Distinguishes a file from its predecessor at the same path; `None` if it does not exist.
type Stamp = Option<(u64, Option<SystemTime>, Identity)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((
        metadata.len(),
        metadata.modified().ok(),
        identity(&metadata),
    ))
}

/// Device, inode, and seconds and nanoseconds of the last change.
#[cfg(unix)]
type Identity = (u64, u64, i64, i64);

#[cfg(unix)]
fn identity(file: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (file.dev(), file.ino(), file.ctime(), file.ctime_nsec())
}

#[cfg(not(unix))]
type Identity = ();

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {}
