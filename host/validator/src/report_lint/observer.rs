//! The observer of a plugin under test: collects the irregularities in what it returns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use conductor_library::printable::steers as is_harmful;
use conductor_runtime::{
    MAX_LABEL_VALUE, MAX_MESSAGE, SetError, SetValues,
    observer::{CallObserver, ContractViolation},
};

use super::{declared, of_measurements};

/// The irregularities in what a plugin returned, without duplicates.
#[derive(Default)]
pub(crate) struct ReportLint(Mutex<Vec<String>>);

impl ReportLint {
    /// Returns the irregularities since the last call; each a line of printable text.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    /// Returns `true` if the plugin has broken the C header's contract in this way since the last [`take`](Self::take).
    pub(crate) fn has_seen(&self, misuse: ContractViolation) -> bool {
        self.lock().iter().any(|found| found == told(misuse))
    }

    fn add(&self, found: impl IntoIterator<Item = String>) {
        let mut seen = self.lock();
        for found in found {
            if seen.len() < MAX_SEEN && !seen.contains(&found) {
                seen.push(found);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallObserver for ReportLint {
    fn report(
        &self,
        status: u8,
        message: &[u8],
        measurements: &[(&[u8], f64)],
        declared: &SetValues,
    ) {
        let mut found = irregularities(status, message, measurements);
        declared::irregularities(declared, &mut found);
        self.add(found);
    }

    fn set(&self, metric: &[u8], labels: &[&[u8]], result: Result<(), &SetError>) {
        let name = metric[..metric.len().min(MAX_SHOWN)].escape_ascii();
        if let Err(why) = result {
            self.add([format!(
                "a value of the metric \"{name}\", which is dropped: {why}"
            )]);
        }
        for label in labels {
            self.add(of_label(label).map(|found| format!("{found} in a label of \"{name}\"")));
        }
    }

    fn failure(&self, message: &[u8]) {
        let mut found = Vec::new();
        of_message(message, &mut found);
        self.add(found);
    }

    fn misuse(&self, misuse: ContractViolation) {
        self.add([told(misuse).to_owned()]);
    }
}

/// Describes a misuse as the object of "it reported".
fn told(misuse: ContractViolation) -> &'static str {
    match misuse {
        ContractViolation::NoReport => "nothing: the check ended without a report or a failure",
        ContractViolation::NoProbe => "nothing: `create` returned NULL without a failure",
        ContractViolation::NoReason => "a failure without a message",
        ContractViolation::UnknownKind => "a failure of a kind that the header does not have",
        ContractViolation::LongState => {
            "a state of more than 65536 bytes, which is not stored: conductor_store_state returned false"
        }
        ContractViolation::NotBegun => "the completion of a check that was over or not begun",
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

/// Returns the part of a label's value that a host changes, if any.
fn of_label(label: &[u8]) -> Option<String> {
    if label.len() > MAX_LABEL_VALUE {
        let bytes = label.len();
        return Some(format!(
            "{bytes} bytes, of which {MAX_LABEL_VALUE} are kept,"
        ));
    }
    let Ok(text) = str::from_utf8(label) else {
        return Some("text that is not UTF-8".to_owned());
    };
    let harmful = text.chars().find(|&c| is_harmful(c))?;
    Some(format!("the character {}", harmful.escape_default()))
}

/// The number of bytes of a metric's name that are shown.
const MAX_SHOWN: usize = 128;

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
    fn values_of_declared_metrics_that_are_dropped_or_changed_are_named() {
        let lint = ReportLint::default();
        lint.report(0, b"fine", &[], &SetValues::default());
        lint.set(b"used", &[b"/"], Ok(()));
        assert_eq!(lint.take(), [""; 0]);
        lint.set(b"size", &[], Err(&SetError::Undeclared));
        assert_eq!(
            lint.take(),
            [
                "a value of the metric \"size\", which is dropped: the plugin does not declare this metric: add it to `metrics`"
            ]
        );
        for (label, words) in [
            (&[b'a'; 257][..], "257 bytes"),
            (b"\xff", "not UTF-8"),
            (b"two\nlines", "the character \\n in a label of \"used\""),
        ] {
            lint.set(b"used", &[label], Ok(()));
            let found = lint.take().join("; ");
            assert!(found.contains(words), "{found}");
        }
    }

    #[test]
    fn irregularities_are_collected_once_each_until_they_are_taken() {
        let lint = ReportLint::default();
        lint.failure(b"two\nlines");
        lint.failure(b"two\nlines");
        lint.misuse(ContractViolation::NoReport);
        assert!(
            lint.has_seen(ContractViolation::NoReport)
                && !lint.has_seen(ContractViolation::NoProbe)
        );
        assert_eq!(lint.take().len(), 2);
        assert_eq!(lint.take(), [""; 0]);
    }
}
