//! Verdicts on devices behind a healthy adb server.

use super::{
    device::{BATTERY, THERMAL},
    *,
};

fn all() -> Value {
    json!({
        "serial": "R58M123ABC", "charging": true,
        "apps": [{"package": "com.example.kiosk", "foreground": true, "version_code": {"unhealthy_below": 412}}],
        "intent": {"action": "android.intent.action.VIEW", "data": "shop://health"},
    })
}

fn check_device(device: TestDevice, config: &Value) -> Report {
    check(&with(json!({"address": with_device(device)}), config))
}

#[test]
fn a_healthy_device_is_described_and_measured() {
    let report = check_device(TestDevice::healthy(), &all());
    assert_report(
        &report,
        Status::Healthy,
        "Pixel 7: battery 85 %, 40.0 % of /data used, thermal status none, com.example.kiosk 412 in the foreground, \
         up 3 d 4 h, in ",
    );
    for (metric, value) in [
        (UPTIME, 273_600.11),
        (BATTERY_LEVEL, 0.85),
        (BATTERY_TEMPERATURE, 31.2),
        (BATTERY_VOLTAGE, 4.21),
        (EXTERNAL_POWER, 1.0),
        (STORAGE_SIZE, 113_246_208.0 * 1024.0),
        (STORAGE_FREE, 67_947_725.0 * 1024.0),
        (THERMAL_STATUS, 0.0),
        (LAUNCH, 0.345),
    ] {
        assert_eq!(report.value(&metric, []), Some(value), "{metric:?}");
    }
    for (sensor, value) in [
        ("cpu", Some(54.0)),
        ("skin", Some(33.4)),
        ("gpu", None),
        ("battery", None),
    ] {
        assert_eq!(report.value(&TEMPERATURE, [sensor]), value, "{sensor}");
    }
    let version = report.value(&APP_VERSION_CODE, ["com.example.kiosk"]);
    assert_eq!(version, Some(412.0));
    for phase in [
        "connect",
        "devices",
        "boot",
        "battery",
        "storage",
        "thermal",
        "packages",
        "foreground",
        "intent",
    ] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    let few = check_device(TestDevice::healthy(), &json!({}));
    assert_report(
        &few,
        Status::Healthy,
        "thermal status none, up 3 d 4 h, in ",
    );
    for phase in ["packages", "foreground", "intent"] {
        assert!(few.value(&PHASE, [phase]).is_none(), "{phase}");
    }
}

#[test]
fn a_device_with_an_old_android_is_checked_as_far_as_it_can_tell() {
    let apps = json!({"apps": [{"package": "com.example.kiosk", "foreground": true}]});
    let report = check_device(TestDevice::old(), &apps);
    assert_report(
        &report,
        Status::Healthy,
        "battery 85 %, 75.0 % of /data used, com.example.kiosk in the foreground, up 3 d 4 h",
    );
    assert_eq!(report.value(&THERMAL_STATUS, []), None);
    assert_eq!(report.value(&APP_VERSION_CODE, ["com.example.kiosk"]), None);
    let address = with_device(TestDevice::old());
    for (key, message) in [
        (
            json!({"thermal_status": {"unhealthy_above": 2}}),
            "cannot judge `thermal_status`: `dumpsys thermalservice` on the device: Can't find service",
        ),
        (
            json!({"apps": [{"package": "com.example.kiosk", "version_code": {"unhealthy_below": 1}}]}),
            "cannot judge `apps.version_code`: Android tells it only from version 8 on",
        ),
    ] {
        let config = with(json!({"address": address}), &key);
        let failure = try_check(Duration::from_secs(60), &config).unwrap_err();
        assert!(failure.message().contains(message), "{failure}");
    }
}

