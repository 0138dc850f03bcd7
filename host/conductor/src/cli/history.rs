//! `conductor history`: uptime and incidents of a running host, and the export of what is stored.

use std::{path::PathBuf, time::Duration};

use conductor_command::{
    CliError, CommandExit, OutputFormat,
    client::{HostClient, RemoteArgs},
    json, print, table,
};
use conductor_config::{DurationError, LONGEST_DURATION, parse_duration};
use conductor_core::{clock::Clock, maintenance::local_time};
use conductor_history::HistoryReader;
use conductor_types::views::{
    ExportPage, ExportRecord, HistoryRange, IncidentView, PlatformUptimeView, PlatformView,
};
use serde::Serialize;

use super::selection::{PlatformSelection, label};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    command: Option<HistoryCommand>,
    /// Only platforms with this name; `*` matches any characters and `?` exactly one. May be given several times
    #[arg(long = "platform", value_name = "PLATFORM")]
    platforms: Vec<String>,
    /// Only platforms with this label; given several times, platforms that have all of them
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Length of the past whose incidents are listed, for example 24h or 30d
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = since)]
    since: String,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(clap::Subcommand)]
enum HistoryCommand {
    /// Print the stored changes of state, the oldest first
    ///
    /// With --file it reads a file, also while a host writes to it; otherwise it asks a running host.
    Export(ExportArgs),
}

