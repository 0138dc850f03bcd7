//! Times, amounts and states as text that fits a column.

use std::time::Duration;

use conductor_types::{
    StateUrgency,
    views::{BreakerView, PlatformView},
};
use jiff::Timestamp;

use crate::cli::top::state::{ConnectionLoss, TopState};

/// Returns the symbol of a state, for users who do not see colours.
pub(super) fn mark(urgency: StateUrgency) -> char {
    match urgency {
        StateUrgency::CheckFailed => '✗',
        StateUrgency::Unhealthy => '!',
        StateUrgency::Degraded => '~',
        StateUrgency::NotChecked => '·',
        StateUrgency::Healthy => '✓',
    }
}

/// Describes the state of the host's machine.
pub(super) fn machine(state: &TopState) -> String {
    let Some(seen) = &state.seen else {
        return format!("connecting to {}", state.address);
    };
    let host = &seen.status.host;
    let mut text = format!(
        "{} ({}), machine {}",
        state.address, host.version, host.mode
    );
    for failed in &host.failed_reloads {
        text.push_str(&format!("  {} not reloaded", failed.file));
    }
    let parts = [
        ("cpu", host.cpu_percent),
        ("memory", host.memory_percent),
        ("disk", host.disk_percent),
    ];
    for (name, percent) in parts {
        if let Some(percent) = percent {
            text.push_str(&format!("  {name} {percent:.0} %"));
        }
    }
    if let Some(reason) = &host.mode_reason {
        text.push_str(&format!("  ({reason})"));
    }
    let unloaded = seen
        .status
        .plugins
        .iter()
        .filter(|p| p.state == "failed")
        .count();
    if unloaded > 0 {
        text.push_str(&format!("  {unloaded} plugins not loaded"));
    }
    text
}

/// Returns how long, and since what time of day, the host has not responded.
pub(super) fn gone(state: &TopState, gone: &ConnectionLoss) -> (String, String) {
    let ago = state.now.saturating_sub(gone.since);
    let seen = state.seen.as_ref();
    // By the host's clock, in which its times are shown.
    let since = seen
        .and_then(|seen| {
            let after = gone.since.saturating_sub(seen.at);
            Some(seen.host_time? + after.as_secs_f64())
        })
        .map_or_else(|| "the start".to_owned(), |at| clock(state, at));
    (span(ago.as_secs_f64()), since)
}

/// Formats a moment in this machine's time zone.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a time outside the range of the calendar is shown as 1970"
)]
pub(super) fn clock(state: &TopState, unix_seconds: f64) -> String {
    let at = Timestamp::from_second(unix_seconds as i64).unwrap_or(Timestamp::UNIX_EPOCH);
    let shown = at.to_zoned_datetime(state.zone.clone());
    shown.strftime("%H:%M:%S").to_string()
}

/// Formats a duration in its largest unit, or its largest two.
pub(super) fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_secs();
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Formats the duration of a check.
pub(super) fn took(seconds: Option<f64>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds) if seconds < 0.001 => format!("{:.0}µs", seconds * 1e6),
        Some(seconds) if seconds < 10.0 => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.0}s"),
    }
}

/// Returns how long a platform has been in its state.
pub(super) fn since(state: &TopState, platform: &PlatformView) -> String {
    let ago = state.host_time().zip(platform.since);
    ago.map_or_else(String::new, |(now, since)| span(now - since))
}

/// Returns the breaker's state, and `held` if an operator holds it.
pub(super) fn breaker(breaker: &BreakerView) -> String {
    let held = if breaker.forced { " held" } else { "" };
    format!("{}{held}", breaker.state)
}

/// Returns the last check's message, after any caveats.
pub(super) fn message(state: &TopState, platform: &PlatformView) -> String {
    let mut text = String::new();
    if let Some(window) = &platform.maintenance {
        let paused = if window.checks == "pause" {
            ", paused"
        } else {
            ""
        };
        text.push_str(&format!("[maintenance{paused}] "));
    }
    if platform.stale {
        let age = platform.age.map_or_else(String::new, |age| {
            let more = state
                .seen
                .as_ref()
                .map_or(0.0, |seen| state.now.saturating_sub(seen.at).as_secs_f64());
            format!(" {}", span(age + more))
        });
        text.push_str(&format!("[stale{age}] "));
    }
    if let Some(soft) = platform.soft {
        text.push_str(&format!("[soft {soft}] "));
    }
    if platform.flapping {
        text.push_str("[flapping] ");
    }
    if platform.is_paused() && platform.maintenance.is_none() {
        text.push_str("[paused] ");
    }
    text.push_str(&platform.message);
    text
}
