//! What `conductor top` knows and shows, and how events change it. Pure: the time is set from outside.

use std::time::Duration;

use conductor_types::{
    requests::BreakerOrder,
    views::{PlatformDetail, PlatformView, StatusView},
};
use jiff::tz::TimeZone;
use ratatui::crossterm::event::KeyEvent;

use super::{
    keys,
    rows::{Filter, Sort, listed},
};

/// What is known and shown.
pub(super) struct State {
    /// The host's address.
    pub(super) address: String,
    /// The time by this program's clock, set before each event.
    pub(super) now: Duration,
    /// Where times of day are those of.
    pub(super) zone: TimeZone,
    pub(super) colour: bool,
    /// What the host said last.
    pub(super) seen: Option<Seen>,
    /// That it does not answer.
    pub(super) gone: Option<Gone>,
    pub(super) filter: Filter,
    pub(super) sort: Sort,
    /// The places of the platforms listed, in order.
    pub(super) rows: Vec<usize>,
    /// By name, so that it stays selected wherever it moves to.
    pub(super) selected: Option<String>,
    /// The row it was in, for whoever takes its place.
    last_place: usize,
    /// Whether the selected platform alone is shown.
    pub(super) in_detail: bool,
    pub(super) detail: Option<Box<PlatformDetail>>,
    pub(super) prompt: Prompt,
    /// What came of the last order, and until when it is shown.
    pub(super) notice: Option<(String, Duration)>,
}

/// What the host said.
pub(super) struct Seen {
    pub(super) status: Box<StatusView>,
    /// When, by this program's clock.
    pub(super) at: Duration,
    /// What time it was for the host, in seconds since 1970; its clock need not be ours.
    pub(super) host_time: Option<f64>,
}

/// That the host does not answer.
pub(super) struct Gone {
    pub(super) since: Duration,
    pub(super) why: String,
}

/// What the keys mean at the moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Prompt {
    /// What the line at the bottom says.
    None,
    /// The text of the filter; what it was before comes back with Esc.
    Filter { before: String },
    /// Which order to the breaker.
    Breaker { platform: String },
    /// Whether to do it.
    Confirm(Order),
    /// The help is shown.
    Help,
}

/// What happened.
pub(super) enum Event {
    Key(KeyEvent),
    Resized,
    NoMoreKeys,
    Status(Box<StatusView>),
    Detail(Box<PlatformDetail>),
    /// The host does not answer, for this reason.
    Gone(String),
    /// What came of an order.
    Told(String),
}

/// What is to be done about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Command {
    Quit,
    Ask(Ask),
}

/// What to ask the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ask {
    /// The details of a platform, or of none, from now on.
    LookAt(Option<String>),
    Do(Order),
}

/// What an operator wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Order {
    pub(super) platform: String,
    pub(super) what: What,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    Check,
    Breaker(BreakerOrder),
}

impl State {
    pub(super) fn new(address: String, zone: TimeZone, colour: bool) -> Self {
        Self {
            address,
            now: Duration::ZERO,
            zone,
            colour,
            seen: None,
            gone: None,
            filter: Filter::default(),
            sort: Sort::default(),
            rows: Vec::new(),
            selected: None,
            last_place: 0,
            in_detail: false,
            detail: None,
            prompt: Prompt::None,
            notice: None,
        }
    }

    /// Takes an event in.
    pub(super) fn update(&mut self, event: Event) -> Option<Command> {
        match event {
            Event::Key(key) => return keys::pressed(self, key),
            Event::NoMoreKeys => return Some(Command::Quit),
            Event::Resized => {}
            Event::Status(status) => {
                self.gone = None;
                let now = status.host.now;
                let host_time = (now > 0.0).then_some(now);
                self.seen = Some(Seen {
                    status,
                    at: self.now,
                    host_time,
                });
                self.list();
            }
            Event::Detail(detail) => {
                // One that was asked for before another was selected comes too late.
                if self.selected.as_ref() == Some(&detail.platform.name) {
                    self.detail = Some(detail);
                }
            }
            Event::Gone(why) => {
                let since = self.gone.as_ref().map_or(self.now, |gone| gone.since);
                self.gone = Some(Gone { since, why });
            }
            Event::Told(text) => self.notice = Some((text, self.now + NOTICE)),
        }
        None
    }

