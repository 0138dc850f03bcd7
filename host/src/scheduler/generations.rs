//! The driver's part in the lives of plugins: one mechanism for a first load, a crash, a hang, an exceeded limit, a new
//! library and a new config.
//!
//! A new generation is loaded on a thread of its own, beside the one that runs. A new *library* proves itself first. Then
//! it takes over between two turns of the driver, so that no slot is missed; the old one ends once the calls under way in
//! it are over. Checks that fall due while nothing runs and something is on its way wait for it.

use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::RecvTimeoutError},
    thread,
    time::Duration,
};

use super::{
    Command, Driver, LibraryChange, LoadJob, LoadOrder, Ready, platforms::Platforms, proof::Proof,
};
use crate::{
    guard::{Birth, PlatformGuard, PluginGuard, Progress, Running},
    metrics::{ErrorType, Isolation, RestartReason},
    plugin::{Call, Ended, Failure, LoadError, LoadedPlugin, ProbeId},
};

/// One plugin, as the driver knows it.
pub(super) struct Plugin {
    pub(super) guard: Arc<PluginGuard>,
    pub(super) load: LoadJob,
    pub(super) current: Option<Generation>,
    /// The generation on its way.
    next: Option<Next>,
    /// Another one is wanted once that has arrived.
    again: bool,
    /// Those whose last calls are ending.
    old: Vec<Draining>,
    /// Checks that wait for a generation.
    held: Vec<Held>,
    /// It got stuck inside the host too often, and has workers from then on.
    in_worker: bool,
    /// The calls of this turn.
    pub(super) batch: Vec<Call>,
    pub(super) wants_nudge: bool,
}

/// One loaded instance of a plugin.
pub(super) struct Generation {
    number: u64,
    plugin: Arc<dyn LoadedPlugin>,
    isolation: Isolation,
}

/// A generation on its way.
enum Next {
    /// It is being loaded.
    Loading(Loading),
    /// It is loaded, and proves itself.
    Proving(Proving),
}

struct Loading {
    birth: Birth,
    why: Option<RestartReason>,
    /// It ended before it was even known to be loaded.
    ended: Option<Ended>,
}

struct Proving {
    arrival: Arrival,
    proof: Arc<Proof>,
    until: Duration,
}

/// A generation that can be called.
struct Arrival {
    birth: Birth,
    why: Option<RestartReason>,
    plugin: Arc<dyn LoadedPlugin>,
    running: Running,
    probes: Probes,
}

/// The probes of a generation by their platform's place, or why there is none.
type Probes = BTreeMap<usize, (Arc<PlatformGuard>, Result<ProbeId, Arc<str>>)>;

/// A generation that was succeeded.
struct Draining {
    generation: Generation,
    /// The calls under way in it.
    calls: Calls,
}

/// Calls by the platform's place and their number.
type Calls = Vec<(usize, u64)>;

/// A check that waits for a generation.
struct Held {
    platform: usize,
    sequence: u64,
    until: Duration,
}

impl Plugin {
    pub(super) fn new(guard: Arc<PluginGuard>, load: LoadJob) -> Self {
        Self {
            guard,
            load,
            current: None,
            next: None,
            again: false,
            old: Vec::new(),
            held: Vec::new(),
            in_worker: false,
            batch: Vec::new(),
            wants_nudge: false,
        }
    }

    /// What can be called now.
    pub(super) fn loaded(&self) -> Option<&Arc<dyn LoadedPlugin>> {
        self.current.as_ref().map(|current| &current.plugin)
    }

    /// Hands over the calls of this turn, and wakes up what waits since the last one.
    pub(super) fn dispatch(&mut self) {
        if let Some(Next::Proving(proving)) = &self.next {
            proving.arrival.plugin.nudge();
        }
        for old in &self.old {
            old.generation.plugin.nudge();
        }
        let Some(current) = &self.current else {
            return;
        };
        // What waited since the last turn gets more threads before more is queued behind it.
        self.wants_nudge = self.wants_nudge && current.plugin.nudge();
        if !self.batch.is_empty() {
            self.wants_nudge |= current.plugin.start(&mut self.batch);
        }
    }

    /// Whether the driver is to come back a tick later.
    pub(super) fn wants_a_turn(&self) -> bool {
        let proving = matches!(self.next, Some(Next::Proving(_)));
        self.wants_nudge || proving || !self.old.is_empty()
    }

