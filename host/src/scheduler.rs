//! The driver: one thread that polls the schedule, begins what is due, and watches deadlines.
//!
//! It never runs a plugin, samples a resource or writes to a socket. Each turn it begins every check that fell due
//! within the tick, hands each plugin its calls in one go, gives up on calls past their deadline, and sleeps to the next
//! tick boundary at which something is due. Everybody else talks to it through commands.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

pub use self::setup::{LoadJob, PlatformSetup, PluginSetup, Ready, Setup};
use self::watch::Watch;
use crate::{
    board::Board,
    guard::{PlatformGuard, PluginGuard, Shared},
    metrics::{DegradedMode, ErrorType, Resource, SkipReason},
    plugin::{Call, Failure, LoadedPlugin, ProbeId},
    resources::{Judge, Sample, sample::Sampler},
    schedule::{Due, Key, Mode, Schedule, Start, runs_at},
};

mod loading;
mod setup;
mod watch;

/// How the rest of the host talks to the scheduler.
pub struct Handle {
    commands: Sender<Command>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the scheduler is told.
enum Command {
    Stop,
    Sampled(Sample),
    Loaded(usize, Option<Ready>),
}

/// Starts the scheduler on a thread of its own.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(setup: Setup) -> std::io::Result<Handle> {
    let (commands, inbox) = channel();
    let driver = Driver::new(setup, commands.clone(), inbox);
    let thread = thread::Builder::new()
        .name("scheduler".to_owned())
        .spawn(move || driver.run())?;
    Ok(Handle {
        commands,
        thread: Some(thread),
    })
}

/// Checks every platform once, all at the same time, and returns when each check has ended.
pub fn check_once(setup: Setup) {
    let (commands, inbox) = channel();
    Driver::new(setup, commands, inbox).check_once();
}

impl Handle {
    /// Whether the scheduler has ended, which it never does by itself.
    pub fn is_finished(&self) -> bool {
        self.thread
            .as_ref()
            .is_none_or(thread::JoinHandle::is_finished)
    }

