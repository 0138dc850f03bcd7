//! `conductor maintenance start|end|list`: windows of a running host.

use conductor_command::{
    CliError, CommandExit, OutputFormat,
    client::{HostClient, RemoteArgs},
    json, print, print_json, table,
};
use conductor_core::maintenance::local_time;
use conductor_engine::state::{MaintenanceLengthError, maintenance_length};
use conductor_types::{
    Checks,
    requests::{MaintenanceEnd, MaintenanceOrder},
    views::WindowView,
};

use super::selection::RequiredSelection;

#[derive(clap::Subcommand)]
pub(super) enum MaintenanceCommand {
    /// Start a maintenance window for the selected platforms now
    ///
    /// It survives reloads and restarts of the host. Platforms that a later reload adds and that match are covered too.
    Start {
        #[command(flatten)]
        selection: RequiredSelection,
        /// Length of the window, for example 2h or '1h 30m'
        #[arg(long = "for", value_name = "DURATION", value_parser = length)]
        length: String,
        /// Reason, shown with the window
        #[arg(long, default_value = "")]
        reason: String,
        /// Start no checks during the window
        #[arg(long)]
        pause: bool,
        /// Output format; JSON lists the windows as `maintenance list` does
        #[arg(long, default_value = "table")]
        output: OutputFormat,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// End maintenance windows that were started by command
    ///
    /// Windows are selected by the names and labels they were started with: 'db-*' ends those of db-1 and of 'db-*'.
    End {
        #[command(flatten)]
        selection: RequiredSelection,
        /// Output format; JSON lists the windows as `maintenance list` does
        #[arg(long, default_value = "table")]
        output: OutputFormat,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// List the windows of the config and those started by command
    List {
        /// Output format
        #[arg(long, default_value = "table")]
        output: OutputFormat,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

pub(super) fn run(command: &MaintenanceCommand) -> Result<CommandExit, CliError> {
    match command {
        MaintenanceCommand::Start {
            selection,
            length,
            reason,
            pause,
            output,
            remote,
        } => {
            let order = MaintenanceOrder {
                platforms: selection.get().patterns().to_vec(),
                labels: selection.get().labels(),
                length: length.clone(),
                reason: reason.clone(),
                checks: if *pause { Checks::Pause } else { Checks::GoOn },
            };
            let client = HostClient::open(remote)?;
            let answer = client.order("/api/v1/maintenance", &json(&order)?)?;
            changed(&client, &answer, *output)
        }
        MaintenanceCommand::End {
            selection,
            output,
            remote,
        } => {
            let end = MaintenanceEnd {
                platforms: selection.get().patterns().to_vec(),
                labels: selection.get().labels(),
            };
            let client = HostClient::open(remote)?;
            let answer = client.order("/api/v1/maintenance/end", &json(&end)?)?;
            changed(&client, &answer, *output)
        }
        MaintenanceCommand::List { output, remote } => list(&HostClient::open(remote)?, *output),
    }
}

/// Prints the host's response to an order; as JSON, the current windows.
fn changed(
    client: &HostClient,
    answer: &str,
    output: OutputFormat,
) -> Result<CommandExit, CliError> {
    match output {
        OutputFormat::Json => list(client, output),
        OutputFormat::Table => {
            print(answer)?;
            Ok(CommandExit::Ok)
        }
    }
}

fn list(client: &HostClient, output: OutputFormat) -> Result<CommandExit, CliError> {
    let (body, windows) = client.look::<Vec<WindowView>>("/api/v1/maintenance")?;
    match output {
        OutputFormat::Json => print_json(&String::from_utf8_lossy(&body))?,
        OutputFormat::Table if windows.is_empty() => print("No maintenance windows.\n")?,
        OutputFormat::Table => print(&text(&windows))?,
    }
    Ok(CommandExit::Ok)
}

/// Formats windows for people, those in force first.
pub(super) fn text(windows: &[WindowView]) -> String {
    let mut windows: Vec<_> = windows.iter().collect();
    windows.sort_by_key(|window| window.in_force_until.is_none());
    let rows = windows.into_iter().map(|window| {
        let state = match (window.in_force_until, window.next_change) {
            (Some(until), _) => format!("in force until {}", local_time(until)),
            (None, Some(next)) => format!("begins {}", local_time(next)),
            (None, None) => "over".to_owned(),
        };
        // The state of one that an operator has started says all of it.
        let times = match window.origin.as_str() {
            "config" => window.times.clone(),
            _ => String::new(),
        };
        let labels = window.labels.iter().map(|(k, v)| format!("{k}={v}"));
        let scope: Vec<_> = window.platforms.iter().cloned().chain(labels).collect();
        [
            window.name.clone(),
            state,
            scope.join(" "),
            window.checks.clone(),
            times,
            window.by.clone().unwrap_or_else(|| window.origin.clone()),
            window.reason.clone(),
        ]
    });
    table(
        [
            "WINDOW",
            "STATE",
            "PLATFORMS",
            "CHECKS",
            "TIMES",
            "BY",
            "REASON",
        ],
        rows,
    )
}

/// Validates the duration by the host's own rule before the request.
fn length(text: &str) -> Result<String, MaintenanceLengthError> {
    maintenance_length(text).map(|_| text.to_owned())
}
