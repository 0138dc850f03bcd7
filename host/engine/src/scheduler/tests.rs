//! The driver with fake plugins: a test decides when their calls start and how they end, and sees what they receive.

use std::{collections::BTreeMap, sync::MutexGuard};

use conductor_core::{breaker::Settings, clock::Clock, maintenance::InForce};
use conductor_library::{Catalog, Policy, Vetted};
use conductor_plugin_api::manifest::ApiVersion;
use conductor_runtime::{
    Call, ConfigSchema, Description, Failure, LoadedPlugin, ProbeId, ProbeSpec, Report,
};
use conductor_types::{
    Checks, ErrorType, Isolation, Priority, RestartReason, requests::BreakerOrder,
};

use super::*;
use crate::{
    actor::Actor,
    guard::{PlatformGuard, PlatformSettings, PluginGuard, Running},
    metrics::{FAMILIES, Metrics, Value},
    tail::Tail,
};

/// A fake generation.
#[derive(Default)]
struct Played {
    description: Option<Description>,
    inner: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// The platforms by the number of their probe.
    probes: Vec<Arc<str>>,
    /// Handed over, and not yet ended by the test.
    calls: Vec<Call>,
    abandoned: Vec<Arc<str>>,
    closed: Vec<Arc<str>>,
}

impl Played {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.inner.lock().unwrap()
    }

    /// Returns the platforms of the calls that were handed over, in order.
    fn called(&self) -> Vec<Arc<str>> {
        let told = self.told();
        let name = |call: &Call| Arc::clone(&told.probes[call.probe.0]);
        told.calls.iter().map(name).collect()
    }

    fn call(&self, platform: &str) -> Call {
        let mut told = self.told();
        let is_it = |call: &Call| *told.probes[call.probe.0] == *platform;
        let at = told.calls.iter().position(is_it).expect("it was called");
        told.calls.remove(at)
    }

    fn succeed(&self, platform: &str, now: Duration) {
        let call = self.call(platform);
        call.caller.started(call.sequence, now).unwrap();
        let report = Ok(&Report::empty());
        call.caller.finished(call.sequence, now, report);
    }
}

impl LoadedPlugin for Played {
    fn description(&self) -> &Description {
        self.description.as_ref().unwrap()
    }

    fn open(&self, spec: ProbeSpec) -> ProbeId {
        let mut told = self.told();
        told.probes.push(spec.platform);
        ProbeId(told.probes.len() - 1)
    }

    fn close(&self, probe: ProbeId) {
        let mut told = self.told();
        let platform = Arc::clone(&told.probes[probe.0]);
        told.closed.push(platform);
    }

    fn start(&self, calls: &mut Vec<Call>) -> bool {
        self.told().calls.append(calls);
        false
    }

    fn nudge(&self) -> bool {
        false
    }

    fn abandoned(&self, probe: ProbeId) {
        let mut told = self.told();
        let platform = Arc::clone(&told.probes[probe.0]);
        told.abandoned.push(platform);
    }

    fn open_probes(&self) -> usize {
        let told = self.told();
        told.probes.len() - told.closed.len()
    }

    fn retire(&self) {}

    fn end(&self) {}
}

/// A driver with one plugin, and the generations that it loaded.
struct Scene {
    driver: Driver,
    loaded: Arc<Mutex<Vec<Arc<Played>>>>,
    _state: tempfile::TempDir,
}

