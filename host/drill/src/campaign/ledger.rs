//! Proves that every due check of every platform is counted exactly once.
//!
//! Between two moments, the number of due checks equals the number of slots on the platform's lattice. The status names
//! the next slot, and the metrics count the outcomes of those before it. The two are read one after the other, so they
//! are compared only if neither can have changed in between: no slot has passed meanwhile, and the last one is so long
//! ago that its check has ended, or reached its deadline.

use std::collections::{BTreeMap, HashMap};

use super::snapshots::{MetricsSnapshot, PlatformStatus, StatusSnapshot};

/// The account of each platform.
#[derive(Default)]
pub(super) struct CheckLedger(BTreeMap<String, PlatformAccount>);

/// The account of one platform.
#[derive(Default)]
struct PlatformAccount {
    /// The first observed slot.
    first: f64,
    /// The first count.
    counted: u64,
    /// Counted checks minus slots, for each snapshot so far: always the same number if each check is counted once.
    opened: Vec<i64>,
    closed: Vec<i64>,
    /// Slots since the account was opened.
    due: i64,
}

impl CheckLedger {
    /// Returns an account for each of these platforms.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(
            names
                .map(|name| (name.to_owned(), PlatformAccount::default()))
                .collect(),
        )
    }

    /// Records a snapshot whose counts were read between the two snapshots. Returns `true` once every account is open.
    pub(super) fn open(
        &mut self,
        before: &StatusSnapshot,
        counts: &MetricsSnapshot,
        after: &StatusSnapshot,
    ) -> bool {
        for (name, line) in &mut self.0 {
            if let Some((next, interval, counted)) = mark(name, before, counts, after) {
                if line.opened.is_empty() {
                    (line.first, line.counted) = (next, counted);
                }
                line.opened.push(line.balance(next, interval, counted));
            }
        }
        self.0
            .values()
            .all(|line| line.opened.len() >= OPENING_SNAPSHOTS)
    }

    /// Records a snapshot at the end; returns `true` once every account balances, or never will.
    pub(super) fn close(
        &mut self,
        before: &StatusSnapshot,
        counts: &MetricsSnapshot,
        after: &StatusSnapshot,
    ) -> bool {
        for (name, line) in &mut self.0 {
            if !line.balances()
                && let Some((next, interval, counted)) = mark(name, before, counts, after)
            {
                let balance = line.balance(next, interval, counted);
                line.closed.push(balance);
                line.due = whole(counted) - whole(line.counted) - balance;
            }
        }
        let done =
            |line: &PlatformAccount| line.balances() || line.closed.len() >= CLOSING_SNAPSHOTS;
        self.0.values().all(done)
    }

    /// Returns the total number of due checks.
    pub(super) fn due(&self) -> i64 {
        self.0.values().map(|line| line.due).sum()
    }

    /// Describes the unbalanced accounts.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self.0.iter().filter(|(_, line)| !line.balances());
        faults
            .map(|(name, line)| match line.closed.last() {
                None => format!("{name}: its slots have moved"),
                Some(balance) => format!(
                    "{name}: {} checks were counted, {} were due",
                    line.due + balance,
                    line.due
                ),
            })
            .collect()
    }
}

impl PlatformAccount {
    /// Returns the checks counted since the account was opened, minus the slots that have passed.
    fn balance(&self, next: f64, interval: f64, counted: u64) -> i64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "as many slots as a campaign has are a small number"
        )]
        let slots = ((next - self.first) / interval).round() as i64;
        whole(counted) - whole(self.counted) - slots
    }

    fn balances(&self) -> bool {
        self.closed
            .iter()
            .any(|balance| self.opened.contains(balance))
    }
}

/// Returns the next slot, the interval and the count of a platform, if they are consistent.
fn mark(
    name: &str,
    before: &StatusSnapshot,
    counts: &MetricsSnapshot,
    after: &StatusSnapshot,
) -> Option<(f64, f64, u64)> {
    let (platform, later) = (before.platforms.get(name)?, after.platforms.get(name)?);
    let counted = counts.platforms.get(name)?.due();
    let unmoved = (platform.next - later.next).abs() < platform.interval / 2.0;
    (unmoved && is_over(platform, before.wall)).then_some((
        platform.next,
        platform.interval,
        counted,
    ))
}

/// Returns `true` if the check of the last slot is over, and the next slot is less than an interval ahead.
fn is_over(platform: &PlatformStatus, now: f64) -> bool {
    let since_slot = now - (platform.next - platform.interval);
    (platform.timeout + SETTLED..platform.interval).contains(&since_slot)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns the names of platforms with their counts between two snapshots.
pub(super) fn since<'a>(
    start: &'a MetricsSnapshot,
    end: &'a MetricsSnapshot,
    count: impl Fn(&super::snapshots::PlatformCounts) -> u64 + 'a,
) -> HashMap<&'a str, u64> {
    let diffs = end.platforms.iter().map(move |(name, now)| {
        let before = start.platforms.get(name).map_or(0, &count);
        (name.as_str(), count(now).saturating_sub(before))
    });
    diffs.collect()
}

/// Number of snapshots that open an account: one may fall on a check that the host gives up on late.
const OPENING_SNAPSHOTS: usize = 2;
/// Number of snapshots after which an unbalanced account never balances.
const CLOSING_SNAPSHOTS: usize = 6;
/// Time after its deadline by which a check is certainly counted on a machine that is not stalled, in seconds.
const SETTLED: f64 = 0.06;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a platform with an interval of 1 s and a timeout of 0.5 s, `into` seconds after its `nth` slot.
    fn status(nth: f64, into: f64) -> StatusSnapshot {
        let platform = PlatformStatus {
            next: 1000.0 + nth + 1.0,
            started: None,
            interval: 1.0,
            timeout: 0.5,
            message: String::new(),
        };
        StatusSnapshot::of_one("a", platform, 1000.0 + nth + into)
    }

    fn ledger(slots: f64, counted: u64) -> CheckLedger {
        let mut ledger = CheckLedger::of(["a"].into_iter());
        let snapshot = status(0.0, 0.8);
        for _ in 0..OPENING_SNAPSHOTS {
            ledger.open(&snapshot, &MetricsSnapshot::of_one("a", 7), &snapshot);
        }
        let snapshot = status(slots, 0.8);
        for _ in 0..CLOSING_SNAPSHOTS {
            ledger.close(
                &snapshot,
                &MetricsSnapshot::of_one("a", 7 + counted),
                &snapshot,
            );
        }
        ledger
    }

    #[test]
    fn an_account_balances_when_each_slot_is_counted_once() {
        let ledger = ledger(500.0, 500);
        assert_eq!((ledger.faults(), ledger.due()), (vec![], 500));
    }

    #[test]
    fn a_check_that_is_lost_or_counted_twice_is_told_of() {
        for counted in [499, 501] {
            let faults = ledger(500.0, counted).faults();
            let expected = format!("a: {counted} checks were counted, 500 were due");
            assert_eq!(faults, [expected]);
        }
    }

    #[test]
    fn nothing_is_compared_while_a_check_may_be_under_way_or_a_slot_passes() {
        let counts = MetricsSnapshot::of_one("a", 1);
        let quiet = status(3.0, 0.8);
        assert!(mark("a", &quiet, &counts, &quiet).is_some());
        assert!(mark("a", &quiet, &counts, &status(4.0, 0.1)).is_none());
        let running = status(3.0, 0.3);
        assert!(mark("a", &running, &counts, &running).is_none());
        let stopped = status(3.0, 1.3);
        assert!(mark("a", &stopped, &counts, &stopped).is_none());
    }
}
