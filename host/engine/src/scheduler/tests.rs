//! The driver with simulated plugins: a test decides when their calls start and how they end, and sees what they
//! receive.

use std::sync::Arc;

use conductor_core::{breaker::BreakerSettings, maintenance::InForce, schedule::ResourceMode};
use conductor_library::Vetted;
use conductor_runtime::{CallFailure, CheckReport};
use conductor_types::{Checks, ErrorType, Isolation, RestartReason, requests::BreakerOrder};

use super::{
    platforms::ScheduledPlatform,
    simulation::{PluginBehaviour, S, SimulatedHost, SimulatedPlatform, SimulatedPlugin},
    *,
};
use crate::{
    actor::ActionOrigin,
    guard::{PlatformGuard, SkipCause},
    metrics::{FAMILIES, HostMetrics, Sample, SampleValue},
};

/// Starts a host with these platforms of one plugin, whose calls the test ends.
fn host(platforms: &[&str], is_asynchronous: bool) -> SimulatedHost {
    let mut host = SimulatedHost::new(0);
    host.add_plugin(
        "played",
        PluginBehaviour::Manual,
        Isolation::InProcess,
        is_asynchronous,
    );
    for platform in platforms {
        host.add_platform(platform, PLATFORM);
    }
    host.start();
    host
}

const PLATFORM: SimulatedPlatform = SimulatedPlatform::new();

impl SimulatedHost {
    /// Ends all calls under way.
    fn settle(&mut self) {
        self.driver.dispatch();
        let now = self.world.now();
        let running = self.generation(1);
        for platform in running.called() {
            running.succeed(&platform, now);
        }
        self.driver.expire(now);
        self.driver.track();
    }

    /// Returns the generation of this number of the first plugin.
    fn generation(&self, number: usize) -> Arc<SimulatedPlugin> {
        self.plugins[0].source.generation(number)
    }

    fn guard(&self, platform: &str) -> Arc<PlatformGuard> {
        Arc::clone(&self.driver.platforms[self.place(platform)].guard)
    }

    fn place(&self, platform: &str) -> PlatformIx {
        let named = |p: &ScheduledPlatform| *p.guard.settings().name == *platform;
        let mut staying = self.driver.platforms.staying();
        staying.find(|(_, p)| named(p)).unwrap().0
    }

    /// Begins a check at `now`, regardless of the schedule.
    fn begin(&mut self, platform: &str, now: Duration) -> Result<(), SkipCause> {
        let begun = self.driver.try_begin(self.place(platform), now, now);
        self.take_begun();
        begun
    }

    /// Makes a successful check in the current generation.
    fn check(&mut self, platform: &str) {
        let now = self.world.now();
        self.begin(platform, now).unwrap();
        self.driver.dispatch();
        let running = self.generation(usize::try_from(self.running()).unwrap());
        running.succeed(platform, now);
    }

    /// Adds another library and loads it.
    fn replace(&mut self) {
        let new = Arc::new(Vetted::made_up("played", 2));
        self.driver
            .library_changed("played", LibraryChange::Arrived(new));
        self.obey_one();
    }

    fn obey_one(&mut self) {
        self.pass_until(self.world.now() + PATIENCE);
    }

    /// Returns the number of the current generation.
    fn running(&self) -> u64 {
        self.plugins[0].guard.generation()
    }
}

/// The longest simulated time until a command comes.
const PATIENCE: Duration = Duration::from_secs(30);

fn paused() -> Option<Arc<InForce>> {
    Some(Arc::new(InForce {
        name: "move".into(),
        reason: "a move".into(),
        until: 0.0,
        checks: Checks::Pause,
        by: None,
    }))
}

#[test]
fn a_verification_of_an_asynchronous_plugin_has_no_more_calls_under_way_than_it_has_threads() {
    let mut host = host(&["a", "b", "c", "d", "e"], true);
    host.replace();
    let new = host.generation(2);
    assert_eq!(new.called().len(), 2);
    host.driver.dispatch();
    assert_eq!(new.called().len(), 2);
    let now = host.world.now();
    for ended in 1..=5 {
        let first = Arc::clone(&new.called()[0]);
        new.succeed(&first, now);
        host.driver.dispatch();
        assert_eq!(new.called().len(), 2.min(5 - ended));
    }
    host.obey_one();
    assert_eq!(host.running(), 2);
}

#[test]
fn a_verification_does_not_check_what_maintenance_pauses_or_an_operator_holds_open() {
    let mut host = host(&["kept", "paused", "held"], false);
    for platform in ["kept", "paused", "held"] {
        host.check(platform);
    }
    host.guard("paused")
        .set_maintenance(paused(), Duration::ZERO);
    let now = host.world.now();
    host.guard("held")
        .order(BreakerOrder::Open, &ActionOrigin::default(), now);
    host.replace();
    let new = host.generation(2);
    assert_eq!(new.called(), ["kept".into()]);
    new.succeed("kept", now);
    host.obey_one();
    assert_eq!(
        host.running(),
        2,
        "those not checked say nothing against it"
    );
}

