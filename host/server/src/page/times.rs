//! Times and amounts in human-readable form. The script updates them in the same form.

use std::time::{Duration, UNIX_EPOCH};

/// A moment and its distance from now.
pub(super) struct DisplayTime {
    /// Seconds since 1970, with tenths.
    pub(super) unix: String,
    /// Such as `12 s ago` or `in 3 s`.
    pub(super) text: String,
    /// Date and time of day, UTC.
    pub(super) date: String,
}

impl DisplayTime {
    pub(super) fn new(at: f64, now: f64) -> Self {
        Self {
            unix: format!("{at:.1}"),
            text: apart(at - now),
            date: date(at),
        }
    }
}

fn apart(seconds: f64) -> String {
    if seconds.abs() < 1.0 {
        return "now".to_owned();
    }
    let span = span(seconds.abs());
    if seconds < 0.0 {
        format!("{span} ago")
    } else {
        format!("in {span}")
    }
}

/// Formats a duration in its largest unit.
pub(super) fn span(seconds: f64) -> String {
    let units = [(86400.0, "d"), (3600.0, "h"), (60.0, "min")];
    let unit = units
        .into_iter()
        .find(|(length, _)| seconds >= 2.0 * length);
    let (length, unit) = unit.unwrap_or((1.0, "s"));
    format!("{:.0} {unit}", (seconds / length).floor())
}

/// Formats the duration of a check.
pub(super) fn took(seconds: f64) -> String {
    let ms = seconds * 1000.0;
    match seconds {
        s if s >= 10.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{} s", (s * 10.0).round() / 10.0),
        s if s >= 0.01 => format!("{ms:.0} ms"),
        _ => format!("{} ms", (ms * 10.0).round() / 10.0),
    }
}

/// Formats the date and time of day, UTC.
pub(super) fn date(unix: f64) -> String {
    let since = Duration::try_from_secs_f64(unix).unwrap_or_default();
    match UNIX_EPOCH.checked_add(since) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => String::new(),
    }
}
