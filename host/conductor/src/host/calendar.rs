//! The maintenance windows of a running host: those of its config and those started by operators, applied to the
//! platforms in time.
//!
//! Windows are evaluated when one begins or ends, when the config changes, when an operator starts or ends one, and
//! when the wall clock is set, by a dedicated thread or by the caller that makes the change. A check that starts reads
//! one flag of its guard.
//!
//! Dates and times of day in a config follow the wall clock. The duration of an operator's window follows the host's
//! own clock: setting the wall clock neither ends nor extends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use conductor_config::LONGEST_DURATION;
use conductor_core::{
    maintenance::{self, MaintenanceWindow, WindowOrigin, WindowSchedule, WindowScope},
    pattern::NamePattern,
};
use conductor_engine::{
    actor::ActionOrigin,
    board::StatusBoard,
    guard::GuardContext,
    resumption::SavedWindow,
    state::{OrderError, maintenance_length},
};
use conductor_types::{
    Checks,
    requests::{MaintenanceEnd, MaintenanceOrder},
    views::WindowView,
};
use jiff::{SignedDuration, Timestamp};

/// The windows of a running host.
pub(super) struct MaintenanceCalendar {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    inner: Mutex<CalendarState>,
    /// Wakes the thread that waits for the next change.
    changed: SyncSender<()>,
}

#[derive(Default)]
struct CalendarState {
    /// The windows of the config.
    windows: Vec<MaintenanceWindow>,
    /// The windows started by operators.
    started: Vec<StartedWindow>,
    /// The windows in force at the last evaluation.
    in_force: BTreeSet<(&'static str, Arc<str>)>,
    /// The time of the last evaluation.
    judged: Option<ClockReading>,
    /// The time of the next evaluation, by the host's clock.
    due: Option<Duration>,
}

/// A window with a fixed duration; its dates follow the wall clock as last seen.
struct StartedWindow {
    window: MaintenanceWindow,
    /// Its start by the host's clock; negative if that was before the restart.
    since: SignedDuration,
    /// Its end by the host's clock.
    ends: Duration,
}

/// A simultaneous reading of the host's clock and the wall clock.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    /// The time by the host's clock.
    host: Duration,
    /// Seconds from 1970 to the origin of the host's clock; a change means that the wall clock was set.
    origin: f64,
}

impl ClockReading {
    /// Returns the date of a time of the host's clock.
    fn date(self, at: Duration) -> Timestamp {
        self.signed_date(SignedDuration::try_from(at).unwrap_or(SignedDuration::MAX))
    }

    fn signed_date(self, since: SignedDuration) -> Timestamp {
        let offset = SignedDuration::try_from_secs_f64(self.origin).unwrap_or_default();
        // A clock that shows the year 10000 must not cause a panic.
        Timestamp::from_duration(offset.saturating_add(since)).unwrap_or(Timestamp::MAX)
    }

    fn wall(self) -> Timestamp {
        self.date(self.host)
    }
}

impl MaintenanceCalendar {
    /// Returns a calendar without windows, and the receiver of wake-ups for [`watch`](Self::watch).
    pub(super) fn new(shared: Arc<GuardContext>, board: Arc<StatusBoard>) -> (Self, Receiver<()>) {
        let (changed, wake) = mpsc::sync_channel(1);
        let calendar = Self {
            shared,
            board,
            inner: Mutex::default(),
            changed,
        };
        (calendar, wake)
    }

    /// Replaces the config's windows; those of operators stay.
    ///
    /// Call it once the platforms of that config are on the board, and before their checks start.
    pub(super) fn follow(&self, config: &[MaintenanceWindow]) {
        let mut inner = self.inner();
        inner.windows = config.to_vec();
        self.apply(&mut inner, self.now());
    }

    /// Starts a window for each platform or pattern of the order, replacing any window of the same name.
    pub(super) fn start(
        &self,
        order: &MaintenanceOrder,
        by: &ActionOrigin,
    ) -> Result<String, OrderError> {
        self.start_at(order, by, self.now())
    }

