//! Simulated plugins: a source of generations, whose calls end as the plugin's mood says, or as a test does.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use conductor_library::Vetted;
use conductor_plugin_api::{Status, manifest::ApiVersion};
use conductor_runtime::{
    AdmittedCall, CallFailure, CheckReport, ConfigSchema, LoadError, LoadedPlugin,
    PluginDescription, ProbeId, ProbeSpec, UnexpectedExit,
    loader::{LoadOrder, LoadedGeneration},
};
use conductor_types::{ErrorType, Isolation};

use super::{
    ledger::SimulationLedger,
    world::{MS, SimulatedWorld},
};
use crate::scheduler::{PluginLoader, RefusedConfig, loading::load_error};

/// The behaviour of a simulated plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::scheduler) enum PluginBehaviour {
    /// A test starts and ends each call.
    Manual,
    /// Nearly all reports are healthy.
    Steady,
    /// All reports are unhealthy.
    Down,
    /// Many checks return an error or panic.
    Failing,
    /// Many checks end near their deadline or after it.
    Slow,
    /// Some checks never return.
    Hanging,
    /// Some checks kill their worker.
    Crashing,
    /// Its library does not load.
    Broken,
}

/// The source of a plugin's generations.
pub(in crate::scheduler) struct SimulatedSource {
    pub(super) id: String,
    pub(super) isolation: Isolation,
    pub(super) is_asynchronous: bool,
    pub(super) world: SimulatedWorld,
    pub(super) ledger: Arc<SimulationLedger>,
    mood: Arc<Mutex<PluginBehaviour>>,
    state: Mutex<SourceState>,
}

struct SourceState {
    library: u8,
    /// `true` if the library's checks fail.
    is_bad: bool,
    /// The generations so far, if a test looks at them.
    loaded: Vec<Arc<SimulatedPlugin>>,
}

impl SimulatedSource {
    pub(in crate::scheduler) fn new(
        id: &str,
        mood: PluginBehaviour,
        isolation: Isolation,
        is_asynchronous: bool,
        world: &SimulatedWorld,
        ledger: &Arc<SimulationLedger>,
    ) -> Self {
        Self {
            id: id.to_owned(),
            isolation,
            is_asynchronous,
            world: world.clone(),
            ledger: Arc::clone(ledger),
            mood: Arc::new(Mutex::new(mood)),
            state: Mutex::new(SourceState {
                library: 1,
                is_bad: false,
                loaded: Vec::new(),
            }),
        }
    }

    pub(in crate::scheduler) fn set_mood(&self, mood: PluginBehaviour) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(super) fn mood(&self) -> PluginBehaviour {
        *self.mood.lock().unwrap()
    }

    /// Makes another library the current one.
    pub(in crate::scheduler) fn replace_library(&self, is_bad: bool) -> Arc<Vetted> {
        let mut state = self.lock();
        state.library = state.library.wrapping_add(1).max(1);
        state.is_bad = is_bad;
        Arc::new(Vetted::made_up(&self.id, state.library))
    }

    /// Returns the generation that was loaded as the nth, from 1.
    pub(in crate::scheduler) fn generation(&self, nth: usize) -> Arc<SimulatedPlugin> {
        Arc::clone(&self.lock().loaded[nth - 1])
    }

    fn lock(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock().unwrap()
    }
}

