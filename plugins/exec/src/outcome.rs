//! From the end of a command to a report or a failure.

use conductor_plugin_api::{Failure, Metric, Report, Status, tracing};

use crate::{
    config::{ExecConfig, ResultFormat},
    nagios::PluginOutput,
    performance,
};

/// The exit code of the command.
pub(crate) const EXIT_CODE: Metric = Metric::gauge("exit_code", "Exit code of the command.");

/// A command that has ended by itself.
#[derive(Clone, Debug)]
pub(crate) struct FinishedCommand {
    pub(crate) end: CommandEnd,
    pub(crate) stdout: CapturedOutput,
    pub(crate) stderr: CapturedOutput,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CommandEnd {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// The beginning of what a process has written.
#[derive(Clone, Debug, Default)]
pub(crate) struct CapturedOutput {
    pub(crate) bytes: Vec<u8>,
    /// Number of bytes that were written.
    pub(crate) total: u64,
}

impl CapturedOutput {
    /// Returns `true` if not all of it is kept.
    pub(crate) fn is_truncated(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Returns the report of a command.
///
/// # Errors
/// When the command says that it could not tell, or ended in a way that says nothing.
pub(crate) fn judge(finished: &FinishedCommand, config: &ExecConfig) -> Result<Report, Failure> {
    let stdout = finished.stdout.text();
    let output = match config.format {
        ResultFormat::Nagios => PluginOutput::parse(&stdout),
        ResultFormat::ExitCode => PluginOutput::plain(&stdout),
    };
    let message = message(&output, finished);
    let code = match finished.end {
        CommandEnd::Code(code) => code,
        CommandEnd::Signal(signal) => {
            return Err(Failure::new(format!(
                "the command was ended by {}: {message}",
                signal_name(signal)
            )));
        }
    };
    let status = match config.format {
        ResultFormat::Nagios => nagios_status(code, &message)?,
        ResultFormat::ExitCode => code_status(code, config, &message)?,
    };
    let mut report = Report::new(status, message).set(&EXIT_CODE, [], code.into());
    if config.format == ResultFormat::Nagios {
        let data = performance::parse(&output.performance, finished.stdout.is_truncated());
        if let Some(item) = data.malformed {
            tracing::debug!("skipped performance data that is not 'label'=value: {item:?}");
        }
        for value in &data.values {
            report = value.add_to(report);
        }
    }
    Ok(report)
}

fn nagios_status(code: i32, message: &str) -> Result<Status, Failure> {
    match code {
        0 => Ok(Status::Healthy),
        1 => Ok(Status::Degraded),
        2 => Ok(Status::Unhealthy),
        3 if message.contains("UNKNOWN") => Err(Failure::new(message)),
        3 => Err(Failure::new(format!("UNKNOWN: {message}"))),
        _ => Err(Failure::new(format!(
            "exit code {code}, but a Nagios plugin exits with 0 to 3; for another command, set `format = \"exit-code\"`: {message}"
        ))),
    }
}

fn code_status(code: i32, config: &ExecConfig, message: &str) -> Result<Status, Failure> {
    let is_in = |codes: &[u8]| codes.iter().any(|known| i32::from(*known) == code);
    if is_in(&config.failed_codes) {
        return Err(Failure::new(format!("exit code {code}: {message}")));
    }
    Ok(match code {
        _ if is_in(&config.healthy_codes) => Status::Healthy,
        _ if is_in(&config.degraded_codes) => Status::Degraded,
        _ => Status::Unhealthy,
    })
}

/// Returns the line for people: the first of the output, and what was left out.
fn message(output: &PluginOutput, finished: &FinishedCommand) -> String {
    let stderr = finished.stderr.text();
    let first_error = stderr.lines().map(str::trim).find(|line| !line.is_empty());
    let mut text = match (output.text.as_str(), first_error) {
        ("", None) => match finished.end {
            CommandEnd::Code(code) => format!("no output, exit code {code}"),
            CommandEnd::Signal(_) => "no output".to_owned(),
        },
        ("", Some(error)) => format!("no output; standard error: {}", start_of(error)),
        (text, _) => start_of(text).to_owned(),
    };
    match output.more_lines {
        0 => {}
        1 => text.push_str(" (1 more line)"),
        more => text.push_str(&format!(" ({more} more lines)")),
    }
    if finished.stdout.is_truncated() {
        text.push_str(&format!(
            " (output truncated: the first {} of {} bytes were read)",
            finished.stdout.bytes.len(),
            finished.stdout.total
        ));
    }
    text
}

/// Returns the beginning of a line, so that what is appended to it stays within the limit of a message.
fn start_of(line: &str) -> &str {
    &line[..line.floor_char_boundary(MAX_LINE)]
}

fn signal_name(signal: i32) -> String {
    let known = SIGNALS.iter().find(|(number, ..)| *number == signal);
    match known {
        Some((_, name, hint)) => format!("signal {signal} (SIG{name}{hint})"),
        None => format!("signal {signal}"),
    }
}

/// Signals with the same number on every Unix.
const SIGNALS: [(i32, &str, &str); 9] = [
    (1, "HUP", ""),
    (2, "INT", ""),
    (4, "ILL", ""),
    (6, "ABRT", ""),
    (8, "FPE", ""),
    (9, "KILL", ", which the kernel sends when memory runs out"),
    (11, "SEGV", ""),
    (
        14,
        "ALRM",
        ", by which many plugins end at their own timeout",
    ),
    (15, "TERM", ""),
];

/// Bytes of the first line in a message.
const MAX_LINE: usize = 1500;