impl Scene {
    fn new(platforms: &[&str], is_asynchronous: bool) -> Self {
        let state = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&[], false, Policy::default(), Some(state.path())).unwrap();
        let shared = Arc::new(Shared::new(Clock::start(), Metrics::new(), platforms.len()));
        let board = Board::new(
            Arc::clone(&shared),
            Arc::new(catalog),
            Vec::new(),
            Tail::default(),
        );
        let plugin = Arc::new(PluginGuard::new(
            "played",
            Settings::default(),
            8,
            shared.metrics.plugin("played"),
        ));
        let loaded = Arc::new(Mutex::new(Vec::new()));
        let load: LoadJob = {
            let loaded = Arc::clone(&loaded);
            Arc::new(move |_| Ok(load(&loaded, is_asynchronous)))
        };
        let platforms = platforms.iter().map(|name| setup(name, &plugin, &shared));
        let plan = Plan {
            platforms: platforms.collect(),
            plugins: vec![PluginSetup {
                guard: Arc::clone(&plugin),
                load,
                renew: false,
                must_end: false,
            }],
            forgotten: Vec::new(),
            timing: Timing {
                interval: 5 * S,
                stagger: S / 2,
                tick: S / 100,
                shutdown_grace: S,
            },
            limits: Limits::default(),
        };
        let setup = Setup {
            shared,
            board: Arc::new(board),
            plan,
        };
        let (commands, inbox) = channel();
        let mut driver = Driver::new(setup, commands, inbox);
        assert!(driver.start_all());
        Self {
            driver,
            loaded,
            _state: state,
        }
    }

    /// Applies a config with these platforms in addition to the first one.
    fn follow(&mut self, names: &[&str]) {
        let first = self.driver.platforms.staying().next().unwrap().1;
        let (plugin, shared) = (&self.driver.plugins[PluginIx(0)], &self.driver.shared);
        let stays = PlatformSetup {
            guard: Arc::clone(&first.guard),
            config: Arc::clone(&first.config),
            refused: None,
        };
        let new = names.iter().map(|name| setup(name, &plugin.guard, shared));
        let platforms: Vec<_> = std::iter::once(stays).chain(new).collect();
        let plan = Plan {
            plugins: vec![PluginSetup {
                guard: Arc::clone(&plugin.guard),
                load: Arc::clone(&plugin.load),
                renew: false,
                must_end: false,
            }],
            forgotten: Vec::new(),
            platforms,
            timing: self.driver.timing,
            limits: self.driver.limits,
        };
        // Like the assembly does for those that the new config does not name.
        let stay = |name: &str| {
            plan.platforms
                .iter()
                .any(|p| &*p.guard.settings().name == name)
        };
        for (_, platform) in self.driver.platforms.staying() {
            let name = &platform.guard.settings().name;
            if !stay(name) {
                shared.metrics.remove_platform(name, "played");
            }
        }
        self.driver.follow(plan);
    }

    /// Ends all calls under way, including those that fell due by the clock.
    fn settle(&mut self) {
        self.driver.dispatch();
        let now = self.driver.shared.clock.now();
        let running = self.generation(1);
        for platform in running.called() {
            running.succeed(&platform, now);
        }
        self.driver.expire(now);
        self.driver.track();
    }

    /// Returns the generation of this number, which may still be starting.
    fn generation(&self, number: usize) -> Arc<Played> {
        Arc::clone(&self.loaded.lock().unwrap()[number - 1])
    }

    fn guard(&self, platform: &str) -> Arc<PlatformGuard> {
        Arc::clone(&self.driver.platforms[self.place(platform)].guard)
    }

    fn place(&self, platform: &str) -> PlatformIx {
        let named = |p: &Platform| *p.guard.settings().name == *platform;
        let mut staying = self.driver.platforms.staying();
        staying.find(|(_, p)| named(p)).unwrap().0
    }

    /// Makes a successful check in the current generation.
    fn check(&mut self, platform: &str) {
        let now = self.driver.shared.clock.now();
        let number = self.driver.plugins[PluginIx(0)].guard.generation();
        self.driver
            .try_begin(self.place(platform), now, now)
            .unwrap();
        self.driver.dispatch();
        let running = self.generation(usize::try_from(number).unwrap());
        running.succeed(platform, now);
    }

    /// Adds another library and loads it.
    fn replace(&mut self) {
        let new = Arc::new(Vetted::made_up("played", 2));
        self.driver
            .library_changed("played", &LibraryChange::Arrived(new));
        self.obey_one();
    }

    fn obey_one(&mut self) {
        let command = self.driver.inbox.recv_timeout(PATIENCE).unwrap();
        self.driver.obey(command);
    }

    fn running(&self) -> u64 {
        self.driver.plugins[PluginIx(0)].guard.generation()
    }
}

fn setup(name: &str, plugin: &Arc<PluginGuard>, shared: &Arc<Shared>) -> PlatformSetup {
    PlatformSetup {
        guard: Arc::new(PlatformGuard::new(
            PlatformSettings {
                name: name.into(),
                interval: 5 * S,
                timeout: 4 * S,
                priority: Priority::Normal,
                breaker: Settings::default(),
                labels: BTreeMap::new(),
            },
            Arc::clone(plugin),
            Arc::clone(shared),
        )),
        config: "{}".into(),
        refused: None,
    }
}

