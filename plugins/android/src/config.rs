//! Keys of an Android platform's `config` table.

use conductor_net::{
    DurationLimits, DurationRules, Limits, NameResolver, ServerAddress, TOTAL, TimedPhases,
};
use conductor_plugin_api::{
    Failure,
    config::{Duration, Size},
    schemars,
};
use serde::Deserialize;

use crate::{
    AndroidProbe,
    conditions::DeviceConditions,
    examination::ExaminationPlan,
    names::{check_action, check_component, check_package, check_serial, check_text, quote},
    server::AdbServer,
};

/// Checks an Android device through an adb server: connection, boot, battery, storage, temperature and apps.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AndroidConfig {
    /// The adb server, `HOST` or `HOST:PORT`; the default port is 5037.
    #[serde(default = "default_address")]
    #[schemars(length(min = 1), example = &"lab.example")]
    address: String,

    /// Serial of the device, the first column of `adb devices`, or its USB port as `adb devices -l` lists it. It can be left
    /// out while the adb server has only one device.
    #[schemars(
        length(min = 1),
        example = &"R58M123ABC",
        example = &"192.0.2.7:5555",
        example = &"usb:1-4"
    )]
    serial: Option<String>,

    /// Limits of the time since the device started.
    #[schemars(extend("examples" = [{"degraded_below": "10m"}]))]
    uptime: Option<Limits<Duration>>,

    /// Limits of the charge of the battery in percent. The default applies to devices with a battery.
    #[schemars(extend("default" = {"degraded_below": 20, "unhealthy_below": 5}))]
    battery_percent: Option<Limits<f64>>,

    /// Limits of the temperature of the battery in degrees Celsius. The default applies to devices that tell it.
    #[schemars(extend("default" = {"degraded_above": 45, "unhealthy_above": 55}))]
    battery_temperature: Option<Limits<f64>>,

    /// The device must have power from outside: unhealthy without it, degraded if the battery discharges all the same.
    #[serde(default)]
    charging: bool,

    /// Path on the device whose file system is measured.
    #[serde(default = "default_storage_path")]
    #[schemars(length(min = 1, max = 1024), example = &"/sdcard")]
    storage_path: String,

    /// Limits of the used part of the storage in percent.
    #[schemars(extend("default" = {"degraded_above": 90, "unhealthy_above": 97}))]
    storage_percent: Option<Limits<f64>>,

    /// Limits of the free space of the storage.
    #[schemars(extend("examples" = [{"unhealthy_below": "500MiB"}]))]
    storage_free: Option<Limits<Size>>,

    /// Limits of the thermal status: 0 none, 1 light, 2 moderate, 3 severe, 4 critical, 5 emergency, 6 shutdown. The default
    /// applies to devices that have one, since Android 10.
    #[schemars(extend("default" = {"degraded_above": 1, "unhealthy_above": 2}))]
    thermal_status: Option<Limits<u32>>,

    /// Limits of the highest temperature of a CPU sensor in degrees Celsius.
    #[schemars(extend("examples" = [{"degraded_above": 80}]))]
    cpu_temperature: Option<Limits<f64>>,

    /// Limits of the highest temperature of a sensor of the surface in degrees Celsius.
    #[schemars(extend("examples" = [{"degraded_above": 43}]))]
    skin_temperature: Option<Limits<f64>>,

    /// Apps that must be installed and enabled.
    #[serde(default)]
    #[schemars(extend("examples" = [[{"package": "com.example.kiosk", "foreground": true}]]))]
    apps: Vec<AppConfig>,

    /// Activity that each check starts, with `am start -W`: it comes to the foreground. The device is unhealthy if it does
    /// not start.
    intent: Option<IntentConfig>,

    /// Duration after which the device is degraded: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"intent": "3s"}]))]
    degraded_after: Option<DurationLimits<AndroidPhases>>,

    /// Duration after which the device is unhealthy: of the whole check, or by phase.
    #[schemars(extend("examples" = [{"total": "10s"}]))]
    unhealthy_after: Option<DurationLimits<AndroidPhases>>,
}

