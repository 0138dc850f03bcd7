//! Plugins that exhaust the machine: their own checks are stretched, and those of others keep their schedule.

use std::thread::available_parallelism;

use crate::harness::Setup;

#[test]
fn a_plugin_that_spins_has_its_own_checks_stretched_and_is_named() {
    let cores = available_parallelism().unwrap().get();
    let mut setup = Setup::new();
    setup.resources =
        "interval = \"500ms\"\ndegraded_above = 95\nrecover_below = 90\ncritical_above = 100\n"
            .to_owned();
    // The kernel does not throttle it, and its calls that never return are not under test here.
    setup = setup
        .with("[plugin.fault]\nlimits = { cpu_percent = 10000 }")
        .platform("bystander", "disk", "{ path = \"/\" }")
        .platform("other", "fault", "{}");
    for core in 0..=cores {
        setup = setup.platform(
            &format!("spins{core}"),
            "fault",
            "{ check = { fault = \"spin\" } }",
        );
    }
    let host = setup.start();
    let stretched = [("plugin", "fault")];
    host.wait("the plugin that spins is named", |m| {
        m.sum("conductor_plugin_stretched", &stretched) == 1.0
    });
    let before = host.metrics();
    let after = host.wait("a hundred more checks are due", |m| {
        m.due("bystander") >= before.due("bystander") + 100.0
    });
    assert_eq!(
        after.sum("conductor_plugin_stretched", &[("plugin", "disk")]),
        0.0
    );
    let skipped = |name| after.skipped(name, "degraded") - before.skipped(name, "degraded");
    assert_eq!(skipped("bystander"), 0.0, "a bystander is thinned");
    assert!(skipped("other") >= 20.0, "the cause is not stretched");
    let named = "WARN  plugin fault: checks stretched: uses ";
    host.wait_for_log(named);
    let log = host.log();
    let line = log.lines().find(|line| line.contains(named)).unwrap();
    assert!(line.chars().count() <= 80, "{line}");
    let status = host.status();
    let reason = status["host"]["mode_reason"].as_str().unwrap_or("");
    assert!(reason.contains("plugin fault uses "), "{reason}");
    let plugins = status["plugins"].as_array().unwrap();
    let note = |id| {
        let plugin = plugins.iter().find(|plugin| plugin["id"] == id).unwrap();
        plugin["note"].as_str().unwrap_or("").to_owned()
    };
    assert!(note("fault").contains("its checks are stretched"));
    assert_eq!(note("disk"), "");
}
