//! Texts of the config on their way into a shell.

use super::*;
use crate::names::quote;

#[cfg(unix)]
#[test]
fn a_quoted_text_is_one_argument_of_a_real_shell() {
    for text in [
        "shop://health",
        "",
        "a b",
        "'",
        "a'; reboot; echo 'b",
        "$(reboot) `reboot` $HOME \\ \" * ? ~ # & | > < ! {a,b} ;",
        "~root",
        "-n",
        "ünïcödé",
    ] {
        let script = format!("printf '<%s>' {}", quote(text));
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("<{text}>")
        );
    }
}

#[test]
fn what_the_config_says_reaches_the_device_quoted() {
    let start = "am start -W -a android.intent.action.VIEW -d 'shop://a'\\''; reboot' -n 'com.example.shop/.A$B'";
    let device = TestDevice::healthy()
        .with("am start -W", "Error: another command\n")
        .with(start, "Status: ok\n")
        .with("df ", "another command")
        .with(
            "df '/data/a b'",
            "Filesystem 1K-blocks Used Available Use% Mounted on\n/d 10 1 9 10% /data\n",
        );
    let report = check(&json!({
        "address": with_device(device),
        "storage_path": "/data/a b",
        "intent": {
            "action": "android.intent.action.VIEW",
            "data": "shop://a'; reboot",
            "component": "com.example.shop/.A$B",
        },
    }));
    assert_report(&report, Status::Healthy, "10.0 % of /data/a b used");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (keys, message) in [
        (
            json!({"address": "lab:0"}),
            "key `address`: \"lab:0\" does not end in a port",
        ),
        (
            json!({"serial": "a b"}),
            "key `serial`: \"a b\" is not a serial; write the first column of `adb devices`",
        ),
        (
            json!({"storage_path": "data"}),
            "key `storage_path`: \"data\" is not an absolute path",
        ),
        (
            json!({"storage_path": "/a\nreboot"}),
            "key `storage_path`: \"/a\\nreboot\" is empty, has more than",
        ),
        (
            json!({"apps": [{"package": "com.example;reboot"}]}),
            "key `apps[0].package`: \"com.example;reboot\" is not a package name; write one such as",
        ),
        (
            json!({"apps": [{"package": "a.b"}, {"package": "a.b"}]}),
            "key `apps[1].package`: a.b is listed twice",
        ),
        (
            json!({"apps": [{"package": "a.b", "version_code": {}}]}),
            "key `apps[0].version_code`: the table has no limit",
        ),
        (
            json!({"intent": {}}),
            "key `intent`: it names no activity; set `action` or `component`",
        ),
        (
            json!({"intent": {"action": "a b"}}),
            "key `intent.action`: \"a b\" is not the action",
        ),
        (
            json!({"intent": {"component": "com.example.shop"}}),
            "key `intent.component`: \"com.example.shop\" is not the name of an activity; write PACKAGE/CLASS",
        ),
        (
            json!({"intent": {"component": "a.b/.C;reboot"}}),
            "key `intent.component`",
        ),
        (
            json!({"intent": {"action": "A", "data": "x\u{0}"}}),
            "key `intent.data`",
        ),
        (
            json!({"battery_percent": {"degraded_below": 101}}),
            "key `battery_percent`: 101 is not a percentage",
        ),
        (
            json!({"thermal_status": {"degraded_above": 3, "unhealthy_above": 2}}),
            "key `thermal_status`: `degraded_above` (3) is above",
        ),
    ] {
        let created =
            TestHost::new("kiosk").create_async_unchecked::<AndroidProbe>(&keys.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
