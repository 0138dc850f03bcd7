//! `conductor check`: checks platforms of a running host now, and waits for the results; or prints the state of one for
//! Nagios.

use std::{thread, time::Duration};

use conductor_command::{
    CliError, CommandExit, OutputFormat,
    client::{HostClient, RemoteArgs, platform_path},
    json, print, table,
};
use conductor_core::clock::Clock;
use conductor_types::{
    requests::CHECK_RUNNING,
    views::{PlatformDetail, PlatformView},
};
use hyper::{Method, StatusCode};

use super::{
    selection::RequiredSelection,
    status::{ColorMode, rows},
};

pub(super) mod nagios;

#[derive(clap::Args)]
pub(super) struct PlatformCheckArgs {
    #[command(flatten)]
    selection: RequiredSelection,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    /// Make no check: print the state of one platform and its measurements as a Nagios plugin does, and exit with 0 (ok),
    /// 1 (degraded), 2 (unhealthy) or 3 (unknown, also if the host cannot be reached)
    #[arg(long, conflicts_with_all = ["output", "labels"])]
    nagios: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl PlatformCheckArgs {
    /// Returns `true` if the state is printed for Nagios, without a check.
    pub(super) fn is_for_nagios(&self) -> bool {
        self.nagios
    }
}

pub(super) fn run(args: &PlatformCheckArgs) -> Result<CommandExit, CliError> {
    let client = HostClient::open(&args.remote)?;
    let clock = Clock::start();
    let mut exit = CommandExit::Ok;
    let selected = args.selection.get().resolve(&client)?;
    for error in &selected.errors {
        exit = error.exit();
        error.print();
    }
    let mut begun = Vec::new();
    // Start all at once: together they take as long as the slowest.
    for platform in &selected.names {
        let asked = clock.now();
        match begin(&client, platform) {
            Ok(()) => begun.push((platform, asked)),
            Err(error) => {
                exit = error.exit();
                error.print();
            }
        }
    }
    let mut found = Vec::new();
    for (platform, asked) in begun {
        match result(&client, platform, asked, clock) {
            Ok(detail) => found.push(detail.platform),
            Err(error) => {
                exit = error.exit();
                error.print();
            }
        }
    }
    // The result of this check counts, confirmed or not.
    let is_bad =
        |platform: &PlatformView| platform.maintenance.is_none() && platform.has_bad_result();
    if found.iter().any(is_bad) {
        exit = CommandExit::Unhealthy;
    }
    match args.output {
        OutputFormat::Json => print(&json(&found)?)?,
        OutputFormat::Table if found.is_empty() => {}
        OutputFormat::Table => print(&table(
            super::status::HEADER,
            rows(&found, ColorMode::detect()),
        ))?,
    }
    Ok(exit)
}

/// Starts a check, unless one is running, which serves as well.
fn begin(client: &HostClient, platform: &str) -> Result<(), CliError> {
    let path = format!("{}/check", platform_path(platform));
    let answer = client.ask(Method::POST, &path, String::new())?;
    let under_way = answer.status == StatusCode::CONFLICT
        && String::from_utf8_lossy(&answer.body).contains(CHECK_RUNNING);
    if under_way {
        return Ok(());
    }
    client.accepted(answer).map(|_| ())
}

/// Returns the result of the first check that ends after `asked`.
fn result(
    client: &HostClient,
    platform: &str,
    asked: Duration,
    clock: Clock,
) -> Result<PlatformDetail, CliError> {
    loop {
        let (_, detail) = client.look::<PlatformDetail>(&platform_path(platform))?;
        let waited = clock.now().saturating_sub(asked);
        // Compare by age, as the clocks of two machines differ.
        let age = detail.platform.age;
        if age.is_some_and(|age| age <= waited.as_secs_f64()) {
            return Ok(detail);
        }
        if waited.as_secs_f64() > detail.platform.timeout + PATIENCE.as_secs_f64() {
            return Err(CliError::Other(format!(
                "{platform}: no result within {}: its plugin may have no free thread or not be loaded (see `conductor status`)",
                humantime::format_duration(Duration::from_secs(waited.as_secs()))
            )));
        }
        thread::sleep(PERIOD);
    }
}

/// Time beyond its timeout that a check may take to appear: it may wait for a thread, or for its plugin.
const PATIENCE: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(50);
