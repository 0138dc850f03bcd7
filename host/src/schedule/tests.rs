//! The schedule's promises, against a model that asks every entry about every instant, and by name.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const ORIGIN: Duration = Duration::from_millis(123_456_789);
const TICK: Duration = Duration::from_millis(10);
const STAGGER: Duration = Duration::from_millis(500);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn empty() -> Schedule {
    Schedule::new(ORIGIN, TICK, STAGGER).unwrap()
}

fn with(count: u32, interval: Duration) -> Schedule {
    let mut schedule = empty();
    for key in 0..count {
        schedule.set(Key(key), interval).unwrap();
    }
    schedule
}

fn poll(schedule: &mut Schedule, since_origin: Duration) -> Vec<Due> {
    let mut found = Vec::new();
    schedule.poll(ORIGIN + since_origin, |due| found.push(due));
    found
}

/// Sleeps and polls as the driver does, from the last poll to an instant, and hands out each batch.
fn drive(
    schedule: &mut Schedule,
    since_origin: RangeInclusive<Duration>,
    mut each: impl FnMut(Duration, Vec<Due>),
) {
    let mut now = *since_origin.start();
    while let Some(wakeup) = schedule.next_wakeup(ORIGIN + now) {
        now = wakeup - ORIGIN;
        if now > *since_origin.end() {
            break;
        }
        each(now, poll(schedule, now));
    }
}

fn phases(schedule: &Schedule) -> BTreeMap<Key, (Duration, Duration, u32)> {
    schedule
        .plan()
        .entries()
        .iter()
        .map(|entry| (entry.key, (entry.interval, entry.phase, entry.slot)))
        .collect()
}

/// Points of the lattice from one instant to another, both included.
fn points(phase: u64, interval: u64, from: u64, to: u64) -> u64 {
    let up_to = |instant: u64| {
        if instant < phase {
            0
        } else {
            (instant - phase) / interval + 1
        }
    };
    up_to(to) - from.checked_sub(1).map_or(0, up_to)
}

#[test]
fn a_week_of_starts_is_on_the_lattice_to_the_nanosecond() {
    let mut schedule = with(3, secs(5));
    let planned = phases(&schedule);
    let mut ticks = [0; 3];
    drive(
        &mut schedule,
        Duration::ZERO..=secs(7 * 24 * 3600) - ms(1),
        |now, batch| {
            for due in batch {
                let (start, (interval, phase, slot)) = (due.start.unwrap(), planned[&due.key]);
                let tick = &mut ticks[due.key.0 as usize];
                assert_eq!(
                    start,
                    Start {
                        at: ORIGIN + phase + interval * *tick,
                        tick: u64::from(*tick),
                        slot
                    }
                );
                assert!(start.at <= ORIGIN + now && due.missed == 0);
                *tick += 1;
            }
        },
    );
    assert_eq!(ticks, [604_800 / 5; 3]);
}

#[test]
fn the_eleventh_platform_does_not_start_with_the_first() {
    let mut schedule = with(11, secs(5));
    let mut busiest = 0;
    drive(&mut schedule, Duration::ZERO..=secs(20), |_, batch| {
        busiest = busiest.max(batch.len())
    });
    assert_eq!(busiest, 1);
}

#[test]
fn the_first_to_come_starts_at_the_origin() {
    let mut schedule = with(2, secs(5));
    assert_eq!(schedule.next_wakeup(Duration::ZERO), Some(ORIGIN));
    let start = Start {
        at: ORIGIN,
        tick: 0,
        slot: 0,
    };
    assert_eq!(
        poll(&mut schedule, Duration::ZERO),
        [Due {
            key: Key(0),
            missed: 0,
            start: Some(start)
        }]
    );
}

#[test]
fn nothing_is_due_before_the_origin_or_twice() {
    let mut schedule = with(1, secs(5));
    schedule.poll(ORIGIN - ms(1), |due| panic!("{due:?} is early"));
    assert_eq!(poll(&mut schedule, ms(3)).len(), 1);
    assert_eq!(poll(&mut schedule, ms(3)), []);
    assert_eq!(
        poll(&mut schedule, ms(1)),
        [],
        "a clock that goes back finds nothing"
    );
    assert_eq!(poll(&mut schedule, secs(5) - Duration::from_nanos(1)), []);
    assert_eq!(poll(&mut schedule, secs(5)).len(), 1);
}

