//! Files that could replace those of a config, by accident or by attack.

#![expect(
    clippy::disallowed_methods,
    reason = "a test measures how long it was kept waiting"
)]

use std::{os::unix::fs::symlink, sync::mpsc::channel, time::Instant};

use super::*;

fn error(path: &Path, limit: u64) -> String {
    let start = Instant::now();
    let error = read(path, limit).unwrap_err().to_string();
    assert!(start.elapsed() < PATIENCE, "{path:?} was waited for");
    error
}

#[test]
fn a_file_is_read_through_links_up_to_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "\u{feff}text\r\n").unwrap();
    symlink(&file, &link).unwrap();
    assert_eq!(read_text(&link, 9).unwrap(), "text\r\n");
    assert_eq!(error(&link, 8), "it is larger than 8 bytes");
    fs::write(&file, b"\xff\xfet\0").unwrap();
    let encoded = read_text(&file, 9).unwrap_err().to_string();
    assert_eq!(encoded, "it is UTF-16: save it as UTF-8");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    symlink(&pipe, &link).unwrap();
    for path in [&pipe, &link] {
        assert_eq!(error(path, 9), "it is a named pipe (FIFO), not a file");
    }
    // Also if it replaced the file after the check.
    let file = open_without_waiting(&pipe).unwrap();
    assert!(regular(&file.metadata().unwrap()).is_err());
    assert_eq!(error(folder.path(), 9), "it is a folder, not a file");
    assert_eq!(
        error(Path::new("/dev/zero"), 9),
        "it is a device, not a file"
    );
    assert_eq!(
        read(&folder.path().join("none"), 9).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn a_file_that_does_not_answer_holds_up_no_other_and_is_asked_again_once_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (dead, alive) = (folder.path().join("dead"), folder.path().join("alive"));
    let (revive, revived) = channel::<()>();
    let soon = Duration::from_millis(50);
    let first = within(&dead, soon, move || revived.recv().is_ok());
    assert!(matches!(first, Err(ReadError::TimedOut(_))));
    let second = within(&dead, PATIENCE, || true);
    assert!(matches!(second, Err(ReadError::StillWaiting)));
    assert!(within(&alive, PATIENCE, || true).unwrap());
    revive.send(()).unwrap();
    let start = Instant::now();
    while held().is_held(&dead) {
        assert!(start.elapsed() < PATIENCE);
        thread::yield_now();
    }
    assert!(within(&dead, PATIENCE, || true).unwrap());
}

#[test]
fn threads_are_used_again() {
    let name = || thread::current().id();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let id = within(Path::new("/x"), PATIENCE, name).unwrap();
        seen.insert(format!("{id:?}"));
    }
    // Other tests run at the same time and may take an idle thread.
    assert!(seen.len() < 100, "{}", seen.len());
}