    fn start_at(
        &self,
        order: &MaintenanceOrder,
        by: &ActionOrigin,
        now: ClockReading,
    ) -> Result<String, OrderError> {
        let length = maintenance_length(&order.length)
            .map_err(|why| OrderError::Invalid(format!("\"for\" is {:?}: {why}", order.length)))?;
        if !is_reason(&order.reason) {
            let why = format!("the reason is one line of at most {LONGEST_REASON} bytes");
            return Err(OrderError::Invalid(why));
        }
        let scopes = scopes(&order.platforms, &order.labels)?;
        // Check the limit before any work per window.
        let windows = |inner: &CalendarState| inner.windows.len() + inner.started.len();
        let has_room = |inner: &CalendarState| match windows(inner) + scopes.len() {
            ..=MOST_WINDOWS => Ok(()),
            _ => Err(OrderError::Invalid(format!(
                "there would be more than {MOST_WINDOWS} windows: end some first"
            ))),
        };
        has_room(&self.inner())?;
        let guards = self.board.platform_guards();
        for (name, scope) in &scopes {
            let settings = || guards.iter().map(|guard| guard.settings());
            if !settings().any(|platform| scope.has(&platform.name, &platform.labels)) {
                return Err(OrderError::NoSuchPlatform(name.to_string()));
            }
        }
        let since = SignedDuration::try_from(now.host).unwrap_or(SignedDuration::MAX);
        let ends = now.host + length;
        let times = dates(now, since, ends).ok_or_else(|| {
            OrderError::Invalid("it ends after the last year that dates are known for".to_owned())
        })?;
        let mut inner = self.inner();
        // Others may have been started meanwhile.
        has_room(&inner)?;
        let mut names = Vec::new();
        for (name, scope) in scopes {
            inner.started.retain(|started| started.window.name != name);
            names.push(name.to_string());
            let window = MaintenanceWindow {
                name,
                reason: order.reason.as_str().into(),
                checks: order.checks,
                scope,
                times: times.clone(),
                origin: WindowOrigin::Operator,
                by: by.authenticated().cloned(),
            };
            inner.started.push(StartedWindow {
                window,
                since,
                ends,
            });
        }
        let (names, length) = (names.join(", "), humantime::format_duration(length));
        match order.checks {
            Checks::GoOn => {
                tracing::info!("{by} started maintenance of {names} for {length}");
            }
            Checks::Pause => {
                tracing::info!("{by} paused {names} for {length} (maintenance)");
            }
        }
        self.apply(&mut inner, now);
        Ok(format!("Maintenance of {names} for {length}."))
    }

    /// Ends windows that operators have started; ends none if one of the patterns matches no window.
    pub(super) fn end(
        &self,
        end: &MaintenanceEnd,
        by: &ActionOrigin,
    ) -> Result<String, OrderError> {
        let mut inner = self.inner();
        let mut ended = BTreeSet::new();
        for (name, wanted) in scopes(&end.platforms, &end.labels)? {
            let started = inner.started.iter().map(|started| &started.window);
            let mut started = started.filter(|w| is_in(&wanted, w)).peekable();
            if started.peek().is_none() {
                return Err(match inner.windows.iter().any(|w| is_in(&wanted, w)) {
                    true => OrderError::OfConfig(name.to_string()),
                    false => OrderError::NoSuchWindow(name.to_string()),
                });
            }
            ended.extend(started.map(|w| Arc::clone(&w.name)));
        }
        inner
            .started
            .retain(|started| !ended.contains(&started.window.name));
        for name in &ended {
            let key = (WindowOrigin::Operator.name(), Arc::clone(name));
            inner.in_force.remove(&key);
        }
        self.apply(&mut inner, self.now());
        let ended: Vec<_> = ended.iter().map(|name| &**name).collect();
        let ended = ended.join(", ");
        tracing::info!("{by} ended maintenance of {ended}");
        Ok(format!("Maintenance of {ended} has ended."))
    }

    /// Evaluates the windows in time, on a dedicated thread, until the calendar is dropped.
    pub(super) fn watch(self: &Arc<Self>, wake: Receiver<()>) {
        let calendar = Arc::downgrade(self);
        let spawned = thread::Builder::new()
            .name("maintenance".to_owned())
            .spawn(move || watch(&calendar, &wake));
        if let Err(error) = spawned {
            tracing::error!(
                "maintenance windows do not begin or end: cannot start their thread: {error}"
            );
        }
    }

    /// Evaluates the windows if they are due; returns the time to wait, if there is anything to wait for.
    fn turn(&self) -> Option<Duration> {
        self.turn_at(self.now())
    }

