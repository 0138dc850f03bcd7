//! The cost of recording a call: `cargo bench -p conductor-tests --bench record`.
//!
//! The baseline is the host's other work for every call: it reads the clock before and after. The rare slow stores are
//! those to a page that is being written to disk, so the folder matters: pass others as arguments.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails has no result, and one that succeeds has to be shown"
)]

use std::{hint::black_box, path::PathBuf, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::LibraryHash;
use conductor_runtime::call_journal::{CallJournal, CallPhase, JournalSlot};

fn main() {
    // `cargo bench` adds its own flags.
    let named = std::env::args_os().skip(1).map(PathBuf::from);
    let mut folders: Vec<_> = named.filter(|folder| folder.is_dir()).collect();
    if folders.is_empty() {
        folders.push(std::env::temp_dir());
    }
    let clock = Clock::start();
    let two_readings = nanos_each(clock, || {
        black_box((clock.now(), clock.now()));
    });
    println!("two readings of the clock: {two_readings:.1} ns");
    for folder in folders {
        let run = tempfile::tempdir_in(&folder).unwrap();
        let record = CallJournal::create(run.path()).unwrap();
        let mut slot = record.slot("http", &LibraryHash([7; 32]));
        let pair = nanos_each(clock, || note(&mut slot));
        println!(
            "{}: {pair:.1} ns a call, {:.2} of two readings; {}",
            folder.display(),
            pair / two_readings,
            rare(clock, &mut slot)
        );
    }
}

fn note(slot: &mut JournalSlot) {
    drop(black_box(
        slot.enter(black_box("discord.gateway-12"), CallPhase::Check),
    ));
}

/// Returns the least mean of several rounds, as disturbances only add to it.
fn nanos_each(clock: Clock, mut what: impl FnMut()) -> f64 {
    let round = |_| {
        let start = clock.now();
        (0..ROUND).for_each(|_| what());
        (clock.now() - start).as_secs_f64() * 1e9 / f64::from(ROUND)
    };
    (0..20).map(round).fold(f64::INFINITY, f64::min)
}

/// Returns the slowest of single calls, over long enough for the kernel to write the page to disk.
fn rare(clock: Clock, slot: &mut JournalSlot) -> String {
    let end = clock.now() + LONG;
    let mut took = Vec::new();
    while clock.now() < end {
        let start = clock.now();
        note(slot);
        took.push((clock.now() - start).as_nanos());
        std::thread::sleep(Duration::from_micros(200));
    }
    took.sort_unstable();
    let at = |in_so_many: usize| took[took.len() - 1 - (took.len() - 1) / in_so_many];
    format!(
        "with a reading, one in 100 takes {} ns, one in 10 000 {} ns, the worst of {} {} ns",
        at(100),
        at(10_000),
        took.len(),
        took[took.len() - 1]
    )
}

const ROUND: u32 = 1_000_000;
const LONG: Duration = Duration::from_secs(40);
