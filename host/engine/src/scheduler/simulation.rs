//! A simulated host: a whole engine with a clock that is set by hand and fake plugins.
//!
//! Everything is real except for time, threads, the measurement of the machine, and plugins. A test either decides how
//! each call ends, or has the [disturbances](disturbances) of a seed do it for hours of simulated time.

use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroU16,
    sync::{Arc, mpsc::channel},
    time::Duration,
};

use conductor_core::{breaker::BreakerSettings, confirmation::ConfirmationRules};
use conductor_library::{Catalog, TrustPolicy};
use conductor_types::{Isolation, Priority};

use self::ledger::SimulationLedger;
pub(super) use self::{
    plugin::{PluginBehaviour, SimulatedPlugin, SimulatedSource},
    world::SimulatedWorld,
};
use super::{
    CheckTiming, PlatformChanges, PlatformSetup, PluginSetup, ReloadPlan, SchedulerDriver,
    SchedulerSetup,
    index::{MONITOR_KEY, PlatformIx},
    loading,
};
use crate::{
    board::StatusBoard,
    guard::{GuardContext, PlatformGuard, PlatformSettings, PluginGuard},
    log_tail::LogTail,
    metrics::HostMetrics,
    resources::ResourceLimits,
};

mod confirmed;
mod disturbances;
mod ledger;
mod plugin;
mod restarts;
mod tests;
mod world;

/// A host whose clock only a test advances.
pub(super) struct SimulatedHost {
    pub(super) driver: SchedulerDriver,
    pub(super) world: SimulatedWorld,
    pub(super) shared: Arc<GuardContext>,
    ledger: Arc<SimulationLedger>,
    /// The plugins that platforms can use.
    pub(super) plugins: Vec<SimulatedPluginSetup>,
    /// The platforms of the config in force.
    platforms: Vec<Arc<PlatformGuard>>,
    /// Plugins that were removed since the last plan.
    forgotten: Vec<Arc<PluginGuard>>,
    /// The time of the last poll of the schedule.
    polled: Duration,
    /// The last call that was seen to begin, by platform.
    begun: BTreeMap<PlatformIx, u64>,
    /// The number of reloads, for the names of new platforms.
    reloads: u32,
    _state: tempfile::TempDir,
}

/// A plugin of a simulated host.
#[derive(Clone)]
pub(super) struct SimulatedPluginSetup {
    pub(super) guard: Arc<PluginGuard>,
    pub(super) source: Arc<SimulatedSource>,
}

/// The settings of a simulated platform.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimulatedPlatform {
    /// Its plugin's position.
    pub(super) plugin: usize,
    pub(super) interval: Duration,
    pub(super) priority: Priority,
    pub(super) rules: ConfirmationRules,
    pub(super) retry_interval: Option<Duration>,
}

impl SimulatedPlatform {
    /// Returns a platform of the first plugin, whose state each result changes.
    pub(super) const fn new() -> Self {
        Self {
            plugin: 0,
            interval: Duration::from_secs(5),
            priority: Priority::Normal,
            rules: ConfirmationRules {
                unhealthy_after: NonZeroU16::MIN,
                healthy_after: NonZeroU16::MIN,
            },
            retry_interval: None,
        }
    }
}

impl SimulatedHost {
    /// Creates a host without plugins and platforms, which does not run yet.
    pub(super) fn new(seed: u64) -> Self {
        let world = SimulatedWorld::new(seed);
        let shared = GuardContext::new(world.clock, HostMetrics::by(world.clock), 0);
        Self::within(world, shared.with_seed(seed))
    }

    /// Creates a host like [`new`](Self::new), in a world in which others may have run before.
    fn within(world: SimulatedWorld, shared: GuardContext) -> Self {
        let state = tempfile::tempdir().unwrap();
        let catalog =
            Catalog::open(&[], false, TrustPolicy::default(), Some(state.path())).unwrap();
        let shared = Arc::new(shared);
        let board = StatusBoard::new(
            Arc::clone(&shared),
            Arc::new(catalog),
            Vec::new(),
            LogTail::default(),
        );
        let setup = SchedulerSetup {
            shared: Arc::clone(&shared),
            board: Arc::new(board),
            environment: Arc::new(world.clone()),
            plan: ReloadPlan {
                plugins: Vec::new(),
                forgotten: Vec::new(),
                platforms: Vec::new(),
                timing: TIMING,
                limits: ResourceLimits::default(),
            },
        };
        let (commands, inbox) = channel();
        Self {
            driver: SchedulerDriver::new(setup, commands, inbox),
            polled: world.now(),
            world,
            shared,
            ledger: Arc::default(),
            plugins: Vec::new(),
            platforms: Vec::new(),
            forgotten: Vec::new(),
            begun: BTreeMap::new(),
            reloads: 0,
            _state: state,
        }
    }

