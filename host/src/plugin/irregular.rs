//! What is irregular about a report as a plugin hands it over, before the host makes it fit.
//!
//! The host takes what can be taken and says nothing: an operator cannot mend a plugin. Its author can, so the validator
//! [observes](observe) what there was to be mended.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::{MAX_MEASUREMENTS, MAX_MESSAGE, is_harmful};

/// Has this process keep what is irregular about the reports it takes; until then, nobody looks.
pub(crate) fn observe() {
    SEEN.get_or_init(Mutex::default);
}

/// What was irregular since the last call, each once.
pub(crate) fn seen() -> Vec<String> {
    let Some(seen) = SEEN.get() else {
        return Vec::new();
    };
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whether anybody wants to know.
pub(super) fn is_observed() -> bool {
    SEEN.get().is_some()
}

/// Notes what is irregular about a report.
pub(super) fn note(status: u8, message: &[u8], measurements: &[(&[u8], f64)]) {
    let Some(seen) = SEEN.get() else {
        return;
    };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    for found in irregularities(status, message, measurements) {
        if seen.len() < MAX_SEEN && !seen.contains(&found) {
            seen.push(found);
        }
    }
}

/// What a host has to change about a report, or may lose of it; each a line of printable text.
fn irregularities(status: u8, message: &[u8], measurements: &[(&[u8], f64)]) -> Vec<String> {
    let mut found = Vec::new();
    if status > 2 {
        found.push(format!(
            "status {status}, where 0 healthy, 1 degraded and 2 unhealthy are known"
        ));
    }
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
    if measurements.len() > MAX_MEASUREMENTS {
        found.push(format!(
            "{} measurements, of which {MAX_MEASUREMENTS} are looked at",
            measurements.len()
        ));
    }
    let mut names: Vec<&[u8]> = Vec::new();
    for (name, value) in measurements.iter().take(MAX_MEASUREMENTS) {
        let shown = name.escape_ascii();
        if !is_legal(name) {
            found.push(format!(
                "the measurement name \"{shown}\", where [a-zA-Z_][a-zA-Z0-9_]* is legal"
            ));
        }
        if !value.is_finite() {
            found.push(format!(
                "the value {value} of \"{shown}\", which is dropped"
            ));
        }
        names.push(name);
    }
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let name = twice[0].escape_ascii();
        found.push(format!("two measurements named \"{name}\" in one report"));
    }
    found
}

/// Whether Prometheus takes it for a metric's name without colons, which are for recording rules.
fn is_legal(name: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    name.first().is_some_and(|first| !first.is_ascii_digit()) && name.iter().all(word)
}

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
        let many = vec![(&b"x"[..], 0.0); 2000];
        let found = irregularities(0, b"", &many).join("; ");
        assert!(found.contains("2000 measurements") && found.contains("two measurements"));
    }
}
