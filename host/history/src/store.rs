//! The SQLite file: opening, schema versions, and what a batch writes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};

use crate::{
    rollup::{RollupCell, RollupTier},
    timeline::StoredState,
    writer::{HistoryBatch, PlatformKey},
};

pub(crate) use retention::rolled_before;

mod retention;

/// The limits of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HistoryLimits {
    /// The size above which the oldest is removed, in bytes.
    pub max_size: u64,
    /// The age of the oldest bucket of five minutes.
    pub five_minutes: Duration,
    /// The age of the oldest bucket of an hour.
    pub hours: Duration,
    /// The age of the oldest bucket of a day, and of the oldest change of state.
    pub days: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            max_size: 1 << 30,
            five_minutes: Duration::from_hours(7 * 24),
            hours: Duration::from_hours(90 * 24),
            days: Duration::from_hours(730 * 24),
        }
    }
}

/// The reason why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It was written by a newer host.
    #[error(
        "{} has schema version {found}, and this host knows up to {VERSION}: start the newer host, or move the file away",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Something else has its name.
    #[error("{} is not a regular file: move it away", .0.display())]
    NotAFile(PathBuf),
    /// The file cannot be created or opened.
    #[error("cannot open {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// SQLite refuses, for this reason.
    #[error("{}", explain(.0))]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Returns `true` if the file's content is damaged, so that it has to be started new.
    pub(crate) fn is_damage(&self) -> bool {
        let Self::Sqlite(error) = self else {
            return false;
        };
        let damaged = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        error
            .sqlite_error_code()
            .is_some_and(|code| damaged.contains(&code))
    }

    /// Returns `true` if trying again cannot help until an operator does something and restarts the host.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::NotAFile(_))
    }
}

/// Returns SQLite's message with the cure, where there is one.
fn explain(error: &rusqlite::Error) -> String {
    let cure = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; free space on the disk of the state folder",
        Some(ErrorCode::ReadOnly) => "; make the state folder writable for the host's user",
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; end the other program that has the file open"
        }
        _ => "",
    };
    format!("{error}{cure}")
}

/// The open file.
pub(crate) struct HistoryStore {
    connection: Connection,
    path: PathBuf,
    limits: HistoryLimits,
    /// Identifies this opening, for the ids that platforms remember.
    epoch: u64,
    /// The run of the host that is extended by each batch.
    run: i64,
    rolling: retention::RollProgress,
}

impl HistoryStore {
    /// Opens the file, or creates it, and continues this run of the host, or begins one at its time.
    pub(crate) fn open(
        path: &Path,
        limits: HistoryLimits,
        run: OpeningRun,
    ) -> Result<Self, StoreError> {
        create_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        migrate(&connection, path)?;
        if let OpeningRun::First(_) = run {
            let unclean: bool = connection.query_row(
                "SELECT EXISTS (SELECT 1 FROM run WHERE id = (SELECT max(id) FROM run) AND ended = 0)",
                [],
                |row| row.get(0),
            )?;
            if unclean {
                quick_check(&connection, path)?;
            }
        }
        static EPOCHS: AtomicU64 = AtomicU64::new(1);
        let mut store = Self {
            connection,
            path: path.to_owned(),
            limits,
            epoch: EPOCHS.fetch_add(1, Ordering::Relaxed),
            run: 0,
            rolling: retention::RollProgress::default(),
        };
        if let OpeningRun::First(now) = run {
            store.remove_platforms(now)?;
        }
        store.run = match run {
            OpeningRun::Continued(run) => run,
            OpeningRun::First(start) | OpeningRun::New(start) => {
                insert_run(&store.connection, start)?
            }
        };
        Ok(store)
    }

    /// Returns the id of the run that batches extend.
    pub(crate) fn run(&self) -> i64 {
        self.run
    }

    /// Returns `false` if the file was removed or replaced behind the host's back.
    pub(crate) fn is_in_place(&self) -> bool {
        self.path.exists()
    }

