//! Tests of the store as a whole.

use std::fs;

use super::*;

pub(super) fn hash(bytes: &[u8]) -> LibraryHash {
    LibraryHash::of(bytes)
}

/// Counts the files in a folder; without the lock, which is a file on Windows.
pub(super) fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_name() != ".lock")
        .count()
}

/// As while a process has it loaded.
#[test]
#[cfg(windows)]
fn a_copy_in_use_is_removed_at_the_next_chance_and_by_the_next_host_at_the_latest() {
    use std::os::windows::fs::OpenOptionsExt as _;
    let base = tempfile::tempdir().unwrap();
    let use_it = |path: &Path| {
        let reading = 1;
        fs::File::options()
            .read(true)
            .share_mode(reading)
            .open(path)
            .unwrap()
    };
    let store = Store::open(base.path()).unwrap();
    let copy = store.keep(b"x", &hash(b"x")).unwrap();
    let path = copy.path().to_owned();
    let used = use_it(&path);
    drop(copy);
    assert!(path.exists());
    drop(used);
    store.remove_leftover();
    assert_eq!(files(store.folder()), 0);

    let copy = store.keep(b"x", &hash(b"x")).unwrap();
    let (folder, used) = (store.folder().to_owned(), use_it(copy.path()));
    drop((copy, store));
    assert!(folder.exists());
    drop(used);
    drop(Store::open(base.path()).unwrap());
    assert!(!folder.exists());
}

#[test]
fn a_run_has_a_folder_of_its_own_and_takes_it_away() {
    let base = tempfile::tempdir().unwrap();
    let (one, two) = (
        Store::open(base.path()).unwrap(),
        Store::open(base.path()).unwrap(),
    );
    assert_ne!(one.folder(), two.folder());
    let copy = one.keep(b"x", &hash(b"x")).unwrap();
    let _other = two.keep(b"x", &hash(b"x")).unwrap();
    drop(two);
    assert_eq!(fs::read(copy.path()).unwrap(), b"x");
    let folder = one.folder().to_owned();
    drop(one);
    assert!(!folder.exists());
}

#[test]
fn what_dead_runs_left_is_removed_and_nothing_else() {
    let base = tempfile::tempdir().unwrap();
    let live = Store::open(base.path()).unwrap();
    let libraries = base.path().join("libraries");
    for (folder, file) in [
        ("12-dead", "lock"),
        ("13-unlocked", "x.so"),
        ("notes", "lock"),
        ("14", "lock"),
    ] {
        fs::create_dir(libraries.join(folder)).unwrap();
        fs::write(libraries.join(folder).join(file), "").unwrap();
    }
    let _other = Store::open(base.path()).unwrap();
    assert!(live.folder().exists());
    let there = |name: &str| libraries.join(name).exists();
    assert!(!there("12-dead") && !there("13-unlocked"));
    assert!(there("notes") && there("14"));
}

/// Cleaners of temporary folders remove old files, empty ones first.
#[test]
fn a_live_run_without_any_file_in_its_folder_stays() {
    let base = tempfile::tempdir().unwrap();
    let live = Store::open(base.path()).unwrap();
    for entry in fs::read_dir(live.folder()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let _command = Store::open(base.path()).unwrap();
    assert!(live.folder().exists());
}

#[test]
#[cfg(unix)]
fn a_run_of_an_earlier_version_that_locked_a_file_stays() {
    let base = tempfile::tempdir().unwrap();
    drop(Store::open(base.path()).unwrap());
    let run = base.path().join("libraries/15-earlier");
    fs::create_dir(&run).unwrap();
    let lock = fs::File::create(run.join("lock")).unwrap();
    lock.try_lock().unwrap();
    drop(Store::open(base.path()).unwrap());
    assert!(run.exists());
    drop(lock);
    drop(Store::open(base.path()).unwrap());
    assert!(!run.exists());
}

#[test]
fn the_record_of_a_dead_run_outlives_its_folder_and_that_of_a_live_one_stays() {
    let base = tempfile::tempdir().unwrap();
    let live = Store::open(base.path()).unwrap();
    fs::write(live.folder().join(CALLS), "live").unwrap();
    let dead = base.path().join("libraries/12-dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join(CALLS), "dead").unwrap();
    // The first to come may be one that reads no records, for example `conductor plugin list`.
    drop(Store::open(base.path()).unwrap());
    let next = Store::open(base.path()).unwrap();
    assert!(!dead.exists());
    let kept = fs::read_to_string(next.records().join("12-dead"));
    assert_eq!(kept.unwrap(), "dead");
    assert_eq!(fs::read_dir(next.records()).unwrap().count(), 1);
    assert!(live.folder().join(CALLS).exists());
}

#[test]
fn the_same_bytes_are_kept_once_and_damage_is_mended() {
    let base = tempfile::tempdir().unwrap();
    let store = Store::open(base.path()).unwrap();
    let copies: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.keep(b"library", &hash(b"library"))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect()
    });
    let path = copies[0].path().to_owned();
    assert!(copies.iter().all(|copy| copy.path() == path));
    assert_eq!(files(store.folder()), 1, "the copy alone");
    // On Windows a held copy can be neither removed nor changed.
    if cfg!(windows) {
        assert!(fs::remove_file(&path).is_err() && fs::write(&path, "librarx").is_err());
    } else {
        fs::remove_file(&path).unwrap();
        fs::write(&path, "librarx").unwrap();
    }
    let mended = store.keep(b"library", &hash(b"library")).unwrap();
    assert_eq!(fs::read(mended.path()).unwrap(), b"library");
}

#[test]
#[cfg(unix)]
fn copies_are_the_hosts_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let base = tempfile::tempdir().unwrap();
    let store = Store::open(&base.path().join("not/there/yet")).unwrap();
    let copy = store.keep(b"x", &hash(b"x")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(copy.path()), 0o500);
    assert_eq!(mode(store.folder()), 0o700);
    assert_eq!(mode(&base.path().join("not/there/yet/libraries")), 0o700);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let first = inode(copy.path());
    let again = store.keep(b"x", &hash(b"x")).unwrap();
    assert_eq!(first, inode(again.path()), "it was written twice");
}

#[test]
fn a_full_disk_is_called_so() {
    let problem = cannot(
        "write to",
        Path::new("/b"),
        &io::ErrorKind::StorageFull.into(),
    );
    assert_eq!(problem.found, "no private copy can be kept: /b is full");
    let problem = cannot(
        "make",
        Path::new("/b"),
        &io::ErrorKind::ReadOnlyFilesystem.into(),
    );
    assert_eq!(
        problem.found,
        "no private copy can be kept: /b is on a read-only file system"
    );
}