    /// Lists anew, after what is listed or how has changed.
    pub(super) fn list(&mut self) {
        self.rows = listed(self.platforms(), &self.filter, self.sort);
        if self.place().is_none() && !self.in_detail {
            // What was selected is gone: whoever takes its place is.
            let at = self.last_place.min(self.rows.len().saturating_sub(1));
            self.selected = self.row(at).map(|platform| platform.name.clone());
        }
        self.last_place = self.place().unwrap_or(0);
    }

    pub(super) fn platforms(&self) -> &[PlatformView] {
        self.seen
            .as_ref()
            .map_or(&[], |seen| &seen.status.platforms)
    }

    /// The platform in this row.
    pub(super) fn row(&self, at: usize) -> Option<&PlatformView> {
        self.platforms().get(*self.rows.get(at)?)
    }

    /// The row of the selected platform.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        let mut rows = self.rows.iter();
        rows.position(|at| {
            self.platforms()
                .get(*at)
                .is_some_and(|p| p.name == selected)
        })
    }

    /// The selected platform, also where the filter hides it.
    pub(super) fn selected(&self) -> Option<&PlatformView> {
        let selected = self.selected.as_deref()?;
        self.platforms().iter().find(|p| p.name == selected)
    }

    /// Selects the row that lies so far from the selected one, or the last in that direction.
    pub(super) fn step(&mut self, by: isize) -> Option<Command> {
        let last = self.rows.len().checked_sub(1)?;
        let at = self
            .place()
            .unwrap_or(0)
            .saturating_add_signed(by)
            .min(last);
        let name = self.row(at)?.name.clone();
        if self.selected.as_ref() == Some(&name) {
            return None;
        }
        self.selected = Some(name.clone());
        self.last_place = at;
        self.detail = None;
        self.in_detail
            .then_some(Command::Ask(Ask::LookAt(Some(name))))
    }

    /// What the host's clock shows by now.
    pub(super) fn host_time(&self) -> Option<f64> {
        let seen = self.seen.as_ref()?;
        Some(seen.host_time? + self.now.saturating_sub(seen.at).as_secs_f64())
    }

    /// The notice, while it is to be shown.
    pub(super) fn notice(&self) -> Option<&str> {
        let (text, until) = self.notice.as_ref()?;
        (self.now < *until).then_some(text)
    }
}

impl What {
    /// Its path in the API, behind the platform's.
    pub(super) fn path(self) -> String {
        match self {
            Self::Check => "check".to_owned(),
            Self::Breaker(order) => {
                let mut all = BreakerOrder::ALL.into_iter();
                let name = all
                    .find(|(_, known)| *known == order)
                    .map_or("", |(name, _)| name);
                format!("breaker/{name}")
            }
        }
    }
}

impl Order {
    /// The question whether to do it.
    pub(super) fn question(&self) -> String {
        let platform = &self.platform;
        match self.what {
            What::Check => format!("Check {platform} now?"),
            What::Breaker(BreakerOrder::Open) => {
                format!("Hold the breaker of {platform} open, so that it is not checked?")
            }
            What::Breaker(BreakerOrder::Close) => {
                format!("Hold the breaker of {platform} closed, whatever becomes of its checks?")
            }
            What::Breaker(BreakerOrder::Release) => format!("Release the breaker of {platform}?"),
            What::Breaker(BreakerOrder::Reset) => format!("Reset the breaker of {platform}?"),
        }
    }
}

/// How long a notice is shown.
const NOTICE: Duration = Duration::from_secs(8);
