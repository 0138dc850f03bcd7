//! What the drill prints: a row for each case.

use serde::Serialize;

use super::case::Case;
use crate::cli::table;

/// What became of one case.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What went wrong.
    pub(super) fault: &'static str,
    /// Where: load, create, check, drop, protocol or host.
    pub(super) stage: String,
    /// Where the plugin ran: process or in-process.
    pub(super) isolation: String,
    /// What the host did.
    pub(super) host: String,
    /// What it says of the platform that went wrong.
    pub(super) said: Option<String>,
    /// What the platforms lost that had nothing to do with it.
    pub(super) others_lost: String,
    /// How late after its slot a check of theirs started at most; absent when nothing was measured.
    pub(super) late_ms: Option<f64>,
    /// The same of any check, the plugin's own among them, as the bound of the metric's bucket.
    pub(super) any_late_ms: Option<f64>,
    pub(super) verdict: Verdict,
    /// Why it fell short or was skipped.
    pub(super) reason: Option<String>,
    /// How long the machine itself stood still at most meanwhile.
    pub(super) machine_stall_ms: f64,
    /// How often it was run, as the machine may have been to blame the times before.
    pub(super) tries: u32,
    pub(super) seconds: f64,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// The host did what it must, and nobody else lost anything.
    Held,
    /// It did not.
    FellShort,
    /// There was no point in it, or this machine cannot do it.
    Skipped,
}

/// Everything a drill found.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) held: usize,
    pub(super) fell_short: usize,
    pub(super) skipped: usize,
    pub(super) rows: Vec<Row>,
}

impl Row {
    pub(super) fn new(case: &Case) -> Self {
        Self {
            fault: case.fault.name,
            stage: case.stage.to_string(),
            isolation: case.isolation.to_string(),
            host: String::new(),
            said: None,
            others_lost: String::new(),
            late_ms: None,
            any_late_ms: None,
            verdict: Verdict::FellShort,
            reason: None,
            machine_stall_ms: 0.0,
            tries: 1,
            seconds: 0.0,
        }
    }

    pub(super) fn skipped(mut self, reason: &str) -> Self {
        self.verdict = Verdict::Skipped;
        self.reason = Some(reason.to_owned());
        self
    }
}

impl Report {
    pub(super) fn new(seed: u64, rows: Vec<Row>) -> Self {
        let count = |verdict| rows.iter().filter(|row| row.verdict == verdict).count();
        Self {
            seed,
            held: count(Verdict::Held),
            fell_short: count(Verdict::FellShort),
            skipped: count(Verdict::Skipped),
            rows,
        }
    }

    /// For people: what was run, a row each, and below it what fell short and why.
    pub(super) fn text(&self) -> String {
        let run = self.rows.iter().filter(|r| r.verdict != Verdict::Skipped);
        let mut text = table(
            [
                "WHERE",
                "FAULT",
                "ISOLATION",
                "THE HOST",
                "OTHERS LOST",
                "LATE",
                "VERDICT",
            ],
            run.map(|row| {
                let late = row.late_ms.map(|ms| format!("{ms} ms"));
                [
                    row.stage.clone(),
                    row.fault.to_owned(),
                    row.isolation.clone(),
                    row.host.clone(),
                    row.others_lost.clone(),
                    late.unwrap_or_default(),
                    match row.tries {
                        1 => row.verdict.name().to_owned(),
                        tries => format!("{}, try {tries}", row.verdict.name()),
                    },
                ]
            }),
        );
        for row in self.rows.iter().filter(|r| r.verdict == Verdict::FellShort) {
            let reason = row.reason.as_deref().unwrap_or_default();
            text.push_str(&format!(
                "\n{}/{}/{} fell short: {reason}\n",
                row.stage, row.fault, row.isolation
            ));
        }
        text.push_str(&format!(
            "\n{} held, {} fell short, {} skipped (--output json says why); seed {}\n",
            self.held, self.fell_short, self.skipped, self.seed
        ));
        text
    }
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::FellShort => "FELL SHORT",
            Self::Skipped => "skipped",
        }
    }
}
