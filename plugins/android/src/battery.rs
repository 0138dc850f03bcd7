//! The battery, by `dumpsys battery`.

use crate::{
    reading::{Reading, Unread, field, number, unread},
    wire::ShellOutput,
};

pub(crate) const COMMAND: &str = "dumpsys battery";

/// The state of a battery.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Battery {
    /// Percent, 0–100.
    pub(crate) level: f64,
    /// Degrees Celsius.
    pub(crate) temperature: Option<f64>,
    /// Volts.
    pub(crate) voltage: Option<f64>,
    /// `true` if a charger, a computer or a dock supplies power.
    pub(crate) has_power: bool,
    pub(crate) charge: Option<Charge>,
    pub(crate) health: Option<BatteryHealth>,
    /// `true` if a test has replaced the values, with `dumpsys battery set`.
    pub(crate) is_simulated: bool,
}

/// The direction of the current: `BatteryManager.BATTERY_STATUS_…` of Android.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Charge {
    Charging,
    Discharging,
    NotCharging,
    Full,
}

/// The health that the device reports: `BatteryManager.BATTERY_HEALTH_…` of Android.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BatteryHealth {
    Good,
    Overheated,
    Dead,
    OverVoltage,
    Failed,
    Cold,
}

impl Battery {
    pub(crate) fn parse(output: &ShellOutput) -> Reading<Self> {
        let text = &output.stdout;
        if field(text, "present") == Some("false") {
            return Err(Unread::Absent("the device has no battery".to_owned()));
        }
        let value = |name: &str| field(text, name).and_then(number);
        let level = match (value("level"), value("scale")) {
            (Some(level), Some(scale)) if scale > 0.0 => level / scale * 100.0,
            _ => return Err(unread(COMMAND, output)),
        };
        if !(0.0..=100.0).contains(&level) {
            return Err(Unread::Garbled(format!(
                "the device reports a battery level of {level} %, expected 0 to 100 %"
            )));
        }
        let sources = [
            "AC powered",
            "USB powered",
            "Wireless powered",
            "Dock powered",
        ];
        Ok(Self {
            level,
            temperature: value("temperature").map(|tenths| tenths / 10.0),
            voltage: value("voltage").map(|millivolts| millivolts / 1000.0),
            has_power: sources.iter().any(|name| field(text, name) == Some("true")),
            charge: match field(text, "status") {
                Some("2") => Some(Charge::Charging),
                Some("3") => Some(Charge::Discharging),
                Some("4") => Some(Charge::NotCharging),
                Some("5") => Some(Charge::Full),
                _ => None,
            },
            health: match field(text, "health") {
                Some("2") => Some(BatteryHealth::Good),
                Some("3") => Some(BatteryHealth::Overheated),
                Some("4") => Some(BatteryHealth::Dead),
                Some("5") => Some(BatteryHealth::OverVoltage),
                Some("6") => Some(BatteryHealth::Failed),
                Some("7") => Some(BatteryHealth::Cold),
                _ => None,
            },
            is_simulated: text.contains("UPDATES STOPPED"),
        })
    }
}
