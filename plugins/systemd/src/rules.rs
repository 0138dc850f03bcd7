//! The conditions on the system, its units and its timers.

use conductor_net::{LimitVerdict, Limits, seconds, show_age, show_size};
use conductor_plugin_api::{
    Status,
    config::{Duration, Size},
};

use crate::{
    restarts::RestartHistory,
    systemd::ListedUnit,
    timers::{PresentTime, TimerState},
};

/// The conditions of a config.
pub(crate) struct UnitRules {
    pub(crate) states: Vec<String>,
    /// `None` if failed units do not matter.
    pub(crate) failed: Option<Limits<u32>>,
    pub(crate) restarts: Option<Limits<u32>>,
    pub(crate) restarts_within: Duration,
    pub(crate) uptime: Option<Limits<Duration>>,
    pub(crate) memory: Option<Limits<Size>>,
    pub(crate) overdue: Limits<Duration>,
    pub(crate) last_trigger: Option<Limits<Duration>>,
}

/// A unit with all that is checked.
#[derive(Clone, Debug)]
pub(crate) struct UnitState {
    pub(crate) unit: ListedUnit,
    /// Unix time, in seconds; `None` while it is not active.
    pub(crate) active_since: Option<f64>,
    pub(crate) restarts: Option<u32>,
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Seconds.
    pub(crate) cpu: Option<f64>,
    /// Why it has failed, such as `exit-code`; `None` after a success.
    pub(crate) result: Option<String>,
}

impl UnitRules {
    /// Judges the state of the system, which matters where failed units do.
    pub(crate) fn judge_system(&self, state: &str, verdict: &mut LimitVerdict) {
        let fault = match state {
            _ if self.failed.is_none() => None,
            "maintenance" => Some((Status::Unhealthy, "is in rescue or emergency mode")),
            "initializing" | "starting" => Some((Status::Degraded, "is still starting")),
            "stopping" => Some((Status::Degraded, "is shutting down")),
            _ => None,
        };
        if let Some((status, what)) = fault {
            let text = format!("the system {what} (its state is {state}, expected running)");
            verdict.add(status, text);
        }
    }

    /// Judges the units that have failed; those whose result is known say why.
    pub(crate) fn judge_failed(
        &self,
        failed: &[ListedUnit],
        results: &[Option<String>],
        verdict: &mut LimitVerdict,
    ) {
        let Some(limits) = &self.failed else {
            return;
        };
        let results = results.iter().map(Option::as_deref);
        let results = results.chain(std::iter::repeat(None));
        let named = failed.iter().zip(results).take(MAX_NAMED);
        let named: Vec<_> = named
            .map(|(unit, result)| match result {
                Some(result) => format!("{} ({result})", unit.name),
                None => unit.name.clone(),
            })
            .collect();
        let more = match failed.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let shown = format!(
            "{}: {}{more}",
            counted(failed.len(), "failed unit"),
            named.join(", ")
        );
        let number = u32::try_from(failed.len()).unwrap_or(u32::MAX);
        verdict.judge("failed", shown, number, limits);
    }

    /// Judges a unit.
    pub(crate) fn judge_unit(
        &self,
        state: &UnitState,
        history: &RestartHistory,
        now: PresentTime,
        verdict: &mut LimitVerdict,
    ) {
        let unit = &state.unit;
        let name = &unit.name;
        if let Some((status, what)) = self.object(state) {
            verdict.add(status, format!("{name} {what}"));
        }
        if let Some(limits) = &self.restarts {
            let restarts = history.of(name);
            let times = counted(restarts as usize, "time");
            let within = self.restarts_within;
            let shown = format!("{name} was restarted {times} within {within}");
            verdict.judge("restarts", shown, restarts, limits);
        }
        if !unit.is_active() {
            return;
        }
        if let (Some(limits), Some(since)) = (&self.uptime, state.active_since) {
            // Since a moment of the future is since now: the clock was set.
            let uptime = seconds(now.unix - since);
            let shown = format!("{name} is active for {}", show_age(uptime.get()));
            verdict.judge("uptime", shown, uptime, limits);
        }
        let memory = state.memory.map(|bytes| {
            let shown = format!("{name} uses {} of memory", show_size(bytes));
            (Size::from_bytes(bytes), shown)
        });
        let memory = memory.ok_or_else(|| {
            format!("systemd does not count the memory of {name}; set MemoryAccounting=yes in the unit, or leave it out")
        });
        verdict.judge_reading("memory", memory, self.memory.as_ref());
    }

    /// Returns what is wrong with the state of a unit.
    fn object(&self, state: &UnitState) -> Option<(Status, String)> {
        let unit = &state.unit;
        let expects = |state: &str| self.states.iter().any(|expected| expected == state);
        if expects(&unit.active) || (expects("active") && unit.is_active()) {
            return None;
        }
        if let Some(missing) = missing(unit) {
            return Some((Status::Unhealthy, missing));
        }
        let is_starting = unit.active == "activating" && !unit.sub.starts_with("auto-restart");
        let status = match is_starting {
            true => Status::Degraded,
            false => Status::Unhealthy,
        };
        let why = state.result.as_ref();
        let why = why.map_or(String::new(), |result| format!(", {result}"));
        let (active, sub) = (&unit.active, &unit.sub);
        let expected = self.states.join(" or ");
        Some((
            status,
            format!("is {active} ({sub}{why}), expected {expected}"),
        ))
    }

    /// Judges a timer.
    pub(crate) fn judge_timer(
        &self,
        timer: &TimerState,
        now: PresentTime,
        verdict: &mut LimitVerdict,
    ) {
        let unit = &timer.unit;
        let name = &unit.name;
        if !unit.is_active() {
            let what = missing(unit).unwrap_or_else(|| {
                format!(
                    "is {} ({}), expected active: it starts nothing",
                    unit.active, unit.sub
                )
            });
            verdict.add(Status::Unhealthy, format!("{name} {what}"));
            return;
        }
        if let Some(late) = timer.overdue(now) {
            let shown = format!("{name} is overdue by {}", show_age(late));
            verdict.judge("overdue", shown, late.into(), &self.overdue);
        }
        let Some(limits) = &self.last_trigger else {
            return;
        };
        let ago = |time: f64| {
            (
                seconds(now.unix - time),
                show_age(seconds(now.unix - time).get()),
            )
        };
        let (age, shown) = match (timer.last, timer.active_since) {
            (Some(last), _) => {
                let (age, shown) = ago(last);
                (age, format!("{name} has last triggered {shown} ago"))
            }
            (None, Some(since)) => {
                let (age, shown) = ago(since);
                (
                    age,
                    format!("{name} has not triggered since its start {shown} ago"),
                )
            }
            (None, None) => return,
        };
        verdict.judge("last_trigger", shown, age, limits);
    }
}

/// Returns the fault of a unit that systemd could not load.
fn missing(unit: &ListedUnit) -> Option<String> {
    let what = match unit.load.as_str() {
        "not-found" => "has no unit file: install it, or correct its name".to_owned(),
        "masked" => "is masked: it cannot be started until `systemctl unmask`".to_owned(),
        "loaded" | "stub" | "merged" => return None,
        load => format!("cannot be loaded ({load}): `systemctl status` shows the reason"),
    };
    Some(what)
}

/// Returns a number with its noun: "1 time", "2 times".
pub(crate) fn counted(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// Most failed units in a message.
pub(crate) const MAX_NAMED: usize = 5;