#[test]
fn a_failing_check_of_a_verification_keeps_the_library_out_unless_maintenance_has_begun_meanwhile()
{
    for (begins, taken) in [(false, 1), (true, 2)] {
        let mut host = host(&["a"], false);
        host.check("a");
        host.replace();
        let call = host.generation(2).call("a");
        let now = host.world.now();
        if begins {
            host.guard("a").set_maintenance(paused(), Duration::ZERO);
        }
        call.caller.started(call.sequence, now).unwrap();
        let failure = CallFailure::new(ErrorType::Panic, "on purpose");
        call.caller.finished(call.sequence, now, Err(failure));
        host.obey_one();
        assert_eq!(host.running(), taken);
    }
}

#[test]
fn a_first_check_that_fails_is_made_again_before_the_library_is_judged() {
    let mut host = host(&["a"], false);
    host.check("a");
    host.replace();
    let new = host.generation(2);
    let call = new.call("a");
    let now = host.world.now();
    // As if it had begun an eighth of an interval earlier: the retry is due immediately.
    let earlier = now.saturating_sub(S);
    call.caller.started(call.sequence, earlier).unwrap();
    let failure = CallFailure::new(ErrorType::Error, "not warm yet");
    call.caller.finished(call.sequence, earlier, Err(failure));
    assert_eq!(host.running(), 1, "it is not judged yet");
    for plugin in host.driver.plugins.iter_mut() {
        plugin.dispatch(now + S);
    }
    assert_eq!(new.called(), ["a".into()]);
    new.succeed("a", now + S);
    host.obey_one();
    assert_eq!(host.running(), 2);
}

#[test]
fn a_timeout_while_the_host_is_short_of_cpu_does_not_reject_a_new_library() {
    for (mode, running) in [(ResourceMode::Degraded, 1), (ResourceMode::Normal, 1)] {
        let mut host = host(&["a"], false);
        host.check("a");
        host.replace();
        let new = host.generation(2);
        let call = new.call("a");
        let now = host.world.now();
        call.caller.started(call.sequence, now).unwrap();
        host.driver.stretch = mode;
        host.driver.look_after_generations(now + 5 * S);
        assert_eq!(host.running(), running);
        let is_judged = host.driver.plugins[PluginIx(0)].next.is_none();
        assert_eq!(is_judged, mode == ResourceMode::Normal, "{mode:?}");
    }
}

#[test]
fn a_probe_that_got_stuck_in_a_verification_is_given_up_and_closed() {
    let mut host = host(&["good", "stuck"], false);
    host.replace();
    let new = host.generation(2);
    let now = host.world.now();
    new.succeed("good", now);
    let call = new.call("stuck");
    call.caller.started(call.sequence, now).unwrap();
    host.driver.look_after_generations(now + 5 * S);
    assert_eq!(host.running(), 2, "it does not do worse than the other");
    let told = new.told();
    assert_eq!(told.abandoned, ["stuck".into()]);
    assert_eq!(told.closed, ["stuck".into()]);
    let opened = told.probes.iter().filter(|p| &***p == "stuck").count();
    assert_eq!(opened, 2, "its checks have another one");
}

#[test]
fn an_asynchronous_plugin_whose_threads_never_come_back_has_a_new_generation_take_over() {
    for (is_asynchronous, taken) in [(true, true), (false, false)] {
        let mut host = host(&["a"], is_asynchronous);
        host.check("a");
        let now = host.world.now();
        host.begin("a", now).unwrap();
        let patience = BreakerSettings::default().reset_timeout() + 4 * S;
        let later = |host: &mut SimulatedHost, now| host.begin("a", now).unwrap_err();
        assert_eq!(
            later(&mut host, now + patience - S),
            SkipCause::Waiting(now)
        );
        assert!(
            host.driver.plugins[PluginIx(0)].next.is_none(),
            "it may yet start"
        );
        later(&mut host, now + patience);
        assert_eq!(host.driver.plugins[PluginIx(0)].next.is_some(), taken);
        if taken {
            host.obey_one();
            assert_eq!(host.running(), 2);
            host.driver.dispatch();
            assert_eq!(host.generation(2).called(), ["a".into()]);
        }
    }
}

