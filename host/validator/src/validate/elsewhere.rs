//! Platforms without a sandbox to run tests in: only level 1 is available.

use std::{path::Path, process::ExitCode};

use conductor_plugin_api::manifest::Need;

use super::{catalogue::PluginTest, report::OfTest};

/// The reason why tests that run a library are not run.
#[derive(Debug, thiserror::Error)]
#[error("tests that run a library need Linux: --strictness 1 asks for the others")]
pub(super) struct TestEnvironmentError;

/// A placeholder for the place where a file's tests run.
pub(super) struct TestEnvironment;

impl TestEnvironment {
    pub(super) fn prepared<'a>(
        _: &'a mut Option<Self>,
        _: &Path,
        _: &[Need],
    ) -> Result<&'a Self, TestEnvironmentError> {
        Err(TestEnvironmentError)
    }

    pub(super) fn run(
        &self,
        test: &PluginTest,
        _: Option<&serde_json::Value>,
        _: u64,
        _: bool,
    ) -> OfTest {
        OfTest::skipped(test, "tests that run a library need Linux")
    }
}

/// Runs `conductor plugin-test`.
pub fn child_main() -> ExitCode {
    ExitCode::from(2)
}