#[test]
fn what_falls_due_within_one_tick_starts_together() {
    // 1000 at 1 s are one each millisecond, ten each tick.
    let mut schedule = with(1000, secs(1));
    let mut batches = Vec::new();
    drive(
        &mut schedule,
        Duration::ZERO..=secs(1) - ms(1),
        |now, batch| batches.push((now, batch.len())),
    );
    assert_eq!(batches.len(), 100);
    assert!(
        batches
            .iter()
            .all(|(now, _)| now.as_millis().is_multiple_of(10))
    );
    assert!(
        batches[1..]
            .iter()
            .all(|(_, starts)| (8..=12).contains(starts)),
        "{batches:?}"
    );
}

#[test]
fn a_poll_that_is_a_little_late_starts_what_is_due() {
    let mut schedule = with(100, secs(1));
    drive(&mut schedule, Duration::ZERO..=secs(2), |_, _| ());
    let found = poll(&mut schedule, secs(2) + ms(100));
    assert!((9..=12).contains(&found.len()), "{} found", found.len());
    assert!(
        found
            .iter()
            .all(|due| due.missed == 0 && due.start.is_some())
    );
}

#[test]
fn nothing_is_replayed_after_a_stall() {
    // 1000 checks every 500 ms: an even spread starts 100 in 50 ms. tokio's three ways of catching up start 1000 to 2500.
    let mut schedule = with(1000, ms(500));
    let mut usual = 0;
    drive(&mut schedule, Duration::ZERO..=secs(5), |now, batch| {
        usual += if now > secs(1) && now <= secs(1) + ms(50) {
            batch.len()
        } else {
            0
        };
    });
    assert!(usual.abs_diff(100) <= 3, "{usual} starts in 50 ms");
    let after = secs(5) + ms(1200);
    let (mut starts, mut missed) = (0, 0);
    let mut count = |now: Duration, batch: Vec<Due>| {
        starts += batch.iter().filter(|due| due.start.is_some()).count();
        missed += batch.iter().map(|due| due.missed).sum::<u64>();
        for due in batch {
            let late = due
                .start
                .map_or(Duration::ZERO, |start| ORIGIN + now - start.at);
            assert!(
                late <= TICK,
                "{due:?} fell into the stall and was started all the same"
            );
        }
    };
    count(after, poll(&mut schedule, after));
    drive(&mut schedule, after..=after + ms(49), &mut count);
    assert!(
        starts <= usual + 3,
        "{starts} starts in the first 50 ms, where {usual} are usual"
    );
    // 1.2 s of 2000 starts a second, less the one tick that still starts.
    assert!(missed.abs_diff(2400 - 20) <= 6, "{missed} missed");
}

#[test]
fn after_a_stall_each_check_waits_for_its_own_slot() {
    let mut schedule = with(10, secs(5));
    drive(&mut schedule, Duration::ZERO..=secs(5), |_, _| ());
    let stall = poll(&mut schedule, secs(7) + ms(200));
    let dropped: Vec<_> = stall
        .iter()
        .map(|due| (due.key.0, due.missed, due.start))
        .collect();
    assert_eq!(
        dropped,
        [(1, 1, None), (2, 1, None), (3, 1, None), (4, 1, None)]
    );
    let mut next = Vec::new();
    drive(&mut schedule, secs(7) + ms(200)..=secs(12), |now, batch| {
        next.extend(
            batch
                .into_iter()
                .map(|due| (due.key.0, now.as_millis(), due.missed)),
        );
    });
    let slots: Vec<_> = (5..15)
        .map(|n| (n % 10, u128::from(n) * 500 + 5000, 0))
        .collect();
    assert_eq!(next, slots);
}

#[test]
fn a_year_of_suspend_costs_one_look_at_each_entry() {
    let year = secs(365 * 24 * 3600);
    let mut schedule = with(500, ms(100));
    poll(&mut schedule, Duration::ZERO);
    let found = poll(&mut schedule, year);
    assert_eq!(found.len(), 500);
    let starts = found.iter().filter(|due| due.start.is_some()).count();
    assert!(starts <= 52, "{starts} starts, where 50 fall due in a tick");
    let missed: u64 = found.iter().map(|due| due.missed).sum();
    // 10 starts a second each; the one at the origin was polled, the one a year later is a start.
    let all: u64 = 500 * 10 * year.as_secs();
    assert_eq!(missed + starts as u64, all);
}

