//! The report on file systems: the worst of them decides.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use conductor_net::show_duration;
use conductor_plugin_api::{Failure, Report, Status};

use crate::{
    examination::ExamineError,
    fill::{FileSystemUsage, UsageLimits, rank, worse},
    mounts::MountEntry,
};

/// An examined file system.
#[derive(Debug)]
pub(crate) struct FileSystem {
    /// The mount point.
    pub(crate) point: PathBuf,
    pub(crate) fill: FileSystemUsage,
    /// Mean time of a read or write since the previous check; `None` if there was none, or no block device.
    pub(crate) io_latency: Option<Duration>,
}

impl FileSystem {
    /// Returns the report about this one alone.
    pub(crate) fn report(&self, limits: &UsageLimits) -> Report {
        let (status, text) = self.judge(limits);
        let report = measure(Report::new(status, text), self);
        match self.fill.read_only {
            Some(read_only) => report.measure("read_only", f64::from(u8::from(read_only))),
            None => report,
        }
    }

    /// Compares fill and latency with the limits; the text has them and the limits they exceed.
    fn judge(&self, limits: &UsageLimits) -> (Status, String) {
        let (mut status, mut text) = self.fill.judge(limits);
        if let (Some(limits), Some(latency)) = (&limits.io_latency, self.io_latency)
            && let Some((found, name, limit)) = limits.exceeded(latency.into())
        {
            status = worse(status, found);
            let latency = show_duration(latency);
            text.push_str(&format!(
                "; reads and writes take {latency} (`io_latency.{name}` is {limit})"
            ));
        }
        (status, text)
    }
}

/// Returns the report for an unexpected file system. It has no figures: they would be those of another one.
pub(crate) fn unmeasured(problem: &MountProblem) -> Report {
    Report::unhealthy(problem.to_string())
}

/// A state of the mounts in which the platform is unhealthy whatever its fill.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountProblem {
    #[error("{} is not a mount point: its file system is not mounted", .0.display())]
    NoMountPoint(PathBuf),
    #[error("the file system mounted at {} is gone{}", .before.display(), moved(.path, .now.as_deref()))]
    Gone {
        path: PathBuf,
        before: PathBuf,
        now: Option<PathBuf>,
    },
    #[error("no longer mounted: {}", listed(.0))]
    Missing(Vec<PathBuf>),
    #[error(
        "another device is mounted at {}: expected {expected}, found {found}; mount the expected one, or accept this one: \
         change `device` or another key of the platform's config, and reload",
        .point.display()
    )]
    OtherDevice {
        point: PathBuf,
        expected: String,
        found: String,
    },
    #[error("no answer from the file system at {}: its server or device may be gone", listed(.0))]
    Silent(Vec<PathBuf>),
    #[error("no mounted file system matches {}", .0.display())]
    NoMatch(PathBuf),
    #[error("{}", .0.iter().map(Self::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<Self>),
}

impl MountProblem {
    pub(crate) fn other_device(mount: &MountEntry, expected: &impl ToString) -> Self {
        Self::OtherDevice {
            point: mount.point.clone(),
            expected: expected.to_string(),
            found: mount.device.to_string(),
        }
    }
}

fn moved(path: &Path, now: Option<&Path>) -> String {
    let path = path.display();
    match now {
        Some(now) => format!(
            ": {path} is now on the file system mounted at {}",
            now.display()
        ),
        None => format!(", and {path} with it"),
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    paths.collect::<Vec<_>>().join(", ")
}

/// Returns the report about several; the fill of `unknown` is not known, and `silent` did not respond, which is
/// unhealthy.
///
/// # Errors
/// If some could not be queried, and none of the others is bad.
pub(crate) fn of_all(
    found: &[FileSystem],
    unknown: &[ExamineError],
    silent: Vec<PathBuf>,
    limits: &UsageLimits,
) -> Result<Report, Failure> {
    let mut judged: Vec<_> = found
        .iter()
        .map(|one| {
            let (status, text) = one.judge(limits);
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
    let unknown = unknown.iter().map(ExamineError::to_string);
    let mut status = judged
        .first()
        .map_or(Status::Healthy, |(_, status, _)| *status);
    if silent.is_empty() && status == Status::Healthy && unknown.len() > 0 {
        return Err(Failure::new(unknown.collect::<Vec<_>>().join("; ")));
    }
    let file_systems = found.len() + silent.len();
    let mut texts = Vec::new();
    if !silent.is_empty() {
        status = Status::Unhealthy;
        texts.push(MountProblem::Silent(silent).to_string());
    }
    let mut judged = judged.into_iter();
    let worst = judged.next().map(|(worst, _, text)| {
        texts.push(format!("worst of {}: {text}", found.len()));
        worst
    });
    let also = judged.filter(|(_, status, _)| *status != Status::Healthy);
    texts.extend(also.map(|(_, _, text)| text).take(MAX_NAMED));
    texts.extend(unknown.take(MAX_NAMED));
    let read_only = found.iter().filter(|one| one.fill.read_only == Some(true));
    let mut report = Report::new(status, texts.join("; "));
    if let Some(worst) = worst {
        report = measure(report, worst);
    }
    let report = report
        .measure("file_systems", count(file_systems))
        .measure("read_only", count(read_only.count()));
    Ok(each(found, report))
}

/// Adds the used space of each by name.
fn each(found: &[FileSystem], mut report: Report) -> Report {
    let mut names = BTreeSet::new();
    for one in found.iter().take(MAX_MEASURED) {
        let name = measurement(&one.point);
        // Two mount points may differ only in characters that a name cannot have.
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
fn measure(report: Report, one: &FileSystem) -> Report {
    let fill = &one.fill;
    let report = report
        .measure("size_bytes", fill.space.size as f64)
        .measure("free_bytes", fill.space.available() as f64);
    let report = match fill.space.used_percent() {
        Some(used) => report.measure("used_percent", used),
        None => report,
    };
    let report = match fill.inodes.used_percent() {
        Some(used) => report.measure("inodes_used_percent", used),
        None => report,
    };
    match one.io_latency {
        Some(latency) => report.measure("io_latency_seconds", latency.as_secs_f64()),
        None => report,
    }
}

/// Returns the name of a mount point's measurement: `used_percent_var_lib`, or `used_percent_root` for `/`.
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

#[expect(clippy::cast_precision_loss, reason = "a number of mounts")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Number of other bad file systems that a message names.
const MAX_NAMED: usize = 5;
/// Number of file systems with their own measurement: a host accepts 64 of one platform.
const MAX_MEASURED: usize = 20;
/// Characters of a mount point in the name of its measurement.
const MAX_NAME: usize = 60;
