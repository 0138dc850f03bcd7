//! The driver's handling of the config: at the start, and at each reload.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use conductor_core::schedule::ScheduleKey;

use super::{
    PlatformSetup, PluginSetup, ReloadPlan, SchedulerDriver,
    index::{MONITOR_KEY, PlatformIx, PluginIx},
    loading::load_error,
    platforms::ScheduledPlatform,
    plugin::ScheduledPlugin,
    schedule,
    takeover::progress,
};
use crate::{guard::CallProgress, resources::ResourceJudge};

impl SchedulerDriver {
    /// Applies another plan; unchanged platforms keep slot, probe, breaker and counters.
    pub(super) fn follow(&mut self, plan: ReloadPlan) {
        let now = self.shared.clock.now();
        // Starts due until now belong to the old plan.
        self.begin_due(now);
        let again =
            (plan.timing.tick, plan.timing.stagger) != (self.timing.tick, self.timing.stagger);
        self.timing = plan.timing;
        if plan.limits != self.limits {
            self.limits = plan.limits;
            self.judge = ResourceJudge::new(plan.limits);
        }
        self.take_in(plan.plugins, plan.platforms);
        for plugin in self.plugins.iter_mut() {
            let is_plugin = |guard| Arc::ptr_eq(guard, &plugin.guard);
            plugin.is_forgotten |= plan.forgotten.iter().any(is_plugin);
        }
        if again {
            self.schedule = schedule(self.origin, &self.timing);
            self.lattice_age = Duration::ZERO;
            self.forget_slots();
            // Time that passed before must not count as missed.
            self.schedule.poll(now, |_| {});
        }
        self.fill_schedule();
        self.let_leave();
        self.track();
    }

    /// Adds and updates plugins and platforms, and removes those that are no longer wanted.
    pub(super) fn take_in(&mut self, plugins: Vec<PluginSetup>, platforms: Vec<PlatformSetup>) {
        let now = self.shared.clock.now();
        for plugin in self.plugins.iter_mut() {
            plugin.is_kept = false;
        }
        for setup in plugins {
            let (at, is_kept) = (self.plugin_ix(setup.guard.id()), setup.is_kept);
            match at {
                Some(at) => {
                    self.plugins[at].is_kept = is_kept;
                    self.plugins[at].loader = setup.loader;
                    // The rules for libraries may have changed since it was announced.
                    self.plugins[at].announced = None;
                    if setup.must_end {
                        // The one being started may have them too.
                        self.call_off(at, now);
                        let what = "runs under settings that the config no longer has";
                        self.outlaw(at, what.to_owned(), now);
                    }
                    if setup.renew {
                        self.want_renewal(at, now);
                    }
                }
                None => self.plugins.add(ScheduledPlugin {
                    is_kept,
                    ..ScheduledPlugin::new(setup.guard, setup.loader)
                }),
            }
        }
        self.remove_platforms(&platforms);
        let known: HashMap<_, _> = self
            .platforms
            .staying()
            .map(|(at, platform)| (Arc::as_ptr(&platform.guard), at))
            .collect();
        for setup in platforms {
            match known.get(&Arc::as_ptr(&setup.guard)) {
                Some(&at) if setup.refused.is_none() => self.is_accepted(at),
                Some(_) => {}
                None => {
                    self.add_platform(setup);
                }
            }
        }
        for at in self.plugins.indices() {
            if !self.is_used(at) {
                self.let_go_of_plugin(at, now);
            }
        }
    }

    /// Returns `true` if a generation of this plugin should run.
    pub(super) fn is_used(&self, at: PluginIx) -> bool {
        self.plugins[at].is_kept || self.platforms.staying().any(|(_, p)| p.plugin == at)
    }

    /// Handles a plugin that no platform uses any more.
    fn let_go_of_plugin(&mut self, at: PluginIx, now: Duration) {
        let plugin = &self.plugins[at];
        if plugin.current.is_some() {
            let unused = load_error("no platform of the config names it");
            plugin.guard.stopped(now, unused);
        }
        self.stop_plugin(at, now);
        self.call_off(at, now);
    }

    pub(super) fn plugin_ix(&self, id: &str) -> Option<PluginIx> {
        self.plugins.find(id)
    }

    /// Handles the acceptance of a platform's config, which may have been refused before.
    fn is_accepted(&mut self, at: PlatformIx) {
        let platform = &mut self.platforms[at];
        if platform.probe.is_err() {
            let loaded = self.plugins[platform.plugin].loaded();
            platform.probe = Ok(loaded.map(|loaded| loaded.open(platform.spec())));
        }
    }

