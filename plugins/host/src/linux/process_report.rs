//! The report on the selected processes.

use std::fmt;

use conductor_net::{LimitVerdict, Limits, show_age, show_size};
use conductor_plugin_api::{Failure, Report, config::Size};

use super::{measures, processes::ProcessGroup};
use crate::config::ProcessConfig;

/// Judges the processes by the limits of the config.
///
/// # Errors
/// None: what is not known of processes has failed before.
pub(crate) fn process_report(
    group: &ProcessGroup,
    config: &ProcessConfig,
) -> Result<Report, Failure> {
    let mut verdict = LimitVerdict::default();
    let at_least_one = Limits {
        unhealthy_below: Some(1),
        ..Limits::default()
    };
    let living = group.living();
    let limits = config.count.unwrap_or(at_least_one);
    verdict.judge(
        "process.count",
        Counted(living, "process", "processes"),
        living,
        &limits,
    );
    if let Some(limits) = &config.memory {
        let memory = Size::from_bytes(group.memory);
        let shown = format!("{} resident", show_size(group.memory));
        verdict.judge("process.memory", shown, memory, limits);
    }
    if let (Some(limits), Some(ages)) = (&config.age, group.ages) {
        let shown = format!("the oldest process is {} old", show_age(ages.oldest));
        verdict.judge("process.age", shown, ages.oldest.into(), &limits.upper());
        let shown = format!("the youngest process is {} old", show_age(ages.youngest));
        verdict.judge("process.age", shown, ages.youngest.into(), &limits.lower());
    }
    for (key, limits, count, state) in [
        ("process.zombies", &config.zombies, group.zombies, "zombie"),
        ("process.blocked", &config.blocked, group.blocked, "blocked"),
        ("process.stopped", &config.stopped, group.stopped, "stopped"),
    ] {
        if let Some(limits) = limits {
            verdict.judge(key, format!("{count} {state}"), count, limits);
        }
    }
    let report = verdict.into_report(summary(group))?;
    Ok(measures::of_processes(report, group))
}

/// For people: "3 processes, 1.2 GiB resident, started 3 d 2 h ago, the youngest 5 min 2 s ago".
fn summary(group: &ProcessGroup) -> String {
    let mut text = Counted(group.living(), "process", "processes").to_string();
    if let Some(ages) = group.ages {
        text.push_str(&format!(
            ", {} resident, started {} ago",
            show_size(group.memory),
            show_age(ages.oldest)
        ));
        if group.living() > 1 {
            text.push_str(&format!(", the youngest {} ago", show_age(ages.youngest)));
        }
    }
    for (state, count) in [
        ("blocked", group.blocked),
        ("stopped", group.stopped),
        ("zombie", group.zombies),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {state}"));
        }
    }
    text
}

/// A number of things: "1 process", "2 processes".
struct Counted(u64, &'static str, &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, one, many) = self;
        write!(f, "{count} {}", if *count == 1 { one } else { many })
    }
}
