//! The schedule's promises, one by one; `model` checks them against arbitrary drivers.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::*;

mod model;

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
        schedule.set(ScheduleKey(key), interval).unwrap();
    }
    schedule
}

fn poll(schedule: &mut Schedule, since_origin: Duration) -> Vec<DueEntry> {
    let mut found = Vec::new();
    schedule.poll(ORIGIN + since_origin, |due| found.push(due));
    found
}

/// Sleeps and polls like the driver, from the last poll to an instant, and returns each batch.
fn drive(
    schedule: &mut Schedule,
    since_origin: RangeInclusive<Duration>,
    mut each: impl FnMut(Duration, Vec<DueEntry>),
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

fn phases(schedule: &Schedule) -> BTreeMap<ScheduleKey, (Duration, Duration, u32)> {
    schedule
        .plan()
        .entries()
        .iter()
        .map(|entry| (entry.key, (entry.interval, entry.phase, entry.slot)))
        .collect()
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
                    LatticeStart {
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
    let start = LatticeStart {
        at: ORIGIN,
        tick: 0,
        slot: 0,
    };
    assert_eq!(
        poll(&mut schedule, Duration::ZERO),
        [DueEntry {
            key: ScheduleKey(0),
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
    assert_eq!(poll(&mut schedule, secs(5) - Duration::from_nanos(1)), []);
    assert_eq!(poll(&mut schedule, secs(5)).len(), 1);
}

#[test]
fn an_entry_comes_once_a_poll_however_many_of_its_starts_have_passed() {
    let mut schedule = with(1, secs(5));
    poll(&mut schedule, secs(5) - Duration::from_nanos(1));
    let found = poll(&mut schedule, secs(10));
    let found: Vec<_> = found
        .iter()
        .map(|due| (due.missed, due.start.map(|start| start.tick)))
        .collect();
    assert_eq!(found, [(1, Some(2))]);
}

#[test]
fn a_clock_that_goes_back_finds_nothing_and_counts_nothing() {
    let mut schedule = with(1, secs(5));
    poll(&mut schedule, secs(5));
    assert_eq!(poll(&mut schedule, ms(4900)), []);
    let missed: Vec<u64> = poll(&mut schedule, secs(10))
        .iter()
        .map(|due| due.missed)
        .collect();
    assert_eq!(missed, [0]);
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
    // 1000 checks every 500 ms: an even spread starts 100 in 50 ms. tokio's three ways of catching up start 1000 to
    // 2500.
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
    let mut count = |now: Duration, batch: Vec<DueEntry>| {
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
fn of_a_stall_only_what_fell_due_within_its_last_tick_starts() {
    for (late, started) in [(ms(10), 0), (ms(10) - Duration::from_nanos(1), 1)] {
        let mut schedule = with(10, secs(5));
        let found = poll(&mut schedule, secs(2) + late);
        let starts = found.iter().filter(|due| due.start.is_some()).count();
        assert_eq!(
            (found.len(), starts),
            (5, started),
            "the last slot lies {late:?} back"
        );
    }
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
    assert!(size_of::<Option<EntryLocation>>() <= 8);
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
        assert!(schedule.remove(ScheduleKey(key)));
    }
    for key in 1000..1200 {
        schedule.set(ScheduleKey(key), secs(5)).unwrap();
        schedule.set(ScheduleKey(key + 1000), secs(30)).unwrap();
    }
    let after = phases(&schedule);
    for (key, place) in before {
        if key.0 % 3 != 0 {
            assert_eq!(after[&key], place, "{key:?} was moved");
        }
    }
    assert_eq!(
        after[&ScheduleKey(1000)].2,
        0,
        "the lowest free slot is used again"
    );
}

#[test]
fn a_removed_entry_never_starts_again() {
    let mut schedule = with(2, secs(5));
    assert!(schedule.remove(ScheduleKey(0)));
    assert!(!schedule.remove(ScheduleKey(0)));
    assert_eq!(
        poll(&mut schedule, secs(5))
            .iter()
            .map(|due| due.key)
            .collect::<Vec<_>>(),
        [ScheduleKey(1)]
    );
    assert!(schedule.remove(ScheduleKey(1)));
    assert_eq!(schedule.next_wakeup(ORIGIN), None);
    assert_eq!(poll(&mut schedule, secs(60)), []);
}

#[test]
fn setting_the_same_interval_again_changes_nothing() {
    let mut schedule = with(20, secs(5));
    poll(&mut schedule, secs(1));
    let before = (phases(&schedule), schedule.next_wakeup(ORIGIN));
    for key in (0..20).rev() {
        schedule.set(ScheduleKey(key), secs(5)).unwrap();
    }
    assert_eq!((phases(&schedule), schedule.next_wakeup(ORIGIN)), before);
}

#[test]
fn another_interval_moves_that_entry_alone() {
    let mut schedule = with(20, secs(5));
    let before = phases(&schedule);
    schedule.set(ScheduleKey(7), secs(30)).unwrap();
    let mut after = phases(&schedule);
    assert_eq!(
        after.insert(ScheduleKey(7), before[&ScheduleKey(7)]),
        Some((secs(30), Duration::ZERO, 0))
    );
    assert_eq!(after, before);
}

#[test]
fn an_interval_nobody_uses_any_more_leaves_nothing_behind() {
    let mut schedule = empty();
    for seconds in 1..=1000 {
        schedule.set(ScheduleKey(3), secs(seconds)).unwrap();
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
            ScheduleKey(0),
            ms(9),
            "interval 9ms is shorter than the tick of 10ms; lengthen it or shorten the tick",
        ),
        (
            ScheduleKey(0),
            Duration::MAX,
            "is outside 1ms to 365 days; choose one inside",
        ),
        (
            ScheduleKey(u32::MAX),
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
    schedule.set(ScheduleKey(20), secs(1)).unwrap();
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
    assert_eq!(plan.peak(ms(100)), PeakLoad { count: 2, ideal: 1 });
    assert_eq!(plan.peak(ms(500)), PeakLoad { count: 3, ideal: 3 });
    assert_eq!(
        plan.peak(secs(10)),
        PeakLoad {
            count: 50,
            ideal: 50
        }
    );
    // Everything takes 2 s: 20 x 2/5 + 1 x 2/1.
    assert!((plan.busy(|_| secs(2)) - 10.0).abs() < 1e-9);
    assert_eq!(
        empty().plan().peak(secs(1)),
        PeakLoad { count: 0, ideal: 0 }
    );
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

#[test]
fn a_resumed_lattice_starts_each_entry_when_the_first_one_would_have() {
    let (first, restart) = (secs(7), secs(100) + Duration::from_micros(1234));
    let mut whole = Schedule::new(first, TICK, STAGGER).unwrap();
    for key in 0..40 {
        let interval = secs([5, 7, 60][key as usize % 3]);
        whole.set(ScheduleKey(key), interval).unwrap();
    }
    whole.remove(ScheduleKey(3));
    whole.poll(restart, |_| {});
    let plan = whole.plan();
    // Another process, whose clock began at the restart.
    let origin = Duration::from_millis(50);
    let age = restart + origin - first;
    let mut resumed = Schedule::new(origin, TICK, STAGGER).unwrap().with_age(age);
    for entry in plan.entries() {
        resumed
            .set_at(entry.key, entry.interval, Some(entry.slot))
            .unwrap();
    }
    assert_eq!(resumed.plan(), plan);
    for entry in plan.entries() {
        let now = Duration::from_secs(3);
        let expected = whole.start_of(entry, restart + now);
        assert_eq!(resumed.start_of(entry, now) + restart, expected);
    }
    let mut now = Duration::ZERO;
    for _ in 0..300 {
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        whole.poll(restart + now, |due| expected.push(due));
        resumed.poll(now, |due| found.push(due));
        if now >= origin {
            let shifted = found.iter_mut().filter_map(|due| due.start.as_mut());
            shifted.for_each(|start| start.at += restart);
            assert_eq!(found, expected, "at {now:?}");
        } else {
            assert_eq!(found, []);
        }
        now += secs(1);
    }
    let freed = ScheduleKey(90);
    resumed.set_at(freed, secs(5), None).unwrap();
    assert_eq!(phases(&resumed)[&freed].2, 1, "the slot of the removed one");
}