    fn turn_at(&self, now: ClockReading) -> Option<Duration> {
        let mut inner = self.inner();
        let was_set = |judged: ClockReading| judged.origin.to_bits() != now.origin.to_bits();
        if inner.due.is_some_and(|due| due <= now.host) || inner.judged.is_some_and(was_set) {
            self.apply(&mut inner, now);
        }
        if inner.windows.is_empty() && inner.started.is_empty() {
            return None;
        }
        let left = inner
            .due
            .map_or(LONGEST_SLEEP, |due| due.saturating_sub(now.host));
        Some(left.min(LONGEST_SLEEP))
    }

    /// Applies the current windows to each platform.
    fn apply(&self, inner: &mut CalendarState, now: ClockReading) {
        inner.started.retain(|started| started.ends > now.host);
        for started in &mut inner.started {
            if let Some(times) = dates(now, started.since, started.ends) {
                started.window.times = times;
            }
        }
        let saved = inner.started.iter().map(|started| started.saved(now));
        self.shared.resumption.set_windows(saved.collect());
        let wall = now.wall();
        let judgement = maintenance::judge(inner.all(), wall);
        for guard in self.board.platform_guards() {
            let settings = guard.settings();
            guard.set_maintenance(judgement.of(&settings.name, &settings.labels), now.host);
        }
        let next_change = judgement.next_change.map(|next| {
            now.host + Duration::try_from(next.duration_since(wall)).unwrap_or_default()
        });
        let ends = inner.started.iter().map(|started| started.ends);
        inner.due = ends.chain(next_change).min();
        inner.judged = Some(now);
        self.board
            .set_windows(inner.all().map(|w| view(w, wall)).collect());
        log_changes(inner, wall);
        // A pending wake-up is enough.
        let _ = self.changed.try_send(());
    }

