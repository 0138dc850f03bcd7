//! Faults of the file, and the limit of the queue.

use std::fs;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const NOW: i64 = 1_770_000_000_000;

fn thread(path: PathBuf) -> WriterThread {
    let shared = Arc::new(WriterShared {
        queue: Mutex::default(),
        wake: Condvar::new(),
        counts: Arc::default(),
        wants_all: AtomicBool::new(false),
    });
    WriterThread::new(shared, path, HistoryLimits::default(), NOW)
}

fn change(at: i64) -> RecordedChange {
    let platform = PlatformKey::new("shop".into(), "http".into(), None);
    RecordedChange {
        platform: Arc::new(platform),
        at,
        state: StoredState::Healthy,
        maintenance: false,
        message: "".into(),
    }
}

fn batch(at: i64) -> HistoryBatch {
    HistoryBatch {
        changes: vec![change(at)],
        alive_until: at + 1,
        ..HistoryBatch::default()
    }
}

/// Writes as the thread does, and returns the changes and the runs in the file.
fn turn(thread: &mut WriterThread, pending: &mut HistoryBatch) -> Option<[i64; 2]> {
    if let Err(error) = thread.write(pending) {
        thread.failed(&error, pending.alive_until);
        return None;
    }
    let file = Connection::open(&thread.path).unwrap();
    Some(["change", "run"].map(|table| {
        let sql = format!("SELECT count(*) FROM {table}");
        file.query_row(&sql, [], |row| row.get(0)).unwrap()
    }))
}

#[test]
fn a_file_that_cannot_be_created_is_tried_again_and_nothing_is_lost() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("below");
    let mut thread = thread(below.join(crate::FILE));
    let mut pending = batch(NOW + 10);
    assert_eq!(turn(&mut thread, &mut pending), None);
    assert!(thread.shared.counts.is_failing.load(Ordering::Relaxed));
    fs::create_dir(&below).unwrap();
    pending.changes.push(change(NOW + 20));
    assert_eq!(turn(&mut thread, &mut pending), Some([2, 1]));
    assert!(!thread.shared.counts.is_failing.load(Ordering::Relaxed));
    assert_eq!(thread.shared.counts.written.load(Ordering::Relaxed), 2);
    assert!(!thread.shared.wants_all.load(Ordering::Relaxed));
}

#[test]
fn another_program_that_locks_the_file_delays_a_batch_within_the_same_run() {
    let folder = TempDir::new().unwrap();
    let mut thread = thread(folder.path().join(crate::FILE));
    assert_eq!(turn(&mut thread, &mut batch(NOW)), Some([1, 1]));
    let other = Connection::open(&thread.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut pending = batch(NOW + 10);
    assert_eq!(turn(&mut thread, &mut pending), None);
    drop(other);
    assert_eq!(turn(&mut thread, &mut pending), Some([2, 1]));
}

#[test]
fn a_damaged_or_removed_file_is_started_new_and_everything_is_asked_for_again() {
    let folder = TempDir::new().unwrap();
    let mut thread = thread(folder.path().join(crate::FILE));
    fs::write(&thread.path, vec![b'x'; 5_000]).unwrap();
    let mut pending = batch(NOW + 10);
    assert_eq!(turn(&mut thread, &mut pending), None);
    assert!(thread.shared.wants_all.swap(false, Ordering::Relaxed));
    assert_eq!(turn(&mut thread, &mut pending), Some([1, 1]));
    let aside = thread
        .path
        .with_file_name("history.sqlite.damaged-20260202T024000Z");
    assert!(
        aside.exists(),
        "{:?}",
        fs::read_dir(folder.path()).unwrap().collect::<Vec<_>>()
    );
    for file in fs::read_dir(folder.path()).unwrap().flatten() {
        fs::remove_file(file.path()).unwrap();
    }
    assert_eq!(turn(&mut thread, &mut batch(NOW + 20)), Some([1, 1]));
    assert!(thread.shared.wants_all.load(Ordering::Relaxed));
}

#[test]
fn a_queue_that_nobody_empties_is_dropped_and_the_time_becomes_a_gap() {
    let thread = thread(PathBuf::new());
    let mut queue = thread.shared.lock();
    queue.batch.alive_until = NOW;
    queue.batch.changes = vec![change(NOW); MOST_CHANGES + 1];
    thread.shared.limit(&mut queue);
    assert!(queue.batch.changes.is_empty());
    assert_eq!(queue.batch.new_run, Some(NOW));
    drop(queue);
    let lost = thread.shared.counts.lost.load(Ordering::Relaxed);
    assert_eq!(lost, u64::try_from(MOST_CHANGES).unwrap() + 1);
    assert!(thread.shared.wants_all.load(Ordering::Relaxed));
}

#[test]
fn the_last_batch_is_written_when_the_host_stops() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(crate::FILE);
    let writer = HistoryWriter::start(path.clone(), HistoryLimits::default(), NOW).unwrap();
    writer.change(change(NOW + 5));
    writer.alive(NOW + 9, NOW);
    drop(writer);
    let file = Connection::open(path).unwrap();
    let found: (i64, i64, i64) = file
        .query_row("SELECT at, seen, ended FROM change, run", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(found, (NOW + 5, NOW + 9, 1));
}
