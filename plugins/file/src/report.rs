//! The report on the files: measuring is separate from judging.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use conductor_net::{LimitVerdict, Limits, show_age, show_size};
use conductor_plugin_api::{
    Failure, Report, Status,
    config::{Duration as ConfigDuration, Size},
};

use crate::{
    AGE, FILES, MODIFIED, SIZE, TOTAL_SIZE,
    config::{FileConfig, MissingLine},
    content::{ContentFindings, ContentRules},
    survey::{FileSurvey, SurveyPlan},
};

/// Judges a survey that was made at `now` by the keys of a config.
///
/// # Errors
/// None: what could not be read has failed before.
pub(crate) fn report(
    found: &FileSurvey,
    config: &FileConfig,
    plan: &SurveyPlan,
    now: SystemTime,
) -> Result<Report, Failure> {
    let mut verdict = LimitVerdict::default();
    judge_count(&mut verdict, found, config, plan);
    judge_ages(&mut verdict, found, config, now);
    judge_sizes(&mut verdict, found, config);
    if let Some(content) = &found.content {
        judge_content(&mut verdict, content, &plan.content);
    }
    let report = verdict.into_report(summary(found, plan, now))?;
    Ok(measure(report, found, now))
}

fn judge_count(
    verdict: &mut LimitVerdict,
    found: &FileSurvey,
    config: &FileConfig,
    plan: &SurveyPlan,
) {
    let at_least_one = Limits {
        unhealthy_below: Some(1),
        ..Limits::default()
    };
    let path = plan.pattern.path.display();
    let shown = match (plan.pattern.has_wildcards(), found.dangling.first()) {
        (true, _) => format!("{} match {path}", counted(found.count)),
        (false, Some(link)) => format!("{path} {}", dangling(link)),
        (false, None) if found.count == 0 => format!("{path} does not exist"),
        (false, None) => format!("{path} exists"),
    };
    let limits = config.count.unwrap_or(at_least_one);
    verdict.judge("count", shown, found.count, &limits);
}

fn judge_ages(
    verdict: &mut LimitVerdict,
    found: &FileSurvey,
    config: &FileConfig,
    now: SystemTime,
) {
    for (key, limits, file) in [
        ("age", &config.age, &found.newest),
        ("oldest_age", &config.oldest_age, &found.oldest),
    ] {
        let (Some(limits), Some((modified, path))) = (limits, file) else {
            continue;
        };
        let path = path.display();
        match age(*modified, now) {
            Ok(age) => {
                let shown = format!("{path} was modified {} ago", show_age(age));
                verdict.judge(key, shown, ConfigDuration::from(age), limits);
            }
            // A limit would never apply to such a file.
            Err(ahead) => verdict.add(
                Status::Unhealthy,
                format!(
                    "{path} was modified {} in the future, so that its age is unknown (`{key}` has limits)",
                    show_age(ahead)
                ),
            ),
        }
    }
}

fn judge_sizes(verdict: &mut LimitVerdict, found: &FileSurvey, config: &FileConfig) {
    if let Some(limits) = &config.size {
        match (&found.smallest, &found.largest) {
            (Some((small, smallest)), Some((large, largest))) => {
                let shown = |size, path: &Path| format!("{} has {}", path.display(), show_size(size));
                let size = Size::from_bytes;
                verdict.judge("size", shown(*small, smallest), size(*small), &limits.lower());
                verdict.judge("size", shown(*large, largest), size(*large), &limits.upper());
            }
            _ if found.count > 0 => verdict.cannot_tell(
                "cannot judge `size`: `path` is not a regular file, only those have a size; for a folder, write `path` with `/*`"
                    .to_owned(),
            ),
            _ => {}
        }
    }
    if let Some(limits) = &config.total_size {
        let shown = format!("{} in all files", show_size(found.total_size));
        let size = Size::from_bytes(found.total_size);
        verdict.judge("total_size", shown, size, limits);
    }
}

