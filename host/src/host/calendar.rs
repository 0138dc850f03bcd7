//! The maintenance windows of a running host: those of its config and those that operators start, applied to the
//! platforms as the time comes.
//!
//! Windows are judged when one begins or ends, when the config changes and when an operator has one started or ended,
//! by a thread of its own or by whoever brings the change. A check that starts reads one flag of its guard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    actor::Actor,
    board::Board,
    clock::Clock,
    maintenance::{self, Origin, Scope, Times, Window},
    pattern::Pattern,
    state::{MaintenanceEnd, MaintenanceOrder, OrderError, WindowView},
};

/// The windows of a running host.
pub(super) struct Calendar {
    clock: Clock,
    board: Arc<Board>,
    inner: Mutex<Inner>,
    /// Wakes up the thread that waits for the next change.
    changed: SyncSender<()>,
}

#[derive(Default)]
struct Inner {
    windows: Vec<Window>,
    /// Those in force when they were last judged.
    in_force: BTreeSet<(&'static str, Arc<str>)>,
    /// When they were last judged, and are to be again.
    judged: Option<Timestamp>,
    due: Option<Timestamp>,
}

impl Calendar {
    /// Without a window; what is returned beside it wakes up whoever [waits](Self::watch) for changes.
    pub(super) fn new(clock: Clock, board: Arc<Board>) -> (Self, Receiver<()>) {
        let (changed, wake) = mpsc::sync_channel(1);
        let calendar = Self {
            clock,
            board,
            inner: Mutex::default(),
            changed,
        };
        (calendar, wake)
    }

    /// Goes by the windows of another config from now on; those of operators stay.
    ///
    /// To be called once the platforms of that config hang on the board, and before their checks start.
    pub(super) fn follow(&self, config: &[Window]) {
        let mut inner = self.inner();
        inner.windows.retain(|w| w.origin == Origin::Operator);
        inner.windows.extend(config.iter().cloned());
        self.apply(&mut inner);
    }