/// An app that must be installed.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppConfig {
    /// Name of its package.
    #[schemars(length(min = 1, max = 255), example = &"com.example.kiosk")]
    pub(crate) package: String,

    /// The app must be the one that the user sees.
    #[serde(default)]
    pub(crate) foreground: bool,

    /// Limits of its version code, since Android 8.
    #[schemars(extend("examples" = [{"unhealthy_below": 412}]))]
    pub(crate) version_code: Option<Limits<u64>>,
}

/// The intent that starts an activity; it has an action, a component, or both.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IntentConfig {
    /// The action.
    #[schemars(length(min = 1, max = 255), example = &"android.intent.action.VIEW")]
    action: Option<String>,

    /// The URI to open.
    #[schemars(length(min = 1, max = 1024), example = &"shop://health")]
    data: Option<String>,

    /// The activity, `PACKAGE/CLASS`.
    #[schemars(length(min = 1, max = 255), example = &"com.example.shop/.HealthActivity")]
    component: Option<String>,
}

/// The phases of a check.
struct AndroidPhases;

impl TimedPhases for AndroidPhases {
    const PHASES: &'static [(&'static str, &'static str)] = &[
        (TOTAL, "The whole check."),
        ("resolve", "Name resolution."),
        ("connect", "All connections to the adb server."),
        (
            "devices",
            "The list of devices, and the features of this one.",
        ),
        ("boot", "The state of the boot."),
        ("battery", "The state of the battery."),
        ("storage", "The space of the storage."),
        ("thermal", "The thermal status."),
        ("packages", "The list of packages, with `apps`."),
        ("foreground", "The apps in the foreground, with `apps`."),
        ("intent", "The start of the activity, with `intent`."),
    ];
}