#[test]
fn a_hundred_thousand_entries_cost_a_wake_up_a_tick_and_a_table_twice_as_long() {
    let mut schedule = with(100_000, secs(5));
    assert!(schedule.rings[0].cells() <= 200_000);
    assert!(size_of::<Option<Entry>>() <= 8);
    let (mut wakeups, mut starts, mut busiest) = (0, 0, 0);
    drive(
        &mut schedule,
        Duration::ZERO..=secs(5) - TICK,
        |_, batch| {
            wakeups += 1;
            starts += batch.len();
            busiest = busiest.max(batch.len());
        },
    );
    assert_eq!(wakeups, 500);
    assert!(
        (99_750..100_000).contains(&starts),
        "{starts} starts before the last tick"
    );
    assert!(
        busiest <= 203,
        "{busiest} starts in one tick, where 200 are an even spread"
    );
}

#[test]
fn adding_and_removing_moves_nobody() {
    let mut schedule = with(1000, secs(5));
    let before = phases(&schedule);
    for key in (0..1000).step_by(3) {
        assert!(schedule.remove(Key(key)));
    }
    for key in 1000..1200 {
        schedule.set(Key(key), secs(5)).unwrap();
        schedule.set(Key(key + 1000), secs(30)).unwrap();
    }
    let after = phases(&schedule);
    for (key, place) in before {
        if key.0 % 3 != 0 {
            assert_eq!(after[&key], place, "{key:?} was moved");
        }
    }
    assert_eq!(after[&Key(1000)].2, 0, "the lowest free slot is used again");
}

#[test]
fn a_removed_entry_never_starts_again() {
    let mut schedule = with(2, secs(5));
    assert!(schedule.remove(Key(0)));
    assert!(!schedule.remove(Key(0)));
    assert_eq!(
        poll(&mut schedule, secs(5))
            .iter()
            .map(|due| due.key)
            .collect::<Vec<_>>(),
        [Key(1)]
    );
    assert!(schedule.remove(Key(1)));
    assert_eq!(schedule.next_wakeup(ORIGIN), None);
    assert_eq!(poll(&mut schedule, secs(60)), []);
}

#[test]
fn setting_the_same_interval_again_changes_nothing() {
    let mut schedule = with(20, secs(5));
    poll(&mut schedule, secs(1));
    let before = (phases(&schedule), schedule.next_wakeup(ORIGIN));
    for key in (0..20).rev() {
        schedule.set(Key(key), secs(5)).unwrap();
    }
    assert_eq!((phases(&schedule), schedule.next_wakeup(ORIGIN)), before);
}

#[test]
fn another_interval_moves_that_entry_alone() {
    let mut schedule = with(20, secs(5));
    let before = phases(&schedule);
    schedule.set(Key(7), secs(30)).unwrap();
    let mut after = phases(&schedule);
    assert_eq!(
        after.insert(Key(7), before[&Key(7)]),
        Some((secs(30), Duration::ZERO, 0))
    );
    assert_eq!(after, before);
}

#[test]
fn an_interval_nobody_uses_any_more_leaves_nothing_behind() {
    let mut schedule = empty();
    for seconds in 1..=1000 {
        schedule.set(Key(3), secs(seconds)).unwrap();
    }
    assert!(schedule.rings.len() <= 2);
    assert_eq!(schedule.plan().entries().len(), 1);
}