impl PluginLoader for SimulatedSource {
    fn load(
        &self,
        order: LoadOrder,
    ) -> Result<(LoadedGeneration, BTreeMap<String, RefusedConfig>), LoadError> {
        let mut state = self.lock();
        let mood = self.mood();
        self.world
            .note(format_args!("load {} {}", self.id, order.number));
        if mood == PluginBehaviour::Broken {
            return Err(load_error("its library is broken"));
        }
        let current = || Arc::new(Vetted::made_up(&self.id, state.library));
        let library = order.library.unwrap_or_else(current);
        let vetted = match order.fallback {
            Some(fallback) if fallback.rejected == library.sha256 => fallback.library,
            _ => library,
        };
        let isolation = match order.in_worker {
            true => Isolation::Process,
            false => self.isolation,
        };
        let description = PluginDescription {
            id: self.id.clone(),
            version: vetted.manifest.version.clone(),
            api: ApiVersion::CURRENT,
            config_schema: ConfigSchema::new("{}").unwrap(),
            metrics: Arc::default(),
            asynchronous: self.is_asynchronous,
        };
        let is_current = vetted.manifest.version == format!("1.0.{}", state.library);
        let fails = state.is_bad && is_current;
        let plugin = Arc::new_cyclic(|myself| SimulatedPlugin {
            myself: myself.clone(),
            description,
            number: order.number,
            isolation,
            mood: match fails {
                true => Arc::new(Mutex::new(PluginBehaviour::Failing)),
                false => Arc::clone(&self.mood),
            },
            is_manual: mood == PluginBehaviour::Manual,
            world: self.world.clone(),
            ledger: Arc::clone(&self.ledger),
            state: Mutex::new(PluginState {
                ended: Some(order.ended),
                ..PluginState::default()
            }),
        });
        if plugin.is_manual {
            state.loaded.push(Arc::clone(&plugin));
        }
        drop(state);
        // Some workers die right away, even before their load is known.
        if mood == PluginBehaviour::Crashing && self.world.draw(|random| random.percent(20)) {
            let dying = Arc::clone(&plugin);
            self.world.after(Duration::ZERO, move || dying.die());
        }
        let generation = LoadedGeneration {
            number: order.number,
            plugin: Box::new(PluginHandle(plugin)),
            vetted,
            isolation,
            held: None,
            confinement: None,
            call_threads: 2,
        };
        Ok((generation, BTreeMap::new()))
    }
}

/// A simulated generation.
pub(in crate::scheduler) struct SimulatedPlugin {
    myself: Weak<Self>,
    description: PluginDescription,
    number: u64,
    isolation: Isolation,
    /// Its source's, unless its library is bad.
    mood: Arc<Mutex<PluginBehaviour>>,
    /// `true` if a test starts and ends each call.
    is_manual: bool,
    world: SimulatedWorld,
    ledger: Arc<SimulationLedger>,
    state: Mutex<PluginState>,
}

/// The part that calls change.
#[derive(Default)]
pub(in crate::scheduler) struct PluginState {
    /// The platforms by the number of their probe.
    pub(in crate::scheduler) probes: Vec<Arc<str>>,
    /// Handed over, and not started.
    calls: VecDeque<AdmittedCall>,
    pub(in crate::scheduler) abandoned: Vec<Arc<str>>,
    pub(in crate::scheduler) closed: Vec<Arc<str>>,
    /// By the number of their probe.
    running: BTreeMap<usize, RunningCall>,
    /// Calls that a thread has taken and not started yet.
    starting: usize,
    /// The number of calls that were run.
    run: u64,
    is_retired: bool,
    is_over: bool,
    ended: Option<Box<dyn FnOnce(UnexpectedExit) + Send>>,
}

struct RunningCall {
    call: AdmittedCall,
    /// Its number among the generation's calls.
    number: u64,
    is_abandoned: bool,
}

/// The end of a simulated call.
enum CallEnd {
    Report(Status),
    Failure(ErrorType),
    Crash,
    Never,
}

