//! The cost of the rules: breaker, stagger and schedule. `cargo bench -p conductor-core`.
//!
//! Each figure is for one operation: a call admitted and recorded, a slot computed, a slot taken and released, an entry
//! that fell due.
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use std::{hint::black_box, time::Duration};

use conductor_core::{
    breaker::{Breaker, BreakerSettings, CallOutcome},
    schedule::{Schedule, ScheduleKey},
    stagger::Ladder,
};
use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    breaker(&mut criterion);
    stagger(&mut criterion);
    schedule(&mut criterion);
    criterion.final_summary();
}

fn breaker(criterion: &mut Criterion) {
    let settings = BreakerSettings::try_new(3, 30 * SECOND, 600 * SECOND).unwrap();
    for (name, outcomes) in [
        ("successes", [CallOutcome::Success; 2]),
        (
            "failure, then success",
            [CallOutcome::Failure, CallOutcome::Success],
        ),
    ] {
        let mut breaker = Breaker::new(settings, 1);
        let (mut now, mut calls) = (SECOND, 0);
        criterion.bench_function(&format!("breaker/admit and record/{name}"), |bencher| {
            bencher.iter(|| {
                now += SECOND;
                calls += 1;
                let ticket = breaker.admit(black_box(now), SECOND).unwrap();
                breaker.record(ticket, outcomes[calls % 2], now).unwrap()
            });
        });
    }
    let mut breaker = Breaker::new(settings, 1);
    breaker.force_open();
    criterion.bench_function("breaker/refuse", |bencher| {
        bencher.iter(|| breaker.admit(black_box(SECOND), SECOND));
    });
}

fn stagger(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stagger");
    for taken in [10, 1_000, 100_000] {
        let mut ladder = Ladder::new(5 * SECOND, SECOND / 2).unwrap();
        for _ in 0..taken {
            ladder.take().unwrap();
        }
        group.bench_function(BenchmarkId::new("take and release the nth", taken), |b| {
            b.iter(|| {
                let slot = ladder.take().unwrap();
                ladder.release(slot.number);
                slot.phase
            });
        });
    }
    group.finish();
}

fn schedule(criterion: &mut Criterion) {
    for entries in [1_000_u32, 100_000] {
        let mut group = criterion.benchmark_group("schedule");
        let mut schedule = Schedule::new(SECOND, TICK, SECOND / 2).unwrap();
        for key in 0..entries {
            schedule.set(ScheduleKey(key), 5 * SECOND).unwrap();
        }
        group.bench_function(BenchmarkId::new("add and remove one of", entries), |b| {
            b.iter(|| {
                schedule.set(ScheduleKey(entries), 5 * SECOND).unwrap();
                schedule.remove(ScheduleKey(entries))
            });
        });
        // Whole ticks of an evenly filled interval.
        group.throughput(Throughput::Elements(u64::from(entries) / 500));
        let mut now = SECOND;
        group.bench_function(BenchmarkId::new("due in one tick of", entries), |b| {
            b.iter(|| {
                now += TICK;
                let mut due = 0;
                schedule.poll(now, |entry| due += entry.key.0);
                black_box(schedule.next_wakeup(now));
                due
            });
        });
        group.finish();
    }
}

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(10);