    /// Adds a plugin, for the next plan.
    pub(super) fn add_plugin(
        &mut self,
        id: &str,
        mood: PluginBehaviour,
        isolation: Isolation,
        is_asynchronous: bool,
    ) -> usize {
        let guard = PluginGuard::new(id, BreakerSettings::default(), 8, &self.shared);
        let (world, ledger) = (&self.world, &self.ledger);
        let source = SimulatedSource::new(id, mood, isolation, is_asynchronous, world, ledger);
        self.plugins.push(SimulatedPluginSetup {
            guard: Arc::new(guard),
            source: Arc::new(source),
        });
        self.plugins.len() - 1
    }

    /// Removes the plugin at this position, for the next plan.
    pub(super) fn remove_plugin(&mut self, position: usize) {
        let SimulatedPluginSetup { guard, .. } = self.plugins.remove(position);
        self.shared.metrics.remove_plugin(guard.id());
        self.forgotten.push(guard);
    }

    pub(super) fn platform_count(&self) -> usize {
        self.platforms.len()
    }

    /// Adds a platform, for the next plan.
    pub(super) fn add_platform(&mut self, name: &str, platform: SimulatedPlatform) {
        let plugin = &self.plugins[platform.plugin].guard;
        let settings = PlatformSettings {
            name: name.into(),
            interval: platform.interval,
            timeout: platform.interval.min(4 * S),
            priority: platform.priority,
            breaker: BreakerSettings::default(),
            labels: BTreeMap::new(),
            url: None,
            description: None,
        };
        let mut guard = PlatformGuard::new(settings, Arc::clone(plugin), Arc::clone(&self.shared));
        guard.resume_saved("{}");
        guard.set_confirmation(platform.rules, platform.retry_interval);
        let guard = Arc::new(guard);
        let metrics = self.shared.metrics.platform(name, plugin.id());
        self.ledger.add(&guard, metrics);
        self.platforms.push(guard);
    }

    /// Removes the platform at this position, for the next plan.
    pub(super) fn remove_platform(&mut self, position: usize) -> Arc<PlatformGuard> {
        let guard = self.platforms.remove(position);
        let name = &guard.settings().name;
        self.shared
            .metrics
            .remove_platform(name, guard.plugin().id());
        guard
    }

    /// Loads the plugins and lays out the schedule, as a host does at its start.
    pub(super) fn start(&mut self) {
        let plan = self.plan();
        self.driver.take_in(plan.plugins, plan.platforms);
        let end = self.world.now() + loading::PATIENCE;
        self.driver.start_plugins(self.world.now());
        while self.driver.is_starting_plugins() && self.world.now() < end {
            self.pass_until(end);
        }
        self.driver.begin_schedule();
        self.polled = self.world.now();
        self.read_schedule(self.polled.saturating_sub(Duration::from_nanos(1)));
    }

    /// Applies the changed platforms and plugins, as a reload does.
    pub(super) fn reload(&mut self) {
        let removed = self.removed();
        let plan = self.plan();
        self.driver.follow(plan);
        let now = self.world.now();
        self.see_begun(now, TIMING.tick);
        self.ledger.see_results();
        self.polled = now;
        for name in removed {
            self.ledger.removed(&name, now);
        }
        self.read_schedule(now);
    }

    /// Applies the changed platforms alone, as a discovery does.
    pub(super) fn change_platforms_alone(&mut self) {
        let removed = self.removed_guards();
        let known: HashSet<_> = self
            .driver
            .platforms
            .staying()
            .map(|(_, platform)| Arc::as_ptr(&platform.guard))
            .collect();
        let new = self.platforms.iter();
        let new = new.filter(|guard| !known.contains(&Arc::as_ptr(guard)));
        let new: Vec<_> = new.cloned().collect();
        self.shared.starvation.set_platforms(self.platforms.len());
        self.driver.board.change_platforms(&removed, &new);
        let now = self.world.now();
        let names: Vec<_> = removed
            .iter()
            .map(|guard| Arc::clone(&guard.settings().name))
            .collect();
        let added = new.into_iter().map(|guard| PlatformSetup {
            guard,
            config: "{}".into(),
            refused: None,
        });
        self.driver.change_platforms(PlatformChanges {
            removed,
            added: added.collect(),
        });
        self.see_begun(now, TIMING.tick);
        self.ledger.see_results();
        self.polled = now;
        for name in names {
            self.ledger.removed(&name, now);
        }
        self.read_schedule(now);
    }

    /// Lets the time until `end` pass.
    pub(super) fn run_until(&mut self, end: Duration) {
        while self.world.now() < end {
            self.turn();
            self.ledger.see_results();
            self.pass_until(self.driver.wakeup.min(end));
            self.ledger.see_results();
        }
    }

    /// Makes one turn of the driver.
    fn turn(&mut self) {
        let now = self.world.now();
        let late = now.saturating_sub(self.driver.wakeup);
        self.driver.turn(now);
        self.polled = now;
        assert!(self.driver.wakeup > now, "the driver does not wait");
        self.see_begun(now, TIMING.tick + late.min(LATEST_START));
        for plugin in self.driver.plugins.iter() {
            assert!(plugin.batch.is_empty(), "a due call was not handed over");
        }
    }

