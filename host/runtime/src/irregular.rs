//! Irregularities of a report as the plugin returns it, before the host corrects it.
//!
//! The host corrects what it can and stays silent: an operator cannot fix a plugin. Its author can, so the validator
//! [observes](observe) the corrections.

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock, PoisonError},
};

use conductor_types::limits::{MEASUREMENT_NAME_BYTES, MEASUREMENTS};

use super::{CUT, MAX_MEASUREMENTS, MAX_MESSAGE, Report, is_harmful};

/// Makes this process record the irregularities of reports; they are not checked before.
pub fn observe() {
    SEEN.get_or_init(Mutex::default);
}

/// Returns the irregularities since the last call, without duplicates.
pub fn seen() -> Vec<String> {
    let Some(seen) = SEEN.get() else {
        return Vec::new();
    };
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Returns `true` if irregularities are recorded.
pub(super) fn is_observed() -> bool {
    SEEN.get().is_some()
}

/// Records the irregularities of a report.
pub(super) fn note(status: u8, message: &[u8], measurements: &[(&[u8], f64)]) {
    keep(|| irregularities(status, message, measurements));
}

/// Records the irregularities of a failure's message.
pub(super) fn note_failure(message: &[u8]) {
    keep(|| {
        let mut found = Vec::new();
        of_message(message, &mut found);
        found
    });
}

/// Records a call in which the plugin broke the header's contract, for example a check that ends without a report.
pub(super) fn note_misuse(what: &str) {
    keep(|| vec![what.to_owned()]);
}

/// Returns the parts of a received report that a host drops or objects to; the worker has already corrected its texts.
pub fn of_received(report: &Report) -> Vec<String> {
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
    found
}

fn keep(look: impl FnOnce() -> Vec<String>) {
    let Some(seen) = SEEN.get() else {
        return;
    };
    let found = look();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for found in found {
        if seen.len() < MAX_SEEN && !seen.contains(&found) {
            seen.push(found);
        }
    }
}

/// Returns a host's corrections to a report and possible losses; each a line of printable text.
fn irregularities(status: u8, message: &[u8], measurements: &[(&[u8], f64)]) -> Vec<String> {
    let mut found = Vec::new();
    if status > 2 {
        found.push(format!(
            "status {status}, where 0 healthy, 1 degraded and 2 unhealthy are known"
        ));
    }
    of_message(message, &mut found);
    of_measurements(measurements, &mut found);
    found
}

fn of_message(message: &[u8], found: &mut Vec<String>) {
    if message.len() > MAX_MESSAGE {
        let bytes = message.len();
        found.push(format!(
            "a message of {bytes} bytes, of which {MAX_MESSAGE} are kept"
        ));
    }
    match str::from_utf8(message) {
        Err(_) => found.push("a message that is not UTF-8".to_owned()),
        Ok(text) => {
            if let Some(c) = text.chars().find(|&c| is_harmful(c)) {
                let c = c.escape_default();
                found.push(format!("the character {c} in a message"));
            }
        }
    }
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

/// A check that called neither conductor_report nor conductor_fail.
pub const NO_REPORT: &str = "nothing: the check ended without a report or a failure";
/// A `create` that returned NULL without calling any function.
pub const NO_PROBE: &str = "nothing: `create` returned NULL without a failure";
pub(super) const NO_REASON: &str = "a failure without a message";
pub(super) const NO_SUCH_KIND: &str = "a failure of a kind that the header does not have";
pub(super) const NOT_BEGUN: &str = "the completion of a check that was over or not begun";
static SEEN: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
/// One report can have a thousand names.
const MAX_SEEN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_as_it_should_be_has_nothing_irregular() {
        let measured: [(&[u8], f64); 2] = [(b"connect_seconds", 0.1), (b"_x9", -1.0)];
        assert_eq!(irregularities(2, "3 µs".as_bytes(), &measured), [""; 0]);
    }

    #[test]
    fn each_thing_that_a_host_has_to_change_is_named() {
        let found = |message: &[u8], name: &[u8], value| {
            irregularities(0, message, &[(name, value)]).join("; ")
        };
        assert!(found(b"\xff", b"x", 0.0).contains("not UTF-8"));
        assert!(found(b"a\x1b[1m", b"x", 0.0).contains("\\u{1b}"));
        assert!(found(&[b'a'; 3000], b"x", 0.0).contains("3000 bytes"));
        assert!(found(b"", b"new\nline", 0.0).contains("\"new\\nline\""));
        assert!(found(b"", b"9x", 0.0).contains("\"9x\""));
        assert!(found(b"", b"", 0.0).contains("\"\""));
        assert!(found(b"", b"x", f64::NAN).contains("NaN"));
        assert!(irregularities(7, b"", &[])[0].contains("status 7"));
        assert!(found(b"", &[b'x'; 129], 0.0).contains("129 bytes"));
        let many = vec![(&b"x"[..], 0.0); 2000];
        let found = irregularities(0, b"", &many).join("; ");
        assert!(found.contains("2000 measurements") && found.contains("two measurements"));
    }

    #[test]
    fn more_measurements_than_a_platform_may_have_are_named() {
        let names: Vec<String> = (0..65).map(|nth| format!("n{nth}")).collect();
        let measured: Vec<_> = names.iter().map(|name| (name.as_bytes(), 0.0)).collect();
        assert_eq!(irregularities(0, b"", &measured[..64]), [""; 0]);
        assert_eq!(
            irregularities(0, b"", &measured),
            ["65 measurements, of which 64 are kept"]
        );
    }

    #[test]
    fn what_a_worker_made_fit_is_still_seen_by_its_host() {
        let mut report = Report::empty();
        report
            .fill(0, &[b'a'; 3000], [(&b"x"[..], f64::NAN)].into_iter())
            .unwrap();
        let found = of_received(&report).join("; ");
        assert!(
            found.contains("more than 2048 bytes") && found.contains("NaN"),
            "{found}"
        );
        report
            .fill(0, b"caf\xe9", [(&b"9x"[..], 1.0)].into_iter())
            .unwrap();
        let found = of_received(&report).join("; ");
        assert!(
            found.contains("not UTF-8") && found.contains("\"9x\""),
            "{found}"
        );
        report
            .fill(0, b"fine", [(&b"x"[..], 1.0)].into_iter())
            .unwrap();
        assert_eq!(of_received(&report), [""; 0]);
    }
}