fn load(loaded: &Mutex<Vec<Arc<Played>>>, is_asynchronous: bool) -> Ready {
    let mut loaded = loaded.lock().unwrap();
    let number = u8::try_from(loaded.len() + 1).unwrap();
    let description = Description {
        id: "played".to_owned(),
        version: format!("1.0.{number}"),
        api: ApiVersion::CURRENT,
        config_schema: ConfigSchema::new("{}").unwrap(),
        asynchronous: is_asynchronous,
    };
    let played = Arc::new(Played {
        description: Some(description.clone()),
        ..Played::default()
    });
    loaded.push(Arc::clone(&played));
    Ready {
        plugin: played,
        running: Running {
            description,
            vetted: Arc::new(Vetted::made_up("played", number)),
            isolation: Isolation::InProcess,
            held: None,
            pid: None,
            confinement: None,
        },
        call_threads: 2,
        refused: BTreeMap::new(),
    }
}

const S: Duration = Duration::from_secs(1);
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
fn a_proof_of_an_asynchronous_plugin_has_no_more_calls_under_way_than_it_has_threads() {
    let mut scene = Scene::new(&["a", "b", "c", "d", "e"], true);
    scene.replace();
    let new = scene.generation(2);
    assert_eq!(new.called().len(), 2);
    scene.driver.dispatch();
    assert_eq!(new.called().len(), 2);
    let now = scene.driver.shared.clock.now();
    for ended in 1..=5 {
        let first = Arc::clone(&new.called()[0]);
        new.succeed(&first, now);
        scene.driver.dispatch();
        assert_eq!(new.called().len(), 2.min(5 - ended));
    }
    scene.obey_one();
    assert_eq!(scene.running(), 2);
}

#[test]
fn a_proof_does_not_check_what_maintenance_pauses_or_an_operator_holds_open() {
    let mut scene = Scene::new(&["kept", "paused", "held"], false);
    for platform in ["kept", "paused", "held"] {
        scene.check(platform);
    }
    scene
        .guard("paused")
        .set_maintenance(paused(), Duration::ZERO);
    let now = scene.driver.shared.clock.now();
    scene
        .guard("held")
        .order(BreakerOrder::Open, &Actor::default(), now);
    scene.replace();
    let new = scene.generation(2);
    assert_eq!(new.called(), ["kept".into()]);
    new.succeed("kept", now);
    scene.obey_one();
    assert_eq!(
        scene.running(),
        2,
        "those not checked say nothing against it"
    );
}

#[test]
fn a_failing_check_of_a_proof_keeps_the_library_out_unless_maintenance_has_begun_meanwhile() {
    for (begins, taken) in [(false, 1), (true, 2)] {
        let mut scene = Scene::new(&["a"], false);
        scene.check("a");
        scene.replace();
        let call = scene.generation(2).call("a");
        let now = scene.driver.shared.clock.now();
        if begins {
            scene.guard("a").set_maintenance(paused(), Duration::ZERO);
        }
        call.caller.started(call.sequence, now).unwrap();
        let failure = Failure::new(ErrorType::Panic, "on purpose");
        call.caller.finished(call.sequence, now, Err(failure));
        scene.obey_one();
        assert_eq!(scene.running(), taken);
    }
}

#[test]
fn a_first_check_that_fails_is_made_again_before_the_library_is_judged() {
    let mut scene = Scene::new(&["a"], false);
    scene.check("a");
    scene.replace();
    let new = scene.generation(2);
    let call = new.call("a");
    let now = scene.driver.shared.clock.now();
    // As if it had begun an eighth of an interval earlier: the retry is due immediately.
    let earlier = now.saturating_sub(S);
    call.caller.started(call.sequence, earlier).unwrap();
    let failure = Failure::new(ErrorType::Error, "not warm yet");
    call.caller.finished(call.sequence, earlier, Err(failure));
    assert_eq!(scene.running(), 1, "it is not judged yet");
    for plugin in scene.driver.plugins.iter_mut() {
        plugin.dispatch(now + S);
    }
    assert_eq!(new.called(), ["a".into()]);
    new.succeed("a", now + S);
    scene.obey_one();
    assert_eq!(scene.running(), 2);
}

#[test]
fn a_timeout_while_the_host_is_short_of_cpu_does_not_reject_a_new_library() {
    for (mode, running) in [(Mode::Degraded, 1), (Mode::Normal, 1)] {
        let mut scene = Scene::new(&["a"], false);
        scene.check("a");
        scene.replace();
        let new = scene.generation(2);
        let call = new.call("a");
        let now = scene.driver.shared.clock.now();
        call.caller.started(call.sequence, now).unwrap();
        scene.driver.stretch = mode;
        scene.driver.look_after_generations(now + 5 * S);
        assert_eq!(scene.running(), running);
        let is_judged = scene.driver.plugins[PluginIx(0)].next.is_none();
        assert_eq!(is_judged, mode == Mode::Normal, "{mode:?}");
    }
}

