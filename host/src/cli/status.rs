//! `conductor status`: what a running host knows, over its HTTP API.

use serde_json::Value;

use super::{
    CliError, Exit, Output,
    client::{Client, Remote},
    print, table,
};
use crate::{
    maintenance::local_time,
    pattern::Pattern,
    state::{Health, PlatformView, StatusView},
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: Remote,
    /// Only platforms of this name, or of such names: 'db-*' (any of several)
    #[arg(long, value_name = "PATTERN")]
    platform: Vec<String>,
    /// Only platforms with this label (all of several)
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Show only what is unhealthy or failing; the exit code is that of all platforms asked for
    #[arg(long)]
    failing: bool,
    /// Form of the output
    #[arg(long, default_value = "table")]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let client = Client::open(&args.remote)?;
    let (body, mut status) = client.look::<StatusView>("/api/v1/status")?;
    status.platforms.retain(|platform| args.wants(platform));
    if status.platforms.is_empty() && args.selects() {
        return Err(CliError::Other(
            "no platform is called so or has these labels; `conductor status` lists them all"
                .to_owned(),
        ));
    }
    let exit = exit(&status);
    if args.failing {
        status.platforms.retain(is_failing);
    }
    match args.output {
        // The host's own bytes: a field this program does not know yet is kept.
        Output::Json if !args.selects() && !args.failing => {
            print(&format!("{}\n", String::from_utf8_lossy(&body).trim_end()))?;
        }
        Output::Json => print(&format!("{}\n", narrowed(&body, &status)?))?,
        Output::Table => print(&text(&status))?,
    }
    Ok(exit)
}

impl Args {
    fn selects(&self) -> bool {
        !self.platform.is_empty() || !self.label.is_empty()
    }

    fn wants(&self, platform: &PlatformView) -> bool {
        let mut patterns = self.platform.iter().map(|text| Pattern::new(text));
        let named = self.platform.is_empty() || patterns.any(|p| p.matches(&platform.name));
        named
            && self
                .label
                .iter()
                .all(|(k, v)| platform.labels.get(k) == Some(v))
    }
}

/// What the exit code says of these platforms.
pub(super) fn exit(status: &StatusView) -> Exit {
    if status.platforms.iter().any(is_bad) {
        Exit::Unhealthy
    } else {
        Exit::Ok
    }
}

/// Whether somebody should do something about it, which while people work on it they do.
pub(super) fn is_bad(platform: &PlatformView) -> bool {
    is_failing(platform) && platform.maintenance.is_none()
}

fn is_failing(platform: &PlatformView) -> bool {
    matches!(platform.status, Health::Failing | Health::Unhealthy)
}

/// The host's own JSON with the platforms that are left.
fn narrowed(body: &[u8], left: &StatusView) -> Result<String, CliError> {
    let unreadable = |e: serde_json::Error| CliError::Other(format!("cannot print as JSON: {e}"));
    let mut all: Value = serde_json::from_slice(body).map_err(unreadable)?;
    if let Some(platforms) = all["platforms"].as_array_mut() {
        platforms.retain(|platform| left.platforms.iter().any(|p| platform["name"] == *p.name));
    }
    serde_json::to_string(&all).map_err(unreadable)
}

/// The status for people, worst first.
pub(super) fn text(status: &StatusView) -> String {
    let mut platforms = status.platforms.clone();
    // What people work on is no news.
    platforms.sort_by_key(|p| (is_failing(p) && !is_bad(p), p.status, p.name.clone()));
    let mut text = table(HEADER, rows(&platforms));
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

/// A line for each platform.
pub(super) fn rows(platforms: &[PlatformView]) -> impl Iterator<Item = [String; 6]> {
    platforms.iter().map(|platform| {
        let took = platform
            .last_duration
            .map(|seconds| format!("{:.0} ms", seconds * 1000.0));
        let stale = if platform.stale { ", stale" } else { "" };
        let held = if platform.breaker.forced {
            ", held"
        } else {
            ""
        };
        [
            platform.name.clone(),
            format!("{}{stale}", platform.status),
            format!("{}{held}", platform.breaker.state),
            took.unwrap_or_default(),
            platform.plugin.clone(),
            message(platform),
        ]
    })
}

/// What the last check said, behind the maintenance in force.
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
    let until = local_time(window.until);
    format!(
        "[maintenance until {until}{paused}{reason}] {}",
        platform.message
    )
}

fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) const HEADER: [&str; 6] = ["PLATFORM", "STATUS", "BREAKER", "TOOK", "PLUGIN", "MESSAGE"];
