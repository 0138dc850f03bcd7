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

use conductor_core::schedule::{DueEntry, ResourceMode, Schedule};
use conductor_runtime::UnexpectedExit;
use conductor_types::SkipReason;

pub use self::{
    handle::SchedulerHandle,
    setup::{
        CheckTiming, LibraryChange, PlatformChanges, PlatformSetup, PluginLoader, PluginSetup,
        RefusedConfig, ReloadPlan, ReplacementOrder, SchedulerSetup, TargetCheck,
    },
};
use self::{
    index::{PlatformIx, PluginIx},
    loading::LoadResult,
    platforms::PlatformTable,
    plugin::ScheduledPlugin,
    plugins::PluginTable,
    rechecks::RecheckQueue,
    watch::DeadlineWatch,
};
use crate::{
    board::StatusBoard,
    environment::{EngineEnvironment, ResourceMonitor},
    guard::{GuardContext, SkipCause},
    resources::{MachineSample, ResourceJudge, ResourceLimits, culprits::CpuCulprits},
    state::CheckNow,
};

mod checks;
mod handle;
mod heartbeats;
mod index;
mod loading;
mod machine;
mod plan;
mod platforms;
mod plugin;
mod plugins;
mod rechecks;
mod replacement;
mod resuming;
mod setup;
#[cfg(test)]
mod simulation;
mod single;
mod stopping;
mod takeover;
mod targets;
#[cfg(test)]
mod tests;
mod verification;
mod verifying;
mod waiting;
mod watch;

/// A command to the scheduler.
enum SchedulerCommand {
    Stop,
    Sampled(MachineSample),
    /// The generation of this number, of the plugin at this index, is loaded or failed to load.
    Loaded(PluginIx, u64, LoadResult),
    /// All its first checks have ended.
    Verified(PluginIx, u64),
    /// It ended unexpectedly.
    Ended(PluginIx, u64, UnexpectedExit),
    /// A generation must be replaced.
    Renew(ReplacementOrder),
    /// Something changed in the plugin folders.
    Library(String, LibraryChange),
    /// The config changed.
    Follow(Box<ReloadPlan>),
    /// Single platforms come and go.
    Change(PlatformChanges),
    /// An operator requests a check of this platform now; the result is sent back.
    CheckNow(String, Sender<CheckNow>),
    /// A heartbeat of this platform was recorded.
    Heartbeat(String),
    /// A client requests a check of this target; what comes of it is sent back.
    CheckTarget(TargetCheck, Sender<Option<Result<(), SkipCause>>>),
    /// A liveness check.
    Answer(Sender<()>),
}

/// Starts the scheduler on a new thread.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(setup: SchedulerSetup) -> std::io::Result<SchedulerHandle> {
    let (commands, inbox) = channel();
    let driver = SchedulerDriver::new(setup, commands.clone(), inbox);
    let thread = thread::Builder::new()
        .name("scheduler".to_owned())
        .spawn(move || driver.run())?;
    Ok(SchedulerHandle {
        commands,
        thread: Mutex::new(Some(thread)),
    })
}

/// Checks every platform once, all at the same time, and returns when each check has ended.
pub fn check_once(setup: SchedulerSetup) {
    let (commands, inbox) = channel();
    SchedulerDriver::new(setup, commands, inbox).check_once();
}

struct SchedulerDriver {
    shared: Arc<GuardContext>,
    board: Arc<StatusBoard>,
    environment: Arc<dyn EngineEnvironment>,
    plugins: PluginTable,
    platforms: PlatformTable,
    /// The platforms that a reload removed from the schedule and whose last call is under way.
    leaving: Vec<PlatformIx>,
    /// The targets whose check is under way, with the number of its call.
    targets: Vec<(PlatformIx, u64)>,
    schedule: Schedule,
    /// The time from which checks start and ticks are counted.
    origin: Duration,
    /// The age of the lattice at its origin, which is the start of this process: it may continue an earlier one.
    lattice_age: Duration,
    /// The time of the next turn.
    wakeup: Duration,
    watch: DeadlineWatch,
    rechecks: RecheckQueue,
    /// The platforms with a heartbeat that no check has seen.
    unseen_heartbeats: Vec<PlatformIx>,
    judge: ResourceJudge,
    limits: ResourceLimits,
    stretch: ResourceMode,
    /// The plugins that cause a shortage of CPU.
    culprits: CpuCulprits,
    monitor: Option<Box<dyn ResourceMonitor>>,
    timing: CheckTiming,
    commands: Sender<SchedulerCommand>,
    inbox: Receiver<SchedulerCommand>,
    due: Vec<DueEntry>,
}