impl AndroidConfig {
    /// Returns the probe, or every wrong key.
    pub(crate) fn into_probe(self) -> Result<AndroidProbe, Failure> {
        let mut faults = Vec::new();
        let address = ServerAddress::parse(&self.address, Some(ADB_PORT))
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", self.address)))
            .ok();
        let mut check = |key: String, text: Option<&str>, rule: Rule| {
            if let Some(text) = text
                && let Err(rule) = rule(text)
            {
                faults.push(format!("key `{key}`: {text:?} {rule}"));
            }
        };
        check("serial".to_owned(), self.serial.as_deref(), check_serial);
        check(
            "storage_path".to_owned(),
            Some(&self.storage_path),
            check_path,
        );
        for (nth, app) in self.apps.iter().enumerate() {
            check(
                format!("apps[{nth}].package"),
                Some(&app.package),
                check_package,
            );
        }
        if let Some(intent) = &self.intent {
            let IntentConfig {
                action,
                data,
                component,
            } = intent;
            check("intent.action".to_owned(), action.as_deref(), check_action);
            check("intent.data".to_owned(), data.as_deref(), check_text);
            check(
                "intent.component".to_owned(),
                component.as_deref(),
                check_component,
            );
            if action.is_none() && component.is_none() {
                faults.push(
                    "key `intent`: it names no activity; set `action` or `component`".to_owned(),
                );
            }
        }
        for (nth, app) in self.apps.iter().enumerate() {
            if self.apps[..nth]
                .iter()
                .any(|other| other.package == app.package)
            {
                faults.push(format!(
                    "key `apps[{nth}].package`: {} is listed twice; remove one",
                    app.package
                ));
            }
        }
        let plan = ExaminationPlan {
            serial: self.serial.clone(),
            storage: format!("df {}", quote(&self.storage_path)),
            lists_packages: !self.apps.is_empty(),
            finds_foreground: self.apps.iter().any(|app| app.foreground),
            launch: self.intent.as_ref().map(IntentConfig::command),
        };
        let conditions = self.conditions(&mut faults);
        match address {
            Some(address) if faults.is_empty() => Ok(AndroidProbe {
                server: AdbServer {
                    address,
                    resolver: NameResolver::default(),
                },
                plan,
                conditions,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }

    fn conditions(self, faults: &mut Vec<String>) -> DeviceConditions {
        validate("uptime", self.uptime.as_ref(), faults);
        validate("storage_free", self.storage_free.as_ref(), faults);
        validate("thermal_status", self.thermal_status.as_ref(), faults);
        for (key, limits) in [
            ("battery_percent", &self.battery_percent),
            ("battery_temperature", &self.battery_temperature),
            ("storage_percent", &self.storage_percent),
            ("cpu_temperature", &self.cpu_temperature),
            ("skin_temperature", &self.skin_temperature),
        ] {
            validate(key, limits.as_ref(), faults);
            if let Some(limits) = limits.as_ref().filter(|_| key.ends_with("_percent")) {
                validate_percent(key, limits, faults);
            }
        }
        for (nth, app) in self.apps.iter().enumerate() {
            let key = format!("apps[{nth}].version_code");
            validate(&key, app.version_code.as_ref(), faults);
        }
        DeviceConditions {
            uptime: self.uptime,
            battery_percent: self.battery_percent,
            battery_temperature: self.battery_temperature,
            charging: self.charging,
            storage_path: self.storage_path,
            storage_percent: self.storage_percent,
            storage_free: self.storage_free,
            thermal_status: self.thermal_status,
            cpu_temperature: self.cpu_temperature,
            skin_temperature: self.skin_temperature,
            apps: self.apps,
            durations: DurationRules::new(
                self.degraded_after.as_ref(),
                self.unhealthy_after.as_ref(),
                faults,
            ),
        }
    }
}

impl IntentConfig {
    fn command(&self) -> String {
        let Self {
            action,
            data,
            component,
        } = self;
        let options = [("-a", action), ("-d", data), ("-n", component)];
        let options = options
            .into_iter()
            .filter_map(|(option, value)| Some(format!(" {option} {}", quote(value.as_ref()?))));
        format!("am start -W{}", options.collect::<String>())
    }
}

/// Checks a text; an error is the rule that it breaks.
type Rule = fn(&str) -> Result<(), &'static str>;

fn check_path(path: &str) -> Result<(), &'static str> {
    match path.starts_with('/') {
        true => check_text(path),
        false => Err("is not an absolute path; write one such as \"/data\""),
    }
}

fn validate<T: Copy + std::fmt::Display + PartialOrd>(
    key: &str,
    limits: Option<&Limits<T>>,
    faults: &mut Vec<String>,
) {
    if let Some(limits) = limits {
        limits.validate(key, faults);
    }
}

fn validate_percent(key: &str, limits: &Limits<f64>, faults: &mut Vec<String>) {
    let percents = [
        limits.degraded_above,
        limits.unhealthy_above,
        limits.degraded_below,
        limits.unhealthy_below,
    ];
    for percent in percents.into_iter().flatten() {
        if !(0.0..=100.0).contains(&percent) {
            faults.push(format!(
                "key `{key}`: {percent} is not a percentage; choose from 0 to 100"
            ));
        }
    }
}

const ADB_PORT: u16 = 5037;

fn default_address() -> String {
    "127.0.0.1".to_owned()
}

fn default_storage_path() -> String {
    "/data".to_owned()
}

const fn above<T>(degraded: T, unhealthy: T) -> Limits<T> {
    Limits {
        degraded_above: Some(degraded),
        unhealthy_above: Some(unhealthy),
        degraded_below: None,
        unhealthy_below: None,
    }
}

/// The default of `battery_percent`.
pub(crate) const LOW: Limits<f64> = Limits {
    degraded_above: None,
    unhealthy_above: None,
    degraded_below: Some(20.0),
    unhealthy_below: Some(5.0),
};
/// The default of `battery_temperature`.
pub(crate) const HOT: Limits<f64> = above(45.0, 55.0);
/// The default of `storage_percent`.
pub(crate) const FULL: Limits<f64> = above(90.0, 97.0);
/// The default of `thermal_status`: degraded if moderate, unhealthy from severe on.
pub(crate) const THROTTLED: Limits<u32> = above(1, 2);
