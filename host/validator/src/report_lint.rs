//! Rules for reports: the irregularities that a host corrects, or drops, without a word.

use std::collections::BTreeSet;

use conductor_runtime::{CUT, CheckReport, MAX_MEASUREMENTS, MAX_MESSAGE};
use conductor_types::limits::{MEASUREMENT_NAME_BYTES, MEASUREMENTS};

mod declared;
#[cfg(any(target_os = "linux", windows))]
mod observer;

pub(super) use self::declared::{CounterValues, SeriesCount};
#[cfg(any(target_os = "linux", windows))]
pub(super) use self::observer::ReportLint;

/// Returns the irregularities of a report from a worker, which has already corrected its texts.
pub(super) fn of_received(report: &CheckReport) -> Vec<String> {
    let mut found = Vec::new();
    if report.message.ends_with(CUT) {
        found.push(format!(
            "a message of more than {MAX_MESSAGE} bytes, of which {MAX_MESSAGE} are kept"
        ));
    }
    if report.message.contains(char::REPLACEMENT_CHARACTER) {
        found.push("a message that is not UTF-8".to_owned());
    }
    let measurements = report.measurements.iter();
    let measurements: Vec<_> = measurements
        .map(|(name, value)| (name.as_bytes(), *value))
        .collect();
    of_measurements(&measurements, &mut found);
    let dropped = report.declared.dropped;
    if dropped > 0 {
        found.push(format!(
            "{dropped} values of declared metrics that are dropped: the log has the name of the first, the rule and the cure"
        ));
    }
    declared::irregularities(&report.declared, &mut found);
    found
}

fn of_measurements(measurements: &[(&[u8], f64)], found: &mut Vec<String>) {
    let names: BTreeSet<&[u8]> = measurements.iter().map(|(name, _)| *name).collect();
    if measurements.len() > MAX_MEASUREMENTS {
        found.push(format!(
            "{} measurements, of which {MAX_MEASUREMENTS} are looked at and {MEASUREMENTS} kept",
            measurements.len()
        ));
    } else if names.len() > MEASUREMENTS {
        found.push(format!(
            "{} measurements, of which {MEASUREMENTS} are kept",
            names.len()
        ));
    }
    for (name, value) in measurements.iter().take(MAX_MEASUREMENTS) {
        let shown = name.escape_ascii();
        if name.len() > MEASUREMENT_NAME_BYTES {
            let bytes = name.len();
            found.push(format!(
                "a measurement name of {bytes} bytes, where {MEASUREMENT_NAME_BYTES} is the most; it is dropped"
            ));
        } else if !is_legal(name) {
            found.push(format!(
                "the measurement name \"{shown}\", where [a-zA-Z_][a-zA-Z0-9_]* is legal"
            ));
        }
        if !value.is_finite() {
            found.push(format!(
                "the value {value} of \"{shown}\", which is dropped"
            ));
        }
    }
    let mut sorted: Vec<&[u8]> = measurements.iter().map(|(name, _)| *name).collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let name = twice[0].escape_ascii();
        found.push(format!(
            "two measurements named \"{name}\" in one report, of which the last is kept"
        ));
    }
}

/// Returns `true` if Prometheus accepts it as a metric name without colons, which are for recording rules.
fn is_legal(name: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(word)
}

#[cfg(test)]
mod tests {
    use conductor_runtime::CallFailure;
    use conductor_types::ErrorType;

    use super::*;

    /// Returns the message as a worker passes it on.
    fn received(message: &str) -> CheckReport {
        CheckReport {
            message: CallFailure::new(ErrorType::Error, message).message,
            ..CheckReport::empty()
        }
    }

    #[test]
    fn what_a_worker_made_fit_is_still_seen_by_its_host() {
        let mut report = received(&"a".repeat(3000));
        report.measurements = vec![("x".to_owned(), f64::NAN)];
        let found = of_received(&report).join("; ");
        assert!(
            found.contains("more than 2048 bytes") && found.contains("NaN"),
            "{found}"
        );
        report = received("caf\u{fffd}");
        report.measurements = vec![("9x".to_owned(), 1.0)];
        let found = of_received(&report).join("; ");
        assert!(
            found.contains("not UTF-8") && found.contains("\"9x\""),
            "{found}"
        );
        report = received("fine");
        report.measurements = vec![("x".to_owned(), 1.0)];
        assert_eq!(of_received(&report), [""; 0]);
    }
}
