//! The page of one platform.

use askama::Template;
use conductor_types::{PlatformState, views::PastView};

use super::{
    FormAction, PageFrame, StatusSource,
    host::HostPart,
    past::PastPart,
    row::{PlatformRow, state_rank},
    times::{DisplayTime, span, took},
};

/// A platform with its last checks, its log, and the operator's controls.
#[derive(Template)]
#[template(path = "detail.html")]
pub(super) struct PlatformPage {
    frame: PageFrame,
    host: HostPart,
    now: f64,
    row: PlatformRow,
    /// The result of a form that was just sent.
    done: Option<String>,
    may_ask: bool,
    /// The effective interval.
    interval: String,
    /// The configured interval, if it differs.
    configured: Option<String>,
    /// The mode of the machine.
    mode: String,
    /// The time of the report that the measurements are from.
    reported: Option<DisplayTime>,
    timeout: String,
    priority: String,
    measurements: Vec<(String, f64)>,
    checks: Vec<CheckRow>,
    past: PastPart,
    description: Option<String>,
    /// The address for people; begins with `http://` or `https://`.
    link: Option<String>,
}

struct CheckRow {
    ended: DisplayTime,
    took: String,
    word: String,
    rank: u8,
}

impl PlatformPage {
    /// Returns the page of the platform of this name; `None` if there is none.
    pub(super) fn of(
        source: &dyn StatusSource,
        name: &str,
        may_ask: bool,
        query: &[(String, String)],
        past: PastPart,
    ) -> Option<Self> {
        let detail = source.platform(name)?;
        let overview = source.overview();
        let now = overview.host.now;
        let view = &detail.platform;
        let done = query.iter().find(|(key, _)| key == "done");
        let done = done.and_then(|(_, word)| FormAction::parse(word));
        // A host of an earlier version does not set this.
        let interval = view.effective_interval.max(view.interval);
        Some(Self {
            frame: PageFrame::new(""),
            host: HostPart::of(&overview),
            now,
            row: PlatformRow::new(view, &detail.history, &detail.log, now),
            done: done.map(FormAction::told),
            may_ask,
            interval: length(interval),
            configured: (interval > view.interval).then(|| length(view.interval)),
            mode: overview.host.mode.clone(),
            reported: view.last_report.map(|at| DisplayTime::new(at, now)),
            timeout: length(view.timeout),
            priority: view.priority.clone(),
            description: view.description.clone(),
            link: view.url.clone(),
            measurements: view.measurements.clone().into_iter().collect(),
            checks: detail
                .history
                .iter()
                .map(|p| CheckRow::new(p, now))
                .collect(),
            past,
        })
    }
}

impl CheckRow {
    fn new(past: &PastView, now: f64) -> Self {
        Self {
            ended: DisplayTime::new(past.ended, now),
            took: took(past.duration),
            word: match past.status {
                PlatformState::Unknown => "failed".to_owned(),
                state => state.to_string(),
            },
            rank: state_rank(past.urgency()),
        }
    }
}

/// Formats a duration from a config.
fn length(seconds: f64) -> String {
    if seconds < 120.0 {
        took(seconds)
    } else {
        span(seconds)
    }
}
