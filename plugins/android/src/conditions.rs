//! The verdict on what a device says of itself.

use std::time::Duration;

use conductor_net::{
    DurationRules, LimitVerdict, Limits, PhaseClock, show_age, show_duration, show_size,
};
use conductor_plugin_api::{
    Failure, Report, Status,
    config::{self, Size},
};

use crate::{
    battery::{Battery, BatteryHealth, Charge},
    config::{AppConfig, FULL, HOT, LOW, THROTTLED},
    examination::DeviceFindings,
    reading::{Reading, Unread},
    storage::Storage,
    thermal::Thermal,
    wire::shown,
};

/// The conditions of a config. Limits without a value have a default that applies where the device has what they limit.
pub(crate) struct DeviceConditions {
    pub(crate) uptime: Option<Limits<config::Duration>>,
    pub(crate) battery_percent: Option<Limits<f64>>,
    pub(crate) battery_temperature: Option<Limits<f64>>,
    pub(crate) charging: bool,
    pub(crate) storage_path: String,
    pub(crate) storage_percent: Option<Limits<f64>>,
    pub(crate) storage_free: Option<Limits<Size>>,
    pub(crate) thermal_status: Option<Limits<u32>>,
    pub(crate) cpu_temperature: Option<Limits<f64>>,
    pub(crate) skin_temperature: Option<Limits<f64>>,
    pub(crate) apps: Vec<AppConfig>,
    pub(crate) durations: DurationRules,
}

impl DeviceConditions {
    /// Judges a device that has replied to every command; the report has no metrics yet.
    pub(crate) fn judge(
        &self,
        found: &DeviceFindings,
        clock: &PhaseClock<'_>,
    ) -> Result<Report, Failure> {
        let mut verdict = LimitVerdict::default();
        if !found.is_booted {
            let since = found
                .uptime
                .map(|uptime| format!("; it started {} ago", age(uptime)));
            let since = since.unwrap_or_default();
            let fault = format!("the device has not completed its boot{since}");
            return Ok(Report::unhealthy(fault));
        }
        self.judge_uptime(found, &mut verdict);
        if let Some(battery) = &found.battery {
            self.judge_battery(battery, &mut verdict);
        }
        if let Some(storage) = &found.storage {
            self.judge_storage(storage, &mut verdict);
        }
        if let Some(thermal) = &found.thermal {
            self.judge_thermal(thermal, &mut verdict);
        }
        for app in &self.apps {
            judge_app(app, found, &mut verdict);
        }
        if let Some(Err(words)) = &found.launch {
            let fault = format!(
                "the device does not start the activity of `intent`: {}",
                shown(words)
            );
            verdict.add(Status::Unhealthy, fault);
        }
        let elapsed = clock.limit.elapsed();
        verdict.judge_durations(&self.durations, elapsed, |phase| clock.took(phase));
        verdict.into_report(self.summary(found, elapsed))
    }

    fn judge_uptime(&self, found: &DeviceFindings, verdict: &mut LimitVerdict) {
        let uptime = found.uptime.ok_or("the device does not tell its uptime");
        let reading = uptime.map(|seconds| {
            let shown = format!("the device started {} ago", age(seconds));
            (duration(seconds).into(), shown)
        });
        verdict.judge_reading("uptime", reading, self.uptime.as_ref());
    }

    fn judge_battery(&self, battery: &Reading<Battery>, verdict: &mut LimitVerdict) {
        let level = value(battery, |battery| Some(battery.level));
        let shown = |level| format!("the battery is at {level:.0} %");
        judge(
            "battery_percent",
            level,
            shown,
            self.battery_percent,
            Some(LOW),
            verdict,
        );
        let temperature = value(battery, |battery| battery.temperature);
        let shown = |celsius| format!("the battery is at {celsius:.1} °C");
        judge(
            "battery_temperature",
            temperature,
            shown,
            self.battery_temperature,
            Some(HOT),
            verdict,
        );
        let battery = match battery {
            Ok(battery) => battery,
            Err(unread) => {
                if self.charging {
                    let reason = unread.reason();
                    verdict.cannot_tell(format!("cannot judge `charging`: {reason}"));
                }
                return;
            }
        };
        if let Some((status, health)) = battery.health.and_then(sick) {
            verdict.add(status, format!("the battery is {health}"));
        }
        match battery.charge {
            _ if !self.charging => {}
            _ if !battery.has_power => verdict.add(
                Status::Unhealthy,
                "the device has no power from outside, expected one (`charging`)".to_owned(),
            ),
            Some(Charge::Discharging) => verdict.add(
                Status::Degraded,
                "the battery discharges although the device has power from outside (`charging`); check cable and charger"
                    .to_owned(),
            ),
            _ => {}
        }
        if battery.is_simulated {
            verdict.add(
                Status::Degraded,
                "the values of the battery are simulated; end it with `adb shell dumpsys battery reset`".to_owned(),
            );
        }
    }

    fn judge_storage(&self, storage: &Reading<Storage>, verdict: &mut LimitVerdict) {
        let path = &self.storage_path;
        let used = value(storage, |storage| Some(storage.used_percent));
        let shown = |percent| format!("{percent:.1} % of {path} are used");
        judge(
            "storage_percent",
            used,
            shown,
            self.storage_percent,
            Some(FULL),
            verdict,
        );
        let free = value(storage, |storage| {
            Some(Size::from_bytes(whole(storage.free)))
        });
        let shown = |free: Size| format!("{} of {path} are free", show_size(free.bytes()));
        judge(
            "storage_free",
            free,
            shown,
            self.storage_free,
            None,
            verdict,
        );
    }