    /// No new checks from now on; returns when those under way have ended, or their time of grace has.
    pub fn stop(mut self) {
        // A scheduler that is gone has nothing to stop.
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Driver {
    shared: Arc<Shared>,
    board: Arc<Board>,
    plugins: Vec<Plugin>,
    platforms: Vec<Platform>,
    schedule: Schedule,
    /// Where the lattice begins, and the ticks are counted from.
    origin: Duration,
    watch: Watch,
    judge: Judge,
    stretch: Mode,
    sampler: Option<Sampler>,
    setup: Timing,
    commands: Sender<Command>,
    inbox: Receiver<Command>,
    due: Vec<Due>,
}

struct Timing {
    interval: Duration,
    stagger: Duration,
    tick: Duration,
    grace: Duration,
}

struct Plugin {
    guard: Arc<PluginGuard>,
    load: LoadJob,
    loading: bool,
    loaded: Option<Arc<dyn LoadedPlugin>>,
    /// The calls of this turn.
    batch: Vec<Call>,
    wants_nudge: bool,
}

struct Platform {
    guard: Arc<PlatformGuard>,
    plugin: usize,
    config: Arc<str>,
    probe: Result<Option<ProbeId>, Arc<str>>,
}

impl Plugin {
    /// Nobody waits any more for the call into this platform's probe.
    fn abandoned(&self, platform: &Platform) {
        if let (Some(loaded), Ok(Some(probe))) = (&self.loaded, &platform.probe) {
            loaded.abandoned(*probe);
        }
    }
}

impl Driver {
    fn new(setup: Setup, commands: Sender<Command>, inbox: Receiver<Command>) -> Self {
        let plugins = setup.plugins.into_iter().map(|plugin| Plugin {
            guard: plugin.guard,
            load: plugin.load,
            loading: false,
            loaded: None,
            batch: Vec::new(),
            wants_nudge: false,
        });
        let platforms = setup.platforms.into_iter().map(|platform| Platform {
            guard: platform.guard,
            plugin: platform.plugin,
            config: platform.config,
            probe: Ok(None),
        });
        Self {
            schedule: schedule(Duration::ZERO, setup.tick, setup.stagger),
            origin: Duration::ZERO,
            shared: setup.shared,
            board: setup.board,
            plugins: plugins.collect(),
            platforms: platforms.collect(),
            watch: Watch::default(),
            judge: setup.judge,
            stretch: Mode::Normal,
            sampler: None,
            setup: Timing {
                interval: setup.interval,
                stagger: setup.stagger,
                tick: setup.tick,
                grace: setup.shutdown_grace,
            },
            commands,
            inbox,
            due: Vec::new(),
        }
    }

    fn run(mut self) {
        if !self.load_all() {
            return;
        }
        self.start_sampler();
        self.lay_out_schedule();
        self.board.set_ready();
        let mut wanted = self.origin;
        loop {
            let now = self.shared.clock.now();
            self.note_lateness(now, wanted);
            self.begin_due(now);
            self.expire(now);
            self.dispatch();
            let now = self.shared.clock.now();
            wanted = self.next_turn(now);
            match self.inbox.recv_timeout(wanted.saturating_sub(now)) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.drain();
    }

    fn check_once(mut self) {
        if !self.load_all() {
            return;
        }
        let now = self.shared.clock.now();
        for at in 0..self.platforms.len() {
            self.begin(at, now, now);
        }
        while self.shared.in_flight() > 0 {
            self.dispatch();
            thread::sleep(self.setup.tick);
            self.expire(self.shared.clock.now());
        }
        self.leave_plugins();
    }

    fn start_sampler(&mut self) {
        let commands = self.commands.clone();
        let sampler = Sampler::start(self.shared.clock, self.board.disk_paths(), move |sample| {
            let _ = commands.send(Command::Sampled(sample));
        });
        match sampler {
            Ok(sampler) => self.sampler = Some(sampler),
            Err(error) => {
                tracing::error!("resources are not watched: cannot start a thread: {error}")
            }
        }
    }

    /// Gives everybody a slot; the lattice begins now.
    fn lay_out_schedule(&mut self) {
        self.origin = self.shared.clock.now();
        self.schedule = schedule(self.origin, self.setup.tick, self.setup.stagger);
        let intervals = self
            .platforms
            .iter()
            .map(|platform| platform.guard.settings().interval);
        let intervals = std::iter::once(self.setup.interval).chain(intervals);
        for (at, interval) in intervals.enumerate() {
            let set = u32::try_from(at).map(|key| self.schedule.set(Key(key), interval));
            if !matches!(set, Ok(Ok(()))) {
                tracing::error!(
                    "no slot for number {at} on the schedule, which is never checked: {set:?}"
                );
            }
        }
        for planned in self.schedule.plan().entries() {
            if let Some(at) = platform_of(planned.key) {
                self.platforms[at]
                    .guard
                    .set_next(self.origin + planned.phase);
            }
        }
    }

    fn begin_due(&mut self, now: Duration) {
        let mut due = std::mem::take(&mut self.due);
        self.schedule.poll(now, |found| due.push(found));
        for found in due.drain(..) {
            match platform_of(found.key) {
                None => self.sample(),
                Some(at) => self.begin_one(at, found, now),
            }
        }
        self.due = due;
    }

    /// The resource monitor's turn.
    fn sample(&self) {
        self.shared.follow_wall_clock();
        if let Some(sampler) = &self.sampler
            && !sampler.request()
        {
            tracing::debug!("the resource monitor is still busy with its last sample");
        }
    }

    /// One platform's turn.
    fn begin_one(&mut self, at: usize, found: Due, now: Duration) {
        let guard = &self.platforms[at].guard;
        if found.missed > 0 {
            guard.skip(SkipReason::Missed, found.missed);
        }
        let Some(Start {
            at: slot_time,
            tick,
            slot,
        }) = found.start
        else {
            return;
        };
        let settings = guard.settings();
        guard.set_next(slot_time + settings.interval);
        if runs_at(
            settings.priority,
            self.stretch,
            tick,
            slot,
            settings.interval,
        ) {
            self.begin(at, slot_time, now);
        } else {
            guard.skip(SkipReason::Degraded, 1);
        }
    }

    /// Begins one platform's check, if its guard lets it.
    fn begin(&mut self, at: usize, slot_time: Duration, now: Duration) {
        let platform = &self.platforms[at];
        let Ok(sequence) = platform.guard.begin(slot_time, now) else {
            return;
        };
        let plugin = &mut self.plugins[platform.plugin];
        match (&plugin.loaded, &platform.probe) {
            (Some(_), Ok(Some(probe))) => {
                plugin.batch.push(Call {
                    probe: *probe,
                    caller: Arc::clone(&platform.guard) as Arc<_>,
                    sequence,
                });
                self.watch.begun(at, sequence, now);
            }
            (_, Err(reason)) => {
                let failure = Failure::new(ErrorType::Config, reason);
                platform.guard.refuse(sequence, now, &failure);
            }
            (None, _) | (_, Ok(None)) => {
                let at = platform.plugin;
                platform
                    .guard
                    .refuse(sequence, now, &plugin.guard.failure());
                self.load(at, now);
            }
        }
    }

    fn dispatch(&mut self) {
        for plugin in &mut self.plugins {
            let Some(loaded) = &plugin.loaded else {
                continue;
            };
            // What waited since the last turn gets more threads before more is queued behind it.
            plugin.wants_nudge = plugin.wants_nudge && loaded.nudge();
            if !plugin.batch.is_empty() {
                plugin.wants_nudge |= loaded.start(&mut plugin.batch);
            }
        }
    }

    fn expire(&mut self, now: Duration) {
        let (platforms, plugins) = (&self.platforms, &self.plugins);
        self.watch.expire(
            now,
            |at, sequence| platforms[at].guard.progress(sequence),
            |at, sequence| {
                let platform = &platforms[at];
                let stuck = || plugins[platform.plugin].abandoned(platform);
                platform.guard.expire(sequence, now, stuck);
            },
        );
    }

    /// When to wake up next: always on a tick boundary, so that what is due by then starts together.
    fn next_turn(&mut self, now: Duration) -> Duration {
        let platforms = &self.platforms;
        let deadline = self.watch.next(|at| platforms[at].guard.settings().timeout);
        let nudge = self.plugins.iter().any(|p| p.wants_nudge).then_some(now);
        let own = [deadline, nudge]
            .into_iter()
            .flatten()
            .min()
            .map(|at| self.end_of_tick(at));
        [
            self.schedule.next_wakeup(now),
            own,
            Some(now + LONGEST_SLEEP),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now + LONGEST_SLEEP)
    }

    /// The first tick boundary at or after `at`.
    fn end_of_tick(&self, at: Duration) -> Duration {
        let tick = self.setup.tick.as_nanos();
        let ticks = at.saturating_sub(self.origin).as_nanos().div_ceil(tick);
        self.origin + Duration::from_nanos(u64::try_from(ticks * tick).unwrap_or(u64::MAX))
    }

    /// A turn that comes much later than it was wanted is a sign that the host is starved.
    fn note_lateness(&self, now: Duration, wanted: Duration) {
        let late = now.saturating_sub(wanted);
        if self.shared.starvation.woke_up(now, late) {
            tracing::warn!(
                "the host itself is starved: the scheduler woke up {} ms late; timeouts around it are not blamed on plugins",
                late.as_millis()
            );
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop => {}
            Command::Sampled(sample) => self.judge(&sample),
            Command::Loaded(at, ready) => self.loaded(at, ready),
        }
    }

    fn judge(&mut self, sample: &Sample) {
        let now = self.shared.clock.now();
        let judgement = self.judge.observe(now, sample);
        self.stretch = judgement.stretch;
        let metrics = &self.shared.metrics;
        metrics.degraded_mode(match judgement.shown {
            Mode::Normal => DegradedMode::Normal,
            Mode::Degraded => DegradedMode::Degraded,
            Mode::Critical => DegradedMode::Critical,
        });
        for (resource, percent) in [
            (Resource::Cpu, sample.cpu_percent),
            (Resource::Ram, sample.memory_percent),
            (
                Resource::Disk,
                sample.disk.as_ref().map(|disk| disk.percent),
            ),
        ] {
            if let Some(percent) = percent {
                metrics.resource(resource, percent);
            }
        }
        if let Some(change) = &judgement.changed {
            match change.to {
                Mode::Normal => tracing::info!("machine normal: {}", change.why),
                to => tracing::warn!("machine {}: {}", to.name(), change.why),
            }
        }
        self.board.judged(sample, &judgement);
    }

    /// No new starts; what runs gets its time of grace, and what has not started is taken back.
    fn drain(mut self) {
        let end = self.shared.clock.now() + self.setup.grace;
        let waiting = self.shared.in_flight();
        if waiting > 0 {
            tracing::info!(
                "stopping: {waiting} checks are under way and get {}",
                humantime::format_duration(self.setup.grace)
            );
        }
        loop {
            let now = self.shared.clock.now();
            self.schedule.poll(now, |found| {
                if let Some(at) = platform_of(found.key) {
                    let due = found.missed + u64::from(found.start.is_some());
                    self.platforms[at].guard.skip(SkipReason::Shutdown, due);
                }
            });
            self.expire(now);
            self.watch.each_recent(|at, sequence| {
                self.platforms[at]
                    .guard
                    .withdraw(sequence, now, SkipReason::Shutdown);
            });
            if self.shared.in_flight() == 0 || now >= end {
                break;
            }
            thread::sleep(self.setup.tick);
        }
        let left = self.shared.in_flight();
        if left > 0 {
            tracing::warn!("leaving with {left} checks under way");
            let now = self.shared.clock.now();
            self.watch.each(|at, sequence| {
                let platform = &self.platforms[at];
                let stuck = || self.plugins[platform.plugin].abandoned(platform);
                platform.guard.abandon(sequence, now, stuck);
            });
        }
        self.leave_plugins();
    }

    /// Forgets the loaded plugins instead of dropping them: with the last owner go the probes, and an author's drop that
    /// hangs must not hold up the host's end.
    fn leave_plugins(&mut self) {
        for plugin in &mut self.plugins {
            std::mem::forget(plugin.loaded.take());
        }
    }
}

/// The platform a key of the schedule stands for; key 0 is the resource monitor's, which thus gets the first slot.
fn platform_of(key: Key) -> Option<usize> {
    (key.0 as usize).checked_sub(1)
}

fn schedule(origin: Duration, tick: Duration, stagger: Duration) -> Schedule {
    Schedule::new(origin, tick, stagger).expect("the config was held to the same rules")
}

/// The driver looks at the clock at least this often, because its sleep does not see a suspend pass.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
