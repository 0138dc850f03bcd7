//! The verdict of a test, as distinct from the fate of its process.

use std::fmt;

use conductor_runtime::redaction;
use serde::{Deserialize, Serialize};

/// The verdict of a test on a plugin.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct TestVerdict {
    pub(super) status: TestStatus,
    /// The finding; printable, without secrets.
    pub(super) found: String,
    /// The cure; printable, empty if there is none.
    pub(super) cure: String,
    /// `true` if this machine does not let the test run: it says nothing about the plugin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) untested: bool,
}

/// The outcome of a test.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TestStatus {
    Passed,
    /// It works, but will cause trouble.
    Warning,
    Failed,
    /// The test had nothing to work with.
    Skipped,
    /// The test's process died.
    Crashed,
}

impl TestVerdict {
    pub(super) fn passed(found: impl Into<String>) -> Self {
        Self::new(TestStatus::Passed, found, "")
    }

    pub(super) fn warning(found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(TestStatus::Warning, found, cure)
    }

    pub(super) fn failed(found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::new(TestStatus::Failed, found, cure)
    }

    pub(super) fn skipped(why: impl Into<String>) -> Self {
        Self::new(TestStatus::Skipped, why, "")
    }

    /// Returns a skipped verdict for a test that this machine does not let run, which makes the command fail.
    pub(super) fn untested(why: impl Into<String>) -> Self {
        Self {
            untested: true,
            ..Self::skipped(why)
        }
    }

    /// Returns `true` if it makes the command fail.
    pub(super) fn is_bad(&self) -> bool {
        self.untested || self.status.is_bad()
    }

    pub(super) fn new(
        status: TestStatus,
        found: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            status,
            found: redaction::redact_text(found.into()),
            cure: cure.into(),
            untested: false,
        }
    }
}

impl TestStatus {
    pub(super) const ALL: [Self; 5] = [
        Self::Passed,
        Self::Warning,
        Self::Failed,
        Self::Skipped,
        Self::Crashed,
    ];

    /// Returns `true` if the plugin did not pass.
    pub(super) fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Crashed)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Crashed => "crashed",
        }
    }

    /// Returns the past tense, as in "load/opens failed".
    pub(super) fn past(self) -> &'static str {
        match self {
            Self::Warning => "had a warning",
            Self::Skipped => "was skipped",
            other => other.name(),
        }
    }
}

impl fmt::Display for TestStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().to_uppercase())
    }
}
