//! `conductor status`: the state of each platform of a running host, over its HTTP API.

use std::{io::IsTerminal as _, thread, time::Duration};

use clap::builder::styling::{AnsiColor, Style};
use conductor_command::{
    CliError, CommandExit, OutputFormat,
    client::{HostClient, RemoteArgs},
    print_styled, table,
};
use conductor_config::{DurationError, parse_duration};
use conductor_core::maintenance::local_time;
use conductor_library::printable;
use conductor_types::{
    StateUrgency,
    views::{PlatformView, StatusView},
};
use serde_json::Value;

use super::selection::PlatformSelection;

#[derive(clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    selection: PlatformSelection,
    /// Show only platforms that are unhealthy or whose last check failed; the exit code covers all selected platforms
    #[arg(long, alias = "failing")]
    problems: bool,
    /// Print the status again every INTERVAL until interrupted
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s",
        value_parser = watch_interval
    )]
    watch: Option<Duration>,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) fn run(args: &StatusArgs) -> Result<CommandExit, CliError> {
    let client = HostClient::open(&args.remote)?;
    let Some(interval) = args.watch else {
        let (text, exit) = once(args, &client, ColorMode::detect())?;
        print_styled(&text)?;
        return Ok(exit);
    };
    loop {
        let text = match once(args, &client, ColorMode::detect()) {
            Ok((text, _)) => text,
            // The host may come back.
            Err(CliError::Unreachable(why)) => printable::lines(&format!("{why}\n")).into_owned(),
            Err(error) => return Err(error),
        };
        let clear = std::io::stdout().is_terminal() && matches!(args.output, OutputFormat::Table);
        let before = if clear { CLEAR_SCREEN } else { "" };
        print_styled(&format!("{before}{text}"))?;
        thread::sleep(interval);
    }
}

/// Requests the status once; returns the output, and the exit code of the selected platforms.
fn once(
    args: &StatusArgs,
    client: &HostClient,
    coloring: ColorMode,
) -> Result<(String, CommandExit), CliError> {
    let (body, mut status) = client.look::<StatusView>("/api/v1/status")?;
    let unmatched = args.selection.unmatched(&status.platforms);
    status
        .platforms
        .retain(|platform| args.selection.matches(platform));
    let mut exit = exit(&status);
    for error in unmatched {
        if status.platforms.is_empty() {
            return Err(error);
        }
        exit = error.exit();
        error.print();
    }
    if args.problems {
        status.platforms.retain(PlatformView::needs_attention);
    }
    let text = match args.output {
        // Print the host's own text, to keep fields that this program does not know.
        OutputFormat::Json if args.selection.is_everything() && !args.problems => {
            let body = String::from_utf8_lossy(&body);
            format!("{}\n", printable::json(body.trim_end()))
        }
        OutputFormat::Json => format!("{}\n", printable::json(&narrowed(&body, &status)?)),
        OutputFormat::Table if status.platforms.is_empty() && args.problems => {
            format!(
                "No platform is unhealthy, and no check failed.\n{}",
                notes(&status)
            )
        }
        OutputFormat::Table => text(&status, coloring),
    };
    Ok((text, exit))
}

/// A wrong `--watch`.
#[derive(Debug, thiserror::Error)]
enum IntervalError {
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("the shortest interval is 100ms")]
    TooShort,
}

fn watch_interval(text: &str) -> Result<Duration, IntervalError> {
    let interval = parse_duration(text)?;
    if interval < SHORTEST_WATCH {
        return Err(IntervalError::TooShort);
    }
    Ok(interval)
}

/// Colour of a command's output: on if it is a terminal, unless `NO_COLOR` is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ColorMode {
    On,
    Off,
}

impl ColorMode {
    pub(super) fn detect() -> Self {
        let disabled = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if std::io::stdout().is_terminal() && !disabled {
            Self::On
        } else {
            Self::Off
        }
    }

    fn paint(self, text: String, color: Option<AnsiColor>) -> String {
        match (self, color) {
            (Self::On, Some(color)) => {
                let style = Style::new().fg_color(Some(color.into()));
                format!("{style}{text}{style:#}")
            }
            _ => text,
        }
    }
}

