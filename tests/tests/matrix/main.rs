//! Old plugins on new hosts and new plugins on old hosts, libraries of other compilers and allocators, and those that
//! must be refused: each row builds what it is about and shows it to a real host.
//!
//! `cargo test -p conductor-tests --features matrix --test matrix` runs all rows and says how long each took; words
//! behind `--` choose rows by their names.
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
#[expect(dead_code, reason = "the scenarios need more of it")]
mod harness;
#[cfg(unix)]
mod incompatible;
#[cfg(unix)]
mod next;
#[cfg(unix)]
mod toolchain;
#[cfg(unix)]
mod tree;

#[cfg(unix)]
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use std::process::ExitCode;

/// A row: what it shows, and how. It answers why it was left out, if it was.
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
    let rows = compatible::rows().into_iter().chain(incompatible::rows());
    let chosen: Vec<Row> = rows
        .filter(|(name, _)| words.iter().all(|word| name.contains(word.as_str())))
        .collect();
    if chosen.is_empty() {
        println!("no row has these words in its name: {}", words.join(", "));
        return ExitCode::FAILURE;
    }
    let failed: Vec<String> = chosen.into_iter().filter_map(run).collect();
    println!("{:6.1} s  in all", start.elapsed().as_secs_f64());
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

/// Runs a row, and answers its name if it failed.
#[cfg(unix)]
fn run((name, row): Row) -> Option<String> {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(row));
    let seconds = start.elapsed().as_secs_f64();
    let became = match &result {
        Ok(Ok(())) => String::new(),
        Ok(Err(reason)) => format!(" — skipped: {reason}"),
        Err(_) => " — FAILED".to_owned(),
    };
    println!("{seconds:6.1} s  {name}{became}");
    result.is_err().then_some(name)
}
