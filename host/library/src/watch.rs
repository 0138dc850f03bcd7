//! Watches the plugin folders while the host runs, and reports changes in them.
//!
//! The OS's notifications only speed it up. A scan of the folders every two seconds finds the changes, and also works
//! where notifications are missing: on network mounts, behind links, and when the OS has no watches left.

use std::{
    collections::HashMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

use super::{Catalog, CatalogChanges, refusal::printable_path};

/// The watch on the plugin folders; ends when dropped.
///
/// Dropping it waits for a running scan, for at most a second: a folder on a dead network mount may never respond. No
/// changes are reported once it is dropped.
#[derive(Debug)]
pub struct FolderWatch {
    stopped: Arc<AtomicBool>,
    wake: SyncSender<()>,
    /// Closed when the thread is done.
    done: Receiver<()>,
    thread: Option<ThreadId>,
}

impl FolderWatch {
    /// Scans the folders of `catalog` on a separate thread, and calls `changed` there with the changes.
    ///
    /// A library passed to `changed` may be in use already, if other code made the catalog scan.
    pub fn start(catalog: Arc<Catalog>, changed: impl Fn(CatalogChanges) + Send + 'static) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        // Capacity one: any number of events is one reason to scan again.
        let (wake, wakes) = mpsc::sync_channel(1);
        let (alive, done) = mpsc::channel();
        let watching = WatchThread {
            notifier: FolderNotifier::new(wake.clone()),
            stopped: Arc::clone(&stopped),
            wakes,
            panicked: false,
        };
        let spawned = thread::Builder::new()
            .name("watch plugins".to_owned())
            .spawn(move || {
                watching.run(&catalog, changed);
                drop(catalog);
                drop(alive);
            });
        let thread = match spawned {
            Ok(thread) => Some(thread.thread().id()),
            Err(error) => {
                tracing::error!("plugin folders are not watched: cannot start a thread: {error}");
                None
            }
        };
        Self {
            stopped,
            wake,
            done,
            thread,
        }
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // A full channel wakes it as well.
        let _ = self.wake.try_send(());
        // If dropped from its own callback, it would wait for itself.
        if self.thread != Some(thread::current().id()) {
            let _ = self.done.recv_timeout(PATIENCE);
        }
    }
}

/// The state of the thread.
struct WatchThread {
    notifier: FolderNotifier,
    stopped: Arc<AtomicBool>,
    wakes: Receiver<()>,
    panicked: bool,
}

impl WatchThread {
    fn run(mut self, catalog: &Catalog, changed: impl Fn(CatalogChanges)) {
        loop {
            let wait = catalog.until_next_decision();
            let wait = wait.map_or(POLL, |wait| wait.clamp(GAP, POLL));
            let woken = self.wakes.recv_timeout(wait);
            if self.is_stopped() || woken == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            if woken.is_ok() {
                // Events come in bursts: a copy consists of many writes.
                thread::sleep(GAP);
            }
            self.look(catalog, &changed);
        }
    }

    fn look(&mut self, catalog: &Catalog, changed: &impl Fn(CatalogChanges)) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            // First of all, so that no event is lost between the scan and the watch.
            self.notifier.follow(&catalog.dirs());
            let changes = catalog.changes();
            if !changes.is_empty() && !self.is_stopped() {
                changed(changes);
            }
        }));
        if result.is_err() && !std::mem::replace(&mut self.panicked, true) {
            tracing::error!(
                "internal error in the scan of the plugin folders: new libraries may go unnoticed"
            );
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// The OS's notifications, if available.
struct FolderNotifier {
    watcher: Option<RecommendedWatcher>,
    followed: HashMap<PathBuf, Identity>,
    complained: bool,
}

impl FolderNotifier {
    fn new(wake: SyncSender<()>) -> Self {
        let happened = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| may_change_something(&event)) {
                // If the slot is taken, a scan follows anyway.
                let _ = wake.try_send(());
            }
        };
        let mut notifier = Self {
            watcher: None,
            followed: HashMap::new(),
            complained: false,
        };
        match notify::recommended_watcher(happened) {
            Ok(watcher) => notifier.watcher = Some(watcher),
            Err(error) => notifier.complain(&error.to_string()),
        }
        notifier
    }

    /// Subscribes to events in `folders` and nowhere else, also in folders that were created again.
    fn follow(&mut self, folders: &[PathBuf]) {
        let Some(mut watcher) = self.watcher.take() else {
            return;
        };
        self.followed.retain(|folder, followed| {
            let stays = folders.contains(folder) && identity(folder).as_ref() == Some(followed);
            if !stays {
                // It fails if the folder is gone, and the OS's watch with it.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for folder in folders {
            if self.followed.contains_key(folder) {
                continue;
            }
            let Some(identity) = identity(folder) else {
                continue;
            };
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.followed.insert(folder.clone(), identity);
                }
                Err(error) => {
                    let folder = printable_path(folder);
                    self.complain(&format!("{folder}: {error}"));
                }
            }
        }
        self.watcher = Some(watcher);
    }

    fn complain(&mut self, why: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            let seconds = POLL.as_secs();
            tracing::info!(
                "plugin folders are scanned every {seconds} s only: no change notifications: {why}"
            );
        }
    }
}

/// Distinguishes a folder from one created again under its name.
type Identity = (Option<std::time::SystemTime>, u64, u64);

#[cfg(unix)]
fn identity(folder: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(folder).ok()?;
    Some((metadata.created().ok(), metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(folder: &Path) -> Option<Identity> {
    Some((fs::metadata(folder).ok()?.created().ok(), 0, 0))
}

/// Ignores read events: a scan causes them as well, and must not trigger another.
fn may_change_something(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Interval of scans without events.
const POLL: Duration = Duration::from_secs(2);
/// Minimum time between two scans.
const GAP: Duration = Duration::from_millis(100);
/// Time that dropping a watch waits for its thread.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_folder_that_was_made_anew_is_told_of_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("plugins");
        let (wake, wakes) = mpsc::sync_channel(1);
        let mut notifier = FolderNotifier::new(wake);
        for round in 0..3 {
            fs::create_dir(&folder).unwrap();
            notifier.follow(std::slice::from_ref(&folder));
            if notifier.followed.is_empty() {
                return; // This machine has no watches left.
            }
            // Notifications about the previous folder may arrive late.
            while wakes.recv_timeout(Duration::from_millis(200)).is_ok() {}
            fs::write(folder.join("x.so"), "x").unwrap();
            let told = wakes.recv_timeout(Duration::from_secs(60));
            assert!(told.is_ok(), "round {round}");
            fs::rename(&folder, dir.path().join(round.to_string())).unwrap();
        }
    }

    #[test]
    fn looking_is_no_reason_to_look_again_and_writing_is() {
        let matters = |kind| may_change_something(&Event::new(kind));
        for kind in [
            AccessKind::Any,
            AccessKind::Read,
            AccessKind::Open(AccessMode::Read),
            AccessKind::Close(AccessMode::Read),
        ] {
            assert!(!matters(EventKind::Access(kind)), "{kind:?}");
        }
        assert!(matters(EventKind::Access(AccessKind::Close(
            AccessMode::Write
        ))));
        assert!(matters(EventKind::Any));
    }
}