    /// Lets time pass until a command was obeyed, or until `end`.
    pub(super) fn pass_until(&mut self, end: Duration) {
        loop {
            while self.world.run_next() {}
            if let Ok(command) = self.driver.inbox.try_recv() {
                self.driver.obey(command);
                return;
            }
            let next = self.world.next_event().map_or(end, |at| at.min(end));
            if self.world.now() >= end {
                return;
            }
            self.world.advance_to(next);
        }
    }

    /// Stops the host, and lets the running checks end.
    pub(super) fn stop(&mut self) {
        let end = self.world.now() + TIMING.shutdown_grace;
        while !self.driver.stopping_turn(self.world.now(), end) {
            self.world.advance_to(self.world.now() + TIMING.tick);
            while self.world.run_next() {}
        }
        self.polled = self.world.now();
        self.driver.abandon_checks();
        self.driver.leave_plugins();
    }

    fn plan(&mut self) -> ReloadPlan {
        let plugin = |plugin: &SimulatedPluginSetup| PluginSetup {
            guard: Arc::clone(&plugin.guard),
            loader: Arc::clone(&plugin.source) as Arc<_>,
            renew: false,
            is_kept: false,
            must_end: false,
        };
        let platform = |guard: &Arc<PlatformGuard>| PlatformSetup {
            guard: Arc::clone(guard),
            config: "{}".into(),
            refused: None,
        };
        let plan = ReloadPlan {
            plugins: self.plugins.iter().map(plugin).collect(),
            forgotten: std::mem::take(&mut self.forgotten),
            platforms: self.platforms.iter().map(platform).collect(),
            timing: self.driver.timing,
            limits: self.driver.limits,
        };
        self.shared.starvation.set_platforms(self.platforms.len());
        self.driver.board.hang_up(
            self.platforms.clone(),
            plan.plugins.iter().map(|p| Arc::clone(&p.guard)).collect(),
        );
        plan
    }

    /// Returns the platforms that the next plan takes off the schedule, or gives another guard.
    fn removed(&self) -> Vec<Arc<str>> {
        let guards = self.removed_guards();
        let names = guards.iter().map(|guard| &guard.settings().name);
        names.map(Arc::clone).collect()
    }

    fn removed_guards(&self) -> Vec<Arc<PlatformGuard>> {
        let stays = |guard| self.platforms.iter().any(|other| Arc::ptr_eq(other, guard));
        let staying = self.driver.platforms.staying();
        staying
            .filter(|(_, platform)| !stays(&platform.guard))
            .map(|(_, platform)| Arc::clone(&platform.guard))
            .collect()
    }

    /// Records the lattice of each platform; new ones start after this time.
    fn read_schedule(&self, after: Duration) {
        for planned in self.driver.schedule.plan().entries() {
            if planned.key != MONITOR_KEY {
                let ix = PlatformIx::from_key(planned.key).unwrap();
                let name = &self.driver.platforms[ix].guard.settings().name;
                let schedule = &self.driver.schedule;
                let first = schedule.start_of(planned, self.driver.origin);
                self.ledger.scheduled(name, first, planned.interval, after);
            }
        }
    }

    /// Checks the calls that have begun since the last look: each at its slot, or as a re-check.
    fn see_begun(&mut self, now: Duration, window: Duration) {
        let rechecked: Vec<_> = std::mem::take(&mut self.driver.rechecks.considered);
        let name = |ix| Arc::clone(&self.driver.platforms[ix].guard.settings().name);
        let rechecked: BTreeMap<_, _> = rechecked
            .into_iter()
            .map(|(at, ix)| (name(ix), at))
            .collect();
        for (platform, at) in &rechecked {
            self.world.note(format_args!("re-checks {platform}"));
            self.ledger.rechecked(platform, *at);
        }
        for (ix, platform) in self.take_begun() {
            self.world.note(format_args!("begins {platform}"));
            let is_recheck = rechecked
                .get(&platform)
                .is_some_and(|at| now.saturating_sub(*at) <= window);
            if !is_recheck {
                self.ledger.started(&platform, now, window);
            }
            self.ledger.begun(&platform);
            assert!(self.driver.platforms.get(ix).is_some());
        }
    }

    /// Returns the platforms of the calls that have begun since the last look.
    pub(super) fn take_begun(&mut self) -> Vec<(PlatformIx, Arc<str>)> {
        let (begun, platforms) = (&mut self.begun, &self.driver.platforms);
        let mut new = Vec::new();
        self.driver.watch.each(|ix, sequence| {
            let last = begun.entry(ix).or_default();
            if sequence > *last {
                *last = sequence;
                if let Some(platform) = platforms.get(ix) {
                    new.push((ix, Arc::clone(&platform.guard.settings().name)));
                }
            }
        });
        new
    }
}

pub(super) const S: Duration = Duration::from_secs(1);
pub(super) const TIMING: CheckTiming = CheckTiming {
    interval: Duration::from_secs(5),
    stagger: Duration::from_millis(500),
    tick: Duration::from_millis(10),
    shutdown_grace: Duration::from_secs(1),
};
/// The greatest lateness of a poll that starts what fell due before it.
const LATEST_START: Duration = Duration::from_millis(100);
