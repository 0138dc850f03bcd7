//! The driver: one thread that polls the schedule, begins what is due, and watches deadlines.
//!
//! It never runs a plugin, samples a resource or writes to a socket. Each turn it begins every check that fell due
//! within the tick, hands each plugin its calls in one batch, abandons calls past their deadline, and sleeps until the
//! next tick boundary at which something is due. All other threads send it commands.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use conductor_core::schedule::{Due, Mode, Schedule, Start, next_run, stretch_factor};
use conductor_runtime::{Ended, LoadError};
use conductor_types::SkipReason;

use self::{
    generations::progress,
    index::{PlatformIx, PluginIx},
    platforms::{Platform, Platforms},
    plugin::Plugin,
    plugins::Plugins,
    watch::Watch,
};
pub use self::{
    handle::Handle,
    setup::{
        LibraryChange, LoadJob, LoadOrder, Plan, PlatformSetup, PluginSetup, Ready, Refused,
        Renewal, Setup, Timing,
    },
};
use crate::{
    board::Board,
    guard::{Shared, Skip},
    resources::{Judge, Limits, Sample, culprits::Culprits, sample::Sampler},
    state::CheckNow,
};

mod generations;
mod handle;
mod index;
mod machine;
mod plan;
mod platforms;
mod plugin;
mod plugins;
mod proof;
mod reasons;
mod setup;
mod stopping;
#[cfg(test)]
mod tests;
mod waiting;
mod watch;

/// A command to the scheduler.
enum Command {
    Stop,
    Sampled(Sample),
    /// The generation of this number, of the plugin at this index, is loaded or failed to load.
    Loaded(PluginIx, u64, Result<Ready, LoadError>),
    /// All its first checks have ended.
    Proved(PluginIx, u64),
    /// It ended unexpectedly.
    Ended(PluginIx, u64, Ended),
    /// A generation must be replaced.
    Renew(Renewal),
    /// Something changed in the plugin folders.
    Library(String, LibraryChange),
    /// The config changed.
    Follow(Box<Plan>),
    /// An operator requests a check of this platform now; the result is sent back.
    CheckNow(String, Sender<CheckNow>),
    /// A liveness check.
    Answer(Sender<()>),
}

/// Starts the scheduler on a new thread.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(setup: Setup) -> std::io::Result<Handle> {
    let (commands, inbox) = channel();
    let driver = Driver::new(setup, commands.clone(), inbox);
    let thread = thread::Builder::new()
        .name("scheduler".to_owned())
        .spawn(move || driver.run())?;
    Ok(Handle {
        commands,
        thread: Mutex::new(Some(thread)),
    })
}

/// Checks every platform once, all at the same time, and returns when each check has ended.
pub fn check_once(setup: Setup) {
    let (commands, inbox) = channel();
    Driver::new(setup, commands, inbox).check_once();
}

struct Driver {
    shared: Arc<Shared>,
    board: Arc<Board>,
    plugins: Plugins,
    platforms: Platforms,
    /// The platforms that a reload removed from the schedule and whose last call is under way.
    leaving: Vec<PlatformIx>,
    schedule: Schedule,
    /// The beginning of the lattice, from which ticks are counted.
    origin: Duration,
    watch: Watch,
    judge: Judge,
    limits: Limits,
    stretch: Mode,
    /// The plugins that cause a shortage of CPU.
    culprits: Culprits,
    sampler: Option<Sampler>,
    timing: Timing,
    commands: Sender<Command>,
    inbox: Receiver<Command>,
    due: Vec<Due>,
}

impl Driver {
    fn new(setup: Setup, commands: Sender<Command>, inbox: Receiver<Command>) -> Self {
        let plan = setup.plan;
        let mut driver = Self {
            schedule: schedule(Duration::ZERO, &plan.timing),
            origin: Duration::ZERO,
            shared: setup.shared,
            board: setup.board,
            plugins: Plugins::default(),
            platforms: Platforms::default(),
            leaving: Vec::new(),
            watch: Watch::default(),
            judge: Judge::new(plan.limits),
            limits: plan.limits,
            stretch: Mode::Normal,
            culprits: Culprits::default(),
            sampler: None,
            timing: plan.timing,
            commands,
            inbox,
            due: Vec::new(),
        };
        driver.take_in(plan.plugins, plan.platforms);
        driver
    }