#[derive(clap::Args)]
struct ExportArgs {
    /// Format: a JSON object per line, or comma-separated values with a header
    #[arg(long, default_value = "jsonl")]
    format: ExportFormat,
    /// Length of the past, for example 30d [default: everything]
    #[arg(long, value_name = "DURATION", value_parser = since)]
    since: Option<String>,
    /// File to read, `history.sqlite` of a state folder, instead of asking a running host
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ExportFormat {
    Jsonl,
    Csv,
}

/// The output as JSON.
#[derive(Serialize)]
struct HistorySummary {
    uptime: Vec<PlatformUptimeView>,
    incidents: Vec<IncidentView>,
}

pub(super) fn run(args: &HistoryArgs) -> Result<CommandExit, CliError> {
    match &args.command {
        None => show(args),
        Some(HistoryCommand::Export(args)) => export(args),
    }
}

fn show(args: &HistoryArgs) -> Result<CommandExit, CliError> {
    let client = HostClient::open(&args.remote)?;
    let selection = PlatformSelection::of(&args.platforms, &args.labels);
    let (_, platforms) = client.look::<Vec<PlatformView>>("/api/v1/platforms")?;
    let (_, mut uptime) = client.look::<Vec<PlatformUptimeView>>("/api/v1/uptime")?;
    let path = format!("/api/v1/incidents?since={}", args.since.replace(' ', "%20"));
    let (_, mut incidents) = client.look::<Vec<IncidentView>>(&path)?;
    let chosen = |name: &str| {
        let monitored = platforms.iter().find(|platform| platform.name == name);
        match monitored {
            Some(platform) => selection.matches(platform),
            // Of a platform that is gone, only the name is known.
            None => selection.labels().is_empty() && selection.has_name(name),
        }
    };
    uptime.retain(|of| chosen(&of.platform));
    incidents.retain(|incident| chosen(&incident.platform));
    let mut exit = CommandExit::Ok;
    if uptime.is_empty() && incidents.is_empty() {
        for error in selection.unmatched(&platforms) {
            exit = error.exit();
            error.print();
        }
        if exit != CommandExit::Ok {
            return Ok(exit);
        }
    }
    match args.output {
        OutputFormat::Json => print(&json(&HistorySummary { uptime, incidents })?)?,
        OutputFormat::Table => {
            let header = ["PLATFORM", "24 H", "7 DAYS", "30 DAYS", "90 DAYS"];
            print(&table(header, uptime.iter().map(uptime_row)))?;
            if incidents.is_empty() {
                print(&format!("\nNo incidents in the last {}.\n", args.since))?;
            } else {
                let header = ["INCIDENT OF", "START", "DURATION", "STATE", "MESSAGE"];
                print(&format!(
                    "\n{}",
                    table(header, incidents.iter().map(incident_row))
                ))?;
            }
        }
    }
    Ok(exit)
}

fn uptime_row(of: &PlatformUptimeView) -> [String; 5] {
    let cell = |range: HistoryRange| {
        let window = of.windows.iter().find(|w| w.window == range.label());
        window
            .and_then(|w| w.up)
            .map_or_else(|| "-".to_owned(), percent)
    };
    let [day, week, month, quarter] = HistoryRange::UPTIME.map(cell);
    [of.platform.clone(), day, week, month, quarter]
}

/// Formats a share; only an exact 1 is 100 %.
fn percent(share: f64) -> String {
    let percent = (share * 100_000.0).floor() / 1000.0;
    format!("{percent:.3} %")
}

fn incident_row(incident: &IncidentView) -> [String; 5] {
    let duration = Duration::try_from_secs_f64(incident.duration.round()).unwrap_or_default();
    let duration = humantime::format_duration(duration);
    let state = if incident.maintenance {
        format!("{}, maintenance", incident.state)
    } else {
        incident.state.to_string()
    };
    [
        incident.platform.clone(),
        local_time(incident.start),
        match incident.end {
            Some(_) => duration.to_string(),
            None => format!("{duration} so far"),
        },
        state,
        incident.message.clone(),
    ]
}

fn export(args: &ExportArgs) -> Result<CommandExit, CliError> {
    if let ExportFormat::Csv = args.format {
        print("at,platform,plugin,group,state,maintenance,message\n")?;
    }
    let client = match &args.file {
        Some(_) => None,
        None => Some(HostClient::open(&args.remote)?),
    };
    let mut after = None;
    loop {
        let page = match (&client, &args.file) {
            (Some(client), _) => asked_page(client, args.since.as_deref(), after)?,
            (None, file) => read_page(
                &file.clone().unwrap_or_default(),
                args.since.as_deref(),
                after,
            )?,
        };
        let mut text = String::new();
        for record in &page.records {
            text.push_str(&match args.format {
                ExportFormat::Jsonl => serde_json::to_string(record)
                    .map_err(|e| CliError::Other(format!("cannot print as JSON: {e}")))?,
                ExportFormat::Csv => csv_line(record),
            });
            text.push('\n');
        }
        print(&text)?;
        after = page.next;
        if after.is_none() {
            return Ok(CommandExit::Ok);
        }
    }
}

fn asked_page(
    client: &HostClient,
    since: Option<&str>,
    after: Option<i64>,
) -> Result<ExportPage, CliError> {
    let since = since.map(|since| format!("since={}", since.replace(' ', "%20")));
    let after = after.map(|after| format!("after={after}"));
    let query: Vec<_> = since.into_iter().chain(after).collect();
    let path = format!("/api/v1/history/export?{}", query.join("&"));
    Ok(client.look(&path)?.1)
}

fn read_page(
    file: &std::path::Path,
    since: Option<&str>,
    after: Option<i64>,
) -> Result<ExportPage, CliError> {
    let since = since.map(|since| parse_duration(since).unwrap_or_default());
    let since = since.map(|since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let clock = Clock::start();
    let now = Duration::try_from_secs_f64(clock.unix_seconds(clock.now())).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let page = HistoryReader::new(file, READ_PATIENCE).export(since, after, now);
    page.map_err(|error| CliError::Other(error.to_string()))
}

fn csv_line(record: &ExportRecord) -> String {
    let maintenance = record.maintenance.to_string();
    let fields = [
        &format!("{:.3}", record.at),
        &record.platform,
        &record.plugin,
        record.group.as_deref().unwrap_or_default(),
        &record.state,
        &maintenance,
        &record.message,
    ];
    fields.map(csv_field).join(",")
}

/// Quotes a field where commas, quotes or line breaks demand it. Line breaks become spaces: a record is one line.
fn csv_field(text: &str) -> String {
    let text = text.replace(['\r', '\n'], " ");
    if text.contains([',', '"']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// A wrong `--since`.
#[derive(Debug, thiserror::Error)]
enum SinceError {
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("the longest is two years")]
    TooLong,
}

fn since(text: &str) -> Result<String, SinceError> {
    if parse_duration(text)? > LONGEST_DURATION * 2 {
        return Err(SinceError::TooLong);
    }
    Ok(text.to_owned())
}

/// The longest time for a page of a file.
const READ_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_never_rounded_up_to_a_hundred_percent() {
        assert_eq!(percent(1.0), "100.000 %");
        assert_eq!(percent(0.999_999_9), "99.999 %");
        assert_eq!(percent(0.0), "0.000 %");
    }

    #[test]
    fn fields_are_quoted_where_it_is_needed() {
        assert_eq!(csv_field("a b"), "a b");
        assert_eq!(csv_field("a,\"b\"\nc"), "\"a,\"\"b\"\" c\"");
    }
}
