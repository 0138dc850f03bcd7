//! One look at systemd: the system, the selected units and the timers, with their properties.

use conductor_net::CheckError;

use crate::{
    metrics::{MAX_MEASURED_TIMERS, MAX_MEASURED_UNITS},
    rules::{MAX_NAMED, UnitRules, UnitState},
    selection::UnitSelection,
    systemd::{ListedUnit, PropertyValue, Systemd, UnitProperty},
    timers::{PresentTime, TimerState, microseconds},
};

/// All that a check has found.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// State of the system, such as `running`.
    pub(crate) system: String,
    /// Version of systemd.
    pub(crate) version: String,
    pub(crate) units: Vec<UnitState>,
    pub(crate) timers: Vec<TimerState>,
    /// Units that have failed; `None` if they do not matter.
    pub(crate) failed: Option<Vec<ListedUnit>>,
    /// Why the first of them have failed.
    pub(crate) failed_results: Vec<Option<String>>,
    /// Wildcards that match no unit, and names that no unit can have.
    pub(crate) unmatched: Vec<String>,
}

impl Inspection {
    pub(crate) async fn make(
        systemd: &mut Systemd<'_, '_>,
        selection: &UnitSelection,
        rules: &UnitRules,
        now: PresentTime,
    ) -> Result<Self, CheckError> {
        let (system, version) = systemd.system().await?;
        let selected = selection.list(systemd, rules.failed.is_some()).await?;
        let mut wanted = Vec::new();
        for (nth, unit) in selected.units.iter().enumerate() {
            let properties = rules.properties(unit, nth < MAX_MEASURED_UNITS);
            wanted.extend(properties.into_iter().map(|property| (unit, property)));
        }
        let needs_times =
            |nth: usize| nth < MAX_MEASURED_TIMERS || selected.timers[nth].is_active();
        for (nth, timer) in selected.timers.iter().enumerate() {
            if needs_times(nth) {
                wanted.extend(TimerState::PROPERTIES.map(|property| (timer, property)));
            }
        }
        let named = selected.failed.iter().flatten().take(MAX_NAMED);
        wanted.extend(named.map(|unit| (unit, RESULT)));
        let values = systemd.properties(&wanted).await?;
        let found = Found { wanted, values };
        let units = selected.units.iter().map(|unit| found.unit(unit));
        let timers = selected.timers.iter().map(|unit| {
            let values = TimerState::PROPERTIES.map(|property| found.value(unit, property));
            TimerState::new(unit.clone(), &values.map(Option::<&_>::cloned), now)
        });
        let named = selected.failed.iter().flatten().take(MAX_NAMED);
        Ok(Self {
            system,
            version,
            units: units.collect(),
            timers: timers.collect(),
            failed_results: named.map(|unit| found.result(unit)).collect(),
            failed: selected.failed.clone(),
            unmatched: selected.unmatched.clone(),
        })
    }
}

impl UnitRules {
    /// Returns the properties of a unit that are judged, and those for metrics if it has series.
    fn properties(&self, unit: &ListedUnit, is_measured: bool) -> Vec<UnitProperty> {
        let is_service = unit.kind() == "service";
        let has_cgroup = CGROUP_TYPES.contains(&unit.kind());
        let wanted = [
            (RESULT, !unit.is_active()),
            (ACTIVE_SINCE, is_measured || self.uptime.is_some()),
            (
                RESTARTS,
                is_service && (is_measured || self.restarts.is_some()),
            ),
            (MEMORY, has_cgroup && (is_measured || self.memory.is_some())),
            (CPU, has_cgroup && is_measured),
        ];
        let wanted = wanted.into_iter().filter(|(_, is_wanted)| *is_wanted);
        wanted.map(|(property, _)| property).collect()
    }
}

/// The values of the properties that were asked for.
struct Found<'u> {
    wanted: Vec<(&'u ListedUnit, UnitProperty)>,
    values: Vec<Option<PropertyValue>>,
}

impl Found<'_> {
    fn value(&self, unit: &ListedUnit, property: UnitProperty) -> Option<&PropertyValue> {
        let mut wanted = self.wanted.iter();
        let nth = wanted.position(|(of, asked)| *of == unit && *asked == property)?;
        self.values.get(nth)?.as_ref()
    }

    fn number(&self, unit: &ListedUnit, property: UnitProperty) -> Option<u64> {
        match self.value(unit, property)? {
            // The largest number means that systemd does not know.
            PropertyValue::Number(number) => Some(*number).filter(|number| *number != u64::MAX),
            PropertyValue::Text(_) => None,
        }
    }

    fn result(&self, unit: &ListedUnit) -> Option<String> {
        match self.value(unit, RESULT)? {
            PropertyValue::Text(result) if result != "success" => {
                Some(conductor_net::short(result, MAX_RESULT))
            }
            _ => None,
        }
    }

    fn unit(&self, unit: &ListedUnit) -> UnitState {
        let since = microseconds(self.value(unit, ACTIVE_SINCE));
        let restarts = self.number(unit, RESTARTS);
        #[expect(
            clippy::cast_precision_loss,
            reason = "exact for 104 days, then nearly"
        )]
        let cpu = self
            .number(unit, CPU)
            .map(|nanoseconds| nanoseconds as f64 / 1e9);
        UnitState {
            active_since: since.filter(|_| unit.is_active()),
            restarts: restarts.and_then(|restarts| u32::try_from(restarts).ok()),
            memory: self.number(unit, MEMORY),
            cpu,
            result: self.result(unit),
            unit: unit.clone(),
        }
    }
}

const RESULT: UnitProperty = UnitProperty::Typed("Result");
const ACTIVE_SINCE: UnitProperty = UnitProperty::Unit("ActiveEnterTimestamp");
const RESTARTS: UnitProperty = UnitProperty::Typed("NRestarts");
const MEMORY: UnitProperty = UnitProperty::Typed("MemoryCurrent");
const CPU: UnitProperty = UnitProperty::Typed("CPUUsageNSec");

/// Types of units that have a control group, and so memory and CPU time.
const CGROUP_TYPES: [&str; 6] = ["service", "socket", "mount", "swap", "slice", "scope"];

/// Longest result of a unit in a message, in characters.
const MAX_RESULT: usize = 40;
