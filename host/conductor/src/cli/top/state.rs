//! The data that `conductor top` shows, and how events change it. Pure: the time is set from outside.

use std::time::Duration;

use conductor_types::{
    requests::BreakerOrder,
    views::{PlatformDetail, PlatformView, StatusView},
};
use jiff::tz::TimeZone;
use ratatui::crossterm::event::KeyEvent;

use super::{
    keys,
    rows::{PlatformFilter, SortOrder, listed},
};

/// The displayed data.
pub(super) struct TopState {
    /// The host's address.
    pub(super) address: String,
    /// The time by this program's clock, set before each event.
    pub(super) now: Duration,
    /// The time zone of displayed times.
    pub(super) zone: TimeZone,
    pub(super) colour: bool,
    /// The host's last response.
    pub(super) seen: Option<StatusResponse>,
    /// Set if the host does not respond.
    pub(super) gone: Option<ConnectionLoss>,
    pub(super) filter: PlatformFilter,
    pub(super) sort: SortOrder,
    /// The indices of the listed platforms, in order.
    pub(super) rows: Vec<usize>,
    /// By name, so that it stays selected if it moves.
    pub(super) selected: Option<String>,
    /// Its last row, to select its successor there if it disappears.
    last_place: usize,
    /// `true` if only the selected platform is shown.
    pub(super) in_detail: bool,
    pub(super) detail: Option<Box<PlatformDetail>>,
    pub(super) prompt: InputMode,
    /// The result of the last order, and the time until which it is shown.
    pub(super) notice: Option<(String, Duration)>,
}

/// The host's last status response.
pub(super) struct StatusResponse {
    pub(super) status: Box<StatusView>,
    /// The time of the response, by this program's clock.
    pub(super) at: Duration,
    /// The host's time in seconds since 1970; its clock may differ from ours.
    pub(super) host_time: Option<f64>,
}

/// The host's failure to respond.
pub(super) struct ConnectionLoss {
    pub(super) since: Duration,
    pub(super) why: String,
}

/// The input mode: the meaning of the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum InputMode {
    /// The keys in the bottom line.
    None,
    /// Editing the filter; Esc restores the previous text.
    Filter { before: String },
    /// Choosing an order to the breaker.
    Breaker { platform: String },
    /// Confirming an order.
    Confirm(PlatformOrder),
    /// The help is shown.
    Help,
}

/// Events of the keyboard and the host.
pub(super) enum TopEvent {
    Key(KeyEvent),
    Resized,
    NoMoreKeys,
    Status(Box<StatusView>),
    Detail(Box<PlatformDetail>),
    /// The host does not respond, for this reason.
    Gone(String),
    /// The result of an order.
    Told(String),
}

/// Commands that follow from an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum TopAction {
    Quit,
    Ask(PollerRequest),
}

/// A request to the host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PollerRequest {
    /// The platform whose details to poll from now on, if any.
    LookAt(Option<String>),
    Do(PlatformOrder),
}

/// An order of the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PlatformOrder {
    pub(super) platform: String,
    pub(super) what: PlatformOrderKind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PlatformOrderKind {
    Check,
    Breaker(BreakerOrder),
}

impl TopState {
    pub(super) fn new(address: String, zone: TimeZone, colour: bool) -> Self {
        Self {
            address,
            now: Duration::ZERO,
            zone,
            colour,
            seen: None,
            gone: None,
            filter: PlatformFilter::default(),
            sort: SortOrder::default(),
            rows: Vec::new(),
            selected: None,
            last_place: 0,
            in_detail: false,
            detail: None,
            prompt: InputMode::None,
            notice: None,
        }
    }

    /// Handles an event.
    pub(super) fn update(&mut self, event: TopEvent) -> Option<TopAction> {
        match event {
            TopEvent::Key(key) => return keys::pressed(self, key),
            TopEvent::NoMoreKeys => return Some(TopAction::Quit),
            TopEvent::Resized => {}
            TopEvent::Status(status) => {
                self.gone = None;
                let now = status.host.now;
                let host_time = (now > 0.0).then_some(now);
                self.seen = Some(StatusResponse {
                    status,
                    at: self.now,
                    host_time,
                });
                self.list();
            }
            TopEvent::Detail(detail) => {
                // Ignore the details of a platform that is no longer selected.
                if self.selected.as_ref() == Some(&detail.platform.name) {
                    self.detail = Some(detail);
                }
            }
            TopEvent::Gone(why) => {
                let since = self.gone.as_ref().map_or(self.now, |gone| gone.since);
                self.gone = Some(ConnectionLoss { since, why });
            }
            TopEvent::Told(text) => self.notice = Some((text, self.now + NOTICE)),
        }
        None
    }

    /// Rebuilds the list after a change of the platforms, the filter or the order.
    pub(super) fn list(&mut self) {
        self.rows = listed(self.platforms(), &self.filter, self.sort);
        if self.place().is_none() && !self.in_detail {
            // The selected platform is gone: select the one now in its row.
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

    /// Returns the platform in this row.
    pub(super) fn row(&self, at: usize) -> Option<&PlatformView> {
        self.platforms().get(*self.rows.get(at)?)
    }

    /// Returns the row of the selected platform.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        let mut rows = self.rows.iter();
        rows.position(|at| {
            self.platforms()
                .get(*at)
                .is_some_and(|p| p.name == selected)
        })
    }

    /// Returns the selected platform, even if the filter hides it.
    pub(super) fn selected(&self) -> Option<&PlatformView> {
        let selected = self.selected.as_deref()?;
        self.platforms().iter().find(|p| p.name == selected)
    }

    /// Moves the selection by this many rows, at most to the end of the list.
    pub(super) fn step(&mut self, by: isize) -> Option<TopAction> {
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
            .then_some(TopAction::Ask(PollerRequest::LookAt(Some(name))))
    }

    /// Returns the current time of the host's clock.
    pub(super) fn host_time(&self) -> Option<f64> {
        let seen = self.seen.as_ref()?;
        Some(seen.host_time? + self.now.saturating_sub(seen.at).as_secs_f64())
    }

    /// Returns the notice while it is to be shown.
    pub(super) fn notice(&self) -> Option<&str> {
        let (text, until) = self.notice.as_ref()?;
        (self.now < *until).then_some(text)
    }
}

impl PlatformOrderKind {
    /// Returns its path in the API, after the platform's.
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

impl PlatformOrder {
    /// Returns the confirmation question.
    pub(super) fn question(&self) -> String {
        let platform = &self.platform;
        match self.what {
            PlatformOrderKind::Check => format!("Check {platform} now?"),
            PlatformOrderKind::Breaker(BreakerOrder::Open) => {
                format!("Hold the breaker of {platform} open (no checks)?")
            }
            PlatformOrderKind::Breaker(BreakerOrder::Close) => {
                format!(
                    "Hold the breaker of {platform} closed (checks continue even if they fail)?"
                )
            }
            PlatformOrderKind::Breaker(BreakerOrder::Release) => {
                format!("Release the breaker of {platform}?")
            }
            PlatformOrderKind::Breaker(BreakerOrder::Reset) => {
                format!("Reset the breaker of {platform}?")
            }
        }
    }
}

/// Time that a notice is shown.
const NOTICE: Duration = Duration::from_secs(8);
