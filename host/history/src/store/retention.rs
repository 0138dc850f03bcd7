//! Rolling up into coarser buckets, and removal of the oldest.
//!
//! All of it is done in small steps between batches, so that no step holds the file for long.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{HistoryStore, StoreError, key, put_cell, unkey};
use crate::rollup::{RollupCell, RollupTier};

/// The progress of rolling up.
#[derive(Debug, Default)]
pub(super) struct RollProgress {
    /// The first platform that the current bucket of each tier does not have yet.
    next: BTreeMap<&'static str, i64>,
}

impl HistoryStore {
    /// Does one step of the upkeep; `settled` is the time before which no more cells will come. Returns `true` if there is more to do.
    pub(crate) fn tidy(&mut self, now: i64, settled: i64) -> Result<bool, StoreError> {
        // Nothing is removed before it is rolled up.
        for tier in [RollupTier::Hour, RollupTier::Day] {
            if self.roll_up(tier, settled)? {
                return Ok(true);
            }
        }
        Ok(self.remove_old(now)? | self.shrink(now)?)
    }

    /// Computes some cells of a tier from the finer one.
    fn roll_up(&mut self, tier: RollupTier, settled: i64) -> Result<bool, StoreError> {
        let Some(finer) = tier.finer() else {
            return Ok(false);
        };
        let settled = match finer.finer() {
            None => settled,
            // The finer tier may lack cells of its own.
            Some(_) => self
                .first_to_roll(finer)?
                .map_or(settled, |bucket| settled.min(bucket * finer.millis())),
        };
        let Some(bucket) = self.first_to_roll(tier)? else {
            return Ok(false);
        };
        if (bucket + 1) * tier.millis() > settled {
            return Ok(false);
        }
        let per_bucket = tier.millis() / finer.millis();
        let name = tier.table();
        let low = self.rolling.next.get(name).copied().unwrap_or(0);
        let high = low + PLATFORMS_PER_STEP;
        let transaction = self.connection.transaction()?;
        let mut sums = BTreeMap::<i64, RollupCell>::new();
        {
            let mut select = transaction.prepare_cached(&format!(
                "SELECT key, cell FROM {} WHERE key >= ?1 AND key < ?2",
                finer.table()
            ))?;
            for fine in bucket * per_bucket..(bucket + 1) * per_bucket {
                let mut rows = select.query([key(fine, low), key(fine, high)])?;
                while let Some(row) = rows.next()? {
                    let cell: Vec<u8> = row.get(1)?;
                    if let Some(cell) = RollupCell::decode(&cell) {
                        sums.entry(unkey(row.get(0)?).1).or_default().merge(&cell);
                    }
                }
            }
        }
        for (platform, cell) in &sums {
            // In place of what a step wrote that was interrupted.
            transaction.execute(
                &format!("DELETE FROM {name} WHERE key = ?1"),
                [key(bucket, *platform)],
            )?;
            put_cell(&transaction, tier, key(bucket, *platform), cell)?;
        }
        let last: i64 =
            transaction.query_row("SELECT coalesce(max(id), 0) FROM platform", [], |row| {
                row.get(0)
            })?;
        let is_done = high > last;
        if is_done {
            transaction.execute(
                "INSERT INTO rolled (tier, before) VALUES (?1, ?2) ON CONFLICT (tier) DO UPDATE SET before = excluded.before",
                params![name, bucket + 1],
            )?;
        }
        transaction.commit()?;
        self.rolling
            .next
            .insert(name, if is_done { 0 } else { high });
        Ok(true)
    }