    /// Lets go of everything without waiting for it.
    ///
    /// What runs inside the host is forgotten instead of dropped: with the last owner go the probes, and an author's drop
    /// that hangs must not hold up the host's end.
    pub(super) fn leave(&mut self) {
        let next = match self.next.take() {
            Some(Next::Proving(proving)) => {
                Some((proving.arrival.plugin, proving.arrival.running.isolation))
            }
            _ => None,
        };
        let old = self.old.drain(..).map(|old| old.generation);
        let generations = self.current.take().into_iter().chain(old);
        let generations = generations.map(|generation| (generation.plugin, generation.isolation));
        for (plugin, isolation) in generations.chain(next) {
            match isolation {
                Isolation::Process => plugin.end(),
                Isolation::InProcess => mem::forget(plugin),
            }
        }
    }
}

impl Driver {
    /// Starts all plugins side by side, and waits a while for them; says whether the host is still wanted.
    pub(super) fn start_all(&mut self) -> bool {
        let start = self.shared.clock.now();
        for at in 0..self.plugins.len() {
            self.renew(at, None, start);
        }
        let end = start + PATIENCE;
        while self.plugins.iter().any(|plugin| plugin.next.is_some()) {
            let left = end.saturating_sub(self.shared.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        true
    }

    /// Starts a new generation, if the plugin's guard lets it and none is on its way.
    pub(super) fn renew(&mut self, at: usize, why: Option<RestartReason>, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.next.is_some() {
            return;
        }
        let Some(birth) = plugin.guard.begin(now) else {
            return;
        };
        let number = birth.number;
        let (load, commands) = (Arc::clone(&plugin.load), self.commands.clone());
        let when_ended = self.commands.clone();
        let order = LoadOrder {
            in_worker: plugin.in_worker,
            // Nobody listens any more once the host is stopping.
            ended: Box::new(move |ended| {
                let _ = when_ended.send(Command::Ended(at, number, ended));
            }),
        };
        let spawned = thread::Builder::new()
            .name("load plugin".to_owned())
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| load(order)));
                let result = result.unwrap_or_else(|_| {
                    Err(load_error(
                        "loading it panicked in the host, which is a bug of the host's",
                    ))
                });
                let _ = commands.send(Command::Loaded(at, number, result));
            });
        match spawned {
            Ok(_) => {
                plugin.next = Some(Next::Loading(Loading {
                    birth,
                    why,
                    ended: None,
                }));
            }
            Err(error) => {
                let error = load_error(&format!("there is no thread to load it on: {error}"));
                plugin.guard.not_begun(birth, now, error);
            }
        }
    }

    /// A check waits for the plugin's next generation, if one is or can be on its way; else it fails for what keeps it.
    pub(super) fn hold(&mut self, at: usize, platform: usize, sequence: u64, now: Duration) {
        self.renew(at, None, now);
        self.watch.begun(platform, sequence, now);
        self.start_elsewhere(at, platform, sequence, now);
    }

    /// What was on its way is loaded, or could not be.
    pub(super) fn loaded(&mut self, at: usize, number: u64, result: Result<Ready, LoadError>) {
        let now = self.shared.clock.now();
        let plugin = &mut self.plugins[at];
        let Some(Next::Loading(loading)) = plugin.next.take_if(|next| next.number() == number)
        else {
            return;
        };
        let result = match loading.ended {
            Some(ended) => Err(LoadError {
                kind: ended.kind,
                message: format!("its worker {} right after it had loaded it", ended.message),
                detail: None,
            }),
            None => result,
        };
        match result {
            Ok(ready) => self.arrived(at, loading.birth, loading.why, ready, now),
            Err(error) => {
                plugin.guard.not_started(loading.birth, now, error);
                self.let_go_of_held(at, now, |_| true);
                self.renew_again(at, now);
            }
        }
    }

    /// A generation can be called: it takes over, or proves itself first.
    fn arrived(
        &mut self,
        at: usize,
        birth: Birth,
        why: Option<RestartReason>,
        ready: Ready,
        now: Duration,
    ) {
        let mut probes = Probes::new();
        let mut checks = Vec::new();
        for (place, platform) in self.platforms.of(at).filter(|(_, p)| !p.leaving) {
            let settings = platform.guard.settings();
            let probe = match ready.refused.get(&*settings.name) {
                Some(reason) => Err(Arc::clone(reason)),
                None => Ok(ready.plugin.open(platform.spec())),
            };
            if let Ok(probe) = &probe {
                checks.push((place, *probe, settings.timeout));
            }
            probes.insert(place, (Arc::clone(&platform.guard), probe));
        }
        let arrival = Arrival {
            birth,
            why,
            plugin: ready.plugin,
            running: ready.running,
            probes,
        };
        if why != Some(RestartReason::Replace) || self.plugins[at].current.is_none() {
            self.take_over(at, arrival, now);
            return;
        }
        let (number, commands) = (arrival.birth.number, self.commands.clone());
        let longest = checks.iter().map(|(_, _, timeout)| *timeout).max();
        let (proof, mut calls) = Proof::start(&checks, move || {
            let _ = commands.send(Command::Proved(at, number));
        });
        arrival.plugin.start(&mut calls);
        self.plugins[at].next = Some(Next::Proving(Proving {
            arrival,
            proof,
            until: now + longest.unwrap_or_default(),
        }));
    }

    /// All checks of a proof have ended.
    pub(super) fn proved(&mut self, at: usize, number: u64) {
        let now = self.shared.clock.now();
        match self.plugins[at]
            .next
            .take_if(|next| next.number() == number)
        {
            Some(Next::Proving(proving)) => self.judge_proof(at, proving, now),
            other => self.plugins[at].next = other,
        }
    }

    /// Takes the new generation if none of its checks failed where the running one's succeed.
    fn judge_proof(&mut self, at: usize, proving: Proving, now: Duration) {
        let Proving { arrival, proof, .. } = proving;
        let worse = arrival.probes.iter().filter_map(|(place, (guard, probe))| {
            let platform = self.platforms.get(*place)?;
            let failure = match probe {
                Ok(_) => proof.failure(*place)?,
                Err(reason) => format!("config: {reason}"),
            };
            let succeeds = guard.has_reported() && platform.probe.is_ok();
            succeeds.then(|| format!("{}: {failure}", guard.settings().name))
        });
        let worse: Vec<_> = worse.collect();
        let [first, others @ ..] = worse.as_slice() else {
            self.take_over(at, arrival, now);
            return;
        };
        let more = match others.len() {
            0 => String::new(),
            many => format!(" (and {many} more)"),
        };
        let reason = format!(
            "a check fails with version {} where it succeeds with the one that runs: {first}{more}",
            arrival.running.description.version
        );
        self.plugins[at].guard.rejected(arrival.birth, now, &reason);
        arrival.plugin.end();
        self.renew_again(at, now);
    }

    /// The plugin's calls go to this generation from now on.
    fn take_over(&mut self, at: usize, mut arrival: Arrival, now: Duration) {
        let waiting = self.retire(at);
        for (place, platform) in self.platforms.of(at).filter(|(_, p)| !p.leaving) {
            platform.probe = match arrival.probes.remove(&place) {
                Some((guard, probe)) if Arc::ptr_eq(&guard, &platform.guard) => probe.map(Some),
                // It came with a reload meanwhile.
                _ => Ok(Some(arrival.plugin.open(platform.spec()))),
            };
        }
        let plugin = &mut self.plugins[at];
        plugin.current = Some(Generation {
            number: arrival.birth.number,
            plugin: arrival.plugin,
            isolation: arrival.running.isolation,
        });
        plugin.wants_nudge = false;
        plugin
            .guard
            .took_over(arrival.birth, now, arrival.running, arrival.why);
        let held = mem::take(&mut plugin.held);
        let held = held.into_iter().map(|held| (held.platform, held.sequence));
        for (place, sequence) in waiting.into_iter().chain(held) {
            self.hand_over(place, sequence, now);
        }
        self.renew_again(at, now);
    }

    /// Puts a call that was begun into its plugin's batch of this turn.
    pub(super) fn hand_over(&mut self, at: usize, sequence: u64, now: Duration) {
        let Some(platform) = self.platforms.get(at) else {
            return;
        };
        match &platform.probe {
            Ok(Some(probe)) => self.plugins[platform.plugin].batch.push(Call {
                probe: *probe,
                caller: Arc::clone(&platform.guard) as Arc<_>,
                sequence,
            }),
            Ok(None) => {
                let failure = self.plugins[platform.plugin].guard.failure();
                platform.guard.refuse(sequence, now, &failure);
            }
            Err(reason) => {
                let failure = Failure::new(ErrorType::Config, reason);
                platform.guard.refuse(sequence, now, &failure);
            }
        }
    }

    /// The generation that runs gets no further calls, and ends with the last one under way in it; answers the calls that
    /// have not started.
    fn retire(&mut self, at: usize) -> Calls {
        let Some(generation) = self.plugins[at].current.take() else {
            return Calls::new();
        };
        let (waiting, calls) = self.clear(at);
        self.plugins[at].old.push(Draining { generation, calls });
        waiting
    }

    /// Nothing of a plugin can be called for now: answers its calls that have not started, and those that have.
    fn clear(&mut self, at: usize) -> (Calls, Calls) {
        let (mut waiting, mut running) = (Calls::new(), Calls::new());
        self.watch.each(|place, sequence| {
            if self.platforms.get(place).is_some_and(|p| p.plugin == at) {
                match progress(&self.platforms, place, sequence) {
                    Progress::Waiting => waiting.push((place, sequence)),
                    Progress::Running(_) => running.push((place, sequence)),
                    Progress::Over => {}
                }
            }
        });
        for (_, platform) in self.platforms.of(at) {
            platform.probe = Ok(None);
        }
        // Those are among the waiting ones, and name probes that are gone.
        self.plugins[at].batch.clear();
        (waiting, running)
    }

    /// Stops what runs of a plugin; its checks that have not started fail for the reason its guard gives.
    pub(super) fn stop_plugin(&mut self, at: usize, now: Duration) {
        for (place, sequence) in self.retire(at) {
            self.refuse(at, place, sequence, now);
        }
    }

    /// A check fails for what keeps its plugin from running.
    fn refuse(&self, at: usize, place: usize, sequence: u64, now: Duration) {
        if let Some(platform) = self.platforms.get(place) {
            let failure = self.plugins[at].guard.failure();
            platform.guard.refuse(sequence, now, &failure);
        }
    }

    /// Ends what is drained and what has proved nothing in time, and lets go of checks that waited long enough.
    pub(super) fn look_after_generations(&mut self, now: Duration) {
        for at in 0..self.plugins.len() {
            let platforms = &self.platforms;
            let plugin = &mut self.plugins[at];
            for old in &mut plugin.old {
                old.calls.retain(|&(place, sequence)| {
                    progress(platforms, place, sequence) != Progress::Over
                });
            }
            for drained in plugin.old.extract_if(.., |old| old.calls.is_empty()) {
                drained.generation.plugin.end();
            }
            self.let_go_of_held(at, now, |held| held.until <= now);
            let overdue = |next: &mut Next| matches!(next, Next::Proving(p) if p.until <= now);
            if let Some(Next::Proving(proving)) = self.plugins[at].next.take_if(overdue) {
                self.judge_proof(at, proving, now);
            }
        }
    }

    /// A generation ended without having been asked to; its calls have ended as failures by now.
    pub(super) fn ended(&mut self, at: usize, number: u64, ended: &Ended) {
        let now = self.shared.clock.now();
        let plugin = &mut self.plugins[at];
        plugin.old.retain(|old| old.generation.number != number);
        match plugin.next.take_if(|next| next.number() == number) {
            Some(Next::Loading(loading)) => {
                let ended = Some(ended.clone());
                plugin.next = Some(Next::Loading(Loading { ended, ..loading }));
                return;
            }
            Some(Next::Proving(proving)) => {
                let reason = format!("its worker {} during its first checks", ended.message);
                plugin.guard.rejected(proving.arrival.birth, now, &reason);
                self.renew_again(at, now);
                return;
            }
            None => {}
        }
        if plugin
            .current
            .take_if(|current| current.number == number)
            .is_none()
        {
            return;
        }
        plugin.guard.ended(now, ended);
        let (waiting, _) = self.clear(at);
        let proving = |next: &mut Next| matches!(next, Next::Proving(_));
        match self.plugins[at].next.take_if(proving) {
            // Better than nothing, and it may well be the cure.
            Some(Next::Proving(Proving { mut arrival, .. })) => {
                arrival.why = Some(RestartReason::Crash);
                self.take_over(at, arrival, now);
            }
            _ => self.renew(at, Some(RestartReason::Crash), now),
        }
        for (place, sequence) in waiting {
            self.start_elsewhere(at, place, sequence, now);
        }
    }

    /// A check that had not started when its generation ended goes to the next one.
    fn start_elsewhere(&mut self, at: usize, place: usize, sequence: u64, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.current.is_some() {
            self.hand_over(place, sequence, now);
        } else if plugin.next.is_some()
            && let Some(platform) = self.platforms.get(place)
        {
            plugin.held.push(Held {
                platform: place,
                sequence,
                until: now + platform.guard.settings().timeout,
            });
        } else {
            self.refuse(at, place, sequence, now);
        }
    }

    /// Calls are stuck: past the cap, or once one has been stuck `for_long`, a new generation takes over.
    pub(super) fn consider_stuck(&mut self, at: usize, for_long: bool, now: Duration) {
        let plugin = &mut self.plugins[at];
        let Some(current) = &plugin.current else {
            return;
        };
        if plugin.guard.is_quarantined() {
            // What is stuck inside the host keeps its threads; the plugin's next calls are made elsewhere.
            plugin.in_worker |= current.isolation == Isolation::InProcess;
            self.renew(at, Some(RestartReason::Hang), now);
        } else if for_long && current.isolation == Isolation::Process {
            self.renew(at, Some(RestartReason::Hang), now);
        }
    }

    /// A worker is to have a successor, such as for using more than its limits allow.
    pub(super) fn succeed(&mut self, id: &str, number: u64, reason: RestartReason, what: &str) {
        let now = self.shared.clock.now();
        let Some(at) = self.plugin_place(id) else {
            return;
        };
        let plugin = &self.plugins[at];
        let current = plugin.current.as_ref();
        if current.is_some_and(|current| current.number == number) && plugin.next.is_none() {
            tracing::warn!(plugin = id, "its worker {what}; a new one is being started");
            self.renew(at, Some(reason), now);
        }
    }

    /// Something changed in the plugin folders.
    pub(super) fn library_changed(&mut self, id: &str, change: &LibraryChange) {
        let now = self.shared.clock.now();
        let Some(at) = self.plugin_place(id) else {
            return;
        };
        let plugin = &mut self.plugins[at];
        match change {
            LibraryChange::Arrived(library) => {
                let running = plugin.guard.running();
                if running.is_some_and(|running| running.vetted.sha256 == library.sha256) {
                    return;
                }
                plugin.guard.forget_failures(now);
                plugin.again = true;
                self.renew_again(at, now);
            }
            LibraryChange::Removed(reason) => {
                plugin.guard.stopped(now, load_error(reason));
                self.stop_plugin(at, now);
            }
        }
    }

    /// A generation that was wanted while another one was on its way.
    fn renew_again(&mut self, at: usize, now: Duration) {
        let plugin = &mut self.plugins[at];
        if plugin.next.is_none() && mem::take(&mut plugin.again) {
            let why = plugin.current.as_ref().map(|_| RestartReason::Replace);
            self.renew(at, why, now);
        }
    }

    /// What holds for a plugin's workers changed.
    pub(super) fn want_renewal(&mut self, at: usize, now: Duration) {
        self.plugins[at].again = true;
        self.renew_again(at, now);
    }

    /// Checks that waited for a generation fail for what keeps it.
    fn let_go_of_held(&mut self, at: usize, now: Duration, which: impl Fn(&Held) -> bool) {
        let held = &mut self.plugins[at].held;
        let held: Vec<_> = held.extract_if(.., |held| which(held)).collect();
        for held in held {
            self.refuse(at, held.platform, held.sequence, now);
        }
    }
}

impl Next {
    fn number(&self) -> u64 {
        match self {
            Self::Loading(loading) => loading.birth.number,
            Self::Proving(proving) => proving.arrival.birth.number,
        }
    }
}

/// How a call stands whose platform may be gone.
pub(super) fn progress(platforms: &Platforms, place: usize, sequence: u64) -> Progress {
    let platform = platforms.get(place);
    platform.map_or(Progress::Over, |platform| platform.guard.progress(sequence))
}

fn load_error(message: &str) -> LoadError {
    LoadError {
        kind: ErrorType::Load,
        message: message.to_owned(),
        detail: None,
    }
}

/// How long the first checks wait for plugins that take their time to load.
const PATIENCE: Duration = Duration::from_secs(5);
