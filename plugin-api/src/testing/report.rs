//! Checks if a host would show a report unchanged.

use std::collections::BTreeSet;

use crate::Report;

/// Panics unless a host would show every part of the report unchanged.
///
/// # Panics
/// If there are [`objections`]; the message lists them all.
#[track_caller]
pub fn assert_legal(report: &Report) {
    let found = objections(report);
    assert!(
        found.is_empty(),
        "a host would not show this report as it is:\n- {}\n{report:?}",
        found.join("\n- ")
    );
}

/// Returns what a host would change in the report or drop from it, one per line.
///
/// The message: not empty, one line of at most 2048 bytes without control characters. Measurements: at most 64, each
/// once; a finite value; a name of at most 128 letters, digits and `_`, as in Prometheus, not starting with a digit.
pub fn objections(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let message = report.message();
    if message.trim().is_empty() {
        found.push("the message is empty; say what was found, such as \"200 OK in 12 ms\"".into());
    }
    if message.len() > MAX_MESSAGE {
        let length = message.len();
        found.push(format!(
            "the message has {length} bytes, what is above {MAX_MESSAGE} is cut off"
        ));
    }
    if message.contains(char::is_control) {
        found.push(
            "the message has line breaks or other control characters, which are escaped".into(),
        );
    }
    let measurements = report.measurements();
    if measurements.len() > MAX_MEASUREMENTS {
        let count = measurements.len();
        found.push(format!("it has {count} measurements, those past the first {MAX_MEASUREMENTS} names of a platform are dropped"));
    }
    let mut names = BTreeSet::new();
    for (name, value) in measurements {
        if !names.insert(name) {
            found.push(format!(
                "the measurement {name:?} is there twice; the last one counts"
            ));
        }
        if !is_name(name) {
            found.push(format!("the measurement {name:?} is to be named by 1–{MAX_NAME} letters, digits and `_`, the first no digit"));
        }
        if !value.is_finite() {
            found.push(format!(
                "the measurement {name:?} is {value}, which is dropped; leave it out instead"
            ));
        }
    }
    found
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(legal)
}

/// The host's limits.
const MAX_MESSAGE: usize = 2048;
const MAX_MEASUREMENTS: usize = 64;
const MAX_NAME: usize = 128;