#[test]
fn a_sick_device_is_named_with_what_was_found_and_wanted() {
    use Status::{Degraded, Unhealthy};
    let battery = |from: &str, to: &str| {
        assert!(BATTERY.contains(from), "{from}");
        TestDevice::healthy().with("dumpsys battery", &BATTERY.replace(from, to))
    };
    let thermal = |status: u32| {
        let line = format!("Thermal Status: {status}");
        let output = THERMAL.replace("Thermal Status: 0", &line);
        TestDevice::healthy().with("dumpsys thermalservice", &output)
    };
    let running = |output: &str| TestDevice::healthy().with("dumpsys activity", output);
    let packages = |output: &str| TestDevice::healthy().with("pm list packages", output);
    let started = |output: &str| TestDevice::healthy().with("am start -W", output);
    for (device, status, message) in [
        (
            TestDevice::healthy().with("getprop sys.boot_completed", "\n63.20 100.00\n"),
            Unhealthy,
            "the device has not completed its boot; it started 1 min 3 s ago",
        ),
        (
            battery("level: 85", "level: 19"),
            Degraded,
            "the battery is at 19 % (`battery_percent.degraded_below` is 20)",
        ),
        (
            battery("level: 85", "level: 4"),
            Unhealthy,
            "the battery is at 4 % (`battery_percent.unhealthy_below` is 5)",
        ),
        (
            battery("temperature: 312", "temperature: 561"),
            Unhealthy,
            "the battery is at 56.1 °C (`battery_temperature.unhealthy_above` is 55)",
        ),
        (battery("health: 2", "health: 3"), Unhealthy, "the battery is overheated"),
        (battery("health: 2", "health: 4"), Unhealthy, "the battery is dead"),
        (battery("health: 2", "health: 7"), Degraded, "the battery is too cold"),
        (
            battery("USB powered: true", "USB powered: false"),
            Unhealthy,
            "the device has no power from outside, expected one (`charging`)",
        ),
        (battery("status: 2", "status: 3"), Degraded, "the battery discharges although"),
        (
            battery("state:", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)"),
            Degraded,
            "the values of the battery are simulated",
        ),
        (
            TestDevice::healthy().with(
                "df ",
                "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/dm-5 1000 980 20 98% /data\n",
            ),
            Unhealthy,
            "98.0 % of /data are used (`storage_percent.unhealthy_above` is 97)",
        ),
        (
            thermal(2),
            Degraded,
            "the thermal status is 2 (moderate) (`thermal_status.degraded_above` is 1)",
        ),
        (
            thermal(3),
            Unhealthy,
            "the thermal status is 3 (severe) (`thermal_status.unhealthy_above` is 2)",
        ),
        (
            packages("package:com.example.kiosk.helper versionCode:7\n"),
            Unhealthy,
            "the app com.example.kiosk is not installed, or disabled",
        ),
        (
            packages("package:com.example.kiosk versionCode:411\n"),
            Unhealthy,
            "the app com.example.kiosk has the version code 411 (`apps.version_code.unhealthy_below` is 412)",
        ),
        (
            running("  topResumedActivity=ActivityRecord{1 u0 com.android.launcher3/.Launcher} t1}\n"),
            Unhealthy,
            "the app com.example.kiosk is not in the foreground: com.android.launcher3 is",
        ),
        (
            running("  topResumedActivity=null\n  mLastResumedActivity: ActivityRecord{1 u0 com.example.kiosk/.M t1}\n"),
            Unhealthy,
            "com.example.kiosk is not in the foreground: no app is",
        ),
        (
            started("Starting: Intent { }\nError type 3\nError: Activity class {a/b} does not exist.\n"),
            Unhealthy,
            "the device does not start the activity of `intent`: Error: Activity class {a/b} does not exist.",
        ),
        (
            started("Starting: Intent { }\nStatus: timeout\nComplete\n"),
            Unhealthy,
            "the device does not start the activity of `intent`: Status: timeout",
        ),
        (
            TestDevice::healthy().with_exit("pm list packages", "cmd: Can't find service: package\n", 20),
            Unhealthy,
            "lists no packages: cmd: Can't find service: package",
        ),
    ] {
        let report = check_device(device, &all());
        assert_report(&report, status, message);
    }
}

