//! Keys of a systemd platform's `config` table.

use std::time::Duration as StdDuration;

use conductor_net::{DurationLimits, DurationRules, Limits, SocketTarget, TOTAL, TimedPhases};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Size},
    schemars,
};
use glob::Pattern;
use serde::Deserialize;

use crate::{
    SystemdProbe,
    rules::UnitRules,
    selection::{UnitPattern, UnitSelection, has_wildcards},
    systemd::{MAX_NAME, TYPES},
};

/// Checks units of systemd: none has failed, those that matter are active, and timers are on time.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemdConfig {
    /// Socket of the bus, as `unix:/PATH`.
    #[serde(default = "system_bus")]
    #[schemars(regex(pattern = r"^unix:/.+$"), example = &"unix:/run/user/1000/bus")]
    address: String,

    /// Names of units with their type, or wildcards (`*`, `?`, `[…]`), which select loaded units. Each must match a unit.
    #[serde(default)]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 255)),
        extend("examples" = [["nginx.service", "shop-*.service"]])
    )]
    units: Vec<String>,

    /// States in which the units are healthy: `active`, or for example `inactive` for a job that ends.
    #[serde(default = "active")]
    #[schemars(length(min = 1), extend("default" = ["active"]))]
    states: Vec<ActiveState>,

    /// Limits of the number of failed units of the whole system. `{ unhealthy_above = 0 }` if neither `units` nor `timers`
    /// is set.
    #[schemars(extend("examples" = [{"degraded_above": 0, "unhealthy_above": 3}]))]
    failed: Option<Limits<u32>>,

    /// Units that `failed` and wildcards leave out: names or wildcards.
    #[serde(default)]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 255)),
        extend("examples" = [["dirmngr@*.service"]])
    )]
    ignore: Vec<String>,

    /// Limits of the automatic restarts of each service within `restarts_within`.
    #[schemars(extend("examples" = [{"degraded_above": 0, "unhealthy_above": 3}]))]
    restarts: Option<Limits<u32>>,

    /// Time in which restarts count.
    #[serde(default = "hour")]
    #[schemars(extend("default" = "1h"))]
    restarts_within: Duration,

    /// Limits of the time since each unit became active.
    #[schemars(extend("examples" = [{"degraded_below": "5m"}]))]
    uptime: Option<Limits<Duration>>,

    /// Limits of the memory that each unit uses, with its page cache.
    #[schemars(extend("examples" = [{"degraded_above": "2GiB"}]))]
    memory: Option<Limits<Size>>,

    /// Names of timers, or wildcards, which select those that are switched on. Each must match a timer.
    #[serde(default)]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 255)),
        extend("examples" = [["backup.timer", "*.timer"]])
    )]
    timers: Vec<String>,

    /// Limits of the time by which each timer should have elapsed and has not, after its `AccuracySec`.
    #[schemars(extend("default" = {"degraded_above": "5m", "unhealthy_above": "1h"}))]
    overdue: Option<Limits<Duration>>,

    /// Limits of the time since each timer last elapsed.
    #[schemars(extend("examples" = [{"unhealthy_above": "26h"}]))]
    last_trigger: Option<Limits<Duration>>,

    /// Duration after which the platform is degraded: of the whole check, or by phase.
    #[schemars(example = &"500ms")]
    degraded_after: Option<DurationLimits<BusPhases>>,

    /// Duration after which the platform is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "2s", "list": "1s"}]))]
    unhealthy_after: Option<DurationLimits<BusPhases>>,
}

/// A state of a unit, as `systemctl` shows it in the column ACTIVE.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ActiveState {
    /// Running, mounted, listening; also while it reloads.
    Active,
    /// Stopped, or ended with success.
    Inactive,
    /// Ended with an error.
    Failed,
    /// Starting.
    Activating,
    /// Stopping.
    Deactivating,
}

impl ActiveState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
        }
    }
}

/// The phases of a check.
struct BusPhases;

impl TimedPhases for BusPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("connect", "The connection to the bus."),
        ("auth", "The authentication by the bus."),
        ("list", "The state of the system and the lists of units."),
        ("properties", "The properties of the units."),
    ];
}

fn system_bus() -> String {
    "unix:/run/dbus/system_bus_socket".to_owned()
}

fn active() -> Vec<ActiveState> {
    vec![ActiveState::Active]
}

fn hour() -> Duration {
    StdDuration::from_secs(3600).into()
}