    fn now(&self) -> ClockReading {
        let wall = self.shared.metrics.wall();
        wall.follow();
        ClockReading {
            host: self.shared.clock.now(),
            origin: wall.origin(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, CalendarState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(calendar: &Weak<MaintenanceCalendar>, wake: &Receiver<()>) {
    loop {
        let Some(wait) = calendar.upgrade().map(|calendar| calendar.turn()) else {
            return;
        };
        let woken = match wait {
            Some(wait) => wake.recv_timeout(wait),
            None => wake.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if woken == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

impl MaintenanceCalendar {
    /// Continues the windows that operators started before the restart. Call it before [`follow`](Self::follow).
    pub(super) fn resume(&self) {
        let now = self.now();
        let saved = self.shared.resumption.windows_before();
        let windows = saved.iter().take(MOST_WINDOWS);
        let windows = windows.filter_map(|saved| StartedWindow::resumed(saved, now));
        let mut inner = self.inner();
        inner.started = windows.collect();
        self.shared.resumption.resumed_windows(inner.started.len());
    }
}

impl StartedWindow {
    /// Returns what the next start needs to continue the window.
    fn saved(&self, now: ClockReading) -> SavedWindow {
        let window = &self.window;
        let pattern = window.scope.platforms.first();
        let labels = window.scope.labels.iter();
        SavedWindow {
            pattern: pattern.map(|pattern| pattern.text().to_owned()),
            labels: labels.map(|(k, v)| (k.clone(), v.clone())).collect(),
            reason: window.reason.to_string(),
            pauses: window.checks == Checks::Pause,
            by: window.by.as_deref().map(str::to_owned),
            since: now.origin + self.since.as_secs_f64(),
            ends: now.origin + self.ends.as_secs_f64(),
        }
    }

    /// Returns a window from before the restart; `None` if it is over, or not one that an operator can start.
    fn resumed(saved: &SavedWindow, now: ClockReading) -> Option<Self> {
        let patterns: Vec<_> = saved.pattern.iter().cloned().collect();
        let labels = saved.labels.iter().cloned().collect();
        let (name, scope) = scopes(&patterns, &labels).ok()?.pop()?;
        let since = SignedDuration::try_from_secs_f64(saved.since - now.origin).ok()?;
        let ends = Duration::try_from_secs_f64(saved.ends - now.origin).ok()?;
        let length = Duration::try_from_secs_f64(saved.ends - saved.since).ok()?;
        if ends <= now.host || length > LONGEST_DURATION || !is_reason(&saved.reason) {
            return None;
        }
        let window = MaintenanceWindow {
            name,
            reason: saved.reason.as_str().into(),
            checks: saved.checks(),
            scope,
            times: dates(now, since, ends)?,
            origin: WindowOrigin::Operator,
            by: saved.by.as_deref().map(Into::into),
        };
        Some(Self {
            window,
            since,
            ends,
        })
    }
}

/// Returns `true` for a reason that terminals can show.
fn is_reason(reason: &str) -> bool {
    !reason.chars().any(char::is_control) && reason.len() <= LONGEST_REASON
}

/// Returns the scopes of an order, one for each pattern, with the name of its window: the pattern and the labels.
fn scopes(
    patterns: &[String],
    labels: &BTreeMap<String, String>,
) -> Result<Vec<(Arc<str>, WindowScope)>, OrderError> {
    let of_labels = labels.iter().map(|(k, v)| format!("{k}={v}"));
    let of_labels: Vec<_> = of_labels.collect();
    if patterns.is_empty() && labels.is_empty() {
        let why = "it selects no platform: give names or labels";
        return Err(OrderError::Invalid(why.to_owned()));
    }
    let named = |pattern: Option<&String>| {
        let words: Vec<_> = pattern.into_iter().chain(&of_labels).cloned().collect();
        let scope = WindowScope {
            platforms: pattern
                .map(|text| NamePattern::new(text))
                .into_iter()
                .collect(),
            labels: labels.clone(),
        };
        (words.join(" ").into(), scope)
    };
    if patterns.is_empty() {
        return Ok(vec![named(None)]);
    }
    Ok(patterns.iter().map(|text| named(Some(text))).collect())
}

/// Returns `true` if a window was started with names that `wanted` matches, and with its labels.
fn is_in(wanted: &WindowScope, window: &MaintenanceWindow) -> bool {
    let has_labels = wanted
        .labels
        .iter()
        .all(|(k, v)| window.scope.labels.get(k) == Some(v));
    let named = wanted.platforms.iter().any(|pattern| {
        let started_with = window.scope.platforms.iter();
        pattern.matches(&window.name) || started_with.clone().any(|p| pattern.matches(p.text()))
    });
    has_labels && (wanted.platforms.is_empty() || named)
}

/// Returns the dates of a period, in whole seconds.
fn dates(now: ClockReading, since: SignedDuration, ends: Duration) -> Option<WindowSchedule> {
    let from = Timestamp::from_second(now.signed_date(since).as_second()).ok()?;
    // The host's clock ends the window, not a rounded date.
    let until = Timestamp::from_second(now.date(ends).as_second().checked_add(1)?).ok()?;
    WindowSchedule::once(from, until)
}

impl CalendarState {
    /// Returns all windows, those of the config first.
    fn all(&self) -> impl Iterator<Item = &MaintenanceWindow> {
        let started = self.started.iter().map(|started| &started.window);
        self.windows.iter().chain(started)
    }
}

fn log_changes(inner: &mut CalendarState, now: Timestamp) {
    let mut in_force = BTreeSet::new();
    for window in inner.all() {
        let Some(until) = window.times.at(now).in_force_until else {
            continue;
        };
        let key = (window.origin.name(), Arc::clone(&window.name));
        // An operator's window was logged when it was started.
        if window.origin == WindowOrigin::Config && !inner.in_force.contains(&key) {
            let paused = match window.checks {
                Checks::GoOn => "",
                Checks::Pause => ", paused",
            };
            tracing::info!("maintenance {} until {until}{paused}", window.name);
        }
        in_force.insert(key);
    }
    for (_, name) in inner.in_force.difference(&in_force) {
        tracing::info!("maintenance {name} is over");
    }
    inner.in_force = in_force;
}

/// Returns a window as the API shows it.
pub(crate) fn view(window: &MaintenanceWindow, now: Timestamp) -> WindowView {
    let found = window.times.at(now);
    let platforms = window.scope.platforms.iter();
    WindowView {
        name: window.name.to_string(),
        reason: window.reason.to_string(),
        origin: window.origin.name().to_owned(),
        by: window.by.as_deref().map(str::to_owned),
        platforms: platforms.map(|pattern| pattern.text().to_owned()).collect(),
        labels: window.scope.labels.clone(),
        times: window.times.describe(),
        checks: window.checks.label().to_owned(),
        in_force_until: found.in_force_until.map(maintenance::seconds),
        next_change: found.next_change.map(maintenance::seconds),
    }
}

/// A sleep notices neither a suspend nor a change of the wall clock.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// In bytes.
const LONGEST_REASON: usize = 500;

/// For each, every platform is examined whenever one begins or ends.
const MOST_WINDOWS: usize = 1000;

#[cfg(test)]
mod tests;
