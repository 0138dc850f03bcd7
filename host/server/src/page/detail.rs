//! The page of one platform.

use askama::Template;
use conductor_types::views::PastView;

use super::{
    Done, Frame, Source,
    host::HostPart,
    row::Row,
    times::{Moment, span, took},
};

/// A platform with its last checks, its log, and what an operator may do about it.
#[derive(Template)]
#[template(path = "detail.html")]
pub(super) struct Detail {
    frame: Frame,
    host: HostPart,
    now: f64,
    row: Row,
    /// What a form has just done.
    done: Option<String>,
    may_ask: bool,
    /// As things are.
    interval: String,
    /// As it is configured, where that differs.
    configured: Option<String>,
    /// How the machine is doing.
    mode: String,
    /// When the report came that the measurements are of.
    reported: Option<Moment>,
    timeout: String,
    priority: String,
    measurements: Vec<(String, f64)>,
    checks: Vec<Check>,
}

struct Check {
    ended: Moment,
    took: String,
    word: String,
    rank: u8,
}

impl Detail {
    /// Of a platform of this name; none where there is none.
    pub(super) fn of(
        source: &dyn Source,
        name: &str,
        may_ask: bool,
        query: &[(String, String)],
    ) -> Option<Self> {
        let detail = source.platform(name)?;
        let overview = source.overview();
        let now = overview.host.now;
        let view = &detail.platform;
        let done = query.iter().find(|(key, _)| key == "done");
        let done = done.and_then(|(_, word)| Done::parse(word));
        // A host of an earlier version does not say.
        let interval = view.effective_interval.max(view.interval);
        Some(Self {
            frame: Frame::new(""),
            host: HostPart::of(&overview),
            now,
            row: Row::new(view, &detail.history, &detail.log, now),
            done: done.map(Done::told),
            may_ask,
            interval: length(interval),
            configured: (interval > view.interval).then(|| length(view.interval)),
            mode: overview.host.mode.clone(),
            reported: view.last_report.map(|at| Moment::new(at, now)),
            timeout: length(view.timeout),
            priority: view.priority.clone(),
            measurements: view.measurements.clone().into_iter().collect(),
            checks: detail.history.iter().map(|p| Check::new(p, now)).collect(),
        })
    }
}

impl Check {
    fn new(past: &PastView, now: f64) -> Self {
        Self {
            ended: Moment::new(past.ended, now),
            took: took(past.duration),
            word: past.status.to_string(),
            rank: super::row::health_rank(past.status),
        }
    }
}

/// A length of time that a config gives.
fn length(seconds: f64) -> String {
    if seconds < 120.0 {
        took(seconds)
    } else {
        span(seconds)
    }
}
