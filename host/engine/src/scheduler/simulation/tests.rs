//! Hours of simulated hosts, and the promises that every host keeps.

use std::{env, ops::Range, thread};

use super::{
    S, SimulatedHost,
    disturbances::{CONTROL, DOWN},
};
use crate::metrics::{FAMILIES, Sample};

#[test]
fn a_disturbed_host_keeps_its_promises() {
    let seeds = match env::var("CONDUCTOR_SIMULATION_SEEDS") {
        Ok(range) => parse_seeds(&range),
        Err(_) => 0..SEEDS,
    };
    // Two at a time; each is deterministic by itself.
    let middle = seeds.start + (seeds.end - seeds.start) / 2;
    thread::scope(|scope| {
        scope.spawn(|| (seeds.start..middle).for_each(run_hour));
        (middle..seeds.end).for_each(run_hour);
    });
}

#[test]
fn the_same_seed_gives_the_same_hour() {
    let [first, second] = [(), ()].map(|()| {
        let mut host = SimulatedHost::disturbed(7, 60);
        host.world.start_trace();
        host.start();
        host.run_disturbed_until(host.world.now() + 1200 * S);
        host.stop();
        let trace = host.world.take_trace();
        trace + &exported(&host)
    });
    assert!(first.lines().count() > 1000, "it is a busy host");
    let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None);
    assert_eq!(first.len(), second.len());
}

/// Runs a host of 200 platforms for an hour, and checks its books.
fn run_hour(seed: u64) {
    let _named = SeedInFailure(seed);
    let mut host = SimulatedHost::disturbed(seed, 200);
    host.start();
    host.run_disturbed_until(host.world.now() + 3600 * S);
    host.stop();
    assert_eq!(host.shared.in_flight(), 0);
    let id = |nth: usize| host.plugins[nth].guard.id();
    let (mut made, mut unhealthy) = (0, 0);
    host.ledger.each(|name, book| {
        assert_eq!(book.ended(), book.due(host.polled), "checks of {name}");
        if &*book.plugin == id(CONTROL) {
            for end in ["failed", "overlap", "saturated", "breaker_open"] {
                assert_eq!(book.ended_as(end), 0, "{end} of {name}");
            }
            made += book.ended_as("healthy");
        }
        if &*book.plugin == id(DOWN) {
            unhealthy += book.ended_as("unhealthy");
        }
    });
    assert!(made > 500 && unhealthy > 500, "{made} and {unhealthy}");
    let (rechecks, judged) = host.ledger.confirmations();
    assert!(rechecks > 100 && judged > 5000, "{rechecks} and {judged}");
}

/// Returns all that a scrape would show, except for objects of other tests in this process.
fn exported(host: &SimulatedHost) -> String {
    let snapshot = host.shared.metrics.snapshot();
    let mut text = String::new();
    for family in &FAMILIES {
        let mut sink = |sample: Sample<'_>| {
            let is_of_process = sample.labels.iter().any(|(_, value)| *value == "secret");
            if !is_of_process {
                text += &format!("{} {sample:?}\n", family.name);
            }
        };
        family.visit(&snapshot, &mut sink);
    }
    text
}

fn parse_seeds(range: &str) -> Range<u64> {
    let (first, last) = range.split_once("..").expect("a range such as 0..1000");
    first.parse().unwrap()..last.parse().unwrap()
}

/// Names the seed if its host breaks a promise.
struct SeedInFailure(u64);

impl Drop for SeedInFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            let seed = self.0;
            let next = seed + 1;
            eprintln!("seed {seed}: repeat with CONDUCTOR_SIMULATION_SEEDS={seed}..{next}");
        }
    }
}

/// The number of hours that are simulated by default.
const SEEDS: u64 = 16;
