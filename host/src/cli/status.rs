//! `conductor status`: what a running host knows, over its HTTP API.

use super::{CliError, DEFAULT_ADDRESS, Exit, Output, client, print, table};
use crate::state::{Health, PlatformView, StatusView};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The host's address
    #[arg(long = "web.listen-address", value_name = "ADDRESS", env = "CONDUCTOR_WEB_LISTEN_ADDRESS", default_value = DEFAULT_ADDRESS)]
    address: String,
    /// Form of the output
    #[arg(long, default_value = "table")]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let (body, status) = client::status(&args.address)?;
    match args.output {
        // The host's own bytes: a field this program does not know yet is kept.
        Output::Json => print(&format!("{}\n", String::from_utf8_lossy(&body).trim_end()))?,
        Output::Table => print(&text(&status))?,
    }
    let bad = |p: &PlatformView| matches!(p.status, Health::Failing | Health::Unhealthy);
    Ok(if status.platforms.iter().any(bad) {
        Exit::Unhealthy
    } else {
        Exit::Ok
    })
}

/// The status for people, worst first.
pub(super) fn text(status: &StatusView) -> String {
    let mut platforms: Vec<_> = status.platforms.iter().collect();
    platforms.sort_by(|a, b| (a.status, &a.name).cmp(&(b.status, &b.name)));
    let rows = platforms.into_iter().map(|platform| {
        let took = platform
            .last_duration
            .map(|seconds| format!("{:.0} ms", seconds * 1000.0));
        [
            platform.name.clone(),
            platform.status.to_string(),
            platform.breaker.state.clone(),
            took.unwrap_or_default(),
            platform.plugin.clone(),
            platform.message.clone(),
        ]
    });
    let mut text = table(
        ["PLATFORM", "STATUS", "BREAKER", "TOOK", "PLUGIN", "MESSAGE"],
        rows,
    );
    for plugin in &status.plugins {
        let told = [&plugin.error, &plugin.note, &plugin.held_in_worker];
        for told in told.into_iter().flatten() {
            text.push_str(&format!("\nplugin {}: {told}\n", plugin.id));
        }
    }
    if let Some(reason) = &status.host.mode_reason {
        text.push_str(&format!("\nhost {}: {reason}\n", status.host.mode));
    }
    text
}
