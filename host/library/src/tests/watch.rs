//! Real folders under watch: an operator's changes, and the resulting reports.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::symlink,
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    time::Duration,
};

use super::{
    super::*,
    folder::{Folder, PATIENCE, cp, mv, other_plugin, version},
};

impl Folder {
    fn watch(&self) -> (FolderWatch, Receiver<CatalogChanges>) {
        let (tell, told) = mpsc::channel();
        let watch = FolderWatch::start(Arc::clone(&self.catalog), move |changes| {
            let _ = tell.send(changes);
        });
        (watch, told)
    }
}

/// Returns the next report, in short form.
fn next(told: &Receiver<CatalogChanges>) -> Vec<String> {
    let changes = told.recv_timeout(PATIENCE).unwrap();
    let plugins = changes
        .plugins
        .into_iter()
        .map(|(id, change)| match change {
            PluginChange::Added(library) => format!("{id} added: {}", library.manifest.name),
            PluginChange::Changed(library) => format!("{id} changed: {}", library.manifest.name),
            PluginChange::Removed { .. } => format!("{id} removed"),
        });
    let refused = changes.refused.into_iter();
    let refused = refused.map(|refusal| format!("{} refused", refusal.rule));
    plugins.chain(refused).collect()
}

#[test]
fn libraries_that_come_change_and_go_are_told_of() {
    let folder = Folder::new(|_| {});
    let (_watch, told) = folder.watch();
    let file = folder.plugin("x.so");
    cp(&version(b'A'), &file);
    assert_eq!(next(&told), ["specimen added: A specimen"]);
    mv(&version(b'B'), &file);
    assert_eq!(next(&told), ["specimen changed: B specimen"]);
    cp(&version(b'C'), &file);
    assert_eq!(next(&told), ["specimen changed: C specimen"]);
    fs::remove_file(&file).unwrap();
    cp(&version(b'D'), &file);
    assert_eq!(next(&told), ["specimen changed: D specimen"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(next(&told), ["specimen removed"]);
    assert!(folder.copies().is_empty());
}

#[test]
fn a_slow_copy_over_a_library_is_told_of_when_it_is_whole() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let (_watch, told) = folder.watch();
    let new = version(b'B');
    let mut file = File::create(folder.plugin("x.so")).unwrap();
    // Written in steps shorter than the settling time.
    for part in new.chunks(new.len() / 10) {
        file.write_all(part).unwrap();
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(folder.found("specimen").unwrap(), "A specimen");
    }
    drop(file);
    let mut last = next(&told);
    // On a busy machine, a step may take longer.
    while last == ["segments refused"] {
        last = next(&told);
    }
    assert_eq!(last, ["specimen changed: B specimen"]);
}

#[test]
fn a_damaged_replacement_is_told_of_and_changes_nothing_else() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let (_watch, told) = folder.watch();
    cp(&version(b'B')[..5000], &folder.plugin("x.so"));
    assert_eq!(next(&told), ["segments refused"]);
    let held = folder.catalog.find("specimen").unwrap();
    assert_eq!(fs::read(&held.path).unwrap(), version(b'A'));
    cp(&version(b'B'), &folder.plugin("x.so"));
    assert_eq!(next(&told), ["specimen changed: B specimen"]);
}

#[test]
fn a_touched_library_is_no_change() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let (_watch, told) = folder.watch();
    for time in [1_000_000, 4_000_000_000] {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(time);
        let file = OpenOptions::new().append(true).open(folder.plugin("x.so"));
        file.unwrap().set_modified(time).unwrap();
        cp(&version(b'A'), &folder.plugin("x.so"));
        // Later changes are reported, so earlier ones would have been.
        cp(&other_plugin(), &folder.plugin("y.so"));
        assert_eq!(next(&told), ["xpecimen added: A specimen"]);
        fs::remove_file(folder.plugin("y.so")).unwrap();
        assert_eq!(next(&told), ["xpecimen removed"]);
    }
}

#[test]
fn a_folder_that_vanishes_takes_nothing_with_it_and_is_watched_again_when_it_is_back() {
    let folder = Folder::new(|plugins| cp(&version(b'A'), &plugins.join("x.so")));
    let (_watch, told) = folder.watch();
    fs::rename(folder.path("plugins"), folder.path("away")).unwrap();
    assert_eq!(next(&told), ["folder refused"]);
    assert_eq!(folder.found("specimen").unwrap(), "A specimen");
    fs::create_dir(folder.path("plugins")).unwrap();
    cp(&version(b'B'), &folder.plugin("x.so"));
    assert_eq!(next(&told), ["specimen changed: B specimen"]);
    fs::remove_file(folder.plugin("x.so")).unwrap();
    assert_eq!(next(&told), ["specimen removed"]);
}

#[test]
fn what_the_os_does_not_tell_of_is_found_all_the_same() {
    let folder = Folder::new(|_| {});
    // A link's target is in a folder without notifications.
    let (old, new) = (folder.path("old.so"), folder.path("new.so"));
    cp(&version(b'A'), &old);
    cp(&version(b'B'), &new);
    symlink(&old, folder.plugin("x.so")).unwrap();
    let (_watch, told) = folder.watch();
    assert_eq!(next(&told), ["specimen added: A specimen"]);
    cp(&version(b'C'), &old);
    assert_eq!(next(&told), ["specimen changed: C specimen"]);
    symlink(&new, folder.plugin("x.new")).unwrap();
    fs::rename(folder.plugin("x.new"), folder.plugin("x.so")).unwrap();
    assert_eq!(next(&told), ["specimen changed: B specimen"]);
}

#[test]
fn a_dropped_watch_ends_its_thread_and_says_nothing_more() {
    let folder = Folder::new(|_| {});
    let (watch, told) = folder.watch();
    cp(&version(b'A'), &folder.plugin("x.so"));
    drop(watch);
    // The thread owns its callback, and with it the only sender.
    assert_eq!(
        told.recv_timeout(PATIENCE),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
    folder.until("the end of the thread", || {
        Arc::strong_count(&folder.catalog) == 1
    });
}

#[test]
fn a_watch_may_be_dropped_by_what_it_calls() {
    let folder = Folder::new(|_| {});
    let own = Arc::new(Mutex::new(None::<FolderWatch>));
    let (tell, told) = mpsc::channel();
    let inner = Arc::clone(&own);
    let watch = FolderWatch::start(Arc::clone(&folder.catalog), move |_| {
        drop(inner.lock().unwrap().take());
        let _ = tell.send(());
    });
    *own.lock().unwrap() = Some(watch);
    cp(&version(b'A'), &folder.plugin("x.so"));
    told.recv_timeout(PATIENCE).unwrap();
    assert!(
        told.recv_timeout(PATIENCE)
            .is_err_and(|e| e == mpsc::RecvTimeoutError::Disconnected)
    );
}