#[test]
fn limits_without_a_default_apply_when_they_are_set() {
    let address = with_device(TestDevice::healthy());
    for (keys, message) in [
        (
            json!({"uptime": {"degraded_above": "1d"}}),
            "the device started 3 d 4 h ago (`uptime.degraded_above` is 1day)",
        ),
        (
            json!({"storage_free": {"degraded_below": "1TiB"}}),
            "64.8 GiB of /data are free (`storage_free.degraded_below` is 1TiB)",
        ),
        (
            json!({"cpu_temperature": {"degraded_above": 53}}),
            "the sensor cpu is at 54.0 °C (`cpu_temperature.degraded_above` is 53)",
        ),
        (
            json!({"skin_temperature": {"degraded_above": 33}}),
            "the sensor skin is at 33.4 °C (`skin_temperature.degraded_above` is 33)",
        ),
    ] {
        let report = check(&with(json!({"address": address}), &keys));
        assert_report(&report, Status::Degraded, message);
    }
}

#[test]
fn a_value_that_the_device_does_not_have_fails_only_where_it_has_a_limit() {
    let without = TestDevice::healthy().with(
        "dumpsys battery",
        "Current Battery Service state:\n  present: false\n  level: 0\n  scale: 100\n",
    );
    let address = with_device(without);
    let config = json!({"address": address});
    let report = check(&config);
    assert_report(&report, Status::Healthy, "Pixel 7: 40.0 % of /data used");
    assert_eq!(report.value(&BATTERY_LEVEL, []), None);
    for (keys, message) in [
        (
            json!({"battery_percent": {"unhealthy_below": 5}}),
            "cannot judge `battery_percent`: the device has no battery",
        ),
        (
            json!({"charging": true}),
            "cannot judge `charging`: the device has no battery",
        ),
    ] {
        let config = with(config.clone(), &keys);
        let failure = try_check(Duration::from_secs(60), &config).unwrap_err();
        assert_eq!(failure.message(), message);
    }
}

#[test]
fn output_of_an_unknown_form_fails_the_check_and_is_shown_in_part() {
    let long = "x".repeat(10_000);
    for (begin, output, message) in [
        (
            "dumpsys battery",
            "level: 9999\nscale: 100\n",
            "a battery level of 9999 %, expected 0 to 100 %",
        ),
        (
            "dumpsys battery",
            "level: NaN\nscale: 100\n",
            "cannot judge `battery_percent`: `dumpsys battery`",
        ),
        (
            "dumpsys battery",
            "",
            "`dumpsys battery` on the device: no output",
        ),
        (
            "df ",
            "df: /data: No such file or directory\n",
            "`df /data` on the device: df: /data: No such",
        ),
        (
            "df ",
            "Filesystem 1K-blocks Used Available Use% Mounted on\n/d 5 -1 0 0% /data\n",
            "cannot judge `storage_percent`",
        ),
        (
            "dumpsys thermalservice",
            "Thermal Status: 77\n",
            "a thermal status that is not a number from 0 to 6",
        ),
        ("dumpsys thermalservice", long.as_str(), "xxxxx…"),
    ] {
        let address = with_device(TestDevice::healthy().with(begin, output));
        let config = json!({"address": address});
        let failure = try_check(Duration::from_secs(60), &config).unwrap_err();
        assert!(failure.message().contains(message), "{failure}");
        assert!(failure.message().len() < 600, "{failure}");
    }
}

#[test]
fn the_limits_of_a_phase_apply() {
    let config = json!({"degraded_after": {"battery": "1us"}});
    let report = check_device(TestDevice::healthy(), &config);
    assert_report(&report, Status::Degraded, "battery took ");
}