    /// Starts a window for each platform or pattern of the order, in the place of one of the same name.
    pub(super) fn start(&self, order: &MaintenanceOrder, by: &Actor) -> Result<String, OrderError> {
        let length = order.length().map_err(OrderError::Invalid)?;
        // It is shown in terminals.
        if order.reason.chars().any(char::is_control) || order.reason.len() > LONGEST_REASON {
            let why = format!("the reason is one line of at most {LONGEST_REASON} bytes");
            return Err(OrderError::Invalid(why));
        }
        let scopes = scopes(&order.platforms, &order.labels)?;
        // Before anything is done for each of them.
        let has_room = |inner: &Inner| match inner.windows.len() + scopes.len() {
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
        // From whole seconds on: nobody asked for more digits.
        let now = Timestamp::from_second(self.now().as_second());
        let now = now.map_err(|error| OrderError::Invalid(error.to_string()))?;
        let until = now.checked_add(length);
        let until = until.map_err(|error| OrderError::Invalid(error.to_string()))?;
        let times = Times::once(now, until);
        let times = times.ok_or_else(|| OrderError::Invalid("it is too short".to_owned()))?;
        let mut inner = self.inner();
        // Others may have been started meanwhile.
        has_room(&inner)?;
        let mut names = Vec::new();
        for (name, scope) in scopes {
            inner
                .windows
                .retain(|w| w.origin == Origin::Config || w.name != name);
            names.push(name.to_string());
            inner.windows.push(Window {
                name,
                reason: order.reason.as_str().into(),
                checks: order.checks,
                scope,
                times: times.clone(),
                origin: Origin::Operator,
            });
        }
        let (names, length) = (names.join(", "), humantime::format_duration(length));
        tracing::info!(
            "{by} started maintenance of {names} for {length}: checks {}",
            fate(order.checks)
        );
        self.apply(&mut inner);
        Ok(format!("Maintenance of {names} for {length}."))
    }

    /// Ends windows that operators have started; none of them if one of the patterns matches no window.
    pub(super) fn end(&self, end: &MaintenanceEnd, by: &Actor) -> Result<String, OrderError> {
        let mut inner = self.inner();
        let mut ended = BTreeSet::new();
        for (name, wanted) in scopes(&end.platforms, &end.labels)? {
            let found: Vec<_> = inner.windows.iter().filter(|w| is_in(&wanted, w)).collect();
            let mut started = found
                .iter()
                .filter(|w| w.origin == Origin::Operator)
                .peekable();
            if started.peek().is_none() {
                return Err(match found.is_empty() {
                    true => OrderError::NoSuchWindow(name.to_string()),
                    false => OrderError::OfConfig(name.to_string()),
                });
            }
            ended.extend(started.map(|w| Arc::clone(&w.name)));
        }
        inner
            .windows
            .retain(|w| w.origin == Origin::Config || !ended.contains(&w.name));
        for name in &ended {
            let key = (Origin::Operator.name(), Arc::clone(name));
            inner.in_force.remove(&key);
        }
        self.apply(&mut inner);
        let ended: Vec<_> = ended.iter().map(|name| &**name).collect();
        let ended = ended.join(", ");
        tracing::info!("{by} ended maintenance of {ended}");
        Ok(format!("Maintenance of {ended} has ended."))
    }

    /// Judges the windows as their time comes, on a thread of its own, until the calendar is gone.
    pub(super) fn watch(self: &Arc<Self>, wake: Receiver<()>) {
        let calendar = Arc::downgrade(self);
        let spawned = thread::Builder::new()
            .name("maintenance".to_owned())
            .spawn(move || watch(&calendar, &wake));
        if let Err(error) = spawned {
            tracing::error!(
                "maintenance neither begins nor ends by itself: there is no thread for it: {error}"
            );
        }
    }

    /// Judges the windows if their time has come; answers how long to wait, if there is anything to wait for.
    fn turn(&self) -> Option<Duration> {
        let now = self.now();
        let mut inner = self.inner();
        // A wall clock that was set back makes what was judged later wrong.
        let is_due =
            inner.due.is_some_and(|due| due <= now) || inner.judged.is_some_and(|at| at > now);
        if is_due {
            self.apply(&mut inner);
        }
        if inner.windows.is_empty() {
            return None;
        }
        let left = inner.due.map_or(LONGEST_SLEEP, |due| {
            Duration::try_from(due.duration_since(now)).unwrap_or_default()
        });
        Some(left.min(LONGEST_SLEEP))
    }

    /// Sets what holds for each platform now.
    fn apply(&self, inner: &mut Inner) {
        let now = self.now();
        inner
            .windows
            .retain(|w| w.origin == Origin::Config || !w.times.is_over(now));
        let judgement = maintenance::judge(&inner.windows, now);
        for guard in self.board.platform_guards() {
            let settings = guard.settings();
            guard.set_maintenance(judgement.of(&settings.name, &settings.labels));
        }
        inner.due = judgement.next_change;
        inner.judged = Some(now);
        self.board
            .set_windows(inner.windows.iter().map(|w| view(w, now)).collect());
        log_changes(inner, now);
        // One that wakes up already needs no second word.
        let _ = self.changed.try_send(());
    }

    fn now(&self) -> Timestamp {
        let now = self.clock.wall(self.clock.now());
        // A clock that shows the year 10000 is no reason to fall.
        Timestamp::try_from(now).unwrap_or(Timestamp::MAX)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(calendar: &Weak<Calendar>, wake: &Receiver<()>) {
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

/// The scopes that an order names, one for each pattern, with the name of its window: the pattern and the labels.
fn scopes(
    patterns: &[String],
    labels: &BTreeMap<String, String>,
) -> Result<Vec<(Arc<str>, Scope)>, OrderError> {
    let of_labels = labels.iter().map(|(k, v)| format!("{k}={v}"));
    let of_labels: Vec<_> = of_labels.collect();
    if patterns.is_empty() && labels.is_empty() {
        let why = "it selects no platform: give names or labels";
        return Err(OrderError::Invalid(why.to_owned()));
    }
    let named = |pattern: Option<&String>| {
        let words: Vec<_> = pattern.into_iter().chain(&of_labels).cloned().collect();
        let scope = Scope {
            platforms: pattern.map(|text| Pattern::new(text)).into_iter().collect(),
            labels: labels.clone(),
        };
        (words.join(" ").into(), scope)
    };
    if patterns.is_empty() {
        return Ok(vec![named(None)]);
    }
    Ok(patterns.iter().map(|text| named(Some(text))).collect())
}

/// Whether a window was started with names that `wanted` matches, and with its labels.
fn is_in(wanted: &Scope, window: &Window) -> bool {
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

fn log_changes(inner: &mut Inner, now: Timestamp) {
    let mut in_force = BTreeSet::new();
    for window in &inner.windows {
        let Some(until) = window.times.at(now).in_force_until else {
            continue;
        };
        let key = (window.origin.name(), Arc::clone(&window.name));
        // The one who started a window was logged then.
        if window.origin == Origin::Config && !inner.in_force.contains(&key) {
            tracing::info!(
                "maintenance {} is in force until {until}: checks {}",
                window.name,
                fate(window.checks)
            );
        }
        in_force.insert(key);
    }
    for (_, name) in inner.in_force.difference(&in_force) {
        tracing::info!("maintenance {name} is over");
    }
    inner.in_force = in_force;
}

fn fate(checks: maintenance::Checks) -> &'static str {
    match checks {
        maintenance::Checks::GoOn => "go on",
        maintenance::Checks::Pause => "are paused",
    }
}

/// A window as the API shows it.
pub(crate) fn view(window: &Window, now: Timestamp) -> WindowView {
    let found = window.times.at(now);
    let platforms = window.scope.platforms.iter();
    WindowView {
        name: window.name.to_string(),
        reason: window.reason.to_string(),
        origin: window.origin.name().to_owned(),
        platforms: platforms.map(|pattern| pattern.text().to_owned()).collect(),
        labels: window.scope.labels.clone(),
        times: window.times.describe(),
        checks: window.checks.name().to_owned(),
        in_force_until: found.in_force_until.map(maintenance::seconds),
        next_change: found.next_change.map(maintenance::seconds),
    }
}

/// The sleep does not see a suspend pass, nor the wall clock being set.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// In bytes.
const LONGEST_REASON: usize = 500;

/// Each costs a look at every platform whenever one begins or ends.
const MOST_WINDOWS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        guard::Shared,
        library::{Catalog, Policy},
        metrics::Metrics,
        tail::Tail,
    };

    #[test]
    fn an_order_for_too_many_windows_is_refused_before_any_of_its_names_is_looked_at() {
        let state = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&[], false, Policy::default(), Some(state.path())).unwrap();
        let shared = Arc::new(Shared::new(Clock::start(), Metrics::new(), 0));
        let (catalog, clock) = (Arc::new(catalog), shared.clock);
        let board = Board::new(shared, catalog, Vec::new(), Tail::default());
        let (calendar, _wake) = Calendar::new(clock, Arc::new(board));
        let order = |many| MaintenanceOrder {
            platforms: vec!["nobody".to_owned(); many],
            labels: BTreeMap::new(),
            length: "1h".to_owned(),
            reason: String::new(),
            checks: maintenance::Checks::Pause,
        };
        assert!(matches!(
            calendar.start(&order(MOST_WINDOWS), &Actor::default()),
            Err(OrderError::NoSuchPlatform(_))
        ));
        let refused = calendar
            .start(&order(MOST_WINDOWS + 1), &Actor::default())
            .unwrap_err();
        let OrderError::Invalid(why) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("more than 1000 windows"), "{why}");
    }
}
