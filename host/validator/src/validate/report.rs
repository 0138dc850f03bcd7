//! The validator's findings, for people and programs.

use std::{collections::BTreeMap, time::Duration};

use conductor_command::table;
use conductor_library::printable;
use serde::Serialize;

use super::{
    catalogue::PluginTest,
    file::FileFacts,
    verdict::{TestStatus, TestVerdict},
};

/// All findings.
#[derive(Serialize)]
pub(super) struct ValidationReport {
    format: u8,
    strictness: u8,
    seed: u64,
    pub(super) files: Vec<OfFile>,
}

/// The findings for one file.
#[derive(Serialize)]
pub(super) struct OfFile {
    file: String,
    plugin: Option<String>,
    version: Option<String>,
    summary: BTreeMap<&'static str, usize>,
    /// The reasons and numbers of skipped tests; `true` if this machine does not let them run.
    #[serde(skip)]
    unknown: BTreeMap<(bool, String), usize>,
    pub(super) tests: Vec<OfTest>,
}

/// The findings of one test.
#[derive(Serialize)]
pub(super) struct OfTest {
    id: &'static str,
    level: u8,
    #[serde(flatten)]
    pub(super) verdict: TestVerdict,
    seconds: f64,
    /// The plugin's output during the test.
    output: String,
    /// The tests after it are skipped.
    #[serde(skip)]
    pub(super) blocks: bool,
}

impl ValidationReport {
    pub(super) fn new(strictness: u8, seed: u64) -> Self {
        Self {
            format: 1,
            strictness,
            seed,
            files: Vec::new(),
        }
    }

    pub(super) fn has_failures(&self) -> bool {
        let mut tests = self.files.iter().flat_map(|file| &file.tests);
        tests.any(|test| test.verdict.is_bad())
    }

    /// Adds summaries, and removes the tests that need not be shown.
    pub(super) fn shown(mut self, only_failed: bool) -> Self {
        for file in &mut self.files {
            file.summary = file.count();
            file.unknown = file.reasons();
            file.tests
                .retain(|test| !only_failed || test.verdict.is_bad());
        }
        self
    }

    pub(super) fn table(self, only_failed: bool) -> String {
        let (strictness, seed) = (self.strictness, self.seed);
        let mut text = String::new();
        for file in self.shown(only_failed).files {
            text.push_str(&format!("{}\n", file.file));
            for test in &file.tests {
                text.push_str(&test.line());
            }
            let counts = TestStatus::ALL.map(|status| {
                let count = file.summary.get(status.name()).copied().unwrap_or_default();
                format!("{count} {}", status.name())
            });
            text.push_str(&format!(
                "{} (strictness {strictness}, seed {seed})\n",
                counts.join(", ")
            ));
            for ((untested, why), count) in file.unknown {
                let what = if untested {
                    "COULD NOT TEST"
                } else {
                    "not tested"
                };
                text.push_str(&format!("{what}: {count}, as {why}\n"));
            }
            text.push('\n');
        }
        text
    }
}

impl OfFile {
    pub(super) fn new(facts: &FileFacts) -> Self {
        let manifest = facts.inspection.manifest.as_ref();
        Self {
            file: printable::path(&facts.inspection.file),
            plugin: manifest.map(|manifest| manifest.id.clone()),
            version: manifest.map(|manifest| manifest.version.clone()),
            summary: BTreeMap::new(),
            unknown: BTreeMap::new(),
            tests: Vec::new(),
        }
    }

    fn count(&self) -> BTreeMap<&'static str, usize> {
        let count = |status: TestStatus| {
            let of = self
                .tests
                .iter()
                .filter(|test| test.verdict.status == status);
            (status.name(), of.count())
        };
        TestStatus::ALL.map(count).into()
    }

    fn reasons(&self) -> BTreeMap<(bool, String), usize> {
        let mut reasons = BTreeMap::new();
        for OfTest { verdict, .. } in &self.tests {
            if verdict.status == TestStatus::Skipped {
                let reason = (verdict.untested, verdict.found.clone());
                *reasons.entry(reason).or_default() += 1;
            }
        }
        reasons
    }
}

impl OfTest {
    pub(super) fn new(test: &PluginTest, verdict: TestVerdict) -> Self {
        Self {
            id: test.id,
            level: test.level,
            verdict,
            seconds: 0.0,
            output: String::new(),
            blocks: false,
        }
    }

    pub(super) fn skipped(test: &PluginTest, why: &str) -> Self {
        Self::new(test, TestVerdict::skipped(why))
    }

    #[cfg(any(target_os = "linux", windows))]
    pub(super) fn printed(self, output: String) -> Self {
        Self { output, ..self }
    }

    #[cfg(any(target_os = "linux", windows))]
    pub(super) fn blocking(self, blocks: bool) -> Self {
        Self { blocks, ..self }
    }

    pub(super) fn took(self, time: Duration) -> Self {
        // Further digits are noise.
        let seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        Self { seconds, ..self }
    }

    fn line(&self) -> String {
        let TestVerdict {
            status,
            found,
            cure,
            ..
        } = &self.verdict;
        let told = match (&**found, &**cure) {
            (found, "") => found.to_owned(),
            (found, cure) => format!("{found}; {cure}"),
        };
        let mut line = format!("{status:<8} {:<30} {told}", self.id);
        line.truncate(line.trim_end().len());
        line.push('\n');
        if status.is_bad() {
            for printed in self.output.lines().take(MAX_LINES) {
                line.push_str(&format!("         | {printed}\n"));
            }
        }
        line
    }
}

/// Formats the catalogue as a table.
pub(super) fn listed(tests: &[&PluginTest]) -> String {
    let row = |test: &&PluginTest| {
        [
            test.level.to_string(),
            test.id.to_owned(),
            format!("{} s", test.limit.as_secs()),
            test.about.to_owned(),
        ]
    };
    table(["LEVEL", "TEST", "LIMIT", "ASKS"], tests.iter().map(row))
}

/// Limit of the plugin's output shown for a failed test, in lines.
const MAX_LINES: usize = 20;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn report(verdicts: impl IntoIterator<Item = TestVerdict>) -> ValidationReport {
        let mut report = ValidationReport::new(3, 1);
        let mut file = OfFile::new(&FileFacts::read(Path::new("/nowhere/at-all.so")));
        let tests = super::super::catalogue::all();
        let tests = verdicts.into_iter().zip(tests);
        file.tests = tests.map(|(it, test)| OfTest::new(test, it)).collect();
        report.files.push(file);
        report
    }

    #[test]
    fn a_test_that_the_machine_does_not_let_run_makes_the_command_fail() {
        let report = report([
            TestVerdict::passed(""),
            TestVerdict::untested("the sandbox cannot be closed"),
            TestVerdict::untested("the sandbox cannot be closed"),
        ]);
        assert!(report.has_failures());
        let text = report.table(true);
        let said = "COULD NOT TEST: 2, as the sandbox cannot be closed\n";
        assert!(text.contains(said), "{text}");
        assert_eq!(text.matches("SKIPPED").count(), 2, "{text}");
    }

    #[test]
    fn the_summary_says_how_many_tests_were_skipped_and_why() {
        let why = "its schema gives no config to try";
        let report = report([TestVerdict::skipped(why), TestVerdict::skipped(why)]);
        assert!(!report.has_failures());
        let text = report.table(false);
        assert!(
            text.contains(&format!("not tested: 2, as {why}\n")),
            "{text}"
        );
    }
}
