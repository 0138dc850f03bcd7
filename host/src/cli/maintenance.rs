//! `conductor maintenance start|end|list`: windows of a running host.

use super::{
    CliError, Exit, Output,
    client::{Client, Remote},
    json, print, table,
};
use crate::{
    maintenance::{Checks, local_time},
    state::{MaintenanceEnd, MaintenanceOrder, WindowView, maintenance_length},
};

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Start maintenance of platforms now; it goes on through a reload, and ends with the host
    Start {
        /// Platforms by name, or with wildcards: 'db-*'
        #[arg(required = true, value_name = "PLATFORM")]
        platforms: Vec<String>,
        /// For how long, such as 2h or 1h 30m
        #[arg(long = "for", value_name = "DURATION", value_parser = length)]
        length: String,
        /// Why, for whoever looks
        #[arg(long, default_value = "")]
        reason: String,
        /// Begin no checks meanwhile
        #[arg(long)]
        pause: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// End maintenance that was started by command
    End {
        /// What it was started for
        #[arg(required = true, value_name = "PLATFORM")]
        platforms: Vec<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// List the windows of the config and those started by command
    List {
        /// Form of the output
        #[arg(long, default_value = "table")]
        output: Output,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) fn run(command: &Command) -> Result<Exit, CliError> {
    match command {
        Command::Start {
            platforms,
            length,
            reason,
            pause,
            remote,
        } => {
            let order = MaintenanceOrder {
                platforms: platforms.clone(),
                length: length.clone(),
                reason: reason.clone(),
                checks: if *pause { Checks::Pause } else { Checks::GoOn },
            };
            let answer = Client::open(remote)?.order("/api/v1/maintenance", &json(&order)?)?;
            print(&answer)?;
        }
        Command::End { platforms, remote } => {
            let end = MaintenanceEnd {
                platforms: platforms.clone(),
            };
            let answer = Client::open(remote)?.order("/api/v1/maintenance/end", &json(&end)?)?;
            print(&answer)?;
        }
        Command::List { output, remote } => {
            let (body, windows) =
                Client::open(remote)?.look::<Vec<WindowView>>("/api/v1/maintenance")?;
            match output {
                Output::Json => print(&format!("{}\n", String::from_utf8_lossy(&body)))?,
                Output::Table if windows.is_empty() => print("There is no maintenance window.\n")?,
                Output::Table => print(&text(&windows))?,
            }
        }
    }
    Ok(Exit::Ok)
}

/// Windows for people, those in force first.
pub(super) fn text(windows: &[WindowView]) -> String {
    let mut windows: Vec<_> = windows.iter().collect();
    windows.sort_by_key(|window| window.in_force_until.is_none());
    let rows = windows.into_iter().map(|window| {
        let state = match (window.in_force_until, window.next_change) {
            (Some(until), _) => format!("in force until {}", local_time(until)),
            (None, Some(next)) => format!("begins {}", local_time(next)),
            (None, None) => "over".to_owned(),
        };
        let labels = window.labels.iter().map(|(k, v)| format!("{k}={v}"));
        let scope: Vec<_> = window.platforms.iter().cloned().chain(labels).collect();
        [
            window.name.clone(),
            state,
            scope.join(" "),
            window.checks.clone(),
            window.times.clone(),
            window.origin.clone(),
            window.reason.clone(),
        ]
    });
    table(
        [
            "MAINTENANCE",
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

/// Holds the duration to the host's own rule, before it is asked.
fn length(text: &str) -> Result<String, String> {
    maintenance_length(text).map(|_| text.to_owned())
}