    fn run(mut self) {
        if !self.start_all() {
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
            self.look_after_generations(now);
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
        if !self.start_all() {
            return;
        }
        let now = self.shared.clock.now();
        let all: Vec<_> = self.platforms.staying().map(|(at, _)| at).collect();
        for at in all {
            let guard = &self.platforms[at].guard;
            if guard.is_paused() {
                guard.skip(SkipReason::Maintenance, 1);
            } else {
                self.begin(at, now, now);
            }
        }
        while self.shared.in_flight() > 0 {
            self.dispatch();
            thread::sleep(self.timing.tick);
            // A worker that ended is replaced, for calls that had not started.
            while let Ok(command) = self.inbox.try_recv() {
                self.obey(command);
            }
            let now = self.shared.clock.now();
            self.expire(now);
            self.look_after_generations(now);
        }
        self.leave_plugins();
    }

    /// Gives every entry a slot; the lattice begins now.
    fn lay_out_schedule(&mut self) {
        self.origin = self.shared.clock.now();
        self.schedule = schedule(self.origin, &self.timing);
        self.fill_schedule();
    }

    fn begin_due(&mut self, now: Duration) {
        let mut due = std::mem::take(&mut self.due);
        self.schedule.poll(now, |found| due.push(found));
        for found in due.drain(..) {
            match PlatformIx::from_key(found.key) {
                None => self.sample(),
                Some(at) => self.begin_one(at, found, now),
            }
        }
        self.due = due;
    }

    /// Handles one platform's due entry.
    fn begin_one(&mut self, at: PlatformIx, found: Due, now: Duration) {
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
        let interval = settings.interval;
        let mode = match self.culprits.spare_others() {
            true if !self.culprits.contains(guard.plugin().id()) => Mode::Normal,
            _ => self.stretch,
        };
        let factor = stretch_factor(settings.priority, mode, interval);
        let left_out = next_run(factor, tick, slot);
        let intervals = if left_out == 0 { factor } else { left_out };
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        guard.set_stretch(factor, now);
        guard.set_next(slot_time.saturating_add(interval.saturating_mul(intervals)));
        if guard.is_paused() {
            guard.skip(SkipReason::Maintenance, 1);
        } else if left_out == 0 {
            self.begin(at, slot_time, now);
        } else {
            guard.skip(SkipReason::Degraded, 1);
        }
    }

    /// Begins one platform's check, if its guard admits it.
    fn begin(&mut self, at: PlatformIx, slot_time: Duration, now: Duration) {
        // The guard has counted a skipped check.
        let _ = self.try_begin(at, slot_time, now);
    }

    fn try_begin(
        &mut self,
        at: PlatformIx,
        slot_time: Duration,
        now: Duration,
    ) -> Result<(), Skip> {
        let begun = self.platforms[at].guard.begin(slot_time, now);
        self.go_on(at, begun, now)
    }

    /// Hands over a call that its guard has begun, or handles the reason why there is none.
    fn go_on(
        &mut self,
        at: PlatformIx,
        begun: Result<u64, Skip>,
        now: Duration,
    ) -> Result<(), Skip> {
        let platform = &self.platforms[at];
        let plugin = platform.plugin;
        match begun {
            Ok(sequence) if self.plugins[plugin].current.is_some() => {
                self.hand_over(at, sequence, now);
                self.watch.begun(at, sequence, now);
            }
            Ok(sequence) => self.hold(plugin, at, sequence, now),
            Err(Skip::Stuck(since)) => {
                let patience = platform.guard.settings().breaker.reset_timeout();
                self.consider_stuck(plugin, now.saturating_sub(since) >= patience, now);
            }
            Err(Skip::Waiting(since)) => {
                let settings = platform.guard.settings();
                let patience = settings.breaker.reset_timeout() + settings.timeout;
                let since = since.max(platform.guard.plugin().last_start());
                if now.saturating_sub(since) >= patience {
                    self.consider_waiting(plugin, now.saturating_sub(since), now);
                } else {
                    self.consider_stuck(plugin, false, now);
                }
            }
            Err(Skip::Saturated) => self.consider_stuck(plugin, false, now),
            Err(Skip::Overlap | Skip::BreakerOpen) => {}
        }
        begun.map(|_| ())
    }

    fn check_now(&mut self, name: &str) -> CheckNow {
        let named = |platform: &Platform| &*platform.guard.settings().name == name;
        let found = {
            let mut staying = self.platforms.staying();
            staying.find_map(|(at, platform)| named(platform).then_some(at))
        };
        let Some(at) = found else {
            return CheckNow::Unknown;
        };
        let now = self.shared.clock.now();
        let begun = self.platforms[at].guard.begin_asked(now);
        match self.go_on(at, begun, now) {
            Ok(()) => CheckNow::Begun,
            Err(skip) => CheckNow::Skipped(skip.into()),
        }
    }

    fn dispatch(&mut self) {
        let now = self.shared.clock.now();
        for plugin in self.plugins.iter_mut() {
            plugin.dispatch(now);
        }
    }

    fn expire(&mut self, now: Duration) {
        let (platforms, plugins) = (&self.platforms, &self.plugins);
        let mut with_stuck = Vec::new();
        self.watch.expire(
            now,
            |at, sequence| progress(platforms, at, sequence),
            |at, sequence| {
                let platform = &platforms[at];
                let plugin = &plugins[platform.plugin];
                let stuck = || {
                    if let Ok(Some(probe)) = platform.probe {
                        plugin.abandoned(at, sequence, probe);
                    }
                };
                platform.guard.expire(sequence, now, stuck);
                with_stuck.push(platform.plugin);
            },
        );
        for at in with_stuck {
            self.consider_stuck(at, false, now);
        }
        self.let_leave();
    }

    /// Returns the next wake-up time: always on a tick boundary, so that calls due by then start together.
    fn next_turn(&mut self, now: Duration) -> Duration {
        let platforms = &self.platforms;
        let deadline = self.watch.next(|at| {
            let platform = platforms.get(at);
            platform.map_or(Duration::ZERO, |platform| platform.guard.settings().timeout)
        });
        let nudge = self.plugins.iter().any(Plugin::wants_a_turn).then_some(now);
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

    /// Returns the first tick boundary at or after `at`.
    fn end_of_tick(&self, at: Duration) -> Duration {
        let tick = self.timing.tick.as_nanos();
        let ticks = at.saturating_sub(self.origin).as_nanos().div_ceil(tick);
        self.origin + Duration::from_nanos(u64::try_from(ticks * tick).unwrap_or(u64::MAX))
    }

    /// Records a turn that comes much too late, which is a sign that the host is starved.
    fn note_lateness(&self, now: Duration, wanted: Duration) {
        let late = now.saturating_sub(wanted);
        if self.shared.starvation.woke_up(now, late) {
            tracing::warn!(
                "CPU starvation for {:.1} s: breakers ignore timeouts",
                late.as_secs_f64()
            );
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop => {}
            Command::Sampled(sample) => self.judge(&sample),
            Command::Loaded(at, number, result) if self.plugins.contains(at) => {
                self.loaded(at, number, result);
            }
            Command::Proved(at, number) if self.plugins.contains(at) => self.proved(at, number),
            Command::Ended(at, number, ended) if self.plugins.contains(at) => {
                self.ended(at, number, &ended);
            }
            // A forgotten plugin's: an unknown generation ends when it is dropped.
            Command::Loaded(..) | Command::Proved(..) | Command::Ended(..) => {}
            Command::Renew(order) => self.succeed(order),
            Command::Library(id, change) => self.library_changed(&id, &change),
            Command::Follow(plan) => self.follow(*plan),
            Command::Answer(tell) => {
                // A receiver that no longer waits has already timed out.
                let _ = tell.send(());
            }
            Command::CheckNow(name, tell) => {
                let _ = tell.send(self.check_now(&name));
            }
        }
    }
}

fn schedule(origin: Duration, timing: &Timing) -> Schedule {
    Schedule::new(origin, timing.tick, timing.stagger)
        .expect("the config was held to the same rules")
}

/// The longest time between looks at the clock, because the driver's sleep does not notice a suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