    /// Writes a batch as a whole, or nothing of it.
    pub(crate) fn write(&mut self, batch: &HistoryBatch) -> Result<(), StoreError> {
        let (epoch, mut run) = (self.epoch, self.run);
        let transaction = self.connection.transaction()?;
        if let Some(start) = batch.new_run {
            run = insert_run(&transaction, start)?;
        }
        let known = {
            let mut ids = PlatformIds::new(&transaction, epoch, batch.alive_until);
            let mut insert = transaction.prepare_cached(
                "INSERT INTO change (platform, at, state, message) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for change in &batch.changes {
                let state = state_code(change.state, change.maintenance);
                let message = (!change.message.is_empty()).then_some(&*change.message);
                let id = ids.id(&change.platform)?;
                insert.execute(params![id, change.at, state, message])?;
            }
            // In the order of keys, which appends to the end of the table.
            let mut cells = Vec::with_capacity(batch.cells.len());
            for (platform, bucket, cell) in &batch.cells {
                cells.push((key(*bucket, ids.id(platform)?), cell));
            }
            cells.sort_unstable_by_key(|(key, _)| *key);
            for (key, cell) in cells {
                put_cell(&transaction, RollupTier::Five, key, cell)?;
            }
            ids.known
        };
        let last_change = batch.changes.iter().map(|change| change.at + 1).max();
        let seen = batch.alive_until.max(last_change.unwrap_or(i64::MIN));
        transaction.execute(
            "UPDATE run SET seen = max(seen, ?2), ended = ?3 WHERE id = ?1",
            params![run, seen, batch.is_last],
        )?;
        transaction.commit()?;
        // Only now are the ids in the file.
        for (platform, id) in known {
            platform.remember(epoch, id);
        }
        self.run = run;
        Ok(())
    }
}

/// Begins a run: what was known before it says nothing about its time. Returns its id.
fn insert_run(connection: &Connection, start: i64) -> Result<i64, rusqlite::Error> {
    connection.execute(
        "INSERT INTO run (start, seen, ended) VALUES (?1, ?1, 0)",
        [start],
    )?;
    Ok(connection.last_insert_rowid())
}

/// The run of the host for which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OpeningRun {
    /// The first opening of this process: a run begins at this time.
    First(i64),
    /// Another file takes the place of the one before: a run begins at this time.
    New(i64),
    /// The same file again, after a fault, with the id of its run.
    Continued(i64),
}

/// The ids of platforms in one transaction.
struct PlatformIds<'t, 'a> {
    transaction: &'t Transaction<'t>,
    epoch: u64,
    now: i64,
    known: Vec<(&'a PlatformKey, i64)>,
}

impl<'t, 'a> PlatformIds<'t, 'a> {
    fn new(transaction: &'t Transaction<'t>, epoch: u64, now: i64) -> Self {
        Self {
            transaction,
            epoch,
            now,
            known: Vec::new(),
        }
    }

    fn id(&mut self, platform: &'a PlatformKey) -> Result<i64, rusqlite::Error> {
        if let Some(id) = platform.remembered(self.epoch) {
            return Ok(id);
        }
        let mut insert = self
            .transaction
            .prepare_cached("INSERT INTO plugin (name) VALUES (?1) ON CONFLICT DO NOTHING")?;
        insert.execute([&*platform.plugin])?;
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO platform (name, plugin, group_label, seen)
             VALUES (?1, (SELECT id FROM plugin WHERE name = ?2), ?3, ?4)
             ON CONFLICT (name) DO UPDATE
             SET plugin = excluded.plugin, group_label = excluded.group_label, seen = excluded.seen
             RETURNING id",
        )?;
        let id = insert.query_row(
            params![&*platform.name, &*platform.plugin, platform.group, self.now],
            |row| row.get(0),
        )?;
        self.known.push((platform, id));
        Ok(id)
    }
}

/// Stores a cell, or adds it to the one that is there: that of a host that was restarted within the bucket.
fn put_cell(
    connection: &Connection,
    tier: RollupTier,
    key: i64,
    cell: &RollupCell,
) -> Result<(), rusqlite::Error> {
    let table = tier.table();
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO {table} (key, cell) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    ))?;
    if insert.execute(params![key, cell.encode()])? == 1 {
        return Ok(());
    }
    let mut select =
        connection.prepare_cached(&format!("SELECT cell FROM {table} WHERE key = ?1"))?;
    let stored: Vec<u8> = select.query_row([key], |row| row.get(0))?;
    let mut sum = cell.clone();
    if let Some(stored) = RollupCell::decode(&stored) {
        sum.merge(&stored);
    }
    let mut update =
        connection.prepare_cached(&format!("UPDATE {table} SET cell = ?2 WHERE key = ?1"))?;
    update.execute(params![key, sum.encode()])?;
    Ok(())
}

/// Creates the file for its owner alone; SQLite gives its other files the same permissions.
fn create_private(path: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(_) => return Err(StoreError::NotAFile(path.to_owned())),
        Err(_) => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StoreError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Brings the schema to this host's version.
fn migrate(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
        });
    }
    if found == 0 {
        // Before the first table, after which it has no effect.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    // After a power cut the last batches may be missing, but the file is whole.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", JOURNAL, |_| Ok(()))?;
    for version in found..VERSION {
        let step = MIGRATIONS
            .get(usize::try_from(version).unwrap_or(usize::MAX))
            .copied()
            .unwrap_or_default();
        // With a number that a newer step of the same host cannot confuse: both are in one transaction.
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA user_version = {}; COMMIT;",
            version + 1
        ))?;
    }
    Ok(())
}

