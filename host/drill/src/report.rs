//! The output of the drill: a row for each case.

use conductor_command::table;
use serde::Serialize;

use super::case::FaultCase;

/// The result of one case.
#[derive(Debug, Serialize)]
pub(super) struct CaseResult {
    /// The fault.
    pub(super) fault: &'static str,
    /// Its stage: load, create, check, drop, protocol or host.
    pub(super) stage: String,
    /// The plugin's isolation: process or in-process.
    pub(super) isolation: String,
    /// The host's response.
    pub(super) host: String,
    /// The host's message about the faulty platform.
    pub(super) message: Option<String>,
    /// Losses of uninvolved platforms.
    pub(super) collateral: String,
    /// Largest delay of an uninvolved check; absent if nothing was measured.
    pub(super) late_ms: Option<f64>,
    /// The same for any check, including the faulty plugin's, as the bound of the metric's bucket.
    pub(super) any_late_ms: Option<f64>,
    pub(super) verdict: CaseVerdict,
    /// The reason for a failure or a skip.
    pub(super) reason: Option<String>,
    /// The longest stall of the machine during the case.
    pub(super) machine_stall_ms: f64,
    /// Number of runs, as the machine may have caused earlier failures.
    pub(super) tries: u32,
    pub(super) seconds: f64,
}

/// The outcome of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CaseVerdict {
    /// The host did what it must, without collateral damage.
    Passed,
    /// It did not.
    Failed,
    /// The case makes no sense, or this machine cannot run it.
    Skipped,
}

/// All results of a drill.
#[derive(Serialize)]
pub(super) struct DrillReport {
    pub(super) seed: u64,
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    pub(super) rows: Vec<CaseResult>,
}

impl CaseResult {
    pub(super) fn new(case: &FaultCase) -> Self {
        Self {
            fault: case.fault.name,
            stage: case.stage.to_string(),
            isolation: case.isolation.to_string(),
            host: String::new(),
            message: None,
            collateral: String::new(),
            late_ms: None,
            any_late_ms: None,
            verdict: CaseVerdict::Failed,
            reason: None,
            machine_stall_ms: 0.0,
            tries: 1,
            seconds: 0.0,
        }
    }

    pub(super) fn skipped(mut self, reason: &str) -> Self {
        self.verdict = CaseVerdict::Skipped;
        self.reason = Some(reason.to_owned());
        self
    }
}

impl DrillReport {
    pub(super) fn new(seed: u64, rows: Vec<CaseResult>) -> Self {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        Self {
            seed,
            passed: count(CaseVerdict::Passed),
            failed: count(CaseVerdict::Failed),
            skipped: count(CaseVerdict::Skipped),
            rows,
        }
    }

    /// Formats a table with a row per case that was run, and the reasons of those that failed.
    pub(super) fn text(&self) -> String {
        let run = self
            .rows
            .iter()
            .filter(|r| r.verdict != CaseVerdict::Skipped);
        let mut text = table(
            [
                "STAGE",
                "FAULT",
                "ISOLATION",
                "RESPONSE",
                "COLLATERAL",
                "MAX DELAY",
                "VERDICT",
            ],
            run.map(|row| {
                let late = row.late_ms.map(|ms| format!("{ms} ms"));
                [
                    row.stage.clone(),
                    row.fault.to_owned(),
                    row.isolation.clone(),
                    row.host.clone(),
                    row.collateral.clone(),
                    late.unwrap_or_default(),
                    match row.tries {
                        1 => row.verdict.name().to_owned(),
                        tries => format!("{}, try {tries}", row.verdict.name()),
                    },
                ]
            }),
        );
        for row in self
            .rows
            .iter()
            .filter(|r| r.verdict == CaseVerdict::Failed)
        {
            let reason = row.reason.as_deref().unwrap_or_default();
            text.push_str(&format!(
                "\n{}/{}/{} failed: {reason}\n",
                row.stage, row.fault, row.isolation
            ));
        }
        text.push_str(&format!(
            "\n{} passed, {} failed, {} skipped (reasons: --output json); seed {}\n",
            self.passed, self.failed, self.skipped, self.seed
        ));
        text
    }
}

impl CaseVerdict {
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}