impl SchedulerDriver {
    fn new(
        setup: SchedulerSetup,
        commands: Sender<SchedulerCommand>,
        inbox: Receiver<SchedulerCommand>,
    ) -> Self {
        let plan = setup.plan;
        let mut driver = Self {
            schedule: schedule(Duration::ZERO, &plan.timing),
            origin: Duration::ZERO,
            lattice_age: Duration::ZERO,
            wakeup: Duration::ZERO,
            shared: setup.shared,
            board: setup.board,
            environment: setup.environment,
            plugins: PluginTable::default(),
            platforms: PlatformTable::default(),
            leaving: Vec::new(),
            targets: Vec::new(),
            watch: DeadlineWatch::default(),
            rechecks: RecheckQueue::default(),
            unseen_heartbeats: Vec::new(),
            judge: ResourceJudge::new(plan.limits),
            limits: plan.limits,
            stretch: ResourceMode::Normal,
            culprits: CpuCulprits::default(),
            monitor: None,
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
        self.begin_schedule();
        loop {
            let wakeup = self.turn(self.shared.clock.now());
            let left = wakeup.saturating_sub(self.shared.clock.now());
            match self.inbox.recv_timeout(left) {
                Ok(SchedulerCommand::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.drain();
    }

    /// Does what is due at `now`, without waiting; returns the time of the next turn, unless a command comes first.
    fn turn(&mut self, now: Duration) -> Duration {
        self.note_lateness(now);
        self.begin_due(now);
        self.begin_rechecks(now);
        self.check_heartbeats(now);
        self.expire(now);
        self.look_after_generations(now);
        self.dispatch();
        self.wakeup = self.next_turn(self.shared.clock.now());
        self.wakeup
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
            // A worker that ended is replaced, for calls that had not started.
            if let Ok(command) = self.inbox.recv_timeout(self.timing.tick) {
                self.obey(command);
            }
            let now = self.shared.clock.now();
            self.expire(now);
            self.look_after_generations(now);
        }
        self.leave_plugins();
    }

    /// Gives every entry a slot; the lattice begins now, or continues.
    fn begin_schedule(&mut self) {
        self.start_monitor();
        let now = self.shared.clock.now();
        self.resume_schedule(now);
        self.wakeup = now;
        self.fill_schedule();
        self.board.set_ready();
    }

    /// Returns the next wake-up time: always on a tick boundary, so that calls due by then start together.
    fn next_turn(&mut self, now: Duration) -> Duration {
        let deadline = self.watch.next();
        let wants_a_turn = self.plugins.iter().any(ScheduledPlugin::wants_a_turn);
        let nudge = (wants_a_turn || !self.unseen_heartbeats.is_empty()).then_some(now);
        let own = [deadline, self.rechecks.next(), nudge]
            .into_iter()
            .flatten()
            .min()
            // Later than now, even at a tick boundary.
            .map(|at| self.end_of_tick(at.max(now + Duration::from_nanos(1))));
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
    fn note_lateness(&self, now: Duration) {
        let late = now.saturating_sub(self.wakeup);
        if self.shared.starvation.woke_up(now, late) {
            tracing::warn!(
                "CPU starvation for {:.1} s: breakers ignore timeouts",
                late.as_secs_f64()
            );
        }
    }

    fn obey(&mut self, command: SchedulerCommand) {
        match command {
            SchedulerCommand::Stop => {}
            SchedulerCommand::Sampled(sample) => self.judge(&sample),
            SchedulerCommand::Loaded(at, number, result) if self.plugins.contains(at) => {
                self.loaded(at, number, result);
            }
            SchedulerCommand::Verified(at, number) if self.plugins.contains(at) => {
                self.verified(at, number)
            }
            SchedulerCommand::Ended(at, number, ended) if self.plugins.contains(at) => {
                self.ended(at, number, &ended);
            }
            // A forgotten plugin's: an unknown generation ends when it is dropped.
            SchedulerCommand::Loaded(..)
            | SchedulerCommand::Verified(..)
            | SchedulerCommand::Ended(..) => {}
            SchedulerCommand::Renew(order) => self.succeed(order),
            SchedulerCommand::Library(id, change) => self.library_changed(&id, change),
            SchedulerCommand::Follow(plan) => self.follow(*plan),
            SchedulerCommand::Change(changes) => self.change_platforms(changes),
            SchedulerCommand::Answer(tell) => {
                // A receiver that no longer waits has already timed out.
                let _ = tell.send(());
            }
            SchedulerCommand::CheckNow(name, tell) => {
                let _ = tell.send(self.check_now(&name));
            }
            SchedulerCommand::Heartbeat(platform) => self.note_heartbeat(&platform),
            SchedulerCommand::CheckTarget(check, tell) => {
                let _ = tell.send(self.check_target(check));
            }
        }
    }
}

fn schedule(origin: Duration, timing: &CheckTiming) -> Schedule {
    Schedule::new(origin, timing.tick, timing.stagger)
        .expect("the config was held to the same rules")
}

/// The longest time between looks at the clock, because the driver's sleep does not notice a suspend.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
