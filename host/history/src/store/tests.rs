//! Real files: schema versions, damage, rolling up, and the limits of age and size.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::writer::RecordedChange;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// A Monday of 2026 at midnight.
const START: i64 = 20_493 * DAY;

fn platform(name: &str) -> Arc<PlatformKey> {
    Arc::new(PlatformKey::new(name.into(), "http".into(), None))
}

fn change(platform: &Arc<PlatformKey>, at: i64, state: StoredState) -> RecordedChange {
    RecordedChange {
        platform: Arc::clone(platform),
        at,
        state,
        maintenance: false,
        message: "why".into(),
    }
}

fn cell(checks: u64) -> RollupCell {
    let mut cell = RollupCell {
        checks,
        state_millis: [300_000, 0, 0, 0, 0],
        ..RollupCell::default()
    };
    for n in 0..checks {
        cell.durations.add(Duration::from_micros(20_000 + n * 10));
    }
    cell
}

fn open(folder: &TempDir, limits: HistoryLimits) -> HistoryStore {
    let path = folder.path().join(crate::FILE);
    HistoryStore::open(&path, limits, OpeningRun::First(START)).unwrap()
}

fn count(store: &HistoryStore, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    store
        .connection
        .query_row(&sql, [], |row| row.get(0))
        .unwrap()
}

fn tidy(store: &mut HistoryStore, now: i64) {
    while store.tidy(now, now).unwrap() {}
}

#[cfg(unix)]
#[test]
fn all_files_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder, HistoryLimits::default());
    store.write(&HistoryBatch::default()).unwrap();
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
}

#[test]
fn a_newer_file_is_left_alone_and_a_foreign_one_is_damage() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(crate::FILE);
    let store = open(&folder, HistoryLimits::default());
    store
        .connection
        .pragma_update(None, "user_version", VERSION + 1)
        .unwrap();
    drop(store);
    let error = HistoryStore::open(&path, HistoryLimits::default(), OpeningRun::First(START))
        .err()
        .unwrap();
    assert!(error.is_final() && !error.is_damage(), "{error}");
    assert!(error.to_string().contains("schema version 2"), "{error}");
    fs::write(&path, "this is no database, but a text that is long enough to be read as a header of one ................").unwrap();
    let error = HistoryStore::open(&path, HistoryLimits::default(), OpeningRun::First(START))
        .err()
        .unwrap();
    assert!(error.is_damage(), "{error}");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = HistoryStore::open(&path, HistoryLimits::default(), OpeningRun::First(START))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("is not a regular file"),
        "{error}"
    );
}

#[test]
fn damage_inside_the_file_is_found_after_an_unclean_end() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(crate::FILE);
    let mut store = open(&folder, HistoryLimits::default());
    let shop = platform("shop");
    let cells = (0..2_000).map(|n| (Arc::clone(&shop), n, cell(3)));
    store
        .write(&HistoryBatch {
            cells: cells.collect(),
            ..HistoryBatch::default()
        })
        .unwrap();
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = HistoryStore::open(&path, HistoryLimits::default(), OpeningRun::First(START))
        .err()
        .unwrap();
    assert!(error.is_damage(), "{error}");
    for date in ["1", "2", "3"] {
        fs::write(&path, "x").unwrap();
        set_aside(&path, date).unwrap();
    }
    let names: std::collections::BTreeSet<_> = fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .map(|file| file.file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        Vec::from_iter(names),
        ["history.sqlite.damaged-2", "history.sqlite.damaged-3"]
    );
}