fn judge_content(verdict: &mut LimitVerdict, found: &ContentFindings, rules: &ContentRules) {
    let path = found.path.display();
    let mut bad = |fault: String| verdict.add(Status::Unhealthy, fault);
    if let Some(kind) = found.no_content {
        return bad(format!(
            "{path} is {kind}, expected a regular file with content"
        ));
    }
    if found.has_match == Some(false) {
        bad(format!("nothing in {path} matches `matches`"));
    }
    if let Some(text) = &found.unwanted {
        bad(format!("{path} has {text:?}, which `not_matches` excludes"));
    }
    if let (Some(expected), Some(hash)) = (&rules.sha256, &found.sha256)
        && expected != hash
    {
        bad(format!(
            "{path} has the SHA-256 hash {hash}, expected {expected}"
        ));
    }
    let Some(rule) = &rules.last_line else { return };
    match &found.last_line {
        Some(line) => {
            if let Some(key) = line.unmet {
                bad(format!(
                    "the last line of {path} does not meet `{key}`: {:?}",
                    line.shown
                ));
            }
        }
        None => {
            let status = match rule.missing {
                MissingLine::Healthy => return,
                MissingLine::Degraded => Status::Degraded,
                MissingLine::Unhealthy => Status::Unhealthy,
            };
            let within = Size::from_bytes(rule.within);
            let text =
                format!("no line in the last {within} of {path} matches `last_line.pattern`");
            verdict.add(status, text);
        }
    }
}

/// Returns the time since a file was modified, or by how much that is in the future.
///
/// The clock of a file server may differ a little, so a file may seem to be that much younger than new.
fn age(modified: SystemTime, now: SystemTime) -> Result<Duration, Duration> {
    match now.duration_since(modified) {
        Ok(age) => Ok(age),
        Err(ahead) if ahead.duration() <= MAX_AHEAD => Ok(Duration::ZERO),
        Err(ahead) => Err(ahead.duration()),
    }
}

/// For people: "12 files, 3.2 GiB, the newest 3 min 2 s old: /var/backups/db.tar; the last line: \"finished\"".
fn summary(found: &FileSurvey, plan: &SurveyPlan, now: SystemTime) -> String {
    let mut text = match plan.pattern.has_wildcards() {
        true => format!("{}, {}", counted(found.count), show_size(found.total_size)),
        false if found.count == 0 => format!("{} does not exist", plan.pattern.path.display()),
        false => found
            .largest
            .as_ref()
            .map_or_else(|| "exists".to_owned(), |(size, _)| show_size(*size)),
    };
    if let Some((modified, path)) = &found.newest {
        let age = match age(*modified, now) {
            Ok(age) => format!("{} ago", show_age(age)),
            Err(ahead) => format!("{} in the future", show_age(ahead)),
        };
        match plan.pattern.has_wildcards() {
            true => text.push_str(&format!(", {} was modified {age}", path.display())),
            false => text.push_str(&format!(", modified {age}")),
        }
    }
    let line = found
        .content
        .as_ref()
        .and_then(|content| content.last_line.as_ref());
    if let Some(line) = line {
        text.push_str(&format!("; the last line: {:?}", line.shown));
    }
    let links: Vec<_> = found
        .dangling
        .iter()
        .map(|link| format!("{} {}", link.display(), dangling(link)))
        .collect();
    if !links.is_empty() {
        text.push_str(&format!("; {}", links.join(", ")));
    }
    if found.more_dangling > 0 {
        text.push_str(&format!(", and {} more such links", found.more_dangling));
    }
    text
}

fn dangling(link: &Path) -> String {
    match std::fs::read_link(link) {
        Ok(target) => format!("is a link to {}, which does not exist", target.display()),
        Err(_) => "is a link to nothing".to_owned(),
    }
}

fn counted(count: u64) -> String {
    match count {
        1 => "1 file".to_owned(),
        _ => format!("{count} files"),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement is a float; exact up to 8 PiB"
)]
fn measure(report: Report, found: &FileSurvey, now: SystemTime) -> Report {
    let mut report = report.set(&FILES, [], found.count as f64);
    for (file, newest_or_oldest) in [("newest", &found.newest), ("oldest", &found.oldest)] {
        let Some((modified, _)) = newest_or_oldest else {
            continue;
        };
        if let Ok(age) = age(*modified, now) {
            report = report.set(&AGE, [file], age.as_secs_f64());
        }
        if let Ok(since_1970) = modified.duration_since(SystemTime::UNIX_EPOCH) {
            report = report.set(&MODIFIED, [file], since_1970.as_secs_f64());
        }
    }
    for (file, size) in [("smallest", &found.smallest), ("largest", &found.largest)] {
        if let Some((size, _)) = size {
            report = report.set(&SIZE, [file], *size as f64);
        }
    }
    report.set(&TOTAL_SIZE, [], found.total_size as f64)
}

/// Largest difference of a file server's clock that is taken for one.
const MAX_AHEAD: Duration = Duration::from_secs(60);