#[test]
fn whoever_asks_for_a_check_while_the_host_stops_is_told_so_at_once() {
    let mut host = host(&["a"], false);
    let now = host.world.now();
    host.begin("a", now).unwrap();
    host.driver.dispatch();
    let call = host.generation(1).call("a");
    call.caller.started(call.sequence, now).unwrap();
    host.driver.timing.shutdown_grace = PATIENCE;
    let commands = host.driver.commands.clone();
    let handle = SchedulerHandle {
        commands,
        thread: Mutex::new(None),
    };
    let SimulatedHost { driver, .. } = host;
    let draining = thread::spawn(move || driver.drain());
    assert_eq!(handle.check_now("a"), CheckNow::Leaving);
    assert!(!draining.is_finished(), "a check is still under way");
    let report = Ok(&CheckReport::empty());
    call.caller.finished(call.sequence, now, report);
    draining.join().unwrap();
    assert_eq!(handle.check_now("a"), CheckNow::Leaving);
}

/// Returns the order to end the current generation, which can now read secrets.
fn closing(number: u64) -> SchedulerCommand {
    SchedulerCommand::Renew(ReplacementOrder {
        plugin: "played".into(),
        generation: number,
        reason: RestartReason::Replace,
        what: "can read a secret".to_owned(),
        must_end: true,
    })
}

#[test]
fn a_generation_that_can_read_a_new_secret_is_replaced_without_verification() {
    let mut host = host(&["a"], false);
    host.check("a");
    host.driver.obey(closing(1));
    host.obey_one();
    assert_eq!(host.running(), 2, "a check of the new one may fail now");

    // One that is already being verified takes over immediately.
    host.check("a");
    let new = LibraryChange::Arrived(Arc::new(Vetted::made_up("played", 3)));
    host.driver.library_changed("played", new);
    host.obey_one();
    assert_eq!(host.running(), 2, "the new library proves itself");
    host.driver.obey(closing(2));
    assert_eq!(host.running(), 3);
}

#[test]
fn a_generation_that_can_read_a_new_secret_ends_where_no_other_can_take_over() {
    let mut host = host(&["a"], false);
    host.check("a");
    host.plugins[0].source.set_mood(PluginBehaviour::Broken);
    host.driver.obey(closing(1));
    let now = host.world.now();
    host.driver.look_after_generations(now);
    assert!(
        host.driver.plugins[PluginIx(0)].current.is_some(),
        "another may come"
    );
    host.obey_one();
    assert!(host.driver.plugins[PluginIx(0)].current.is_none());
    let failure = host.driver.plugins[PluginIx(0)].guard.failure();
    let expected = "its library is broken; the running worker was ended: it can read a secret";
    assert!(failure.message.contains(expected), "{failure}");
}

#[test]
fn two_thousand_reloads_with_renamed_platforms_leave_nothing_behind() {
    let mut host = host(&["stays"], false);
    let metrics = host.shared.metrics.clone();
    let tracked = || tracked(&metrics);
    let mut before = Vec::new();
    for reload in 0..2000 {
        let names: Vec<_> = (0..5).map(|n| format!("of-{reload}-{n}")).collect();
        while host.platform_count() > 1 {
            host.remove_platform(1);
        }
        for name in &names {
            host.add_platform(name, PLATFORM);
        }
        host.reload();
        for name in &names {
            host.check(name);
        }
        host.settle();
        if reload == 500 {
            before = tracked();
        }
    }
    assert_eq!(tracked(), before);
    assert!(before.contains(&("probe".to_owned(), 6)), "{before:?}");
}

/// Returns `conductor_tracked_objects`, except for objects of other tests in this process.
fn tracked(metrics: &HostMetrics) -> Vec<(String, u64)> {
    let mut families = FAMILIES.iter();
    let family = families.find(|f| f.name == "conductor_tracked_objects");
    let mut counted = Vec::new();
    let mut sink = |sample: Sample<'_>| {
        let SampleValue::Count(count) = sample.value else {
            panic!("objects are whole: {sample:?}");
        };
        counted.push((sample.labels[0].1.to_owned(), count));
    };
    family.unwrap().visit(&metrics.snapshot(), &mut sink);
    counted.retain(|(kind, _)| kind != "secret");
    counted
}

#[test]
fn reloads_with_renamed_plugins_leave_nothing_behind() {
    let mut host = host(&["stays"], false);
    let metrics = host.shared.metrics.clone();
    let mut before = Vec::new();
    for reload in 0..200 {
        if reload > 0 {
            host.remove_platform(1);
            host.remove_plugin(1);
        }
        let id = format!("plugin-{reload}");
        let plugin = host.add_plugin(&id, PluginBehaviour::Manual, Isolation::InProcess, false);
        host.add_platform("p", SimulatedPlatform { plugin, ..PLATFORM });
        host.reload();
        let now = host.world.now();
        // Its first check loads it.
        let _ = host.begin("p", now);
        while host.driver.is_starting_plugins() {
            host.obey_one();
        }
        host.driver.dispatch();
        let now = host.world.now();
        let new = host.plugins[plugin].source.generation(1);
        for platform in new.called() {
            new.succeed(&platform, now);
        }
        host.settle();
        host.driver.look_after_generations(now);
        host.driver.track();
        if reload == 20 {
            before = tracked(&metrics);
        }
    }
    // Counters of removed ones are kept for a while, up to a limit.
    let lasting = |tracked: Vec<(String, u64)>| {
        let mut tracked = tracked;
        tracked.retain(|(kind, _)| !kind.starts_with("retired"));
        tracked
    };
    assert_eq!(lasting(tracked(&metrics)), lasting(before.clone()));
    let of = |kind: &str| before.iter().find(|(k, _)| k == kind).unwrap().1;
    assert_eq!(of("plugin"), 2);
    assert_eq!(of("plugin_series"), 2);
}

