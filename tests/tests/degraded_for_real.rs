//! Degraded mode for real: burn the CPU, observe the mode change, the stretching, and the recovery.
//!
//! A separate test binary, because the others would keep the machine busy.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and one that waits has to give up some time"
)]

use std::process::{Child, Command};

use harness::Setup;

#[expect(
    dead_code,
    unused_imports,
    reason = "this is all of it, and one test needs little"
)]
#[path = "scenarios/harness.rs"]
mod harness;

#[test]
fn burning_the_cpu_stretches_the_checks_and_they_come_back() {
    // Above an idle machine's usage, and below what its cores can be driven to; back after 60 s, as configured.
    let mut setup = Setup::new();
    setup.resources = "degraded_above = 80\nrecover_below = 70\n".to_owned();
    let mut host = setup
        .host("interval = \"500ms\"\nstagger = \"50ms\"\ntimeout = \"400ms\"")
        .platform("normal", "fault", "{}")
        .platform("critical", "fault", "{}\npriority = \"critical\"")
        .start();
    host.wait("the first reports", |m| {
        m.checks("normal", "healthy") >= 1.0
    });
    let cores = std::thread::available_parallelism().unwrap().get();
    let burners = Burners(
        (0..cores * 2)
            .map(|_| {
                Command::new("sh")
                    .args(["-c", "while :; do :; done"])
                    .spawn()
                    .unwrap()
            })
            .collect(),
    );
    let metrics = host.wait("degraded mode", |m| {
        m.sum("conductor_degraded_mode", &[]) >= 1.0
    });
    assert!(metrics.sum("system_resources_percent", &[("resource", "cpu")]) > 80.0);
    let metrics = host.wait("stretched checks", |m| {
        m.skipped("normal", "degraded") >= 3.0
    });
    assert_eq!(metrics.skipped("critical", "degraded"), 0.0);
    host.wait_for_log("machine degraded, checks stretched: CPU");
    drop(burners);
    let patient = |m: &harness::Metrics| m.sum("conductor_degraded_mode", &[]) == 0.0;
    let back = (0..3).any(|_| host.wait_a_while(patient).is_some());
    assert!(back, "it never came back:\n{}", host.log());
    host.wait_for_log("machine normal");
    let before = host.metrics();
    let after = host.wait("ten more checks", |m| {
        m.checks("normal", "healthy") >= before.checks("normal", "healthy") + 10.0
    });
    assert_eq!(
        after.skipped("normal", "degraded"),
        before.skipped("normal", "degraded")
    );
    assert!(host.stop().success());
}

struct Burners(Vec<Child>);

impl Drop for Burners {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            let _ = burner.kill();
            let _ = burner.wait();
        }
    }
}
