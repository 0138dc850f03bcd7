//! From file systems to a report: the worst of them decides.

use std::{collections::BTreeSet, path::Path, path::PathBuf};

use conductor_plugin_api::{Failure, Report, Status};

use crate::fill::{Fill, Limits};

/// A file system that was asked.
#[derive(Debug)]
pub(crate) struct FileSystem {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    pub(crate) fill: Fill,
}

impl FileSystem {
    /// The report about this one alone.
    pub(crate) fn report(&self, limits: &Limits) -> Report {
        let (status, text) = self.fill.judge(limits);
        let report = measure(Report::new(status, text), &self.fill);
        match self.fill.read_only {
            Some(read_only) => report.measure("read_only", f64::from(u8::from(read_only))),
            None => report,
        }
    }
}

/// The report while a file system is not mounted. It has none of the figures: they would be those of another one.
pub(crate) fn unmounted(why: &str) -> Report {
    Report::unhealthy(why)
}

/// The report about several; `unknown` says of which the fill could not be found out.
///
/// # Errors
/// When some could not be asked, and none of the others is bad.
pub(crate) fn of_all(
    found: &[FileSystem],
    unknown: &[String],
    limits: &Limits,
) -> Result<Report, Failure> {
    let mut judged: Vec<_> = found
        .iter()
        .map(|one| {
            let (status, text) = one.fill.judge(limits);
            (one, status, format!("{}: {text}", one.point.display()))
        })
        .collect();
    // Worst first; equally bad ones by their fill.
    judged.sort_by(|(a, a_status, _), (b, b_status, _)| {
        let fullness = |one: &FileSystem| one.fill.worst_percent();
        rank(*b_status)
            .cmp(&rank(*a_status))
            .then(fullness(b).total_cmp(&fullness(a)))
    });
    let Some((worst, status, text)) = judged
        .first()
        .filter(|(_, status, _)| unknown.is_empty() || *status != Status::Healthy)
    else {
        return Err(Failure::new(unknown.join("; ")));
    };
    let mut message = format!("worst of {}: {text}", found.len());
    let also = judged
        .iter()
        .skip(1)
        .filter(|(_, status, _)| *status != Status::Healthy);
    for (_, _, text) in also.take(MAX_NAMED) {
        message.push_str(&format!("; {text}"));
    }
    for why in unknown.iter().take(MAX_NAMED) {
        message.push_str(&format!("; {why}"));
    }
    let read_only = found.iter().filter(|one| one.fill.read_only == Some(true));
    let report = measure(Report::new(*status, message), &worst.fill)
        .measure("file_systems", count(found.len()))
        .measure("read_only", count(read_only.count()));
    Ok(each(found, report))
}

/// The used space of each by name.
fn each(found: &[FileSystem], mut report: Report) -> Report {
    let mut names = BTreeSet::new();
    for one in found.iter().take(MAX_MEASURED) {
        let name = measurement(&one.point);
        // Two mount points may differ in nothing but what a name cannot have.
        if let Some(used) = one.fill.space.used_percent()
            && names.insert(name.clone())
        {
            report = report.measure(name, used);
        }
    }
    report
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a measurement is a float; exact up to 8 PiB"
)]
fn measure(report: Report, fill: &Fill) -> Report {
    let report = report
        .measure("size_bytes", fill.space.size as f64)
        .measure("free_bytes", fill.space.available() as f64);
    let report = match fill.space.used_percent() {
        Some(used) => report.measure("used_percent", used),
        None => report,
    };
    match fill.inodes.used_percent() {
        Some(used) => report.measure("inodes_used_percent", used),
        None => report,
    }
}

/// The name of a mount point's measurement: `used_percent_var_lib`, or `used_percent_root` for `/`.
fn measurement(point: &Path) -> String {
    let text = point.to_string_lossy();
    let name: String = text
        .trim_start_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(MAX_NAME)
        .collect();
    match name.as_str() {
        "" => "used_percent_root".to_owned(),
        name => format!("used_percent_{name}"),
    }
}

fn rank(status: Status) -> u8 {
    match status {
        Status::Healthy => 0,
        Status::Degraded => 1,
        _ => 2,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of mounts")]
fn count(number: usize) -> f64 {
    number as f64
}

/// How many other bad file systems a message names.
const MAX_NAMED: usize = 5;
/// How many file systems have a measurement of their own: a host takes 64 of one platform.
const MAX_MEASURED: usize = 20;
/// Characters of a mount point in the name of its measurement.
const MAX_NAME: usize = 60;