impl SimulatedPlugin {
    pub(in crate::scheduler) fn told(&self) -> MutexGuard<'_, PluginState> {
        self.state.lock().unwrap()
    }

    /// Returns the platforms of the calls that were handed over, in order.
    pub(in crate::scheduler) fn called(&self) -> Vec<Arc<str>> {
        let told = self.told();
        let name = |call: &AdmittedCall| Arc::clone(&told.probes[call.probe.0]);
        told.calls.iter().map(name).collect()
    }

    /// Takes the call for a platform that was handed over.
    pub(in crate::scheduler) fn call(&self, platform: &str) -> AdmittedCall {
        let mut told = self.told();
        let is_it = |call: &AdmittedCall| *told.probes[call.probe.0] == *platform;
        let at = told.calls.iter().position(is_it).expect("it was called");
        told.calls.remove(at).unwrap()
    }

    /// Starts and ends the call for a platform with a healthy report.
    pub(in crate::scheduler) fn succeed(&self, platform: &str, now: Duration) {
        self.report(platform, Status::Healthy, now);
    }

    /// Starts and ends the call for a platform with a report of this status.
    pub(in crate::scheduler) fn report(&self, platform: &str, status: Status, now: Duration) {
        let call = self.call(platform);
        call.caller.started(call.sequence, now).unwrap();
        let report = CheckReport {
            status,
            ..CheckReport::empty()
        };
        call.caller.finished(call.sequence, now, Ok(&report));
    }

    /// Has threads take the waiting calls.
    fn take_calls(&self) {
        loop {
            let mut state = self.told();
            let busy = state.running.values().filter(|call| !call.is_abandoned);
            let busy = busy.count() + state.starting;
            if busy >= THREADS && !self.description.asynchronous {
                return;
            }
            let Some(call) = state.calls.pop_front() else {
                return;
            };
            state.starting += 1;
            drop(state);
            let plugin = self.myself.upgrade().unwrap();
            let delay = self
                .world
                .draw(|random| random.between(Duration::ZERO, MS * 2));
            self.world.after(delay, move || plugin.run(call));
        }
    }

    fn run(self: Arc<Self>, call: AdmittedCall) {
        let now = self.world.now();
        let platform = {
            let mut state = self.told();
            state.starting -= 1;
            if state.is_over {
                return;
            }
            Arc::clone(&state.probes[call.probe.0])
        };
        let Some(deadline) = call.caller.started(call.sequence, now) else {
            self.take_calls();
            return;
        };
        if call.sequence != VERIFICATION {
            self.ledger.call_runs(&platform, &call, now, deadline);
        }
        self.note(format_args!("runs {platform} {}", call.sequence));
        let probe = call.probe.0;
        let number = {
            let mut state = self.told();
            state.run += 1;
            let running = RunningCall {
                call,
                number: state.run,
                is_abandoned: false,
            };
            let other = state.running.insert(probe, running);
            assert!(other.is_none(), "two calls in one probe of {platform}");
            state.run
        };
        let (delay, end) = self.draw_end(deadline - now);
        match end {
            CallEnd::Never => {}
            CallEnd::Crash => self.world.clone().after(delay, move || self.die()),
            CallEnd::Report(status) => self.world.clone().after(delay, move || {
                let report = CheckReport {
                    status,
                    ..CheckReport::empty()
                };
                self.finish(probe, number, Ok(&report));
            }),
            CallEnd::Failure(kind) => self.world.clone().after(delay, move || {
                self.finish(probe, number, Err(CallFailure::new(kind, "simulated")));
            }),
        }
    }

    fn draw_end(&self, timeout: Duration) -> (Duration, CallEnd) {
        let mood = *self.mood.lock().unwrap();
        self.world.draw(|random| {
            let soon = random.between(MS, MS * 500);
            let late = random.between(timeout * 8 / 10, timeout * 2);
            let dice = random.below(100);
            match (mood, dice) {
                (PluginBehaviour::Down, _) => (soon, CallEnd::Report(Status::Unhealthy)),
                (PluginBehaviour::Failing, 0..40) => (soon, CallEnd::Failure(ErrorType::Error)),
                (PluginBehaviour::Failing, 40..60) => (soon, CallEnd::Failure(ErrorType::Panic)),
                (PluginBehaviour::Slow, 0..70) => (late, CallEnd::Report(Status::Healthy)),
                (PluginBehaviour::Hanging, 0..20) => (soon, CallEnd::Never),
                (PluginBehaviour::Crashing, 0..5) if self.isolation == Isolation::Process => {
                    (soon, CallEnd::Crash)
                }
                (_, 95..98) => (soon, CallEnd::Report(Status::Degraded)),
                (_, 98..) => (soon, CallEnd::Report(Status::Unhealthy)),
                _ => (soon, CallEnd::Report(Status::Healthy)),
            }
        })
    }

    /// Ends the call in a probe, unless it has already ended.
    fn finish(&self, probe: usize, number: u64, result: Result<&CheckReport, CallFailure>) {
        let running = {
            let mut state = self.told();
            let is_it = |running: &RunningCall| running.number == number;
            match state.running.get(&probe).is_some_and(is_it) {
                true => state.running.remove(&probe),
                false => None,
            }
        };
        if let Some(RunningCall { call, .. }) = running {
            self.end_call(&call, result);
            self.take_calls();
        }
    }

    fn end_call(&self, call: &AdmittedCall, result: Result<&CheckReport, CallFailure>) {
        let platform = Arc::clone(&self.told().probes[call.probe.0]);
        let is_unhealthy = matches!(&result, Ok(report) if report.status == Status::Unhealthy);
        match &result {
            Ok(report) => self.note(format_args!("ends {platform} {:?}", report.status)),
            Err(failure) => self.note(format_args!("ends {platform} {}", failure.kind)),
        }
        let metrics = (call.sequence != VERIFICATION)
            .then(|| self.ledger.metrics(&platform))
            .flatten();
        if call.sequence != VERIFICATION {
            self.ledger.call_ends(call);
        }
        let opened = metrics.as_ref().map(|metrics| metrics.times_opened());
        call.caller
            .finished(call.sequence, self.world.now(), result);
        if is_unhealthy {
            let after = metrics.map(|metrics| metrics.times_opened());
            assert_eq!(
                opened, after,
                "an unhealthy report of {platform} opened its breaker"
            );
        }
    }

    /// Ends the worker: its running calls fail, and waiting ones are dropped.
    fn die(&self) {
        let Some(ended) = self.stop() else {
            return;
        };
        self.note(format_args!("dies"));
        ended(UnexpectedExit {
            kind: ErrorType::Crash,
            message: "was killed by the simulation".to_owned(),
            over_limit: false,
        });
    }

    fn stop(&self) -> Option<Box<dyn FnOnce(UnexpectedExit) + Send>> {
        let (running, ended) = {
            let mut state = self.told();
            if std::mem::replace(&mut state.is_over, true) {
                return None;
            }
            state.calls.clear();
            (std::mem::take(&mut state.running), state.ended.take())
        };
        for running in running.into_values() {
            let failure = CallFailure::new(ErrorType::Crash, "its worker ended");
            self.end_call(&running.call, Err(failure));
        }
        ended
    }

    fn note(&self, line: fmt::Arguments<'_>) {
        let id = &self.description.id;
        self.world.note(format_args!("{id} {} {line}", self.number));
    }
}

