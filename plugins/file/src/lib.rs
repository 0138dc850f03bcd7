//! The `file` probe: the number, age, size and content of files, and the last line of a log.
//!
//! ```toml
//! [platform.backup]
//! plugin = "file"
//! config = { path = "/var/backups/db-*.dump", age = { unhealthy_above = "26h" }, size = { unhealthy_below = "10MiB" } }
//!
//! [platform.mail-queue]
//! plugin = "file"
//! config = { path = "/var/spool/postfix/deferred/**", count = { degraded_above = 100 }, oldest_age = { degraded_above = "1d" } }
//!
//! [platform.import]
//! plugin = "file"
//! config = { path = "/var/log/import.log", last_line = { pattern = "import (finished|failed)", not_matches = "failed" } }
//! ```
//!
//! `docs/reference/probes/file.md` lists the keys and metrics.
//!
//! # Permissions
//! A worker may query the time and size of any file. Wildcards list folders, and conditions on the content read a file:
//! for both, `allow` of the plugin must name the path. An error names what to add.
//!
//! # Bounds
//! Files are counted one by one, and only regular files are opened, without waiting. What is read is bounded by `max_read` and
//! `last_line.within`, and ends with the time of the check. All calls are made on a helper thread (`surveyor`), so that a
//! file system that does not respond makes the platform unhealthy and not the host late.
//!
//! # Unhealthy or failure
//! *Unhealthy* and *degraded* mean that a value is outside its limits, a file is missing, a link leads nowhere, the content is
//! not as expected, or the file system does not respond. A *failure* is a check that could not tell: a folder or file that
//! this machine's rights do not open, a content above `max_read`, more files than can be read in time.

mod config;
mod content;
mod pattern;
mod report;
mod survey;
mod surveyor;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use conductor_net::TimeLimit;
use conductor_plugin_api::{Context, Failure, Metric, Probe, Report, export_plugin};

use crate::{
    config::FileConfig,
    survey::SurveyError,
    surveyor::{FileSurveyor, SurveyorError},
};

export_plugin! {
    id: "file",
    probe: FileProbe,
    name: "File",
    metrics: [FILES, AGE, MODIFIED, SIZE, TOTAL_SIZE],
}

const FILES: Metric = Metric::gauge("files", "Number of files that match.");
const AGE: Metric<1> = Metric::gauge(
    "age",
    "Time since the newest and the oldest file were modified.",
)
.unit("seconds")
.labels(["file"]);
const MODIFIED: Metric<1> = Metric::gauge(
    "modified_timestamp",
    "Unix time at which the newest and the oldest file were modified.",
)
.unit("seconds")
.labels(["file"]);
const SIZE: Metric<1> = Metric::gauge("size", "Size of the smallest and the largest file.")
    .unit("bytes")
    .labels(["file"]);
const TOTAL_SIZE: Metric = Metric::gauge("total_size", "Size of all files together.").unit("bytes");

struct FileProbe {
    config: FileConfig,
    surveyor: FileSurveyor,
}

impl Probe for FileProbe {
    type Config = FileConfig;

    fn create(config: FileConfig, _: &Context<'_>) -> Result<Self, Failure> {
        let surveyor = FileSurveyor::new(config.plan()?);
        Ok(Self { config, surveyor })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let found = match self.surveyor.survey(&TimeLimit::of(&remaining)) {
            Ok(found) => found,
            Err(error @ SurveyorError::Silent) => {
                let path = self.surveyor.plan().pattern.path.display();
                return Ok(Report::unhealthy(format!("{path}: {error}")));
            }
            Err(error @ SurveyorError::Survey(SurveyError::TimeUp)) => {
                return Err(Failure::timeout(error.to_string()));
            }
            Err(error) => return Err(Failure::new(error.to_string())),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the times of files are those of the calendar"
        )]
        let now = SystemTime::now();
        report::report(&found, &self.config, self.surveyor.plan(), now)
    }
}