    /// Returns the first bucket of a tier that the finer tier has cells for and that is not rolled up yet.
    fn first_to_roll(&self, tier: RollupTier) -> Result<Option<i64>, StoreError> {
        let Some(finer) = tier.finer() else {
            return Ok(None);
        };
        let per_bucket = tier.millis() / finer.millis();
        let from = rolled_before(&self.connection, tier)?.unwrap_or(0) * per_bucket;
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT key FROM {} WHERE key >= ?1 ORDER BY key LIMIT 1",
            finer.table()
        ))?;
        let first: Option<i64> = select
            .query_row([key(from, 0)], |row| row.get(0))
            .optional()?;
        Ok(first.map(|first| unkey(first).0.div_euclid(per_bucket)))
    }

    /// Removes some of what is older than its retention.
    fn remove_old(&mut self, now: i64) -> Result<bool, StoreError> {
        let mut removed = 0;
        for tier in RollupTier::ALL {
            let oldest = tier.bucket(now - self.retention(tier));
            removed += self.connection.prepare_cached(&format!(
                "DELETE FROM {0} WHERE key IN (SELECT key FROM {0} WHERE key < ?1 ORDER BY key LIMIT {ROWS_PER_STEP})",
                tier.table()
            ))?.execute([key(oldest, 0)])?;
        }
        let horizon = now - self.retention(RollupTier::Day);
        removed += remove_changes(&self.connection, horizon)?;
        if removed == 0 {
            // The last of a platform that is gone, once nothing refers to it.
            self.connection
                .prepare_cached("DELETE FROM run WHERE seen < ?1 AND id <> ?2")?
                .execute([horizon, self.run])?;
            self.remove_forgotten(horizon)?;
        }
        Ok(removed > 0)
    }

    /// Removes platforms that have aged out; only while no key remembers its id.
    pub(super) fn remove_platforms(&self, now: i64) -> Result<(), StoreError> {
        self.connection.execute(
            "DELETE FROM platform WHERE seen < ?1 AND id NOT IN (SELECT platform FROM change)",
            [now - self.retention(RollupTier::Day)],
        )?;
        Ok(())
    }

    /// Removes the last change of platforms that are long gone.
    fn remove_forgotten(&self, horizon: i64) -> Result<(), StoreError> {
        self.connection.prepare_cached(
            "DELETE FROM change WHERE at < ?1 AND state & 7 = 4 AND NOT EXISTS
             (SELECT 1 FROM change AS later WHERE later.platform = change.platform AND later.at > change.at)",
        )?.execute([horizon])?;
        Ok(())
    }

    /// Removes some of the oldest while the file is too large, and gives free pages back to the file system.
    fn shrink(&mut self, now: i64) -> Result<bool, StoreError> {
        let pragma = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let (page, pages, free) = (
            pragma("page_size")?,
            pragma("page_count")?,
            pragma("freelist_count")?,
        );
        let used = u64::try_from((pages - free) * page).unwrap_or_default();
        if free > SPARE_PAGES {
            // Each row is a page.
            let mut vacuum = self
                .connection
                .prepare_cached(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        if used <= self.limits.max_size {
            return Ok(free > SPARE_PAGES);
        }
        // What is nearest to its retention goes first.
        let mut oldest: Option<(i64, RollupTier)> = None;
        for tier in RollupTier::ALL {
            let first: Option<i64> = self.connection.query_row(
                &format!("SELECT min(key) FROM {}", tier.table()),
                [],
                |row| row.get(0),
            )?;
            let Some(first) = first else { continue };
            let age = now - unkey(first).0 * tier.millis();
            // In thousandths of the retention.
            let share = age.saturating_mul(1000) / self.retention(tier).max(1);
            oldest = oldest.max(Some((share, tier)));
        }
        // Changes are the last to go: they are few, and uptime is computed from them.
        let removed = match oldest {
            Some((_, tier)) => self.connection.execute(
                &format!("DELETE FROM {0} WHERE key IN (SELECT key FROM {0} ORDER BY key LIMIT {ROWS_PER_STEP})", tier.table()),
                [],
            )?,
            None => {
                let nth: Option<i64> = self.connection.query_row(
                    &format!("SELECT at FROM change ORDER BY at LIMIT 1 OFFSET {ROWS_PER_STEP}"), [], |row| row.get(0)).optional()?;
                remove_changes(&self.connection, nth.unwrap_or(now))?
            }
        };
        Ok(removed > 0)
    }

    /// Returns the retention of a tier in milliseconds.
    fn retention(&self, tier: RollupTier) -> i64 {
        let age = match tier {
            RollupTier::Five => self.limits.five_minutes,
            RollupTier::Hour => self.limits.hours,
            RollupTier::Day => self.limits.days,
        };
        i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 2)
    }
}

/// Returns the first bucket of a tier that is not rolled up yet.
pub(crate) fn rolled_before(
    connection: &Connection,
    tier: RollupTier,
) -> Result<Option<i64>, rusqlite::Error> {
    let mut select = connection.prepare_cached("SELECT before FROM rolled WHERE tier = ?1")?;
    select
        .query_row([tier.table()], |row| row.get(0))
        .optional()
}

/// Removes some changes before `horizon`, but of each platform the last one, whose state holds from then on.
fn remove_changes(connection: &Connection, horizon: i64) -> Result<usize, rusqlite::Error> {
    let mut delete = connection.prepare_cached(&format!(
        "DELETE FROM change WHERE id IN (
            SELECT id FROM change AS old WHERE at < ?1 AND EXISTS
            (SELECT 1 FROM change AS later WHERE later.platform = old.platform AND later.at > old.at AND later.at <= ?1)
            LIMIT {ROWS_PER_STEP})"
    ))?;
    delete.execute([horizon])
}

/// The platforms that one step rolls up.
const PLATFORMS_PER_STEP: i64 = 2_000;
/// The rows that one step removes.
const ROWS_PER_STEP: usize = 20_000;
/// Free pages that stay in the file for the next rows.
const SPARE_PAGES: i64 = 1_024;
/// The free pages that one step gives back.
const PAGES_PER_STEP: i64 = 2_048;