#[test]
fn a_heartbeat_is_followed_by_a_check_also_where_one_is_under_way_but_not_in_a_pause() {
    let mut host = host(&["a", "b"], false);
    let (now, running) = (host.world.now(), host.generation(1));
    let called = |host: &mut SimulatedHost| {
        host.driver.check_heartbeats(now);
        host.driver.dispatch();
        running.called().len()
    };
    host.driver.note_heartbeat("nobody");
    assert_eq!(called(&mut host), 0);
    host.driver.note_heartbeat("a");
    assert_eq!(called(&mut host), 1);
    // The check under way may have begun before these were recorded.
    host.driver.note_heartbeat("a");
    host.driver.note_heartbeat("a");
    assert_eq!(called(&mut host), 1);
    let soon = host.driver.next_turn(now).saturating_sub(now);
    assert!(soon <= host.driver.timing.tick, "{soon:?}");
    running.succeed("a", now);
    assert_eq!(called(&mut host), 1);
    running.succeed("a", now);
    assert_eq!(called(&mut host), 0);
    host.driver.note_heartbeat("a");
    host.guard("a").set_maintenance(paused(), now);
    assert_eq!(called(&mut host), 0);
    host.guard("a").set_maintenance(None, now);
    assert_eq!(called(&mut host), 0, "the schedule's next check sees it");
    let skipped = host.guard("a").skipped(SkipReason::Overlap);
    assert_eq!(skipped, 0, "none was due");
}

#[test]
fn platforms_that_come_and_go_alone_leave_all_others_as_they_are() {
    let names: Vec<_> = (0..40).map(|n| format!("platform-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut host = host(&names, true);
    host.check("platform-7");
    let before = host.driver.schedule.plan();
    let (gone, places): (_, Vec<_>) = (
        host.place("platform-20"),
        names.iter().map(|name| host.place(name)).collect(),
    );
    host.remove_platform(20);
    host.add_platform("new", PLATFORM);
    host.change_platforms_alone();
    let after = host.driver.schedule.plan();
    let others = |plan: &conductor_core::schedule::SchedulePlan, without| {
        let entries = plan.entries().iter().copied();
        entries
            .filter(|entry| entry.key != PlatformIx::key(without))
            .collect::<Vec<_>>()
    };
    assert_eq!(others(&before, gone), others(&after, host.place("new")));
    for (name, place) in names.iter().zip(places) {
        if *name != "platform-20" {
            assert_eq!(host.place(name), place, "{name}");
        }
    }
    assert_eq!(host.guard("platform-7").history().len(), 1);
    let board = &host.driver.board;
    assert!(board.guard("platform-20").is_none());
    assert!(board.guard("new").is_some_and(|new| new.slot().is_some()));
    assert_eq!(board.platform_guards().len(), 40);
    // It has a probe, and is checked.
    host.check("new");
    assert_eq!(host.guard("new").history().len(), 1);
}

#[test]
fn a_platform_that_leaves_during_its_call_is_dropped_when_the_call_is_over() {
    let mut host = host(&["a", "b"], true);
    let now = host.world.now();
    host.begin("a", now).unwrap();
    host.driver.dispatch();
    let count = host.driver.platforms.count();
    host.remove_platform(0);
    host.change_platforms_alone();
    assert_eq!(host.driver.platforms.count(), count);
    host.settle();
    assert_eq!(host.driver.platforms.count(), count - 1);
    assert!(host.driver.leaving.is_empty());
}

#[test]
fn a_platform_of_a_plugin_without_a_plan_is_not_added() {
    let mut host = host(&["a"], true);
    let changes = |added| PlatformChanges {
        removed: Vec::new(),
        added: vec![PlatformSetup {
            guard: added,
            config: "{}".into(),
            refused: None,
        }],
    };
    let mut other = SimulatedHost::new(1);
    other.add_plugin("other", PluginBehaviour::Manual, Isolation::InProcess, true);
    other.add_platform("b", PLATFORM);
    other.start();
    host.driver.change_platforms(changes(other.guard("b")));
    // A known one is not added again.
    host.driver.change_platforms(changes(host.guard("a")));
    assert_eq!(host.driver.platforms.staying().count(), 1);
}