#[test]
fn a_probe_that_got_stuck_in_a_proof_is_given_up_and_closed() {
    let mut scene = Scene::new(&["good", "stuck"], false);
    scene.replace();
    let new = scene.generation(2);
    let now = scene.driver.shared.clock.now();
    new.succeed("good", now);
    let call = new.call("stuck");
    call.caller.started(call.sequence, now).unwrap();
    scene.driver.look_after_generations(now + 5 * S);
    assert_eq!(scene.running(), 2, "it does not do worse than the other");
    let told = new.told();
    assert_eq!(told.abandoned, ["stuck".into()]);
    assert_eq!(told.closed, ["stuck".into()]);
    let opened = told.probes.iter().filter(|p| &***p == "stuck").count();
    assert_eq!(opened, 2, "its checks have another one");
}

#[test]
fn an_asynchronous_plugin_whose_threads_never_come_back_has_a_new_generation_take_over() {
    for (is_asynchronous, taken) in [(true, true), (false, false)] {
        let mut scene = Scene::new(&["a"], is_asynchronous);
        scene.check("a");
        let (at, now) = (scene.place("a"), scene.driver.shared.clock.now());
        scene.driver.try_begin(at, now, now).unwrap();
        let patience = Settings::default().reset_timeout() + 4 * S;
        let later = |scene: &mut Scene, now| scene.driver.try_begin(at, now, now).unwrap_err();
        assert_eq!(later(&mut scene, now + patience - S), Skip::Waiting(now));
        assert!(
            scene.driver.plugins[PluginIx(0)].next.is_none(),
            "it may yet start"
        );
        later(&mut scene, now + patience);
        assert_eq!(scene.driver.plugins[PluginIx(0)].next.is_some(), taken);
        if taken {
            scene.obey_one();
            assert_eq!(scene.running(), 2);
            scene.driver.dispatch();
            assert_eq!(scene.generation(2).called(), ["a".into()]);
        }
    }
}

#[test]
fn whoever_asks_for_a_check_while_the_host_stops_is_told_so_at_once() {
    let mut scene = Scene::new(&["a"], false);
    let (at, now) = (scene.place("a"), scene.driver.shared.clock.now());
    scene.driver.try_begin(at, now, now).unwrap();
    scene.driver.dispatch();
    let call = scene.generation(1).call("a");
    call.caller.started(call.sequence, now).unwrap();
    scene.driver.timing.shutdown_grace = PATIENCE;
    let commands = scene.driver.commands.clone();
    let handle = Handle {
        commands,
        thread: Mutex::new(None),
    };
    let Scene { driver, .. } = scene;
    let draining = thread::spawn(move || driver.drain());
    assert_eq!(handle.check_now("a"), CheckNow::Leaving);
    assert!(!draining.is_finished(), "a check is still under way");
    let report = Ok(&Report::empty());
    call.caller.finished(call.sequence, now, report);
    draining.join().unwrap();
    assert_eq!(handle.check_now("a"), CheckNow::Leaving);
}

/// Returns the order to end the current generation, which can now read secrets.
fn closing(number: u64) -> Command {
    Command::Renew(Renewal {
        plugin: "played".into(),
        generation: number,
        reason: RestartReason::Replace,
        what: "can read a secret".to_owned(),
        must_end: true,
    })
}

#[test]
fn a_generation_that_can_read_a_new_secret_is_replaced_without_a_proof() {
    let mut scene = Scene::new(&["a"], false);
    scene.check("a");
    scene.driver.obey(closing(1));
    scene.obey_one();
    assert_eq!(scene.running(), 2, "a check of the new one may fail now");

    // One that is already being verified takes over immediately.
    scene.check("a");
    let new = LibraryChange::Arrived(Arc::new(Vetted::made_up("played", 3)));
    scene.driver.library_changed("played", &new);
    scene.obey_one();
    assert_eq!(scene.running(), 2, "the new library proves itself");
    scene.driver.obey(closing(2));
    assert_eq!(scene.running(), 3);
}

