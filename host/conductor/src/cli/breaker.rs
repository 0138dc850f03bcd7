//! `conductor breaker open|close|release|reset`: orders to the breakers of a running host.

use clap::ValueEnum;
use conductor_command::{
    CliError, CommandExit, OutputFormat,
    client::{HostClient, RemoteArgs, platform_path},
    json, print,
};
use serde::Serialize;

use super::selection::RequiredSelection;

#[derive(clap::Args)]
#[command(
    override_usage = "conductor breaker <ORDER> [PLATFORM]... [--label <NAME=VALUE>]... [OPTIONS]"
)]
pub(super) struct BreakerArgs {
    /// Order to the breaker
    order: BreakerAction,
    #[command(flatten)]
    selection: RequiredSelection,
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum BreakerAction {
    /// Hold it open: no checks until it is released or reset
    Open,
    /// Hold it closed: checks continue whatever their results, until it is released or reset
    Close,
    /// Return to automatic control; a breaker that was held open starts with a trial
    Release,
    /// Close it and clear the failure count
    Reset,
}

/// Outcome of an order to one platform's breaker.
#[derive(Serialize)]
struct BreakerOrderOutcome {
    platform: String,
    order: &'static str,
    /// The host's message.
    message: String,
}

pub(super) fn run(args: &BreakerArgs) -> Result<CommandExit, CliError> {
    let client = HostClient::open(&args.remote)?;
    let order = args.order.name();
    let selected = args.selection.get().resolve(&client)?;
    let mut exit = CommandExit::Ok;
    for error in &selected.errors {
        exit = error.exit();
        error.print();
    }
    let mut done = Vec::new();
    // Every platform gets its order, even after one was refused.
    for platform in selected.names {
        let path = format!("{}/breaker/{}", platform_path(&platform), order);
        match client.order(&path, "") {
            Ok(message) => {
                if matches!(args.output, OutputFormat::Table) {
                    print(&message)?;
                }
                done.push(BreakerOrderOutcome {
                    platform,
                    order,
                    message: message.trim_end().to_owned(),
                });
            }
            Err(error) => {
                exit = error.exit();
                error.print();
            }
        }
    }
    if matches!(args.output, OutputFormat::Json) {
        print(&json(&done)?)?;
    }
    Ok(exit)
}

impl BreakerAction {
    /// Returns its name in the API's paths.
    fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Release => "release",
            Self::Reset => "reset",
        }
    }
}
