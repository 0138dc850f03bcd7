//! systemd's interface on a real bus of D-Bus, and buses that misbehave.

mod conditions;
mod lies;
mod service;
mod timers;

use std::time::Duration;

use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use self::service::{TestBus, TestUnit};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn host() -> TestHost {
    TestHost::new("machine").timeout(MINUTE)
}

fn probe(config: &Value) -> SystemdProbe {
    host().create_async(&config.to_string()).unwrap()
}

fn check_by(host: &TestHost, probe: &mut SystemdProbe) -> Result<Report, Failure> {
    let result = host.check_async(probe);
    if let Ok(report) = &result {
        assert_legal(report);
    }
    result
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

fn with(mut config: Value, keys: &Value) -> Value {
    let keys = keys.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(keys);
    config
}

#[test]
fn a_system_without_failed_units_is_healthy() {
    let units = vec![
        TestUnit::new("nginx.service"),
        TestUnit::new("backup.service").state("inactive", "dead"),
    ];
    let Some(bus) = TestBus::start(units) else {
        return;
    };
    let report = bus.check(&json!({}));
    assert_report(
        &report,
        Status::Healthy,
        "systemd 252.39-1 is running, 0 failed units",
    );
    assert_eq!(report.value(&SYSTEM_STATE, ["running"]), Some(1.0));
    assert_eq!(report.value(&FAILED_UNITS, []), Some(0.0));
    for phase in ["connect", "auth", "list", "properties"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }
    bus.set_system("maintenance");
    assert_report(
        &bus.check(&json!({})),
        Status::Unhealthy,
        "the system is in rescue or emergency mode (its state is maintenance",
    );
    bus.set_system("starting");
    assert_report(
        &bus.check(&json!({})),
        Status::Degraded,
        "is still starting",
    );
    // A platform of units has nothing to do with the rest of the system.
    let report = bus.check(&json!({"units": ["nginx.service"]}));
    assert_report(&report, Status::Healthy, "1 unit, of which 1 is active");
    assert_eq!(report.value(&FAILED_UNITS, []), None);
}

#[test]
fn failed_units_are_named_with_the_reason_except_those_to_ignore() {
    let failed = |name: &'static str| {
        TestUnit::new(name)
            .state("failed", "failed")
            .result("exit-code")
    };
    let mut units = vec![failed("dirmngr@a.service"), failed("web.service")];
    units.push(TestUnit::new("db.service"));
    let Some(bus) = TestBus::start(units) else {
        return;
    };
    bus.set_system("degraded");
    let report = bus.check(&json!({"ignore": ["dirmngr@*"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "1 failed unit: web.service (exit-code) (`failed.unhealthy_above` is 0)",
    );
    assert_eq!(report.value(&FAILED_UNITS, []), Some(1.0));
    let report = bus.check(&json!({"failed": {"degraded_above": 0, "unhealthy_above": 2}}));
    assert_report(
        &report,
        Status::Degraded,
        "2 failed units: dirmngr@a.service",
    );
    let report = bus.check(&json!({"ignore": ["dirmngr@*", "web.service"]}));
    assert_report(&report, Status::Healthy, "0 failed units");
    let names = ["a", "b", "c", "d", "e"].map(|name| &*format!("{name}.service").leak());
    bus.add(names.map(failed).to_vec());
    let report = bus.check(&json!({}));
    assert_report(
        &report,
        Status::Unhealthy,
        "7 failed units: a.service (exit-code), ",
    );
    assert_report(&report, Status::Unhealthy, " and 2 more");
}

#[test]
fn a_bus_without_systemd_or_one_that_denies_a_call_is_named() {
    let Some(bus) = TestBus::without_systemd() else {
        return;
    };
    assert_report(
        &bus.check(&json!({})),
        Status::Unhealthy,
        "there is no systemd on this bus",
    );
    let rule = r#"<deny send_destination="org.freedesktop.systemd1" send_interface="org.freedesktop.systemd1.Manager" send_member="ListUnitsByPatterns"/>"#;
    let Some(bus) = TestBus::with_policy(rule, Vec::new()) else {
        return;
    };
    let failure = check_by(&host(), &mut probe(&bus.config(&json!({})))).unwrap_err();
    let denied = "the bus denies the host's user the call ListUnitsByPatterns(failed) to systemd";
    assert!(failure.message().contains(denied), "{failure}");
}

#[test]
fn a_systemd_that_does_not_respond_is_unhealthy_in_time() {
    let Some(bus) = TestBus::start(vec![TestUnit::new("silent.service")]) else {
        return;
    };
    let host = TestHost::new("machine").timeout(Duration::from_secs(2));
    let config = bus.config(&json!({"units": ["silent.service"]}));
    let report = check_by(&host, &mut probe(&config)).unwrap();
    assert_report(&report, Status::Unhealthy, "no answer within 1.9 s");
    assert_report(
        &report,
        Status::Unhealthy,
        "waiting for the reply to ListUnitsByNames",
    );
}

#[test]
fn a_hundred_units_fit_and_more_are_a_fault_of_the_config() {
    let names: Vec<_> = (0..100)
        .map(|nth| format!("shop-{nth:03}.service"))
        .collect();
    let units = names.iter().map(|name| TestUnit::new(name.clone().leak()));
    let Some(bus) = TestBus::start(units.collect()) else {
        return;
    };
    let report = bus.check(&json!({"units": names}));
    assert_report(
        &report,
        Status::Healthy,
        "100 units, of which 100 are active (metrics of the first 32)",
    );
    assert_eq!(report.value(&UNITS, ["active"]), Some(100.0));
    assert_eq!(report.value(&ACTIVE, ["shop-031.service"]), Some(1.0));
    assert_eq!(report.value(&ACTIVE, ["shop-032.service"]), None);
    bus.add(vec![TestUnit::new("shop-100.service")]);
    let config = bus.config(&json!({"units": ["shop-*"]}));
    let failure = check_by(&host(), &mut probe(&config)).unwrap_err();
    let message = "key `units` selects 101 units, expected at most 100";
    assert!(failure.message().contains(message), "{failure}");
    let report = bus.check(&json!({"units": ["shop-*"], "ignore": ["shop-00?.service"]}));
    assert_report(&report, Status::Healthy, "91 units");
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (config, message) in [
        (
            json!({"address": "unix:path=/run/bus"}),
            "key `address`: \"unix:path=/run/bus\" is an address of D-Bus; write unix:/run/bus",
        ),
        (
            json!({"address": "localhost:80"}),
            "is not a Unix socket; write it as unix:/PATH",
        ),
        (
            json!({"units": ["nginx"]}),
            "key `units[0]`: \"nginx\" has no type of unit; write for example nginx.service",
        ),
        (
            json!({"units": ["getty@.service"]}),
            "key `units[0]`: \"getty@.service\" is a template; name an instance of it, or all of them: getty@*.service",
        ),
        (
            json!({"units": ["a.service", ""]}),
            "key `units[1]`: the name has 0 bytes, expected 1 to 255",
        ),
        (
            json!({"ignore": ["[x"]}),
            "key `ignore[0]`: \"[x\" is not a pattern",
        ),
        (
            json!({"timers": ["backup.service"]}),
            "key `timers[0]`: \"backup.service\" is not a timer",
        ),
        (
            json!({"units": vec!["a.service"; 101]}),
            "key `units`: there are 101 names, expected at most 100",
        ),
        (
            json!({"units": ["a.service"], "states": []}),
            "key `states`: the list is empty",
        ),
        (
            json!({"restarts": {"degraded_above": 1}}),
            "key `restarts`: it limits the units in `units`, and there are none; add `units`",
        ),
        (
            json!({"last_trigger": {"degraded_above": "1h"}}),
            "key `last_trigger`: it limits the units in `timers`",
        ),
        (
            json!({"failed": {"degraded_above": 2, "unhealthy_above": 1}}),
            "key `failed`: `degraded_above` (2) is above `unhealthy_above` (1)",
        ),
        (
            json!({"units": ["a.service"], "restarts": {"degraded_above": 1}, "restarts_within": "10ms"}),
            "key `restarts_within`: it is shorter than a second",
        ),
    ] {
        let created =
            TestHost::new("machine").create_async_unchecked::<SystemdProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
