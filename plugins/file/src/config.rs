//! Keys of a file platform's `config` table.

use std::path::PathBuf;

use conductor_net::Limits;
use conductor_plugin_api::{
    Failure,
    config::{Duration, Size},
    schemars,
};
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::{
    content::{ContentRules, LastLineRule, Sha256Hash},
    pattern::PathPattern,
    survey::SurveyPlan,
};

/// Checks files: their number, age, size and content.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileConfig {
    /// Absolute path of a file or folder. With `*`, `?` or `**`: all files that match, folders excluded.
    #[cfg_attr(unix, schemars(regex(pattern = r"^/")))]
    #[schemars(example = &"/usr", example = &"/var/backups/*.tar.gz")]
    path: PathBuf,

    /// Number of files; unhealthy below 1 if it is left out. `{ unhealthy_above = 0 }` is for a file that must not exist.
    pub(crate) count: Option<Limits<u64>>,

    /// Time since the newest file was modified.
    pub(crate) age: Option<Limits<Duration>>,

    /// Time since the oldest file was modified.
    pub(crate) oldest_age: Option<Limits<Duration>>,

    /// Size of a file: the lower limits apply to the smallest, the upper ones to the largest.
    pub(crate) size: Option<Limits<Size>>,

    /// Size of all files together.
    pub(crate) total_size: Option<Limits<Size>>,

    /// Regular expression that must match in the content; `^` and `$` match at each line. With wildcards, the content is that
    /// of the newest file, here and in the next keys.
    #[schemars(length(min = 1, max = 4096))]
    matches: Option<String>,

    /// Regular expression that must not match in the content.
    #[schemars(length(min = 1, max = 4096))]
    not_matches: Option<String>,

    /// SHA-256 hash of the content, in hex.
    #[schemars(regex(pattern = r"^[0-9A-Fa-f]{64}$"))]
    sha256: Option<String>,

    /// Largest content to read for `matches`, `not_matches` and `sha256`; the check fails for a larger one.
    #[serde(default = "default_max_read")]
    #[schemars(extend("default" = "16MiB"))]
    max_read: Size,

    /// The last line of a log that matches.
    last_line: Option<LastLineConfig>,
}

/// The last line that matches `pattern`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct LastLineConfig {
    /// Regular expression that selects the lines; the last of them counts.
    #[schemars(length(min = 1, max = 4096), example = &"backup (finished|failed)")]
    pattern: String,

    /// Regular expression that the line must match, else the platform is unhealthy.
    #[schemars(length(min = 1, max = 4096))]
    matches: Option<String>,

    /// Regular expression that the line must not match, else the platform is unhealthy.
    #[schemars(length(min = 1, max = 4096))]
    not_matches: Option<String>,

    /// State of the platform while no line is found.
    #[serde(default)]
    missing: MissingLine,

    /// Size of the end of the file that is searched.
    #[serde(default = "default_within")]
    #[schemars(extend("default" = "1MiB"))]
    within: Size,
}

/// The state of a platform while no line is found.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MissingLine {
    /// Healthy.
    Healthy,
    /// Degraded.
    Degraded,
    /// Unhealthy.
    #[default]
    Unhealthy,
}

impl FileConfig {
    /// Returns the plan of the checks, or every wrong key.
    pub(crate) fn plan(&self) -> Result<SurveyPlan, Failure> {
        let mut faults = Vec::new();
        let pattern = PathPattern::new(&self.path)
            .map_err(|fault| faults.push(fault.to_string()))
            .ok();
        self.validate_limits(&mut faults);
        let sha256 = self.sha256.as_deref().and_then(|text| {
            let hash = Sha256Hash::parse(text);
            if hash.is_none() {
                faults.push(format!(
                    "key `sha256`: {text:?} is not a SHA-256 hash; write 64 hex digits, as `sha256sum` prints them"
                ));
            }
            hash
        });
        let content = ContentRules {
            matches: regex("matches", self.matches.as_deref(), &mut faults),
            not_matches: regex("not_matches", self.not_matches.as_deref(), &mut faults),
            sha256,
            max_read: self.bounded("max_read", self.max_read, &mut faults),
            last_line: self.last_line.as_ref().and_then(|line| {
                Some(LastLineRule {
                    pattern: regex("last_line.pattern", Some(&line.pattern), &mut faults)?,
                    matches: regex("last_line.matches", line.matches.as_deref(), &mut faults),
                    not_matches: regex(
                        "last_line.not_matches",
                        line.not_matches.as_deref(),
                        &mut faults,
                    ),
                    missing: line.missing,
                    within: self.bounded("last_line.within", line.within, &mut faults),
                })
            }),
        };
        match pattern {
            Some(pattern) if faults.is_empty() => Ok(SurveyPlan { pattern, content }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn validate_limits(&self, faults: &mut Vec<String>) {
        if let Some(limits) = &self.count {
            limits.validate("count", faults);
        }
        for (key, limits) in [("age", &self.age), ("oldest_age", &self.oldest_age)] {
            if let Some(limits) = limits {
                limits.validate(key, faults);
            }
        }
        for (key, limits) in [("size", &self.size), ("total_size", &self.total_size)] {
            if let Some(limits) = limits {
                limits.validate(key, faults);
            }
        }
    }

    /// Returns the number of bytes, if a worker has the memory for it.
    fn bounded(&self, key: &str, size: Size, faults: &mut Vec<String>) -> u64 {
        if size.bytes() == 0 || size > MAX_READ {
            faults.push(format!(
                "key `{key}`: {size} is not between 1 byte and {MAX_READ}, which a worker has the memory for; correct it"
            ));
        }
        size.bytes()
    }
}

fn regex(key: &str, pattern: Option<&str>, faults: &mut Vec<String>) -> Option<Regex> {
    let built = RegexBuilder::new(pattern?).multi_line(true).build();
    built
        .map_err(|error| {
            faults.push(format!(
                "key `{key}`: not a regular expression; correct it: {error}"
            ));
        })
        .ok()
}

const MAX_READ: Size = Size::from_bytes(128 * 1024 * 1024);

fn default_max_read() -> Size {
    Size::from_bytes(16 * 1024 * 1024)
}

fn default_within() -> Size {
    Size::from_bytes(1024 * 1024)
}
