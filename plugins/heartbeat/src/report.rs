//! The report on a job: measuring is separate from judging.

use std::time::{Duration, SystemTime};

use conductor_net::{LimitVerdict, Limits, short, show_age, show_duration};
use conductor_plugin_api::{Failure, Report, Status, config::Duration as ConfigDuration};

use crate::{
    AGE, DURATION, LAST, RUNNING, SUCCESS,
    config::HeartbeatConfig,
    record::{HeartbeatRecord, LastRun, UnixMillis},
};

/// Judges the record of a job at `now`.
///
/// # Errors
/// None: a record that cannot be read has failed before.
pub(crate) fn report(
    record: &HeartbeatRecord,
    config: &HeartbeatConfig,
    now: SystemTime,
) -> Result<Report, Failure> {
    let now = UnixMillis::of(now);
    let mut verdict = LimitVerdict::default();
    judge_last_run(&mut verdict, record, config);
    judge_age(&mut verdict, record, config, now);
    judge_running(&mut verdict, record, config, now);
    let report = verdict.into_report(summary(record, config))?;
    Ok(measure(report, record, now))
}

fn judge_last_run(verdict: &mut LimitVerdict, record: &HeartbeatRecord, config: &HeartbeatConfig) {
    let Some(last) = &record.last else {
        return;
    };
    if !last.success {
        let is_mild = |code: i64| config.degraded_exit_codes.contains(&code);
        let status = match last.exit_code.is_some_and(is_mild) {
            true => Status::Degraded,
            false => Status::Unhealthy,
        };
        let code = match last.exit_code {
            Some(code) => format!(" with exit code {code}"),
            None => String::new(),
        };
        let before = match record.last_success {
            Some(at) => format!("the last success was at {at}"),
            None => "no run has succeeded yet".to_owned(),
        };
        let text = format!(
            "the run that ended at {} failed{code}{}; {before}",
            last.at,
            quoted(last)
        );
        verdict.add(status, text);
    }
    if let (Some(took), Some(limits)) = (last.duration(), &config.duration) {
        let shown = format!("the last run took {}", show(took));
        verdict.judge("duration", shown, ConfigDuration::from(took), limits);
    }
}

fn judge_age(
    verdict: &mut LimitVerdict,
    record: &HeartbeatRecord,
    config: &HeartbeatConfig,
    now: UnixMillis,
) {
    let last = record.last.as_ref().map(|last| last.at);
    let age = last.unwrap_or(record.since).until(now);
    let limits = Limits {
        degraded_above: config.degraded_after,
        unhealthy_above: Some(config.unhealthy_after),
        ..Limits::default()
    };
    let Some((status, _, limit)) = limits.exceeded(ConfigDuration::from(age)) else {
        return;
    };
    let late = show(age.saturating_sub(limit.get()));
    let key = match status {
        Status::Unhealthy => "unhealthy_after",
        _ => "degraded_after",
    };
    let what = match last {
        Some(at) => format!("the last heartbeat came at {at}"),
        None => format!(
            "no heartbeat since the platform was added at {}",
            record.since
        ),
    };
    let started = match record.started {
        Some(at) => format!("; a run started at {at} and has not ended"),
        None => String::new(),
    };
    verdict.add(
        status,
        format!("late by {late}: {what} (`{key}` is {limit}){started}"),
    );
}

fn judge_running(
    verdict: &mut LimitVerdict,
    record: &HeartbeatRecord,
    config: &HeartbeatConfig,
    now: UnixMillis,
) {
    if let (Some(started), Some(limits)) = (record.started, &config.duration) {
        let running = started.until(now);
        let shown = format!(
            "a run started at {started} and has not ended after {}",
            show(running)
        );
        verdict.judge(
            "duration",
            shown,
            ConfigDuration::from(running),
            &limits.upper(),
        );
    }
}

/// For people: "the last run succeeded at 2026-11-30 02:14:07 UTC, after 12 min 3 s: \"42 files\"".
fn summary(record: &HeartbeatRecord, config: &HeartbeatConfig) -> String {
    let mut text = match &record.last {
        Some(last) => {
            let took = match last.duration() {
                Some(took) => format!(", after {}", show(took)),
                None => String::new(),
            };
            format!(
                "the last run succeeded at {}{took}{}",
                last.at,
                quoted(last)
            )
        }
        None => format!(
            "no heartbeat yet; the first is expected by {}",
            record.since.plus(config.unhealthy_after.get())
        ),
    };
    if let Some(started) = record.started {
        text.push_str(&format!("; running since {started}"));
    }
    text
}

/// Returns the job's own words.
fn quoted(last: &LastRun) -> String {
    match last.message.is_empty() {
        true => String::new(),
        false => format!(": {:?}", short(&last.message, MAX_MESSAGE)),
    }
}

fn show(duration: Duration) -> String {
    match duration < Duration::from_secs(60) {
        true => show_duration(duration),
        false => show_age(duration),
    }
}

fn measure(mut report: Report, record: &HeartbeatRecord, now: UnixMillis) -> Report {
    if let Some(last) = &record.last {
        report = report
            .set(&LAST, [], last.at.seconds())
            .set(&AGE, [], last.at.until(now).as_secs_f64())
            .set(&SUCCESS, [], if last.success { 1.0 } else { 0.0 });
        if let Some(took) = last.duration() {
            report = report.set(&DURATION, [], took.as_secs_f64());
        }
    }
    match record.started {
        Some(started) => report.set(&RUNNING, [], started.until(now).as_secs_f64()),
        None => report,
    }
}

/// Number of characters of a job's message that are shown.
const MAX_MESSAGE: usize = 300;
