//! Throttling and temperatures, by `dumpsys thermalservice` (since Android 10).

use crate::{
    reading::{Reading, Unread, field, number, unread},
    wire::ShellOutput,
};

pub(crate) const COMMAND: &str = "dumpsys thermalservice";

/// The thermal state of a device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Thermal {
    /// From 0, none, to 6, shutdown: `PowerManager.THERMAL_STATUS_…` of Android.
    pub(crate) status: u32,
    /// The highest temperature of each kind of sensor, in degrees Celsius.
    temperatures: Vec<(&'static str, f64)>,
}

impl Thermal {
    pub(crate) fn parse(output: &ShellOutput) -> Reading<Self> {
        let Some(status) = field(&output.stdout, "Thermal Status") else {
            return Err(unread(COMMAND, output));
        };
        let Some(status) = status
            .parse::<u32>()
            .ok()
            .filter(|status| *status <= MAX_STATUS)
        else {
            return Err(Unread::Garbled(format!(
                "the device reports a thermal status that is not a number from 0 to {MAX_STATUS}"
            )));
        };
        let mut temperatures: Vec<(&'static str, f64)> = Vec::new();
        for (sensor, value) in measured(&output.stdout).filter_map(sensor) {
            match temperatures.iter_mut().find(|(name, _)| *name == sensor) {
                Some((_, highest)) => *highest = highest.max(value),
                None => temperatures.push((sensor, value)),
            }
        }
        Ok(Self {
            status,
            temperatures,
        })
    }

    /// Returns the highest temperature of a kind of sensor.
    pub(crate) fn temperature(&self, sensor: &str) -> Option<f64> {
        let mut all = self.temperatures();
        all.find_map(|(name, value)| (name == sensor).then_some(value))
    }

    pub(crate) fn temperatures(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.temperatures.iter().copied()
    }

    /// Returns Android's name of the status.
    pub(crate) fn status_name(&self) -> &'static str {
        let nth = usize::try_from(self.status).unwrap_or(usize::MAX);
        STATUS_NAMES.get(nth).copied().unwrap_or("unknown")
    }
}

/// Returns the lines with current temperatures; the cached ones if the device has no others.
fn measured(text: &str) -> impl Iterator<Item = &str> {
    let current = text.split_once("Current temperatures from HAL:");
    let section = current.map(|(_, rest)| rest).filter(|rest| {
        // It is empty while the sensors are not ready.
        let mut lines = rest.trim_start().lines();
        lines.next().is_some_and(|line| line.contains(MEASUREMENT))
    });
    let section = section.or_else(|| Some(text.split_once("Cached temperatures:")?.1));
    let lines = section.unwrap_or_default().trim_start().lines();
    lines.take_while(|line| line.contains(MEASUREMENT))
}

/// Parses `Temperature{mValue=31.6, mType=0, mName=CPU0, mStatus=0}`.
fn sensor(line: &str) -> Option<(&'static str, f64)> {
    let (_, fields) = line.split_once(MEASUREMENT)?;
    let value = |name: &str| {
        let mut fields = fields.split([',', '}']).map(str::trim);
        fields.find_map(|field| field.strip_prefix(name))
    };
    let nth: usize = value("mType=")?.parse().ok()?;
    let celsius = number(value("mValue=")?)?;
    let sensor = SENSORS.get(nth).copied().filter(|name| !name.is_empty())?;
    // Unused sensors have values such as -274.
    PLAUSIBLE.contains(&celsius).then_some((sensor, celsius))
}

const MEASUREMENT: &str = "Temperature{";

const STATUS_NAMES: [&str; 7] = [
    "none",
    "light",
    "moderate",
    "severe",
    "critical",
    "emergency",
    "shutdown",
];
const MAX_STATUS: u32 = 6;

/// The kinds of sensors by their number: `TemperatureType` of Android's thermal HAL. Those without a name are no temperatures.
const SENSORS: [&str; 10] = [
    "cpu",
    "gpu",
    "battery",
    "skin",
    "usb_port",
    "power_amplifier",
    "",
    "",
    "",
    "npu",
];

/// Degrees Celsius that a device can have.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = -60.0..=200.0;