    /// Adds a platform without a slot; returns `None` if its plugin is not in the plan.
    pub(super) fn add_platform(&mut self, setup: PlatformSetup) -> Option<PlatformIx> {
        let plugin = self.plugin_ix(setup.guard.plugin().id())?;
        let mut platform = ScheduledPlatform {
            guard: setup.guard,
            plugin,
            config: setup.config,
            probe: Ok(None),
            recheck: None,
            leaving: false,
            is_target: false,
        };
        if let Some(reason) = setup.refused {
            platform.probe = Err(reason);
        } else if let Some(loaded) = self.plugins[plugin].loaded() {
            platform.probe = Ok(Some(loaded.open(platform.spec())));
        }
        Some(self.platforms.add(platform))
    }

    /// Removes the platforms that are not in `wanted` from the schedule.
    fn remove_platforms(&mut self, wanted: &[PlatformSetup]) {
        let wanted: HashSet<_> = wanted
            .iter()
            .map(|setup| Arc::as_ptr(&setup.guard))
            .collect();
        let gone: Vec<_> = self
            .platforms
            .staying()
            .filter(|(_, platform)| !wanted.contains(&Arc::as_ptr(&platform.guard)))
            .map(|(at, _)| at)
            .collect();
        for at in gone {
            self.take_off_schedule(at);
        }
    }

    /// Takes a platform off the schedule; it leaves when its last call is over.
    pub(super) fn take_off_schedule(&mut self, at: PlatformIx) {
        self.platforms[at].leaving = true;
        self.leaving.push(at);
        self.schedule.remove(at.key());
    }

    /// Removes the leaving platforms whose last call is over.
    pub(super) fn let_leave(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let mut busy = HashSet::new();
        self.watch.each(|at, sequence| {
            if progress(&self.platforms, at, sequence) != CallProgress::Over {
                busy.insert(at);
            }
        });
        let leaving = mem::take(&mut self.leaving);
        let mut gone = Vec::new();
        for at in leaving {
            if busy.contains(&at) {
                self.leaving.push(at);
            } else {
                gone.push(Arc::clone(&self.platforms[at].guard.settings().name));
                self.drop_platform(at);
            }
        }
        // Their last calls may have logged something since they left the schedule.
        self.board.forget_lines_of(&gone);
    }

    /// Removes a platform without a call under way, and closes its probe.
    pub(super) fn drop_platform(&mut self, at: PlatformIx) {
        if let Some(platform) = self.platforms.remove(at)
            && let Ok(Some(probe)) = platform.probe
            && let Some(loaded) = self.plugins[platform.plugin].loaded()
        {
            loaded.close(probe);
        }
    }

    /// Removes forgotten plugins that have no calls or generations left.
    pub(super) fn forget_plugins(&mut self) {
        if self.plugins.iter().any(|plugin| plugin.is_forgotten) {
            let platforms = &self.platforms;
            self.plugins.remove_if(|at, plugin| {
                plugin.is_forgotten && plugin.is_idle() && !platforms.use_plugin(at)
            });
        }
    }

    /// Gives an entry the wanted slot, or another one.
    pub(super) fn set_slot(&mut self, key: ScheduleKey, interval: Duration, wanted: Option<u32>) {
        if let Err(error) = self.schedule.set_at(key, interval, wanted) {
            let name = PlatformIx::from_key(key).map_or("the resource monitor", |at| {
                &self.platforms[at].guard.settings().name
            });
            tracing::error!("{name} has no slot on the schedule, and is never checked: {error}");
        }
    }

    /// Gives a slot to each entry without one: the resource monitor first, then those that had one before the restart.
    pub(super) fn fill_schedule(&mut self) {
        let own = (MONITOR_KEY, self.timing.interval, None);
        let platforms = self.platforms.staying().map(|(at, platform)| {
            let guard = &platform.guard;
            (at.key(), guard.settings().interval, guard.slot())
        });
        let mut wanted: Vec<_> = std::iter::once(own).chain(platforms).collect();
        wanted[1..].sort_by_key(|(_, _, slot)| slot.is_none());
        for (key, interval, slot) in wanted {
            self.set_slot(key, interval, slot);
        }
        let now = self.shared.clock.now();
        for planned in self.schedule.plan().entries() {
            let Some(platform) =
                PlatformIx::from_key(planned.key).and_then(|at| self.platforms.get(at))
            else {
                continue;
            };
            platform.guard.set_slot(Some(planned.slot));
            platform
                .guard
                .set_next(self.schedule.start_of(planned, now));
        }
        self.note_lattice();
    }
}