#[test]
fn what_cannot_be_scheduled_is_refused_and_changes_nothing() {
    let mut schedule = with(2, secs(5));
    let before = phases(&schedule);
    for (key, interval, message) in [
        (
            Key(0),
            ms(9),
            "interval 9ms is shorter than the tick of 10ms; lengthen it or shorten the tick",
        ),
        (
            Key(0),
            Duration::MAX,
            "is outside 1ms to 365 days; choose one inside",
        ),
        (
            Key(u32::MAX),
            secs(5),
            "key 4294967295 is above 16777215; count keys from 0 and use freed ones again",
        ),
    ] {
        let error = schedule.set(key, interval).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
        assert_eq!(phases(&schedule), before);
    }
    for tick in [Duration::ZERO, ms(1001)] {
        assert_eq!(
            Schedule::new(ORIGIN, tick, STAGGER).unwrap_err(),
            ScheduleError::Tick(tick)
        );
    }
    let error = Schedule::new(ORIGIN, TICK, Duration::ZERO).unwrap_err();
    assert_eq!(
        error,
        ScheduleError::Ladder(LadderError::Stagger(Duration::ZERO))
    );
}

#[test]
fn a_plan_says_who_starts_when_and_how_many_at_once() {
    let mut schedule = with(20, secs(5));
    schedule.set(Key(20), secs(1)).unwrap();
    let plan = schedule.plan();
    let first: Vec<_> = plan
        .entries()
        .iter()
        .take(3)
        .map(|entry| (entry.key.0, entry.interval, entry.phase))
        .collect();
    assert_eq!(first[0], (20, secs(1), Duration::ZERO));
    assert_eq!(first[1], (0, secs(5), Duration::ZERO));
    assert_eq!(first[2].2, ms(250));
    assert!((plan.starts_per_second() - 5.0).abs() < 1e-9);
    assert_eq!(plan.peak(ms(100)), Peak { count: 2, ideal: 1 });
    assert_eq!(plan.peak(ms(500)), Peak { count: 3, ideal: 3 });
    assert_eq!(
        plan.peak(secs(10)),
        Peak {
            count: 50,
            ideal: 50
        }
    );
    // Everything takes 2 s: 20 x 2/5 + 1 x 2/1.
    assert!((plan.busy(|_| secs(2)) - 10.0).abs() < 1e-9);
    assert_eq!(empty().plan().peak(secs(1)), Peak { count: 0, ideal: 0 });
}

#[test]
fn the_peak_of_a_plan_is_that_of_the_busiest_window_of_the_run() {
    let mut schedule = with(333, ms(1700));
    let window = ms(90);
    let plan = schedule.plan();
    let mut starts = Vec::new();
    drive(&mut schedule, Duration::ZERO..=secs(6), |_, batch| {
        starts.extend(batch.into_iter().map(|due| due.start.unwrap().at));
    });
    let busiest = starts.iter().map(|&begin| {
        starts
            .iter()
            .filter(|&&at| at >= begin && at < begin + window)
            .count()
    });
    assert_eq!(plan.peak(window).count, busiest.max().unwrap() as u64);
    assert_eq!(plan.peak(window).ideal, 18);
}

/// What the driver may do.
#[derive(Debug, Clone)]
enum Op {
    Set(u32, u64),
    Remove(u32),
    Sleep,
    Poll(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let interval = prop_oneof![
        Just(10),
        Just(50),
        Just(333),
        Just(500),
        Just(1000),
        Just(5000),
        10..3000_u64
    ];
    // From within a tick, through lateness and stalls, to a suspend of hours.
    let pause = prop_oneof![
        0..20_000_000_u64,
        0..300_000_000_u64,
        0..10_000_000_000_u64,
        Just(86_400_000_000_007)
    ];
    vec(
        prop_oneof![
            4 => (0..40_u32, interval).prop_map(|(key, interval)| Op::Set(key, interval)),
            1 => (0..40_u32).prop_map(Op::Remove),
            4 => Just(Op::Sleep),
            3 => pause.prop_map(Op::Poll),
        ],
        1..120,
    )
}

/// The slowest schedule there is: asks every entry at every poll.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Key, (u64, u64, u32)>,
    unpolled: u64,
}

impl Model {
    fn learn(&mut self, schedule: &Schedule) {
        let entries = phases(schedule).into_iter();
        self.entries = entries
            .map(|(key, (interval, phase, slot))| (key, (nanos(interval), nanos(phase), slot)))
            .collect();
    }

    fn next(&self) -> Option<u64> {
        let next = |&(interval, phase, _): &(u64, u64, u32)| {
            let ticks = points(phase, interval, 0, self.unpolled);
            let before = ticks > 0 && phase + (ticks - 1) * interval == self.unpolled;
            phase + (ticks - u64::from(before)) * interval
        };
        self.entries.values().map(next).min()
    }

