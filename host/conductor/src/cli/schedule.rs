//! `conductor schedule`: the start times, the peak, and the checks that cannot fit.

use std::{sync::Arc, time::Duration};

use conductor_command::{
    CliError, CommandExit, GlobalArgs, OutputFormat, json, note, print, table,
};
use conductor_config::{ConductorConfig, PlatformConfig};
use conductor_core::{
    clock::Clock,
    confirmation::ConfirmationRules,
    schedule::{PlannedEntry, Schedule, ScheduleError, ScheduleKey},
};
use conductor_types::views::WindowView;
use serde::Serialize;

use super::{maintenance, shard::ShardArgs};
use crate::host;

#[derive(clap::Args)]
pub(super) struct ScheduleArgs {
    /// Output format
    #[arg(long, default_value = "table")]
    output: OutputFormat,
    #[command(flatten)]
    shard: ShardArgs,
}

pub(super) fn run(args: &ScheduleArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let mut config = Arc::unwrap_or_clone(global.config()?);
    config.shard = args.shard.shard()?.or(config.shard);
    let all = config.platforms.len();
    let config = config.own_share();
    if let Some(shard) = config.shard {
        let own = config.platforms.len();
        note(&format!("shard {shard}: {own} of {all} platforms"));
    }
    let clock = Clock::start();
    let now = clock.wall(clock.now());
    let now = now
        .try_into()
        .map_err(|e| CliError::Other(format!("cannot read this machine's clock: {e}")))?;
    let summary = summarise(&config, now).map_err(|e| CliError::Other(e.to_string()))?;
    match args.output {
        OutputFormat::Table => print(&text(&summary))?,
        OutputFormat::Json => print(&json(&summary)?)?,
    }
    Ok(CommandExit::Ok)
}

/// Summary of the schedule.
#[derive(Serialize)]
struct ScheduleSummary {
    /// The starts, by interval and then by offset.
    starts: Vec<ScheduledStart>,
    /// Without re-checks.
    checks_per_second: f64,
    /// The most re-checks, if the state of every platform with a `retry_interval` were soft.
    most_rechecks_per_second: f64,
    /// The most starts within any 100 ms, and the number for an even spread.
    peak_per_100ms: u64,
    ideal_per_100ms: u64,
    /// The maintenance windows.
    maintenance: Vec<WindowView>,
    /// Warnings about checks that cannot fit.
    warnings: Vec<String>,
}

/// One entry of the schedule.
#[derive(Serialize)]
struct ScheduledStart {
    /// None for the resource monitor.
    platform: Option<String>,
    plugin: Option<String>,
    interval_seconds: f64,
    /// The time from the beginning of each interval to the start.
    offset_seconds: f64,
    /// The time from a check to the next one while the state is soft; none if the schedule alone decides.
    retry_interval_seconds: Option<f64>,
}

fn summarise(
    config: &ConductorConfig,
    now: jiff::Timestamp,
) -> Result<ScheduleSummary, ScheduleError> {
    let host = &config.host;
    let mut schedule = Schedule::new(Duration::ZERO, host.tick, host.stagger)?;
    let intervals = config.platforms.iter().map(|platform| platform.interval);
    for (key, interval) in (0..).zip(std::iter::once(config.resources.interval).chain(intervals)) {
        schedule.set(ScheduleKey(key), interval)?;
    }
    let plan = schedule.plan();
    let platform = |planned: &PlannedEntry| {
        let at = (planned.key.0 as usize).checked_sub(1)?;
        config.platforms.get(at)
    };
    let peak = plan.peak(WINDOW);
    let mut warnings = Vec::new();
    for id in config.plugins_in_use() {
        let threads = config.plugin(id).call_threads;
        let busy = plan.busy(|planned| match platform(planned) {
            // A check begins only once the last one has ended.
            Some(platform) if platform.plugin == id => {
                let checks = rechecks(platform).saturating_add(1);
                (platform.timeout.saturating_mul(checks)).min(platform.interval)
            }
            _ => Duration::ZERO,
        });
        if busy > f64::from(threads) {
            warnings.push(format!(
                "plugin {id} has {threads} call threads, but needs {:.0} if all its checks take as long as their timeouts allow: \
                 raise call_threads, lengthen intervals or shorten timeouts",
                busy.ceil()
            ));
        }
    }
    let windows = config.maintenance.iter();
    Ok(ScheduleSummary {
        starts: plan
            .entries()
            .iter()
            .map(|planned| ScheduledStart {
                platform: platform(planned).map(|platform| platform.name.clone()),
                plugin: platform(planned).map(|platform| platform.plugin.clone()),
                interval_seconds: planned.interval.as_secs_f64(),
                offset_seconds: planned.phase.as_secs_f64(),
                retry_interval_seconds: platform(planned)
                    .filter(|platform| rechecks(platform) > 0)
                    .and_then(|platform| platform.confirmation.retry_interval)
                    .map(|retry| retry.as_secs_f64()),
            })
            .collect(),
        checks_per_second: plan.starts_per_second(),
        most_rechecks_per_second: config
            .platforms
            .iter()
            .map(|platform| f64::from(rechecks(platform)) / platform.interval.as_secs_f64())
            .sum(),
        peak_per_100ms: peak.count,
        ideal_per_100ms: peak.ideal,
        maintenance: windows
            .map(|window| host::window_view(window, now))
            .collect(),
        warnings,
    })
}

/// Returns the most re-checks between two slots of a platform.
fn rechecks(platform: &PlatformConfig) -> u32 {
    let retry = platform.confirmation.retry_interval;
    let is_ever_soft = platform.confirmation.rules != ConfirmationRules::default();
    let Some(retry) = retry.filter(|retry| is_ever_soft && !retry.is_zero()) else {
        return 0;
    };
    // One that coincides with the slot is not made.
    let before_slot = platform.interval.as_nanos().saturating_sub(1) / retry.as_nanos();
    u32::try_from(before_slot).unwrap_or(u32::MAX)
}

fn text(summary: &ScheduleSummary) -> String {
    let rows = summary.starts.iter().map(|line| {
        [
            format!("{:.3} s", line.offset_seconds),
            format!("{} s", line.interval_seconds),
            line.platform
                .clone()
                .unwrap_or_else(|| "(resource monitor)".to_owned()),
            line.plugin.clone().unwrap_or_default(),
        ]
    });
    let mut text = table(["OFFSET", "INTERVAL", "PLATFORM", "PLUGIN"], rows);
    text.push_str(&format!(
        "\n{:.1} starts a second, at most {} in any 100 ms (an even spread has {})\n",
        summary.checks_per_second, summary.peak_per_100ms, summary.ideal_per_100ms
    ));
    if summary.most_rechecks_per_second > 0.0 {
        text.push_str(&format!(
            "plus at most {:.1} re-checks a second, while the states of all platforms with a retry_interval are soft\n",
            summary.most_rechecks_per_second
        ));
    }
    if !summary.maintenance.is_empty() {
        text.push('\n');
        text.push_str(&maintenance::text(&summary.maintenance));
    }
    for warning in &summary.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

const WINDOW: Duration = Duration::from_millis(100);
