//! Checks if a host would show a report unchanged.

use std::collections::BTreeSet;

use crate::{Report, metric::MetricKind};

/// Panics unless a host would show every part of the report unchanged.
///
/// # Panics
/// If there are [`objections`]; the message lists them all.
#[track_caller]
pub fn assert_legal(report: &Report) {
    let found = objections(report);
    assert!(
        found.is_empty(),
        "a host would change this report:\n- {}\n{report:?}",
        found.join("\n- ")
    );
}

/// Returns what a host would change in the report or drop from it, one per line.
///
/// The message: not empty, one line of at most 2048 bytes without control characters. Measurements: at most 64, each
/// once; a finite value; a name of at most 128 letters, digits and `_`, as in Prometheus, not starting with a digit.
/// Values of declared metrics: at most 256, each series once, a finite value, no counter below zero, labels of at most 256
/// bytes without control characters.
pub fn objections(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let message = report.message();
    if message.trim().is_empty() {
        found.push(
            "the message is empty; describe what was found, such as \"200 OK in 12 ms\"".into(),
        );
    }
    if message.len() > MAX_MESSAGE {
        let length = message.len();
        found.push(format!(
            "the message has {length} bytes and is truncated to {MAX_MESSAGE}"
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
        found.push(format!("it has {count} measurements; a host keeps the first {MAX_MEASUREMENTS} names of a platform and drops the others"));
    }
    let mut names = BTreeSet::new();
    for (name, value) in measurements {
        if !names.insert(name) {
            found.push(format!(
                "the measurement {name:?} occurs twice; the last one counts"
            ));
        }
        if !is_name(name) {
            found.push(format!("the name of the measurement {name:?} is invalid; use 1–{MAX_NAME} letters, digits and `_`, not starting with a digit"));
        }
        if !value.is_finite() {
            found.push(format!(
                "the measurement {name:?} is {value}, which a host drops; leave it out"
            ));
        }
    }
    if report.declared.len() > MAX_DECLARED {
        let count = report.declared.len();
        found.push(format!(
            "it sets {count} values of declared metrics; a host keeps {MAX_DECLARED} series of a platform and drops the others"
        ));
    }
    let mut series = BTreeSet::new();
    for declared in &report.declared {
        let name = format!("{}{:?}", declared.metric, declared.labels);
        if !series.insert((declared.metric, &declared.labels)) {
            found.push(format!("{name} is set twice; the last value counts"));
        }
        if declared.labels.iter().any(|label| label.len() > MAX_LABEL) {
            found.push(format!(
                "a label of {name} has more than {MAX_LABEL} bytes, to which it is cut"
            ));
        }
        if declared
            .labels
            .iter()
            .any(|label| label.contains(char::is_control))
        {
            found.push(format!(
                "a label of {name} has line breaks or other control characters, which are escaped"
            ));
        }
        if declared.kind == MetricKind::Counter && declared.value < 0.0 {
            let value = declared.value;
            found.push(format!(
                "the counter {name} is {value}, and a counter starts at 0 and only grows; declare a gauge"
            ));
        }
        if !declared.value.is_finite() {
            let value = declared.value;
            found.push(format!(
                "{name} is {value}, which a host drops; leave it out"
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
const MAX_DECLARED: usize = 256;
const MAX_LABEL: usize = 256;
