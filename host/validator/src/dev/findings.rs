//! Findings of the commands about a build, and their differences from those about the last one.

use std::collections::BTreeMap;

use conductor_library::printable::escaped;
use serde_json::Value;

/// The result of one check.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CheckFindings {
    /// Status, or `failed`; empty if there was no check.
    status: String,
    message: String,
    metrics: BTreeMap<String, f64>,
    warnings: Vec<String>,
}

impl CheckFindings {
    /// Reads the output of `plugin run --output json`.
    pub(super) fn parse(output: &str) -> Self {
        let mut found = Self::default();
        for line in output.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            if let Some(dropped) = line["drop"].as_str() {
                found.warnings.push(printable(dropped));
            }
            let Some(status) = line["status"].as_str() else {
                continue;
            };
            found.status = status.to_owned();
            found.message = text(&line["message"]);
            if let Some(kind) = line["error_type"].as_str() {
                found.message = format!("{kind}: {}", found.message);
            }
            for measured in line["measurements"].as_array().into_iter().flatten() {
                if let Some(value) = measured["value"].as_f64() {
                    found.metrics.insert(text(&measured["name"]), value);
                }
            }
            let warnings = line["warnings"].as_array().into_iter().flatten();
            found
                .warnings
                .extend(warnings.map(|warning| format!("it reported {}", text(warning))));
        }
        found
    }

    /// Returns `true` for a healthy or degraded platform.
    pub(super) fn is_well(&self) -> bool {
        ["healthy", "degraded"].contains(&self.status.as_str())
    }

    /// Returns the report, and the metrics that were added, removed or changed.
    pub(super) fn differences(&self, before: Option<&Self>) -> String {
        if self.status.is_empty() {
            return "check     none: the error is above\n".to_owned();
        }
        let mut lines = format!("check     {}", self.status);
        if let Some(before) = before
            && before.status != self.status
            && !before.status.is_empty()
        {
            lines.push_str(&format!(" (was {})", before.status));
        }
        lines.push_str(&format!(": {}\n", self.message));
        let none = BTreeMap::new();
        let known = before.map_or(&none, |before| &before.metrics);
        for (name, value) in &self.metrics {
            match known.get(name) {
                None => lines.push_str(&format!("        + {name} = {value}\n")),
                Some(old) if old != value => {
                    lines.push_str(&format!("        ~ {name} = {value} (was {old})\n"));
                }
                Some(_) => {}
            }
        }
        for (name, value) in known {
            if !self.metrics.contains_key(name) {
                lines.push_str(&format!("        - {name} (was {value})\n"));
            }
        }
        for warning in &self.warnings {
            if before.is_none_or(|before| !before.warnings.contains(warning)) {
                lines.push_str(&format!("          warning: {warning}\n"));
            }
        }
        lines
    }
}

/// The results of the validator's tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ValidationFindings {
    tests: BTreeMap<String, TestFinding>,
}

/// The result of one test.
#[derive(Clone, Debug, PartialEq)]
struct TestFinding {
    status: String,
    found: String,
    cure: String,
    is_bad: bool,
}

impl ValidationFindings {
    /// Reads the output of `plugin validate --output json`.
    pub(super) fn parse(output: &str) -> Self {
        let report: Value = serde_json::from_str(output).unwrap_or_default();
        let tests = report["files"][0]["tests"].as_array().into_iter().flatten();
        let tests = tests.map(|test| {
            let status = text(&test["status"]);
            let finding = TestFinding {
                is_bad: ["failed", "crashed"].contains(&status.as_str())
                    || test["untested"] == true,
                status,
                found: text(&test["found"]),
                cure: text(&test["cure"]),
            };
            (text(&test["id"]), finding)
        });
        Self {
            tests: tests.collect(),
        }
    }

    /// Returns `true` if no test failed.
    pub(super) fn is_well(&self) -> bool {
        !self.tests.is_empty() && !self.tests.values().any(|test| test.is_bad)
    }

