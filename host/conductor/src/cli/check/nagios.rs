//! `conductor check --nagios`: a platform's state in one line, as plugins of Nagios, Icinga and their relatives print it.
//!
//! The line and the exit code follow the Monitoring Plugins guidelines, where 2 means critical. Whatever prevents an
//! answer, a wrong command line included, is therefore printed to standard output as UNKNOWN with exit code 3.

use std::{ffi::OsStr, fmt::Write as _, process::ExitCode};

use conductor_command::{
    CliError,
    client::{HostClient, platform_path},
    print,
};
use conductor_core::{maintenance::local_time, pattern::NamePattern};
use conductor_types::{
    PlatformState,
    views::{PlatformDetail, PlatformView},
};

use super::PlatformCheckArgs;

#[cfg(test)]
mod tests;

/// State of a service, with its exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServiceState {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

/// Prints the state of the one selected platform; returns its exit code.
pub(in crate::cli) fn run(args: &PlatformCheckArgs) -> ExitCode {
    let (state, line) = match fetch(args) {
        Ok(platform) => service_line(&platform),
        Err(error) => (ServiceState::Unknown, unknown_line(&error.to_string())),
    };
    answer(state, &line)
}

/// Prints an error of the command line, if it asks for `--nagios`; returns the exit code.
pub(in crate::cli) fn usage_error(error: &clap::Error) -> Option<ExitCode> {
    let is_asked = std::env::args_os().any(|argument| argument == OsStr::new("--nagios"));
    // Help is no error.
    if !is_asked || !error.use_stderr() {
        return None;
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    Some(answer(ServiceState::Unknown, &unknown_line(first)))
}

fn answer(state: ServiceState, line: &str) -> ExitCode {
    match print(&format!("{line}\n")) {
        Ok(()) => ExitCode::from(state as u8),
        Err(error) => {
            error.print();
            ExitCode::from(ServiceState::Unknown as u8)
        }
    }
}

fn fetch(args: &PlatformCheckArgs) -> Result<PlatformView, CliError> {
    let selection = args.selection.get();
    let is_name = |text: &&String| NamePattern::new(text).is_name();
    let [name] = selection.patterns() else {
        return Err(one_platform());
    };
    if !is_name(&name) || !selection.labels().is_empty() {
        return Err(one_platform());
    }
    let client = HostClient::open(&args.remote)?;
    let (_, detail) = client.look::<PlatformDetail>(&platform_path(name))?;
    Ok(detail.platform)
}

fn one_platform() -> CliError {
    CliError::Usage("--nagios takes one platform, by its full name".to_owned())
}

/// Returns a platform's state and line.
fn service_line(platform: &PlatformView) -> (ServiceState, String) {
    let (state, reason) = service_state(platform);
    let mut line = format!("{} - ", state.word());
    if let Some(reason) = reason {
        line.push_str(&format!("{reason}: "));
    }
    match platform.message.is_empty() {
        true => line.push_str(&platform.status.to_string()),
        false => line.push_str(&platform.message),
    }
    line.push_str(&notes(platform));
    let mut line = text(&line);
    // A failed check has no measurements.
    if state != ServiceState::Unknown && platform.error_type.is_none() {
        let mut separator = " | ";
        for item in performance_data(platform) {
            if line.len() + separator.len() + item.len() > LONGEST_LINE {
                break;
            }
            line.push_str(separator);
            line.push_str(&item);
            separator = " ";
        }
    }
    (state, line)
}

/// Returns the state, and the reason why a result that there was does not count.
fn service_state(platform: &PlatformView) -> (ServiceState, Option<String>) {
    if platform.breaker.state == "open" {
        let reason = match (platform.breaker.forced, platform.next_check) {
            (true, _) => "an operator holds the breaker open".to_owned(),
            (false, Some(trial)) => format!("the breaker is open until {}", local_time(trial)),
            (false, None) => "the breaker is open".to_owned(),
        };
        return (ServiceState::Unknown, Some(reason));
    }
    if platform.stale {
        let age = std::time::Duration::from_secs_f64(platform.age.unwrap_or_default().round());
        let age = humantime::format_duration(age);
        let reason = format!("stale, the last check ended {age} ago and found");
        let reason = format!("{reason} {}", platform.status);
        return (ServiceState::Unknown, Some(reason));
    }
    let state = match platform.status {
        PlatformState::Healthy => ServiceState::Ok,
        PlatformState::Degraded => ServiceState::Warning,
        PlatformState::Unhealthy => ServiceState::Critical,
        PlatformState::Unknown => ServiceState::Unknown,
    };
    let failed = platform.error_type.as_ref();
    (state, failed.map(|kind| format!("check failed: {kind}")))
}

/// Returns what else is to be known about the state, in parentheses.
fn notes(platform: &PlatformView) -> String {
    let soft = platform.soft.map(|soft| format!("soft {soft}"));
    let flapping = platform.flapping.then(|| "flapping".to_owned());
    let window = platform.maintenance.as_ref();
    let window = window.map(|window| format!("maintenance until {}", local_time(window.until)));
    let notes: Vec<_> = [soft, flapping, window].into_iter().flatten().collect();
    match notes.is_empty() {
        true => String::new(),
        false => format!(" ({})", notes.join(", ")),
    }
}

/// Returns the duration of the check and the measurements, as `label=value[unit]`.
fn performance_data(platform: &PlatformView) -> impl Iterator<Item = String> {
    let took = platform.last_duration;
    let took = took.filter(|_| !platform.measurements.contains_key("time"));
    let took = took.map(|seconds| format!("time={seconds:.6}s"));
    let measured = platform.measurements.iter();
    let measured =
        measured.map(|(name, value)| format!("{}={value}{}", performance_label(name), unit(name)));
    took.into_iter().chain(measured)
}

/// Returns the name of a series as a label: without `=`, which ends a label, and quoted if it is no plain word.
fn performance_label(name: &str) -> String {
    let mut label = String::new();
    for sign in name.chars() {
        match sign {
            '=' => label.push(':'),
            '\'' => label.push_str("''"),
            '"' => {}
            '|' => label.push('/'),
            sign => label.push(if sign.is_control() { ' ' } else { sign }),
        }
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    match label.chars().all(is_plain) {
        true => label,
        false => format!("'{label}'"),
    }
}

/// Returns the unit of measurement, by the unit in the name of a series.
fn unit(name: &str) -> &'static str {
    let name = name.split('{').next().unwrap_or(name);
    let unit = UNITS.iter().find(|(suffix, _)| {
        let before = name.strip_suffix(suffix);
        before.is_some_and(|before| before.is_empty() || before.ends_with('_'))
    });
    unit.map_or("", |(_, unit)| unit)
}

fn unknown_line(reason: &str) -> String {
    text(&format!("{} - {reason}", ServiceState::Unknown.word()))
}

/// Returns text on one line, without `|`, which begins the performance data.
fn text(line: &str) -> String {
    let mut kept = String::new();
    for word in line.split_whitespace() {
        let separator = if kept.is_empty() { "" } else { " " };
        let _ = write!(kept, "{separator}{}", word.replace('|', "/"));
    }
    kept.truncate(kept.floor_char_boundary(LONGEST_LINE));
    kept
}

impl ServiceState {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// Units at the end of a name, and their symbols in performance data.
const UNITS: [(&str, &str); 7] = [
    ("total", "c"),
    ("seconds", "s"),
    ("milliseconds", "ms"),
    ("microseconds", "us"),
    ("ms", "ms"),
    ("bytes", "B"),
    ("percent", "%"),
];
/// Nagios cuts a plugin's output off at 8192 bytes, in the middle of a number if it comes to that.
const LONGEST_LINE: usize = 8000;
