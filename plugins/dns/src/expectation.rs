//! The expected response of the servers.

use conductor_net::{CheckError, DurationRules, show_duration};
use conductor_plugin_api::{Failure, Status};
use hickory_proto::op::Query;
use regex::Regex;

use crate::{
    answer::DnsAnswer,
    response_code::{self, ExpectedCode},
    server::ServerOutcome,
};

/// The question, and the conditions for a healthy report.
pub(crate) struct DnsExpectation {
    pub(crate) question: Query,
    pub(crate) recursion: bool,
    pub(crate) rcode: ExpectedCode,
    pub(crate) answers: Vec<Regex>,
    pub(crate) min_answers: usize,
    pub(crate) max_answers: usize,
    pub(crate) authoritative: bool,
    pub(crate) durations: DurationRules,
}

impl DnsExpectation {
    /// Judges all servers; returns status and message of the report.
    pub(crate) fn judge(&self, outcomes: &[ServerOutcome]) -> Result<(Status, String), CheckError> {
        let (mut answers, mut faults, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let mut slow = Vec::new();
        for outcome in outcomes {
            // With one server, its name in the message would say nothing.
            let named = |text: &str| match outcomes {
                [_] => text.to_owned(),
                _ => format!("{}: {text}", outcome.server),
            };
            match &outcome.result {
                Ok(answer) => match self.fault(answer) {
                    Some(fault) => faults.push(named(&fault)),
                    None => {
                        answers.push((outcome, answer));
                        let took = |phase: &str| outcome.phase(phase);
                        for (status, text) in self.durations.judge(outcome.took, took) {
                            match status {
                                Status::Degraded => slow.push(named(&text)),
                                _ => faults.push(named(&text)),
                            }
                        }
                    }
                },
                Err(CheckError::Platform(fault)) => faults.push(named(fault)),
                Err(CheckError::Degraded(fault)) => slow.push(named(fault)),
                Err(CheckError::Host(failure)) => {
                    failures.push((failure.kind(), named(failure.message())))
                }
            }
        }
        faults.extend(differing_serials(&answers));
        if !faults.is_empty() {
            return Err(CheckError::Platform(faults.join("; ")));
        }
        if let Some((kind, _)) = failures.first() {
            let texts: Vec<_> = failures.iter().map(|(_, text)| text.as_str()).collect();
            let text = texts.join("; ");
            return Err(CheckError::Host(match *kind {
                conductor_plugin_api::FailureKind::Timeout => Failure::timeout(text),
                _ => Failure::new(text),
            }));
        }
        let message = healthy(&answers);
        Ok(match slow.is_empty() {
            true => (Status::Healthy, message),
            false => (
                Status::Degraded,
                format!("{message}, but {}", slow.join("; ")),
            ),
        })
    }

    /// Returns the first condition that an answer does not fulfil.
    fn fault(&self, answer: &DnsAnswer) -> Option<String> {
        let found = answer.records.len();
        if !self.rcode.matches(answer.code) {
            let code = response_code::show(answer.code);
            return Some(format!("{code}, expected {}", self.rcode));
        }
        if found < self.min_answers {
            let least = self.min_answers;
            return Some(format!("{}, expected at least {least}", records(answer)));
        }
        if found > self.max_answers {
            let most = self.max_answers;
            return Some(format!("{}, expected at most {most}", records(answer)));
        }
        let missing =
            |pattern: &&Regex| !answer.records.iter().any(|record| pattern.is_match(record));
        if let Some(pattern) = self.answers.iter().find(missing) {
            return Some(format!(
                "{}, none matches {:?}",
                records(answer),
                pattern.as_str()
            ));
        }
        (self.authoritative && !answer.authoritative)
            .then(|| "the server has no authority for this name".to_owned())
    }
}

/// Returns the fault of servers whose copies of a zone differ.
fn differing_serials(answers: &[(&ServerOutcome, &DnsAnswer)]) -> Option<String> {
    let serials: Vec<_> = answers
        .iter()
        .filter_map(|(outcome, answer)| Some((&outcome.server, answer.serial?)))
        .collect();
    let (_, first) = serials.first()?;
    if serials.iter().all(|(_, serial)| serial == first) {
        return None;
    }
    let listed: Vec<_> = serials
        .iter()
        .map(|(server, serial)| format!("{serial} at {server}"))
        .collect();
    Some(format!("the serial numbers differ: {}", listed.join(", ")))
}

fn healthy(answers: &[(&ServerOutcome, &DnsAnswer)]) -> String {
    let took = answers.iter().map(|(outcome, _)| outcome.took).max();
    let took = show_duration(took.unwrap_or_default());
    match answers {
        [(_, answer)] => format!("{} in {took}", summary(answer)),
        [(_, answer), ..] => match answer.serial {
            Some(serial) => format!(
                "{} servers have serial number {serial}, in {took}",
                answers.len()
            ),
            None => format!("{} servers respond as expected in {took}", answers.len()),
        },
        [] => String::new(),
    }
}

fn summary(answer: &DnsAnswer) -> String {
    if answer.records.is_empty() {
        return response_code::show(answer.code);
    }
    records(answer)
}

/// Returns the number of records and the first of them.
fn records(answer: &DnsAnswer) -> String {
    let count = answer.records.len();
    let noun = if count == 1 { "record" } else { "records" };
    if count == 0 {
        return "no records".to_owned();
    }
    let shown: Vec<_> = answer
        .records
        .iter()
        .take(MAX_SHOWN)
        .map(String::as_str)
        .collect();
    let rest = if count > MAX_SHOWN { ", …" } else { "" };
    format!("{count} {noun} ({}{rest})", shown.join(", "))
}

/// Most records in a message.
const MAX_SHOWN: usize = 4;
