//! The conditions on units.

use super::*;

#[test]
fn active_units_are_measured() {
    let mut web = TestUnit::new("shop-web.service");
    (web.restarts, web.memory) = (2, u64::MAX);
    let units = vec![
        web,
        TestUnit::new("shop-data.mount").state("active", "mounted"),
        TestUnit::new("shop-gone.service")
            .load("not-found")
            .state("inactive", "dead"),
    ];
    let Some(bus) = TestBus::start(units) else {
        return;
    };
    let report = bus.check(&json!({"units": ["shop-*"]}));
    assert_report(&report, Status::Healthy, "2 units, of which 2 are active");
    let web = ["shop-web.service"];
    assert_eq!(report.value(&UNITS, ["active"]), Some(2.0));
    assert_eq!(report.value(&ACTIVE, web), Some(1.0));
    assert_eq!(report.value(&RESTARTS, web), Some(2.0));
    assert_eq!(report.value(&CPU, web), Some(1.5));
    // systemd says that it does not know.
    assert_eq!(report.value(&MEMORY, web), None);
    let since = report.value(&ACTIVE_SINCE, web).unwrap();
    let age = present().unwrap().unix - since;
    assert!((3599.0..7200.0).contains(&age), "{age}");
    assert_eq!(report.value(&ACTIVE, ["shop-data.mount"]), Some(1.0));
    assert_eq!(report.value(&RESTARTS, ["shop-data.mount"]), None);
}

#[test]
fn what_is_wrong_with_a_unit_is_named() {
    let web = || TestUnit::new("web.service");
    let degraded = |key: &str, limit: Value| json!({key: {"degraded_above": limit}});
    for (unit, keys, status, message) in [
        (
            web().state("failed", "failed").result("exit-code"),
            json!({}),
            Status::Unhealthy,
            "web.service is failed (failed, exit-code), expected active",
        ),
        (
            web().state("activating", "auto-restart").result("signal"),
            json!({}),
            Status::Unhealthy,
            "web.service is activating (auto-restart, signal), expected active",
        ),
        (
            web().state("activating", "start-pre"),
            json!({}),
            Status::Degraded,
            "web.service is activating (start-pre), expected active",
        ),
        (
            web().state("inactive", "dead"),
            json!({}),
            Status::Unhealthy,
            "web.service is inactive (dead), expected active",
        ),
        (
            web().state("inactive", "dead"),
            json!({"states": ["active", "inactive"]}),
            Status::Healthy,
            "1 unit, of which 0 are active",
        ),
        (
            web(),
            json!({"states": ["inactive", "failed"]}),
            Status::Unhealthy,
            "web.service is active (running), expected inactive or failed",
        ),
        (
            web().state("reloading", "reload"),
            json!({}),
            Status::Healthy,
            "1 unit",
        ),
        (
            web().load("masked").state("inactive", "dead"),
            json!({}),
            Status::Unhealthy,
            "web.service is masked",
        ),
        (
            web().load("bad-setting").state("inactive", "dead"),
            json!({}),
            Status::Unhealthy,
            "web.service cannot be loaded (bad-setting)",
        ),
        (
            web(),
            json!({"uptime": {"degraded_below": "2h"}}),
            Status::Degraded,
            "web.service is active for 1 h 0 min (`uptime.degraded_below` is 2h)",
        ),
        (
            web(),
            degraded("memory", json!("1MiB")),
            Status::Degraded,
            "web.service uses 10.0 MiB of memory (`memory.degraded_above` is 1MiB)",
        ),
    ] {
        let Some(bus) = TestBus::start(vec![unit]) else {
            return;
        };
        let report = bus.check(&with(json!({"units": ["web.service"]}), &keys));
        assert_report(&report, status, message);
    }
}

#[test]
fn names_are_found_by_alias_and_missing_units_are_unhealthy() {
    let Some(bus) = TestBus::start(vec![TestUnit::new("ssh.service")]) else {
        return;
    };
    let report = bus.check(&json!({"units": ["sshd.service"]}));
    assert_report(&report, Status::Healthy, "1 unit");
    assert_eq!(report.value(&ACTIVE, ["ssh.service"]), Some(1.0));
    let report = bus.check(&json!({"units": ["ngimx.service"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "ngimx.service has no unit file: install it, or correct its name",
    );
    let report = bus.check(&json!({"units": ["shop-*.service"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "no unit matches shop-*.service, expected at least one",
    );
    let report = bus.check(&json!({"units": ["shop web.service"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "no unit matches shop web.service",
    );
    let report = bus.check(&json!({"units": ["refused.service"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "systemd refuses the call ListUnitsByNames(refused.service): Unit is refused (org.",
    );
}

#[test]
fn memory_that_systemd_does_not_count_fails_the_check() {
    let mut web = TestUnit::new("web.service");
    web.memory = u64::MAX;
    let Some(bus) = TestBus::start(vec![web]) else {
        return;
    };
    let keys = json!({"units": ["web.service"], "memory": {"degraded_above": "1GiB"}});
    let failure = check_by(&host(), &mut probe(&bus.config(&keys))).unwrap_err();
    let message = "systemd does not count the memory of web.service; set MemoryAccounting=yes";
    assert!(failure.message().contains(message), "{failure}");
}

#[test]
fn restarts_count_for_a_while_and_across_processes() {
    let Some(bus) = TestBus::start(vec![TestUnit::new("web.service")]) else {
        return;
    };
    let config = bus.config(&json!({
        "units": ["web.service"],
        "restarts": {"degraded_above": 0, "unhealthy_above": 2},
    }));
    let host = host();
    let restarted = |restarts: u32, probe: &mut SystemdProbe| {
        bus.change("web.service", |unit| unit.restarts = restarts);
        check_by(&host, probe).unwrap()
    };
    let mut first = probe(&config);
    // Those before the first check are of an unknown age.
    assert_report(&restarted(5, &mut first), Status::Healthy, "1 unit");
    assert_report(
        &restarted(6, &mut first),
        Status::Degraded,
        "web.service was restarted 1 time within 1h (`restarts.degraded_above` is 0)",
    );
    assert_report(
        &restarted(6, &mut first),
        Status::Degraded,
        "1 time within 1h",
    );
    let mut second = probe(&config);
    assert_report(
        &restarted(8, &mut second),
        Status::Unhealthy,
        "web.service was restarted 3 times within 1h (`restarts.unhealthy_above` is 2)",
    );
    // Started by hand, then restarted once.
    assert_report(&restarted(1, &mut second), Status::Unhealthy, "4 times");
}
