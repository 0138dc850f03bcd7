//! Re-checks of simulated hosts, whose calls the tests end.

use std::{collections::BTreeMap, sync::Arc};

use conductor_core::{
    confirmation::ConfirmationRules, maintenance::InForce, schedule::ResourceMode,
};
use conductor_plugin_api::Status;
use conductor_types::{Checks, Isolation, SkipReason};

use super::*;
use crate::scheduler::simulation::{PluginBehaviour, SimulatedHost, SimulatedPlatform};

const S: Duration = Duration::from_secs(1);

/// Starts a host with these platforms of one plugin, which need three results for a worse state and are checked again
/// after a second.
fn host(platforms: &[&str]) -> SimulatedHost {
    let mut host = SimulatedHost::new(0);
    host.add_plugin(
        "played",
        PluginBehaviour::Manual,
        Isolation::InProcess,
        false,
    );
    for platform in platforms {
        host.add_platform(platform, SimulatedPlatform::new());
    }
    host.start();
    let rules = ConfirmationRules {
        unhealthy_after: 3.try_into().unwrap(),
        ..ConfirmationRules::default()
    };
    for (_, platform) in host.driver.platforms.staying() {
        platform.guard.set_confirmation(rules, Some(S));
    }
    host
}

impl SimulatedHost {
    /// Lets `time` pass; ends each call as soon as it is handed over. Returns each platform's starts, in seconds since
    /// `origin`.
    fn play(
        &mut self,
        time: Duration,
        origin: Duration,
        mut status: impl FnMut(&str) -> Status,
    ) -> BTreeMap<String, Vec<f64>> {
        let end = self.world.now() + time;
        let mut starts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        while self.world.now() < end {
            let now = self.world.now();
            self.driver.turn(now);
            let running = self.plugins[0].source.generation(1);
            for platform in running.called() {
                running.report(&platform, status(&platform), now);
                let times = starts.entry(platform.to_string()).or_default();
                times.push((now - origin).as_secs_f64());
            }
            self.pass_until(self.driver.wakeup.min(end));
        }
        starts
    }

    /// Returns the number of skipped checks, by reason.
    fn skipped(&self, reason: SkipReason) -> u64 {
        let (_, platform) = self.driver.platforms.staying().next().unwrap();
        platform.guard.skipped(reason)
    }
}

/// Reports healthy once, then unhealthy.
fn going_down() -> impl FnMut(&str) -> Status {
    let mut checks = BTreeMap::new();
    move |platform| {
        let nth = checks.entry(platform.to_owned()).or_insert(0);
        *nth += 1;
        if *nth == 1 {
            Status::Healthy
        } else {
            Status::Unhealthy
        }
    }
}

#[test]
fn a_soft_state_is_checked_again_after_the_retry_interval_until_it_is_confirmed() {
    let mut host = host(&["a"]);
    let origin = host.world.now();
    let starts = host.play(18 * S, origin, going_down());
    assert_eq!(starts["a"], [0.5, 5.5, 6.5, 7.5, 10.5, 15.5]);
}

#[test]
fn a_blip_is_checked_again_once() {
    let mut host = host(&["a"]);
    let origin = host.world.now();
    let mut nth = 0;
    let starts = host.play(18 * S, origin, |_| {
        nth += 1;
        if nth == 2 {
            Status::Unhealthy
        } else {
            Status::Healthy
        }
    });
    assert_eq!(starts["a"], [0.5, 5.5, 6.5, 10.5, 15.5]);
}

#[test]
fn rechecks_keep_the_stagger() {
    let names: Vec<_> = (0..9).map(|nth| format!("p{nth}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut host = host(&names);
    let origin = host.world.now();
    let starts = host.play(15 * S, origin, going_down());
    let mut at_once: BTreeMap<_, usize> = BTreeMap::new();
    for (name, starts) in &starts {
        assert_eq!(starts.len(), 5, "{name}: {starts:?}");
        for start in starts {
            *at_once.entry(start.to_bits()).or_default() += 1;
        }
    }
    // A platform's own check, and the first and second re-check of two others.
    assert!(at_once.values().all(|&n| n <= 3), "{at_once:?}");
}

#[test]
fn a_check_that_takes_longer_than_the_retry_interval_is_followed_by_the_next_recheck() {
    let mut host = host(&["a"]);
    let origin = host.world.now();
    host.play(5 * S, origin, going_down());
    // The check at 5.5 s ends at 7 s.
    let end = origin + 7 * S;
    while host.world.now() < end {
        host.driver.turn(host.world.now());
        host.pass_until(host.driver.wakeup.min(end));
    }
    let running = host.plugins[0].source.generation(1);
    assert_eq!(running.called().len(), 1);
    running.report("a", Status::Unhealthy, end);
    let starts = host.play(4 * S, origin, |_| Status::Unhealthy);
    assert_eq!(starts["a"], [7.5, 8.5, 10.5]);
}

#[test]
fn no_recheck_is_made_while_the_machine_is_short_of_resources_or_in_maintenance() {
    let mut host = host(&["a"]);
    let origin = host.world.now();
    host.play(6 * S, origin, going_down());
    host.driver.stretch = ResourceMode::Degraded;
    let starts = host.play(2 * S, origin, |_| Status::Unhealthy);
    assert!(starts.is_empty(), "{starts:?}");
    assert_eq!(host.skipped(SkipReason::Degraded), 1);

    host.driver.stretch = ResourceMode::Normal;
    host.play(3 * S, origin, |_| Status::Unhealthy);
    let (_, platform) = host.driver.platforms.staying().next().unwrap();
    let window = InForce {
        name: "move".into(),
        reason: "".into(),
        until: 0.0,
        checks: Checks::Pause,
        by: None,
    };
    platform
        .guard
        .set_maintenance(Some(Arc::new(window)), host.world.now());
    let starts = host.play(2 * S, origin, |_| Status::Unhealthy);
    assert!(starts.is_empty(), "{starts:?}");
    assert_eq!(host.skipped(SkipReason::Maintenance), 1);
}

#[test]
fn a_recheck_that_a_stall_made_late_is_missed_and_not_made_up_for() {
    let mut host = host(&["a"]);
    let origin = host.world.now();
    host.play(6 * S, origin, going_down());
    host.world.advance_to(origin + 8 * S);
    let starts = host.play(3 * S, origin, |_| Status::Unhealthy);
    assert_eq!(starts["a"], [10.5]);
    assert_eq!(host.skipped(SkipReason::Missed), 1);
}

#[test]
fn a_recheck_is_a_whole_number_of_intervals_after_its_check_was_due() {
    for (now, expected) in [(10, 12), (11, 12), (12, 14), (15, 16)] {
        assert_eq!(first_after(10 * S, 2 * S, now * S), expected * S, "{now}");
    }
}

#[test]
fn the_queue_returns_what_is_due_in_the_order_of_time() {
    let mut queue = RecheckQueue::default();
    for (at, platform) in [(3, 1), (1, 2), (2, 3)] {
        queue.add(at * S, PlatformIx(platform));
    }
    assert_eq!(queue.next(), Some(S));
    assert_eq!(queue.pop(2 * S), Some((S, PlatformIx(2))));
    assert_eq!(queue.pop(2 * S), Some((2 * S, PlatformIx(3))));
    assert_eq!(queue.pop(2 * S), None);
    assert_eq!(queue.next(), Some(3 * S));
}