    /// Returns the counts, and each test whose status or finding is not as before; at first, those that did not pass.
    pub(super) fn differences(&self, before: Option<&Self>) -> String {
        if self.tests.is_empty() {
            return "validate  none: the error is above\n".to_owned();
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for test in self.tests.values() {
            *counts.entry(&test.status).or_default() += 1;
        }
        let counts: Vec<_> = counts
            .iter()
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        let mut lines = format!("validate  {}\n", counts.join(", "));
        for (id, test) in &self.tests {
            let old = before.and_then(|before| before.tests.get(id));
            let is_new = match old {
                Some(old) => old.status != test.status || (test.is_bad && old.found != test.found),
                None => test.is_bad || test.status == "warning",
            };
            if !is_new {
                continue;
            }
            lines.push_str(&format!("          {id}: {}", test.status));
            if let Some(old) = old.filter(|old| old.status != test.status) {
                lines.push_str(&format!(" (was {})", old.status));
            }
            if test.status != "passed" {
                lines.push_str(&format!(": {}", test.found));
                if !test.cure.is_empty() {
                    lines.push_str(&format!("; {}", test.cure));
                }
            }
            lines.push('\n');
        }
        lines
    }
}

/// The changes between two libraries that matter to operators.
pub(super) struct DiffFindings(Vec<String>);

impl DiffFindings {
    /// Reads the output of `plugin diff --output json`.
    pub(super) fn parse(output: &str) -> Self {
        let report: Value = serde_json::from_str(output).unwrap_or_default();
        let changes = report["changes"].as_array().into_iter().flatten();
        let lines = changes.map(|change| {
            let [what, change, step] = ["what", "change", "step"].map(|key| text(&change[key]));
            format!("{what} {change} ({step})")
        });
        Self(lines.collect())
    }

    /// Returns a line for each change.
    pub(super) fn text(&self) -> String {
        self.0
            .iter()
            .map(|line| format!("diff      {line}\n"))
            .collect()
    }
}

/// Returns a text of the plugin, printable.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default())
}

fn printable(text: &str) -> String {
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &str, message: &str, metrics: &str) -> CheckFindings {
        CheckFindings::parse(&format!(
            r#"{{"check":1,"status":"{status}","message":"{message}","measurements":[{metrics}],"warnings":[]}}"#
        ))
    }

    #[test]
    fn a_report_is_shown_with_what_is_different_about_its_metrics() {
        let first = check(
            "healthy",
            "5 s old",
            r#"{"name":"age_seconds","value":5},{"name":"size_bytes","value":1}"#,
        );
        assert_eq!(
            first.differences(None),
            "check     healthy: 5 s old\n        + age_seconds = 5\n        + size_bytes = 1\n"
        );
        let next = check(
            "degraded",
            "6 s old",
            r#"{"name":"age_seconds","value":6},{"name":"lines","value":2}"#,
        );
        assert_eq!(
            next.differences(Some(&first)),
            "check     degraded (was healthy): 6 s old\n        ~ age_seconds = 6 (was 5)\n        + lines = 2\n        - size_bytes (was 1)\n"
        );
        assert_eq!(
            first.differences(Some(&first)),
            "check     healthy: 5 s old\n"
        );
        assert!(next.is_well());
    }

    #[test]
    fn a_failed_check_has_its_kind_and_no_check_is_not_well() {
        let failed = CheckFindings::parse(
            r#"{"check":1,"status":"failed","message":"no\nnetwork","error_type":"error"}"#,
        );
        assert_eq!(
            failed.differences(None),
            "check     failed: error: no\\nnetwork\n"
        );
        assert!(!failed.is_well());
        assert!(!CheckFindings::parse("").is_well());
        assert!(!ValidationFindings::parse("").is_well());
    }

    #[test]
    fn only_tests_with_another_result_are_shown_again() {
        let report = |status: &str, found: &str| {
            ValidationFindings::parse(&format!(
                r#"{{"files":[{{"tests":[
                    {{"id":"a/one","status":"passed","found":"","cure":""}},
                    {{"id":"a/two","status":"{status}","found":"{found}","cure":"mend it"}}]}}]}}"#
            ))
        };
        let (good, bad) = (report("passed", ""), report("failed", "it is NaN"));
        assert_eq!(good.differences(None), "validate  2 passed\n");
        assert_eq!(
            bad.differences(Some(&good)),
            "validate  1 failed, 1 passed\n          a/two: failed (was passed): it is NaN; mend it\n"
        );
        assert_eq!(
            bad.differences(Some(&bad)),
            "validate  1 failed, 1 passed\n"
        );
        assert_eq!(
            good.differences(Some(&bad)),
            "validate  2 passed\n          a/two: passed (was failed)\n"
        );
        assert!(good.is_well() && !bad.is_well());
    }
}
