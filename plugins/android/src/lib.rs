//! The `android` probe: checks an Android device through an adb server: connection, boot, battery, storage, temperature,
//! apps, and an activity that starts.
//!
//! ```toml
//! [platform.kiosk]
//! plugin = "android"
//! config = { serial = "R58M123ABC", charging = true, apps = [{ package = "com.example.kiosk", foreground = true }] }
//!
//! [platform.scanner]
//! plugin = "android"
//! config = { address = "lab.example", serial = "192.0.2.7:5555", intent = { component = "com.example.scan/.HealthActivity" } }
//! ```
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `address` | `"127.0.0.1"` | the adb server, `HOST` or `HOST:PORT`; the default port is 5037 |
//! | `serial` | the only device | serial of the device, or its USB port as `adb devices -l` lists it |
//! | `uptime` | none | limits of the time since the device started |
//! | `battery_percent` | below 20 and 5 | limits of the charge of the battery |
//! | `battery_temperature` | above 45 and 55 | limits of the temperature of the battery in °C |
//! | `charging` | `false` | the device must have power from outside, and not discharge |
//! | `storage_path` | `"/data"` | path on the device whose file system is measured |
//! | `storage_percent` | above 90 and 97 | limits of the used part of the storage |
//! | `storage_free` | none | limits of the free space of the storage |
//! | `thermal_status` | above 1 and 2 | limits of the thermal status, from 0, none, to 6, shutdown |
//! | `cpu_temperature`, `skin_temperature` | none | limits of the highest temperature of such a sensor in °C |
//! | `apps` | none | apps that must be installed: `package`, `foreground = true`, and limits of the `version_code` |
//! | `intent` | none | activity that each check starts: `action`, `data`, `component` |
//! | `degraded_after`, `unhealthy_after` | none | longest duration, in total or by phase, such as `{ intent = "3s" }` |
//!
//! A check asks the adb server for its devices, and runs one command after another on the device: `getprop`,
//! `dumpsys battery`, `df`, `dumpsys thermalservice`; with `apps`, `pm list packages` and `dumpsys activity`; with `intent`,
//! `am start -W`. Only the last one changes anything: it brings the activity to the foreground.
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `conductor_android_phase_seconds` | `phase` | duration of each phase |
//! | `conductor_android_duration_seconds` | | the whole check |
//! | `conductor_android_uptime_seconds` | | time since the device started |
//! | `conductor_android_battery_level_ratio` | | charge of the battery, 0 to 1 |
//! | `conductor_android_battery_temperature_celsius`, `conductor_android_battery_voltage_volts` | | of the battery |
//! | `conductor_android_external_power` | | 1 with power from outside, otherwise 0 |
//! | `conductor_android_storage_size_bytes`, `conductor_android_storage_free_bytes` | | of the file system of `storage_path` |
//! | `conductor_android_thermal_status` | | throttling, 0 to 6 |
//! | `conductor_android_temperature_celsius` | `sensor` | highest temperature of each kind of sensor |
//! | `conductor_android_app_version_code` | `package` | version code of each app of the config |
//! | `conductor_android_launch_seconds` | | time that the activity of `intent` took to start |
//!
//! # Unhealthy or failure
//! *Unhealthy* means that the platform is at fault: an adb server that refuses, is silent or speaks another protocol; a
//! device that is absent, offline, unauthorized, not accessible for the adb server, or has not completed its boot; no output
//! in time; a sick battery; an app that is not installed or not in the foreground; an activity that does not start; a limit
//! `unhealthy_…` that is exceeded.
//!
//! A *failure* is a check that could not tell: several devices and no `serial`, a value with a limit that the device does
//! not report, output of an unknown form, no response from the resolver, no network.
//!
//! The probe gives up a tenth of its time before the deadline, at most 100 ms, so that it can still report all this.

mod apps;
mod battery;
mod conditions;
mod config;
mod devices;
mod examination;
mod metrics;
mod names;
mod reading;
mod server;
mod storage;
#[cfg(test)]
mod tests;
mod thermal;
mod wire;

use conductor_net::{PhaseClock, TimeLimit};
use conductor_plugin_api::{AsyncProbe, Context, Failure, Report, export_plugin};

use crate::{
    conditions::DeviceConditions,
    config::AndroidConfig,
    examination::{DeviceFindings, ExaminationPlan},
    metrics::*,
    server::AdbServer,
};

export_plugin! {
    id: "android",
    async_probe: AndroidProbe,
    name: "Android",
    needs: ["network"],
    metrics: [
        PHASE, DURATION, UPTIME, BATTERY_LEVEL, BATTERY_TEMPERATURE, BATTERY_VOLTAGE, EXTERNAL_POWER, STORAGE_SIZE,
        STORAGE_FREE, THERMAL_STATUS, TEMPERATURE, APP_VERSION_CODE, LAUNCH,
    ],
}

struct AndroidProbe {
    server: AdbServer,
    plan: ExaminationPlan,
    conditions: DeviceConditions,
}

impl AsyncProbe for AndroidProbe {
    type Config = AndroidConfig;

    fn create(config: AndroidConfig, _: &Context<'_>) -> Result<Self, Failure> {
        config.into_probe()
    }

    async fn check(&mut self, context: &Context<'_>) -> Result<Report, Failure> {
        let remaining = || context.remaining();
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let mut found = DeviceFindings::default();
        let examined = self
            .plan
            .examine(&mut self.server, &mut found, &mut clock)
            .await;
        let took = clock.limit.elapsed();
        let report = match examined {
            Ok(()) => self.conditions.judge(&found, &clock)?,
            Err(error) => error.into_report()?,
        };
        let report = record(report, &found, &self.conditions.apps);
        let report = clock.record(report, &PHASE);
        Ok(report.set(&DURATION, [], took.as_secs_f64()))
    }
}