    fn poll(&mut self, to: u64) -> Vec<Due> {
        let mut found = Vec::new();
        let stalled = self
            .next()
            .is_some_and(|next| to.saturating_sub(next) > GRACE);
        for (&key, &(interval, phase, slot)) in &self.entries {
            let passed = points(phase, interval, self.unpolled, to);
            if passed == 0 {
                continue;
            }
            let tick = (to - phase) / interval;
            let at = phase + tick * interval;
            let live = !stalled || to - at < nanos(TICK);
            let start = Start {
                at: ORIGIN + Duration::from_nanos(at),
                tick,
                slot,
            };
            found.push(Due {
                key,
                missed: passed - u64::from(live),
                start: live.then_some(start),
            });
        }
        self.unpolled = to + 1;
        found
    }
}

proptest! {
    #[test]
    fn starts_lie_on_a_fixed_lattice_however_late_the_polls(
        interval in 10..20_000_u64, count in 1..50_u32, pauses in vec(0..30_000_000_000_u64, 1..100),
    ) {
        let mut schedule = with(count, ms(interval));
        let planned = phases(&schedule);
        let mut now = Duration::ZERO;
        for pause in pauses {
            now += Duration::from_nanos(pause);
            for due in poll(&mut schedule, now) {
                let Some(start) = due.start else { continue };
                let (interval, phase, _) = planned[&due.key];
                prop_assert_eq!(start.at, ORIGIN + phase + interval * u32::try_from(start.tick).unwrap());
                prop_assert!(start.at <= ORIGIN + now);
            }
        }
    }

    #[test]
    fn every_lattice_point_is_started_or_missed_exactly_once(
        intervals in vec(10..5000_u64, 1..40), pauses in vec(0..20_000_000_000_u64, 1..100),
    ) {
        let mut schedule = empty();
        for (key, &interval) in (0..).zip(&intervals) {
            schedule.set(Key(key), ms(interval)).unwrap();
        }
        let planned = phases(&schedule);
        let mut now = Duration::ZERO;
        let mut counted = BTreeMap::new();
        for pause in pauses {
            now += Duration::from_nanos(pause);
            for due in poll(&mut schedule, now) {
                *counted.entry(due.key).or_insert(0) += due.missed + u64::from(due.start.is_some());
            }
        }
        for (key, (interval, phase, _)) in planned {
            let passed = points(nanos(phase), nanos(interval), 0, nanos(now));
            prop_assert_eq!(counted.get(&key).copied().unwrap_or(0), passed, "{:?}", key);
        }
    }

    #[test]
    fn whatever_the_driver_does_it_gets_what_the_model_says(ops in ops()) {
        let mut schedule = empty();
        let mut model = Model::default();
        let mut now = 0;
        for op in ops {
            match op {
                Op::Set(key, interval) => {
                    let before = std::mem::take(&mut model.entries);
                    schedule.set(Key(key), ms(interval)).unwrap();
                    model.learn(&schedule);
                    for (other, place) in before {
                        prop_assert!(other == Key(key) || model.entries[&other] == place, "{:?} moved", other);
                    }
                }
                Op::Remove(key) => {
                    prop_assert_eq!(schedule.remove(Key(key)), model.entries.remove(&Key(key)).is_some());
                }
                Op::Sleep => {
                    let Some(wakeup) = schedule.next_wakeup(ORIGIN + Duration::from_nanos(now)) else { continue };
                    let wakeup = nanos(wakeup - ORIGIN);
                    prop_assert!(wakeup.is_multiple_of(nanos(TICK)) && wakeup >= now);
                    prop_assert_eq!(Some(wakeup), model.next().map(|next| next.max(now).next_multiple_of(nanos(TICK))));
                    now = wakeup;
                }
                Op::Poll(pause) => now += pause,
            }
            if !matches!(op, Op::Set(..) | Op::Remove(_)) && now >= model.unpolled {
                let mut found = poll(&mut schedule, Duration::from_nanos(now));
                found.sort_unstable_by_key(|due| due.key);
                prop_assert_eq!(found, model.poll(now));
            }
        }
    }
}
