//! The results of a session, and the limits that they are judged by.

use std::time::Duration;

use conductor_net::{LimitVerdict, Limits, show_age, show_duration};
use conductor_plugin_api::{Report, Status, config};

use crate::{CODE, MESSAGES, NEWEST};

/// The results of a session so far.
#[derive(Debug, Default)]
pub(crate) struct MailFindings {
    /// Code of the last response of SMTP.
    pub(crate) code: Option<u16>,
    /// Number of messages in the folder.
    pub(crate) messages: Option<u64>,
    /// Unix time of arrival of the message that arrived last.
    pub(crate) newest: Option<i64>,
    /// Results for the message of a healthy report.
    pub(crate) results: Vec<String>,
    /// Duration of a session that reached its end, without the goodbye.
    pub(crate) took: Option<Duration>,
    /// Reasons why the platform is degraded.
    pub(crate) concerns: Vec<String>,
}

/// The limits of a config.
#[derive(Debug)]
pub(crate) struct MailLimits {
    pub(crate) messages: Option<Limits<u64>>,
    /// Limits of the age of the newest message.
    pub(crate) age: Option<Limits<config::Duration>>,
}

impl MailFindings {
    /// Judges a session that reached its end; `now` is the Unix time in seconds.
    pub(crate) fn judge(
        &self,
        limits: &MailLimits,
        took: Duration,
        now: i64,
    ) -> (LimitVerdict, String) {
        let mut verdict = LimitVerdict::default();
        for concern in &self.concerns {
            verdict.add(Status::Degraded, concern.clone());
        }
        let age = self.newest.map(|newest| age(newest, now));
        if let Some(count) = self.messages {
            if let Some(limits) = &limits.messages {
                verdict.judge("messages", show_count(count), count, limits);
            }
            if let Some(limits) = &limits.age {
                let shown = match age {
                    Some(age) => format!("the newest message arrived {} ago", show_age(age)),
                    None => "there is no message".to_owned(),
                };
                // A message that never arrived is older than every limit.
                verdict.judge("age", shown, age.unwrap_or(Duration::MAX).into(), limits);
            }
        }
        (verdict, self.summary(age, took))
    }

    fn summary(&self, age: Option<Duration>, took: Duration) -> String {
        let mut parts = vec![format!("ready in {}", show_duration(took))];
        parts.extend(self.results.iter().cloned());
        if let Some(count) = self.messages {
            let count = show_count(count);
            parts.push(match age {
                Some(age) => format!("{count}, the newest {} old", show_age(age)),
                None => count,
            });
        }
        parts.join("; ")
    }

    /// Adds the measurements, as far as the session came.
    #[expect(clippy::cast_precision_loss, reason = "counts and times are small")]
    pub(crate) fn measure(&self, mut report: Report) -> Report {
        if let Some(code) = self.code {
            report = report.set(&CODE, [], code.into());
        }
        if let Some(messages) = self.messages {
            report = report.set(&MESSAGES, [], messages as f64);
        }
        match self.newest {
            Some(newest) => report.set(&NEWEST, [], newest as f64),
            None => report,
        }
    }
}

/// Returns the time since a moment; zero for one in the future, by clocks that differ.
fn age(moment: i64, now: i64) -> Duration {
    Duration::from_secs(u64::try_from(now.saturating_sub(moment)).unwrap_or(0))
}

fn show_count(count: u64) -> String {
    match count {
        1 => "1 message".to_owned(),
        _ => format!("{count} messages"),
    }
}
