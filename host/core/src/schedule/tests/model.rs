//! Checks the schedule, for any driver, against a model that looks at every entry at every poll.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

/// The driver's actions.
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

/// The simplest possible schedule: looks at every entry at every poll.
#[derive(Default)]
struct Model {
    entries: BTreeMap<ScheduleKey, (u64, u64, u32)>,
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

    fn poll(&mut self, to: u64) -> Vec<DueEntry> {
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
            let start = LatticeStart {
                at: ORIGIN + Duration::from_nanos(at),
                tick,
                slot,
            };
            found.push(DueEntry {
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
            schedule.set(ScheduleKey(key), ms(interval)).unwrap();
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
                    schedule.set(ScheduleKey(key), ms(interval)).unwrap();
                    model.learn(&schedule);
                    for (other, place) in before {
                        prop_assert!(other == ScheduleKey(key) || model.entries[&other] == place, "{:?} moved", other);
                    }
                }
                Op::Remove(key) => {
                    prop_assert_eq!(schedule.remove(ScheduleKey(key)), model.entries.remove(&ScheduleKey(key)).is_some());
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

/// Returns the number of lattice points from one instant to another, both included.
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