#[test]
fn cells_roll_up_into_hours_and_days_and_nothing_is_counted_twice() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder, HistoryLimits::default());
    let platforms: Vec<_> = (0..3).map(|n| platform(&n.to_string())).collect();
    let first = RollupTier::Five.bucket(START);
    let mut whole = RollupCell::default();
    for bucket in first..first + 300 {
        whole.merge(&cell(7));
        let cells = platforms
            .iter()
            .map(|p| (Arc::clone(p), bucket, cell(7)))
            .collect();
        store
            .write(&HistoryBatch {
                cells,
                ..HistoryBatch::default()
            })
            .unwrap();
    }
    let now = START + 25 * HOUR;
    tidy(&mut store, now);
    tidy(&mut store, now);
    assert_eq!(count(&store, "hour"), 3 * 25);
    assert_eq!(count(&store, "day"), 3);
    let day: Vec<u8> = store
        .connection
        .query_row("SELECT cell FROM day LIMIT 1", [], |row| row.get(0))
        .unwrap();
    let day = RollupCell::decode(&day).unwrap();
    assert_eq!(day.checks, 7 * 288);
    assert_eq!(day.durations.len(), 7 * 288);
    // A host that was restarted within a bucket adds to it.
    store
        .write(&HistoryBatch {
            cells: vec![(Arc::clone(&platforms[0]), first + 299, cell(5))],
            ..HistoryBatch::default()
        })
        .unwrap();
    let last: Vec<u8> = store
        .connection
        .query_row(
            "SELECT cell FROM five WHERE key = ?1",
            [key(
                first + 299,
                platforms[0].remembered(store.epoch).unwrap(),
            )],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(RollupCell::decode(&last).unwrap().checks, 12);
}

#[test]
fn the_old_is_removed_by_age_but_the_state_that_holds_stays() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder, HistoryLimits::default());
    let shop = platform("shop");
    let first = RollupTier::Five.bucket(START);
    let changes = (0..50)
        .map(|n| change(&shop, START + n, StoredState::Healthy))
        .collect();
    let cells = vec![(Arc::clone(&shop), first, cell(1))];
    store
        .write(&HistoryBatch {
            cells,
            changes,
            ..HistoryBatch::default()
        })
        .unwrap();
    tidy(&mut store, START + 8 * DAY);
    let counts =
        |store: &HistoryStore| ["change", "five", "hour", "day"].map(|table| count(store, table));
    assert_eq!(counts(&store), [50, 0, 1, 1]);
    tidy(&mut store, START + 800 * DAY);
    assert_eq!(counts(&store), [1, 0, 0, 0]);
}

#[test]
fn a_file_that_is_too_large_loses_its_oldest_buckets_and_shrinks() {
    let folder = TempDir::new().unwrap();
    let limits = HistoryLimits {
        max_size: 1 << 20,
        ..HistoryLimits::default()
    };
    let mut store = open(&folder, limits);
    let platforms: Vec<_> = (0..200).map(|n| platform(&n.to_string())).collect();
    let first = RollupTier::Five.bucket(START);
    let changes = platforms
        .iter()
        .map(|p| change(p, START, StoredState::Healthy))
        .collect();
    store
        .write(&HistoryBatch {
            changes,
            ..HistoryBatch::default()
        })
        .unwrap();
    for bucket in first..first + 600 {
        let cells = platforms
            .iter()
            .map(|p| (Arc::clone(p), bucket, cell(30)))
            .collect();
        store
            .write(&HistoryBatch {
                cells,
                ..HistoryBatch::default()
            })
            .unwrap();
    }
    let now = START + 600 * 300_000;
    tidy(&mut store, now);
    let oldest: i64 = store
        .connection
        .query_row("SELECT min(key) FROM five", [], |row| row.get(0))
        .unwrap();
    assert!(unkey(oldest).0 > first + 100, "{}", unkey(oldest).0 - first);
    assert_eq!(count(&store, "change"), 200);
    drop(store);
    let size = fs::metadata(folder.path().join(crate::FILE)).unwrap().len();
    assert!(size < 8 << 20, "{size}");
}

#[test]
fn a_batch_that_does_not_fit_leaves_nothing_behind_and_can_be_tried_again() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder, HistoryLimits::default());
    let pages: i64 = store
        .connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    store
        .connection
        .pragma_update_and_check(None, "max_page_count", pages + 1, |_| Ok(()))
        .unwrap();
    let platforms: Vec<_> = (0..2_000).map(|n| platform(&n.to_string())).collect();
    let changes = platforms
        .iter()
        .map(|p| change(p, START, StoredState::Healthy))
        .collect();
    let batch = HistoryBatch {
        changes,
        ..HistoryBatch::default()
    };
    let error = store.write(&batch).unwrap_err();
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!((count(&store, "change"), count(&store, "platform")), (0, 0));
    store
        .connection
        .pragma_update_and_check(None, "max_page_count", 100_000, |_| Ok(()))
        .unwrap();
    store.write(&batch).unwrap();
    assert_eq!(
        (count(&store, "change"), count(&store, "platform")),
        (2_000, 2_000)
    );
}
