//! The metrics of the probe.

use conductor_plugin_api::{Metric, Report};

use crate::{config::AppConfig, examination::DeviceFindings};

pub(crate) const PHASE: Metric<1> = Metric::gauge("phase", "Duration of each phase of the check.")
    .unit("seconds")
    .labels(["phase"]);
pub(crate) const DURATION: Metric =
    Metric::gauge("duration", "Duration of the whole check.").unit("seconds");
pub(crate) const UPTIME: Metric =
    Metric::gauge("uptime", "Time since the device started.").unit("seconds");
pub(crate) const BATTERY_LEVEL: Metric =
    Metric::gauge("battery_level", "Charge of the battery, 0 to 1.").unit("ratio");
pub(crate) const BATTERY_TEMPERATURE: Metric =
    Metric::gauge("battery_temperature", "Temperature of the battery.").unit("celsius");
pub(crate) const BATTERY_VOLTAGE: Metric =
    Metric::gauge("battery_voltage", "Voltage of the battery.").unit("volts");
pub(crate) const EXTERNAL_POWER: Metric = Metric::gauge(
    "external_power",
    "1 if a charger, a computer or a dock supplies the device with power, otherwise 0.",
);
pub(crate) const STORAGE_SIZE: Metric =
    Metric::gauge("storage_size", "Size of the file system of storage_path.").unit("bytes");
pub(crate) const STORAGE_FREE: Metric = Metric::gauge(
    "storage_free",
    "Free space of the file system of storage_path.",
)
.unit("bytes");
pub(crate) const THERMAL_STATUS: Metric = Metric::gauge(
    "thermal_status",
    "Throttling: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown.",
);
pub(crate) const TEMPERATURE: Metric<1> = Metric::gauge(
    "temperature",
    "Highest temperature of each kind of sensor: cpu, gpu, battery, skin, usb_port, power_amplifier, npu.",
)
.unit("celsius")
.labels(["sensor"]);
pub(crate) const APP_VERSION_CODE: Metric<1> = Metric::gauge(
    "app_version_code",
    "Version code of each app of the config.",
)
.labels(["package"]);
pub(crate) const LAUNCH: Metric = Metric::gauge(
    "launch",
    "Time that the activity of the intent took to start.",
)
.unit("seconds");

/// Adds what was found; what the device does not tell is left out.
pub(crate) fn record(report: Report, found: &DeviceFindings, apps: &[AppConfig]) -> Report {
    let mut values = Values(report);
    values.set(&UPTIME, found.uptime);
    if let Some(Ok(battery)) = &found.battery {
        values.set(&BATTERY_LEVEL, Some(battery.level / 100.0));
        values.set(&BATTERY_TEMPERATURE, battery.temperature);
        values.set(&BATTERY_VOLTAGE, battery.voltage);
        let has_power = f64::from(u8::from(battery.has_power));
        values.set(&EXTERNAL_POWER, Some(has_power));
    }
    if let Some(Ok(storage)) = &found.storage {
        values.set(&STORAGE_SIZE, Some(storage.size));
        values.set(&STORAGE_FREE, Some(storage.free));
    }
    if let Some(Ok(thermal)) = &found.thermal {
        values.set(&THERMAL_STATUS, Some(thermal.status.into()));
    }
    if let Some(Ok(Some(seconds))) = found.launch {
        values.set(&LAUNCH, Some(seconds));
    }
    let mut report = values.0;
    if let Some(Ok(thermal)) = &found.thermal {
        for (sensor, celsius) in thermal.temperatures() {
            report = report.set(&TEMPERATURE, [sensor], celsius);
        }
    }
    for app in apps {
        if let Some(code) = found.version_code(&app.package) {
            #[expect(clippy::cast_precision_loss, reason = "codes have some ten digits")]
            let code = code as f64;
            report = report.set(&APP_VERSION_CODE, [&app.package], code);
        }
    }
    report
}

/// A report that gets the values that are known.
struct Values(Report);

impl Values {
    fn set(&mut self, metric: &Metric, value: Option<f64>) {
        if let Some(value) = value {
            let so_far = std::mem::replace(&mut self.0, Report::healthy(""));
            self.0 = so_far.set(metric, [], value);
        }
    }
}