#[test]
fn a_generation_that_can_read_a_new_secret_ends_where_no_other_can_take_over() {
    let mut scene = Scene::new(&["a"], false);
    scene.check("a");
    scene.driver.plugins[PluginIx(0)].load =
        Arc::new(|_| Err(generations::load_error("it is broken")));
    scene.driver.obey(closing(1));
    let now = scene.driver.shared.clock.now();
    scene.driver.look_after_generations(now);
    assert!(
        scene.driver.plugins[PluginIx(0)].current.is_some(),
        "another may come"
    );
    scene.obey_one();
    assert!(scene.driver.plugins[PluginIx(0)].current.is_none());
    let failure = scene.driver.plugins[PluginIx(0)].guard.failure();
    let expected = "it is broken; the running worker was ended: it can read a secret";
    assert!(failure.message.contains(expected), "{failure}");
}

#[test]
fn two_thousand_reloads_with_renamed_platforms_leave_nothing_behind() {
    let mut scene = Scene::new(&["stays"], false);
    let metrics = scene.driver.shared.metrics.clone();
    let tracked = || tracked(&metrics);
    let mut before = Vec::new();
    for reload in 0..2000 {
        let names: Vec<_> = (0..5).map(|n| format!("of-{reload}-{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        scene.follow(&names);
        for name in &names {
            scene.check(name);
        }
        scene.settle();
        if reload == 500 {
            before = tracked();
        }
    }
    assert_eq!(tracked(), before);
    let probes = Value::Number(6.0);
    assert!(before.contains(&("probe".to_owned(), probes)), "{before:?}");
}

/// Returns `conductor_tracked_objects`, except for objects of other tests in this process.
fn tracked(metrics: &Metrics) -> Vec<(String, Value)> {
    let snapshot = metrics.snapshot();
    let mut families = FAMILIES.iter();
    let family = families.find(|f| f.name == "conductor_tracked_objects");
    let samples = family.unwrap().samples(&snapshot);
    let counted = samples.map(|sample| (sample.labels[0].1.to_string(), sample.value.clone()));
    counted.filter(|(kind, _)| kind != "secret").collect()
}

#[test]
fn reloads_with_renamed_plugins_leave_nothing_behind() {
    let mut scene = Scene::new(&["stays"], false);
    let metrics = scene.driver.shared.metrics.clone();
    let stays = scene.guard("stays");
    let mut last: Option<Arc<PluginGuard>> = None;
    let mut before = Vec::new();
    for reload in 0..200 {
        let id = format!("plugin-{reload}");
        let plugin = Arc::new(PluginGuard::new(
            &id,
            Settings::default(),
            8,
            metrics.plugin(&id),
        ));
        let load = Arc::clone(&scene.driver.plugins[PluginIx(0)].load);
        let of = |guard: &Arc<PluginGuard>| PluginSetup {
            guard: Arc::clone(guard),
            load: Arc::clone(&load),
            renew: false,
            must_end: false,
        };
        let first = PlatformSetup {
            guard: Arc::clone(&stays),
            config: "{}".into(),
            refused: None,
        };
        let forgotten: Vec<_> = last.replace(Arc::clone(&plugin)).into_iter().collect();
        for gone in &forgotten {
            metrics.remove_platform("p", gone.id());
            metrics.remove_plugin(gone.id());
        }
        let plan = Plan {
            plugins: vec![of(stays.plugin()), of(&plugin)],
            forgotten,
            platforms: vec![first, setup("p", &plugin, &scene.driver.shared)],
            timing: scene.driver.timing,
            limits: scene.driver.limits,
        };
        scene.driver.follow(plan);
        let (at, now) = (scene.place("p"), scene.driver.shared.clock.now());
        // Its first check loads it.
        let _ = scene.driver.try_begin(at, now, now);
        while scene.driver.plugins.iter().any(|p| p.next.is_some()) {
            let command = scene.driver.inbox.recv_timeout(PATIENCE).unwrap();
            scene.driver.obey(command);
        }
        scene.settle();
        scene.driver.look_after_generations(now);
        scene.driver.track();
        if reload == 20 {
            before = tracked(&metrics);
        }
    }
    // Counters of removed ones are kept for a while, up to a limit.
    let lasting = |tracked: Vec<(String, Value)>| {
        let mut tracked = tracked;
        tracked.retain(|(kind, _)| !kind.starts_with("retired"));
        tracked
    };
    assert_eq!(lasting(tracked(&metrics)), lasting(before.clone()));
    let of = |kind: &str| before.iter().find(|(k, _)| k == kind).unwrap().1.clone();
    assert_eq!(of("plugin"), Value::Number(2.0));
    assert_eq!(of("plugin_series"), Value::Number(2.0));
}