    fn judge_thermal(&self, thermal: &Reading<Thermal>, verdict: &mut LimitVerdict) {
        let status = value(thermal, |thermal| Some(thermal.status));
        let name = thermal
            .as_ref()
            .map(Thermal::status_name)
            .unwrap_or_default();
        let shown = |status| format!("the thermal status is {status} ({name})");
        judge(
            "thermal_status",
            status,
            shown,
            self.thermal_status,
            Some(THROTTLED),
            verdict,
        );
        for (key, sensor, limits) in [
            ("cpu_temperature", "cpu", self.cpu_temperature),
            ("skin_temperature", "skin", self.skin_temperature),
        ] {
            let celsius = value(thermal, |thermal| thermal.temperature(sensor));
            let shown = |celsius| format!("the sensor {sensor} is at {celsius:.1} °C");
            judge(key, celsius, shown, limits, None, verdict);
        }
    }

    /// Returns one line about a healthy device.
    fn summary(&self, found: &DeviceFindings, took: Duration) -> String {
        let mut parts = Vec::new();
        if let Some(Ok(battery)) = &found.battery {
            parts.push(format!("battery {:.0} %", battery.level));
        }
        if let Some(Ok(storage)) = &found.storage {
            parts.push(format!(
                "{:.1} % of {} used",
                storage.used_percent, self.storage_path
            ));
        }
        if let Some(Ok(thermal)) = &found.thermal {
            parts.push(format!("thermal status {}", thermal.status_name()));
        }
        parts.extend(self.apps.iter().map(|app| {
            let version = found.version_code(&app.package);
            let version = version.map(|code| format!(" {code}")).unwrap_or_default();
            let place = if app.foreground {
                "in the foreground"
            } else {
                "installed"
            };
            format!("{}{version} {place}", app.package)
        }));
        parts.extend(found.uptime.map(|uptime| format!("up {}", age(uptime))));
        let model = found.model.as_deref().unwrap_or("device");
        format!("{model}: {}, in {}", parts.join(", "), show_duration(took))
    }
}

/// Judges a value by its limits, or by the default where the device has it.
fn judge<T: Copy + std::fmt::Display + PartialOrd>(
    key: &str,
    value: Reading<T>,
    shown: impl Fn(T) -> String,
    limits: Option<Limits<T>>,
    default: Option<Limits<T>>,
    verdict: &mut LimitVerdict,
) {
    let limits = match &value {
        Err(Unread::Absent(_)) => limits,
        Ok(_) | Err(Unread::Garbled(_)) => limits.or(default),
    };
    let reading = value.map(|value| (value, shown(value)));
    let reading = reading.map_err(|unread| unread.reason().to_owned());
    verdict.judge_reading(key, reading, limits.as_ref());
}

/// Returns one value of a reading; absent if the device does not tell it.
fn value<R, T>(reading: &Reading<R>, of: impl Fn(&R) -> Option<T>) -> Reading<T> {
    let found = reading.as_ref().map_err(Clone::clone)?;
    of(found).ok_or_else(|| Unread::Absent("the device does not tell it".to_owned()))
}

fn judge_app(app: &AppConfig, found: &DeviceFindings, verdict: &mut LimitVerdict) {
    let package = &app.package;
    let Some(packages) = &found.packages else {
        return;
    };
    if !packages.contains_key(package) {
        verdict.add(
            Status::Unhealthy,
            format!(
                "the app {package} is not installed, or disabled; install it with `adb install`"
            ),
        );
        return;
    }
    let code = found
        .version_code(package)
        .ok_or("Android tells it only from version 8 on");
    let reading = code.map(|code| {
        (
            code,
            format!("the app {package} has the version code {code}"),
        )
    });
    verdict.judge_reading("apps.version_code", reading, app.version_code.as_ref());
    let Some(foreground) = found.foreground.as_ref().filter(|_| app.foreground) else {
        return;
    };
    if !foreground.contains(package) {
        let instead = match foreground.first() {
            Some(other) => format!("{} is", shown(other)),
            None => "no app is; the screen may be off or locked".to_owned(),
        };
        verdict.add(
            Status::Unhealthy,
            format!("the app {package} is not in the foreground: {instead}"),
        );
    }
}

fn sick(health: BatteryHealth) -> Option<(Status, &'static str)> {
    match health {
        BatteryHealth::Good => None,
        BatteryHealth::Cold => Some((Status::Degraded, "too cold")),
        BatteryHealth::Overheated => Some((Status::Unhealthy, "overheated")),
        BatteryHealth::Dead => Some((Status::Unhealthy, "dead")),
        BatteryHealth::OverVoltage => Some((Status::Unhealthy, "above its voltage")),
        BatteryHealth::Failed => Some((Status::Unhealthy, "defective, without a known cause")),
    }
}

fn age(seconds: f64) -> String {
    show_age(duration(seconds))
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Returns a number of bytes, which is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates at the bounds"
)]
fn whole(number: f64) -> u64 {
    number as u64
}