fn state_color(urgency: StateUrgency) -> Option<AnsiColor> {
    match urgency {
        StateUrgency::Healthy => Some(AnsiColor::Green),
        StateUrgency::Degraded => Some(AnsiColor::Yellow),
        StateUrgency::Unhealthy | StateUrgency::CheckFailed => Some(AnsiColor::Red),
        StateUrgency::NotChecked => None,
    }
}

/// Returns the exit code for these platforms.
pub(super) fn exit(status: &StatusView) -> CommandExit {
    if status.platforms.iter().any(is_bad) {
        CommandExit::Unhealthy
    } else {
        CommandExit::Ok
    }
}

/// Returns `true` if the platform needs attention; during maintenance it already has it.
pub(super) fn is_bad(platform: &PlatformView) -> bool {
    platform.needs_attention() && platform.maintenance.is_none()
}

/// Returns the host's own JSON, reduced to the remaining platforms.
fn narrowed(body: &[u8], left: &StatusView) -> Result<String, CliError> {
    let unreadable = |e: serde_json::Error| CliError::Other(format!("cannot print as JSON: {e}"));
    let mut all: Value = serde_json::from_slice(body).map_err(unreadable)?;
    if let Some(platforms) = all["platforms"].as_array_mut() {
        platforms.retain(|platform| left.platforms.iter().any(|p| platform["name"] == *p.name));
    }
    serde_json::to_string(&all).map_err(unreadable)
}

/// Formats the status for people, worst first.
pub(super) fn text(status: &StatusView, coloring: ColorMode) -> String {
    let mut platforms = status.platforms.clone();
    // Platforms under maintenance go last.
    platforms.sort_by_key(|p| {
        (
            p.needs_attention() && !is_bad(p),
            p.urgency(),
            p.name.clone(),
        )
    });
    let platforms = match platforms.is_empty() {
        true => "There are no platforms.\n".to_owned(),
        false => table(HEADER, rows(&platforms, coloring)),
    };
    platforms + &notes(status)
}

/// Formats the notes about plugins and host that follow the platforms.
fn notes(status: &StatusView) -> String {
    let mut text = String::new();
    for plugin in &status.plugins {
        let told = [&plugin.error, &plugin.note, &plugin.held_in_worker];
        for told in told.into_iter().flatten() {
            text.push_str(&format!("\nplugin {}: {told}\n", plugin.id));
        }
    }
    for failed in &status.host.failed_reloads {
        let failed = failed.describe(&local_time(failed.at));
        text.push_str(&format!("\nhost: {failed}\n"));
    }
    if let Some(reason) = &status.host.mode_reason {
        text.push_str(&format!("\nhost {}: {reason}\n", status.host.mode));
    }
    text
}

/// Returns a row for each platform.
pub(super) fn rows(
    platforms: &[PlatformView],
    coloring: ColorMode,
) -> impl Iterator<Item = [String; 6]> {
    platforms.iter().map(move |platform| {
        let took = platform
            .last_duration
            .map(|seconds| format!("{:.0} ms", seconds * 1000.0));
        let age = if platform.stale {
            ", stale"
        } else if platform.is_paused() {
            ", paused"
        } else {
            ""
        };
        let held = if platform.breaker.forced {
            ", held"
        } else {
            ""
        };
        [
            platform.name.clone(),
            coloring.paint(
                format!("{}{age}", platform.state_text()),
                state_color(platform.urgency()),
            ),
            coloring.paint(
                format!("{}{held}", platform.breaker.state),
                (platform.breaker.state != "closed").then_some(AnsiColor::Yellow),
            ),
            took.unwrap_or_default(),
            platform.plugin.clone(),
            message(platform),
        ]
    })
}

/// Returns the last check's message, after the maintenance in force.
fn message(platform: &PlatformView) -> String {
    let Some(window) = &platform.maintenance else {
        return platform.message.clone();
    };
    let paused = if window.checks == "pause" {
        ", checks paused"
    } else {
        ""
    };
    let reason = match window.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let by = match &window.by {
        None => String::new(),
        Some(by) => format!(" by {by}"),
    };
    let until = local_time(window.until);
    format!(
        "[maintenance until {until}{by}{paused}{reason}] {}",
        platform.message
    )
}

pub(super) const HEADER: [&str; 6] = ["PLATFORM", "STATUS", "BREAKER", "TOOK", "PLUGIN", "MESSAGE"];

const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J\x1b[3J";

/// A terminal shows no more, and each round makes the host render all platforms.
const SHORTEST_WATCH: Duration = Duration::from_millis(100);
