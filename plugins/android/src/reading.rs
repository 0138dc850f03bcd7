//! Reads the output of commands.

use crate::wire::{ShellOutput, shown};

/// A part of the device's state.
pub(crate) type Reading<T> = Result<T, Unread>;

/// The reason why a part of the device's state is unknown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Unread {
    /// The device does not have it: no battery, an older Android. Only a limit needs it.
    Absent(String),
    /// The device has it, and its output is of another form than expected.
    Garbled(String),
}

impl Unread {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Absent(reason) | Self::Garbled(reason) => reason,
        }
    }
}

/// Returns the reason why the output of `command` has not what was expected.
pub(crate) fn unread(command: &str, output: &ShellOutput) -> Unread {
    let words = words(output);
    let reason = format!("`{command}` on the device: {words}");
    let is_absent = [
        "Can't find service",
        "Permission Denial",
        "not found",
        "inaccessible",
    ];
    match is_absent.iter().any(|text| words.contains(text)) {
        true => Unread::Absent(reason),
        false => Unread::Garbled(reason),
    }
}

/// Returns the beginning of what a command printed, its errors first.
pub(crate) fn words(output: &ShellOutput) -> String {
    let printed = [&output.stderr, &output.stdout]
        .into_iter()
        .find(|text| !text.trim().is_empty());
    match (printed, output.exit_code) {
        (Some(text), _) => shown(text),
        (None, Some(code)) if code != 0 => format!("no output, exit code {code}"),
        (None, _) => "no output".to_owned(),
    }
}

/// Returns the value of the first line `NAME: VALUE` or `NAME=VALUE`.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix(name)?;
        let value = rest.strip_prefix(':').or_else(|| rest.strip_prefix('='))?;
        Some(value.trim())
    })
}

/// Parses a finite number.
pub(crate) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