impl SystemdConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<SystemdProbe, Failure> {
        let mut faults = Vec::new();
        let target = self.target(&mut faults);
        let durations = DurationRules::new(
            self.degraded_after.as_ref(),
            self.unhealthy_after.as_ref(),
            &mut faults,
        );
        let selection = UnitSelection {
            units: patterns("units", &self.units, &mut faults),
            timers: patterns("timers", &self.timers, &mut faults),
            ignore: self.ignored(&mut faults),
        };
        self.judge_timers(&mut faults);
        let rules = self.rules(&mut faults);
        match target {
            Some(target) if faults.is_empty() => {
                Ok(SystemdProbe::new(target, selection, rules, durations))
            }
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn target(&self, faults: &mut Vec<String>) -> Option<SocketTarget> {
        let address = &self.address;
        let path = address.strip_prefix("unix:path=");
        match SocketTarget::parse(address, None) {
            Ok(target @ SocketTarget::Unix(_)) => return Some(target),
            _ if path.is_some() => faults.push(format!(
                "key `address`: {address:?} is an address of D-Bus; write unix:{}",
                path.unwrap_or_default()
            )),
            Ok(_) => faults.push(format!(
                "key `address`: {address:?} is not a Unix socket; write it as unix:/PATH"
            )),
            Err(rule) => faults.push(format!("key `address`: {address:?} {rule}")),
        }
        None
    }

    fn ignored(&self, faults: &mut Vec<String>) -> Vec<Pattern> {
        let ignored = self.ignore.iter().enumerate();
        let patterns = ignored.filter_map(|(nth, text)| pattern("ignore", nth, text, faults));
        patterns.collect()
    }

    /// Refuses names of other units in `timers`.
    fn judge_timers(&self, faults: &mut Vec<String>) {
        for (nth, text) in self.timers.iter().enumerate() {
            if !has_wildcards(text) && has_type(text) && !text.ends_with(".timer") {
                faults.push(format!(
                    "key `timers[{nth}]`: {text:?} is not a timer; its name ends with .timer"
                ));
            }
        }
    }

    fn rules(&self, faults: &mut Vec<String>) -> UnitRules {
        for (key, limits) in [("failed", &self.failed), ("restarts", &self.restarts)] {
            if let Some(limits) = limits {
                limits.validate(key, faults);
            }
        }
        for (key, limits) in [
            ("uptime", &self.uptime),
            ("overdue", &self.overdue),
            ("last_trigger", &self.last_trigger),
        ] {
            if let Some(limits) = limits {
                limits.validate(key, faults);
            }
        }
        if let Some(limits) = &self.memory {
            limits.validate("memory", faults);
        }
        for (key, is_set, of, list) in [
            ("restarts", self.restarts.is_some(), "units", &self.units),
            ("uptime", self.uptime.is_some(), "units", &self.units),
            ("memory", self.memory.is_some(), "units", &self.units),
            ("overdue", self.overdue.is_some(), "timers", &self.timers),
            (
                "last_trigger",
                self.last_trigger.is_some(),
                "timers",
                &self.timers,
            ),
        ] {
            if is_set && list.is_empty() {
                faults.push(format!(
                    "key `{key}`: it limits the units in `{of}`, and there are none; add `{of}`"
                ));
            }
        }
        if self.states.is_empty() {
            faults.push(
                "key `states`: the list is empty; name a state, such as \"active\"".to_owned(),
            );
        }
        if self.restarts_within.get() < StdDuration::from_secs(1) {
            faults.push(
                "key `restarts_within`: it is shorter than a second; write for example \"1h\""
                    .to_owned(),
            );
        }
        let is_whole_system = self.units.is_empty() && self.timers.is_empty();
        let states = self.states.iter();
        UnitRules {
            states: states.map(|state| state.as_str().to_owned()).collect(),
            failed: self.failed.or(is_whole_system.then_some(NONE_FAILED)),
            restarts: self.restarts,
            restarts_within: self.restarts_within,
            uptime: self.uptime,
            memory: self.memory,
            overdue: self.overdue.unwrap_or_else(overdue),
            last_trigger: self.last_trigger,
        }
    }
}

/// The limits of failed units for a platform that is the whole system.
const NONE_FAILED: Limits<u32> = Limits {
    degraded_above: None,
    unhealthy_above: Some(0),
    degraded_below: None,
    unhealthy_below: None,
};

fn overdue() -> Limits<Duration> {
    Limits {
        degraded_above: Some(StdDuration::from_secs(300).into()),
        unhealthy_above: Some(StdDuration::from_secs(3600).into()),
        ..Limits::default()
    }
}

fn patterns(key: &str, texts: &[String], faults: &mut Vec<String>) -> Vec<UnitPattern> {
    if texts.len() > MAX_PATTERNS {
        faults.push(format!(
            "key `{key}`: there are {} names, expected at most {MAX_PATTERNS}; use wildcards, or split the platform",
            texts.len()
        ));
    }
    let texts = texts.iter().enumerate();
    let checked = texts.filter(|(nth, text)| {
        let is_pattern = pattern(key, *nth, text, faults).is_some();
        let is_name = has_wildcards(text) || has_type(text);
        if !is_name {
            faults.push(format!(
                "key `{key}[{nth}]`: {text:?} has no type of unit; write for example {text}.service"
            ));
        }
        let is_template = !has_wildcards(text) && text.contains("@.");
        if is_template {
            faults.push(format!(
                "key `{key}[{nth}]`: {text:?} is a template; name an instance of it, or all of them: {}",
                text.replace("@.", "@*.")
            ));
        }
        is_pattern && is_name && !is_template
    });
    checked.map(|(_, text)| UnitPattern::new(text)).collect()
}

fn pattern(key: &str, nth: usize, text: &str, faults: &mut Vec<String>) -> Option<Pattern> {
    if !(1..=MAX_NAME).contains(&text.len()) {
        faults.push(format!(
            "key `{key}[{nth}]`: the name has {} bytes, expected 1 to {MAX_NAME}",
            text.len()
        ));
        return None;
    }
    let pattern = Pattern::new(text).map_err(|error| {
        faults.push(format!(
            "key `{key}[{nth}]`: {text:?} is not a pattern ({error}); a `[` needs its `]`"
        ));
    });
    pattern.ok()
}

fn has_type(name: &str) -> bool {
    let kind = name.rsplit_once('.').map(|(_, kind)| kind);
    kind.is_some_and(|kind| TYPES.iter().any(|(known, _)| *known == kind))
}

/// Most names in a list: each costs a call.
const MAX_PATTERNS: usize = 100;