/// A simulated generation as the driver holds it.
struct PluginHandle(Arc<SimulatedPlugin>);

impl LoadedPlugin for PluginHandle {
    fn description(&self) -> &PluginDescription {
        &self.0.description
    }

    fn open(&self, spec: ProbeSpec) -> ProbeId {
        let mut told = self.0.told();
        told.probes.push(spec.platform);
        ProbeId(told.probes.len() - 1)
    }

    fn close(&self, probe: ProbeId) {
        let mut told = self.0.told();
        let platform = Arc::clone(&told.probes[probe.0]);
        told.closed.push(platform);
    }

    fn start(&self, calls: &mut Vec<AdmittedCall>) -> bool {
        {
            let mut told = self.0.told();
            assert!(!told.is_retired, "a retired generation gets a call");
            if told.is_over {
                // The driver does not know it yet; they are started elsewhere.
                calls.clear();
            }
            told.calls.extend(calls.drain(..));
        }
        if !self.0.is_manual {
            self.0.take_calls();
        }
        false
    }

    fn nudge(&self) -> bool {
        false
    }

    fn abandoned(&self, probe: ProbeId) {
        let mut told = self.0.told();
        let platform = Arc::clone(&told.probes[probe.0]);
        told.abandoned.push(platform);
        let Some(running) = told.running.get_mut(&probe.0) else {
            return;
        };
        running.is_abandoned = true;
        let number = running.number;
        drop(told);
        let plugin = Arc::clone(&self.0);
        // An asynchronous call ends when it is cancelled; another one keeps its thread, and gets a substitute.
        let is_cancelled = plugin.description.asynchronous;
        self.0.world.after(MS, move || match is_cancelled {
            true => plugin.finish(
                probe.0,
                number,
                Err(CallFailure::new(ErrorType::Error, "it was cancelled")),
            ),
            false => plugin.take_calls(),
        });
    }

    fn open_probes(&self) -> usize {
        let told = self.0.told();
        told.probes.len() - told.closed.len()
    }

    fn retire(&self) {
        let mut told = self.0.told();
        told.is_retired = true;
        told.calls.clear();
    }

    fn end(&self) {
        self.0.told().is_retired = true;
        if self.0.isolation == Isolation::Process && !self.0.is_manual {
            let plugin = Arc::clone(&self.0);
            self.0.world.after(MS * 50, move || {
                // It was asked to.
                drop(plugin.stop());
            });
        }
    }
}

/// The number of every call of a verification; those of guards count from 1.
const VERIFICATION: u64 = 0;
/// Threads of a plugin.
const THREADS: usize = 8;
