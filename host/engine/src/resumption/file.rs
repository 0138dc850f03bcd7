//! The file from before the restart: read once, at the start.

use std::{io, path::Path, time::Duration};

use conductor_core::clock::Clock;
use conductor_library::{
    file_reader::{self, ReadError},
    printable,
};

use super::{Resumption, SavedHost, SavedPlatform, orders_of, saved};

/// The reason why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadProblem {
    /// The operating system does not let the host read it.
    #[error("{0}; let the host's user read it, or remove it")]
    Unreadable(#[from] ReadError),
    /// Others may have written it.
    #[error("{0}; remove it if another program wrote it")]
    Untrusted(String),
    /// Its content is no state.
    #[error("{0}; the host replaces it")]
    Content(#[from] saved::DecodeError),
}

impl Resumption {
    /// Reads the state that a host left in its state folder. Platforms' states and slots count if it was written at most
    /// `limit` ago, operators' orders always.
    ///
    /// A file that cannot be used is logged and ignored.
    #[must_use]
    pub fn read(state_dir: &Path, clock: Clock, limit: Duration) -> Self {
        let file = state_dir.join(FILE);
        let (host, platforms) = match read(&file) {
            Ok(Some(read)) => read,
            Ok(None) => return Self::of(SavedHost::default(), Vec::new(), limit),
            Err(problem) => {
                let file = printable::path(&file);
                tracing::warn!("no state from before the restart: {file}: {problem}");
                return Self::of(SavedHost::default(), Vec::new(), limit);
            }
        };
        let now = clock.unix_seconds(clock.now());
        let Some(problem) = age_problem(host.written, now, limit) else {
            return Self::of(host, platforms, limit);
        };
        if !limit.is_zero() {
            let file = printable::path(&file);
            tracing::warn!(
                "platforms' states from before the restart are not resumed, operators' orders are: {file}: {problem}"
            );
        }
        let host = SavedHost {
            lattice: None,
            ..host
        };
        let orders = platforms.into_iter().filter_map(orders_of);
        Self::of(host, orders.collect(), limit)
    }
}

fn read(file: &Path) -> Result<Option<(SavedHost, Vec<SavedPlatform>)>, ReadProblem> {
    let content = match file_reader::read(file, LARGEST) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if let Some(reason) = content.distrust() {
        return Err(ReadProblem::Untrusted(reason));
    }
    let (host, platforms) = saved::decode(&content.bytes)?;
    Ok(Some((host, platforms)))
}

/// Returns the reason why a state of this time is out of date.
fn age_problem(written: f64, now: f64, limit: Duration) -> Option<String> {
    let seconds = |seconds: f64| {
        let whole = Duration::try_from_secs_f64(seconds.trunc()).unwrap_or_default();
        humantime::format_duration(whole)
    };
    let age = now - written;
    if age.is_nan() || age < -CLOCK_SLACK {
        let ahead = seconds(-age);
        return Some(format!(
            "it was written {ahead} in the future: the clock was set back"
        ));
    }
    (age > limit.as_secs_f64()).then(|| {
        let (age, limit) = (seconds(age), humantime::format_duration(limit));
        format!("it was written {age} ago, and [host] resume is {limit}")
    })
}

/// The name of the file in the state folder.
pub const FILE: &str = "resumption";
/// In bytes: some hundreds per platform.
const LARGEST: u64 = 1 << 28;
/// The time in seconds by which two readings of the wall clock may differ.
const CLOCK_SLACK: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_counts_up_to_its_limit_and_none_comes_from_the_future() {
        let limit = Duration::from_secs(3600);
        for (age, expected) in [
            (0.0, None),
            (3600.0, None),
            (-1.0, None),
            (3601.0, Some("written 1h 1s ago, and [host] resume is 1h")),
            (-60.0, Some("written 1m in the future")),
            (f64::NAN, Some("in the future")),
            (f64::INFINITY, Some("ago")),
        ] {
            let problem = age_problem(1e9 - age, 1e9, limit);
            assert_eq!(problem.is_some(), expected.is_some(), "{age}");
            assert!(problem.unwrap_or_default().contains(expected.unwrap_or("")));
        }
    }
}
