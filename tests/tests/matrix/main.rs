//! Old plugins on new hosts and new plugins on old hosts, libraries of other compilers and allocators, and those that
//! must be refused: each row builds its library and loads it into a real host.
//!
//! `cargo test --workspace --features conductor-tests/matrix --test matrix` runs all rows and prints the duration of each; words
//! after `--` select rows by name. `.ci/windows` runs those for Windows against `conductor.exe`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a row that cannot go on has failed, and this program is there to say how long rows took"
)]

#[cfg(unix)]
mod compatible;
#[cfg(unix)]
mod crossing;
#[cfg(unix)]
mod freeze;
#[path = "../scenarios/harness.rs"]
#[expect(dead_code, unused_imports, reason = "the scenarios need more of it")]
mod harness;
#[cfg(unix)]
mod incompatible;
#[cfg(unix)]
mod next;
#[cfg(unix)]
mod toolchain;
#[cfg(unix)]
mod tree;

use std::process::ExitCode;
#[cfg(unix)]
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

/// A row: its name, and a function that returns the reason if it was skipped.
#[cfg(unix)]
type Row = (String, Box<dyn Fn() -> Result<(), String>>);

#[cfg(unix)]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if words.first().is_some_and(|word| word == "freeze") {
        return freeze::freeze(words.get(1).is_some_and(|word| word == "again"));
    }
    let start = Instant::now();
    harness::artifacts();
    println!(
        "{:6.1} s  the host of this toolchain",
        start.elapsed().as_secs_f64()
    );
    let rows = match harness::is_windows() {
        true => compatible::rows_of_windows(),
        false => [compatible::rows(), incompatible::rows()]
            .into_iter()
            .flatten()
            .collect(),
    };
    let chosen: Vec<Row> = rows
        .into_iter()
        .filter(|(name, _)| words.iter().all(|word| name.contains(word.as_str())))
        .collect();
    if chosen.is_empty() {
        println!("no row has these words in its name: {}", words.join(", "));
        return ExitCode::FAILURE;
    }
    let count = chosen.len();
    let (mut failed, mut left_out) = (Vec::new(), Vec::new());
    for row in chosen {
        match run(row) {
            (_, Became::Held) => {}
            (name, Became::LeftOut) => left_out.push(name),
            (name, Became::Failed) => failed.push(name),
        }
    }
    println!("{:6.1} s  in all", start.elapsed().as_secs_f64());
    if !left_out.is_empty() {
        // Repeat it at the end, where readers look first.
        println!(
            "NOT TRIED, {} of {count}: {}",
            left_out.len(),
            left_out.join("; ")
        );
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join("; "));
    ExitCode::FAILURE
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    println!("skipped: the rows know how libraries are built on Unix");
    ExitCode::SUCCESS
}

/// The outcome of a row.
#[cfg(unix)]
enum Became {
    Held,
    LeftOut,
    Failed,
}

/// Runs a row, and returns its name and its outcome.
#[cfg(unix)]
fn run((name, row): Row) -> (String, Became) {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(row));
    let seconds = start.elapsed().as_secs_f64();
    let (said, became) = match result {
        Ok(Ok(())) => (String::new(), Became::Held),
        Ok(Err(reason)) => (format!(" — skipped: {reason}"), Became::LeftOut),
        Err(_) => (" — FAILED".to_owned(), Became::Failed),
    };
    println!("{seconds:6.1} s  {name}{said}");
    (name, became)
}