/// Looks for damage in a file that was not closed, if it is small enough to be read in a moment.
fn quick_check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let size = fs::metadata(path).map_or(0, |file| file.len());
    if size > CHECKED_SIZE {
        return Ok(());
    }
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(said)).into())
}

/// Moves a damaged file away under a name with this date; returns the name. Of earlier ones, the latest stays.
pub(crate) fn set_aside(path: &Path, date: &str) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}.damaged-");
    let aside = path.with_file_name(format!("{prefix}{date}"));
    if let Some(folder) = path.parent() {
        let files = fs::read_dir(folder)?.flatten();
        let is_earlier = |file: &fs::DirEntry| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with(&prefix) && !name.ends_with(date)
        };
        let mut earlier: Vec<_> = files.filter(is_earlier).map(|file| file.path()).collect();
        earlier.sort();
        earlier.pop();
        for file in earlier {
            fs::remove_file(file)?;
        }
    }
    fs::rename(path, &aside)?;
    for suffix in ["-wal", "-shm"] {
        let beside = path.with_file_name(format!("{name}{suffix}"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

/// Returns the number of a state in the file.
fn state_code(state: StoredState, maintenance: bool) -> i64 {
    let code = StoredState::ALL.iter().zip(0..).find(|(s, _)| **s == state);
    code.map_or(0, |(_, code)| code) + if maintenance { IN_MAINTENANCE } else { 0 }
}

/// Returns the state of a number in the file, and `true` in maintenance. A number of a damaged file is no result.
pub(crate) fn decode_state(code: i64) -> (StoredState, bool) {
    let state = usize::try_from(code & (IN_MAINTENANCE - 1)).unwrap_or(usize::MAX);
    let state = StoredState::ALL.get(state).copied();
    (
        state.unwrap_or(StoredState::None),
        code & IN_MAINTENANCE != 0,
    )
}

/// Returns the key of a platform's cell.
pub(crate) const fn key(bucket: i64, platform: i64) -> i64 {
    bucket << PLATFORM_BITS | (platform & ((1 << PLATFORM_BITS) - 1))
}

/// Returns the bucket and the platform of a key.
pub(crate) const fn unkey(key: i64) -> (i64, i64) {
    (key >> PLATFORM_BITS, key & ((1 << PLATFORM_BITS) - 1))
}

/// The id of a platform in one opening of the file.
#[derive(Debug, Default)]
pub(crate) struct RememberedId {
    epoch: AtomicU64,
    id: AtomicI64,
}

impl RememberedId {
    pub(crate) fn get(&self, epoch: u64) -> Option<i64> {
        (self.epoch.load(Ordering::Acquire) == epoch).then(|| self.id.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, epoch: u64, id: i64) {
        self.id.store(id, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Release);
    }
}

/// The version of the schema that this host writes.
pub(crate) const VERSION: i64 = 1;

/// The steps from each version to the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE plugin (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE platform (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, plugin INTEGER NOT NULL, group_label TEXT,
        seen INTEGER NOT NULL
    );
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, start INTEGER NOT NULL, seen INTEGER NOT NULL, ended INTEGER NOT NULL
    );
    CREATE TABLE change (
        id INTEGER PRIMARY KEY, platform INTEGER NOT NULL, at INTEGER NOT NULL, state INTEGER NOT NULL, message TEXT
    );
    CREATE INDEX change_of_platform ON change (platform, at);
    CREATE INDEX change_at ON change (at);
    CREATE INDEX change_to_bad ON change (platform) WHERE state & 7 IN (2, 3);
    CREATE TABLE five (key INTEGER PRIMARY KEY, cell BLOB NOT NULL);
    CREATE TABLE hour (key INTEGER PRIMARY KEY, cell BLOB NOT NULL);
    CREATE TABLE day (key INTEGER PRIMARY KEY, cell BLOB NOT NULL);
    CREATE TABLE rolled (tier TEXT PRIMARY KEY, before INTEGER NOT NULL);
"];

/// The bits of a key that identify the platform; the bucket has the others.
const PLATFORM_BITS: u32 = 26;
/// Added to the number of a state in maintenance.
const IN_MAINTENANCE: i64 = 8;
/// The time that a write waits for another program's lock. The batch is kept and tried again.
const BUSY: Duration = Duration::from_secs(2);
/// The size to which the write-ahead log is cut, in bytes.
const JOURNAL: i64 = 16 << 20;
/// The largest file whose content is checked after an unclean end, in bytes: read in about a second.
const CHECKED_SIZE: u64 = 256 << 20;

#[cfg(test)]
mod tests;
