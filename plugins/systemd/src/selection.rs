//! The units that a platform consists of.

use conductor_net::CheckError;
use conductor_plugin_api::Failure;
use glob::Pattern;

use crate::systemd::{ListedUnit, Systemd, UnitQuery};

/// A name of units, as a config has it.
#[derive(Clone, Debug)]
pub(crate) struct UnitPattern {
    text: String,
    has_wildcards: bool,
}

/// The names and wildcards of a config.
pub(crate) struct UnitSelection {
    pub(crate) units: Vec<UnitPattern>,
    pub(crate) timers: Vec<UnitPattern>,
    /// Units that wildcards and `failed` leave out.
    pub(crate) ignore: Vec<Pattern>,
}

/// The units of one check, each list in the order of the names.
#[derive(Debug, Default)]
pub(crate) struct SelectedUnits {
    pub(crate) units: Vec<ListedUnit>,
    pub(crate) timers: Vec<ListedUnit>,
    /// All units that have failed; `None` if they do not matter.
    pub(crate) failed: Option<Vec<ListedUnit>>,
    /// Wildcards that match no unit, and names that no unit can have.
    pub(crate) unmatched: Vec<String>,
}

impl UnitPattern {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            has_wildcards: has_wildcards(text),
        }
    }

    fn query(&self) -> UnitQuery<'_> {
        match self.has_wildcards {
            true => UnitQuery::Pattern(&self.text),
            false => UnitQuery::Name(&self.text),
        }
    }
}

impl UnitSelection {
    /// Asks for the units, and for those that have failed if `failed` is true.
    pub(crate) async fn list(
        &self,
        systemd: &mut Systemd<'_, '_>,
        failed: bool,
    ) -> Result<SelectedUnits, CheckError> {
        let patterns = self.units.iter().chain(&self.timers);
        let mut queries: Vec<_> = patterns.map(UnitPattern::query).collect();
        queries.extend(failed.then_some(UnitQuery::Failed));
        let mut lists = systemd.list(&queries).await?.into_iter();
        let mut selected = SelectedUnits::default();
        for (nth, pattern) in self.units.iter().chain(&self.timers).enumerate() {
            let is_timer = nth >= self.units.len();
            let mut found = lists.next().unwrap_or_default();
            if pattern.has_wildcards {
                found.retain(|unit| self.has(unit, is_timer));
            }
            // systemd lists nothing for a name that no unit can have.
            if found.is_empty() {
                selected.unmatched.push(pattern.text.clone());
            }
            match is_timer {
                true => selected.timers.extend(found),
                false => selected.units.extend(found),
            }
        }
        selected.failed = failed.then(|| lists.next().unwrap_or_default());
        for list in [&mut selected.units, &mut selected.timers] {
            ordered(list);
        }
        if let Some(failed) = &mut selected.failed {
            failed.retain(|unit| !self.ignores(&unit.name));
            ordered(failed);
        }
        for (key, list) in [("units", &selected.units), ("timers", &selected.timers)] {
            if list.len() > MAX_UNITS {
                return Err(CheckError::Host(Failure::config(format!(
                    "key `{key}` selects {} units, expected at most {MAX_UNITS}; use narrower wildcards, add `ignore`, or \
                     split the platform",
                    list.len()
                ))));
            }
        }
        Ok(selected)
    }

    /// Returns true for a unit that a wildcard selects: not one that only others name, nor a timer that is off.
    fn has(&self, unit: &ListedUnit, is_timer: bool) -> bool {
        let is_of_timers = unit.kind() == "timer" && (unit.is_active() || unit.active == "failed");
        let is_there = !matches!(unit.load.as_str(), "not-found" | "masked");
        is_there && (!is_timer || is_of_timers) && !self.ignores(&unit.name)
    }

    fn ignores(&self, name: &str) -> bool {
        self.ignore.iter().any(|pattern| pattern.matches(name))
    }
}

pub(crate) fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn ordered(units: &mut Vec<ListedUnit>) {
    units.sort_by(|one, other| one.name.cmp(&other.name));
    units.dedup_by(|one, other| one.name == other.name);
}

/// Most units, and most timers, of a platform.
const MAX_UNITS: usize = 100;
