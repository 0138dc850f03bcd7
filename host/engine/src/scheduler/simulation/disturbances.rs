//! Faults and operators' actions in a simulated host, drawn from a seed.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use conductor_core::{confirmation::ConfirmationRules, maintenance::InForce};
use conductor_types::{Checks, Isolation, Priority, RestartReason, requests::BreakerOrder};

use super::{
    PluginBehaviour, S, SimulatedHost, SimulatedPlatform,
    world::{MS, SeededRandom},
};
use crate::{
    actor::ActionOrigin,
    scheduler::{LibraryChange, ReplacementOrder},
    state::CheckNow,
};

/// The position of the plugin that always works, and that nothing is done to.
pub(super) const CONTROL: usize = 0;
/// The position of the plugin whose reports are always unhealthy.
pub(super) const DOWN: usize = 1;

impl SimulatedHost {
    /// Creates a host with this many platforms of ten plugins.
    pub(super) fn disturbed(seed: u64, platforms: usize) -> Self {
        let mut host = Self::new(seed);
        host.world.set_machine(30.0, 40.0);
        for nth in 0..10 {
            let mood = match nth {
                DOWN => PluginBehaviour::Down,
                _ => PluginBehaviour::Steady,
            };
            let isolation = match nth {
                6 | 7 => Isolation::InProcess,
                _ => Isolation::Process,
            };
            let is_asynchronous = matches!(nth, 4 | 5 | 7);
            host.add_plugin(&format!("plugin-{nth}"), mood, isolation, is_asynchronous);
        }
        for nth in 0..platforms {
            host.add_drawn_platform(&format!("platform-{nth}"), nth % 10);
        }
        host
    }

    fn add_drawn_platform(&mut self, name: &str, plugin: usize) {
        let platform = self.world.draw(|random| {
            let (rules, retry_interval) = draw_confirmation(random);
            SimulatedPlatform {
                plugin,
                interval: random.pick(&[10 * S, 30 * S, 60 * S]),
                priority: random.pick(&[Priority::Critical, Priority::Normal, Priority::Low]),
                rules,
                retry_interval,
            }
        });
        self.add_platform(name, platform);
    }

    /// Lets time pass, with a disturbance every so often.
    pub(super) fn run_disturbed_until(&mut self, end: Duration) {
        self.world.set_thread_shortage(1);
        while self.world.now() < end {
            let calm = self.draw(|random| random.between(S, 40 * S));
            self.run_until(end.min(self.world.now() + calm));
            self.disturb();
            self.check_totals();
        }
    }

    fn disturb(&mut self) {
        let plugin = self.draw(|random| 2 + usize::try_from(random.below(8)).unwrap());
        match self.draw(|random| random.below(14)) {
            0..4 => self.change_mood(plugin),
            4..6 => self.change_library(plugin),
            6 | 7 => {
                self.reloads += 1;
                self.change_platforms(self.reloads);
            }
            8 => {
                let percent = |random: &mut SeededRandom| random.pick(&[30.0, 60.0, 85.0, 95.0]);
                let (cpu, memory) = self.draw(|random| (percent(random), percent(random)));
                self.world.set_machine(cpu, memory);
            }
            9 => self.request_check(),
            10 => self.order_breaker(),
            11 => self.change_maintenance(),
            12 => self.stall(),
            _ => self.exceed_limit(plugin),
        }
    }

    fn change_mood(&self, plugin: usize) {
        let mood = self.draw(|random| {
            random.pick(&[
                PluginBehaviour::Steady,
                PluginBehaviour::Steady,
                PluginBehaviour::Down,
                PluginBehaviour::Failing,
                PluginBehaviour::Slow,
                PluginBehaviour::Hanging,
                PluginBehaviour::Crashing,
                PluginBehaviour::Broken,
            ])
        });
        self.world.note(format_args!("plugin-{plugin} is {mood:?}"));
        self.plugins[plugin].source.set_mood(mood);
    }

    fn change_library(&mut self, plugin: usize) {
        let source = &self.plugins[plugin].source;
        let (is_bad, is_removed) = self.draw(|random| (random.percent(30), random.percent(20)));
        let library = source.replace_library(is_bad);
        let id = source.id.clone();
        if is_removed {
            let gone = LibraryChange::Removed("its library was removed".to_owned());
            self.driver.library_changed(&id, gone);
        }
        self.driver
            .library_changed(&id, LibraryChange::Arrived(library));
    }

    /// Removes some platforms, changes two, and adds others.
    fn change_platforms(&mut self, reload: u32) {
        let position = self.draw_platform();
        let (rules, retry_interval) = self.draw(draw_confirmation);
        self.platforms[position].set_confirmation(rules, retry_interval);
        // A result under the rules before may not have been seen yet.
        let name = Arc::clone(&self.platforms[position].settings().name);
        self.ledger.rules_changed(&name);
        for _ in 0..self.draw(|random| random.below(5)) {
            let position = self.draw_platform();
            self.remove_platform(position);
        }
        let changed = self.draw_platform();
        let changed = self.remove_platform(changed);
        let id = changed.plugin().id();
        let plugin = self.plugins.iter().position(|p| p.guard.id() == id);
        self.add_drawn_platform(&changed.settings().name, plugin.unwrap());
        let changed = self.platforms.last().map(|after| (after, changed));
        if let Some((after, before)) = changed {
            after.succeed(&before);
        }
        for nth in 0..self.draw(|random| random.below(5)) {
            let plugin = self.draw(|random| usize::try_from(random.below(10)).unwrap());
            self.add_drawn_platform(&format!("platform-{reload}-{nth}"), plugin);
        }
        if self.draw(|random| random.percent(50)) {
            self.change_platforms_alone();
        } else {
            self.reload();
        }
    }

    fn request_check(&mut self) {
        let position = self.draw_platform();
        let name = Arc::clone(&self.platforms[position].settings().name);
        if self.is_control(position) {
            return;
        }
        let reply = self.driver.check_now(&name);
        assert_ne!(reply, CheckNow::Unknown);
        self.ledger.requested(&name);
        if !self.take_begun().is_empty() {
            self.ledger.begun_on_request(&name, self.world.now());
        }
    }

    fn order_breaker(&self) {
        let position = self.draw_platform();
        let order = self.draw(|random| {
            random.pick(&[
                BreakerOrder::Open,
                BreakerOrder::Close,
                BreakerOrder::Release,
                BreakerOrder::Reset,
            ])
        });
        if !self.is_control(position) {
            self.platforms[position].order(order, &ActionOrigin::default(), self.world.now());
        }
    }

    fn change_maintenance(&self) {
        let position = self.draw_platform();
        let window = self.draw(|random| random.percent(50)).then(|| {
            Arc::new(InForce {
                name: "move".into(),
                reason: "a move".into(),
                until: f64::MAX,
                checks: Checks::Pause,
                by: None,
            })
        });
        self.platforms[position].set_maintenance(window, self.world.now());
    }

    /// Stalls the host: calls end meanwhile, and the driver comes too late.
    fn stall(&self) {
        let stall = self.draw(|random| {
            let longest = random.pick(&[MS * 80, S, 90 * S]);
            random.between(MS, longest)
        });
        self.world.note(format_args!("stalls for {stall:?}"));
        self.world.advance_to(self.world.now() + stall);
        while self.world.run_next() {}
        self.ledger.see_results();
    }

    fn exceed_limit(&mut self, plugin: usize) {
        let guard = &self.plugins[plugin].guard;
        let order = ReplacementOrder {
            plugin: guard.id().into(),
            generation: guard.generation(),
            reason: RestartReason::Limit,
            what: "uses too much memory".to_owned(),
            must_end: self.draw(|random| random.percent(30)),
        };
        self.driver.succeed(order);
    }

    fn is_control(&self, platform: usize) -> bool {
        let control = &self.plugins[CONTROL].guard;
        Arc::ptr_eq(self.platforms[platform].plugin(), control)
    }

    fn draw_platform(&self) -> usize {
        let count = u64::try_from(self.platforms.len()).unwrap();
        self.draw(|random| usize::try_from(random.below(count)).unwrap())
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut SeededRandom) -> T) -> T {
        self.world.draw(draw)
    }

    /// Checks that each due check has been counted once, or is under way.
    pub(super) fn check_totals(&self) {
        let (due, ended) = self.ledger.totals(self.polled);
        let under_way = u64::try_from(self.shared.in_flight()).unwrap();
        assert_eq!(due, ended + under_way, "checks due, and ended or under way");
    }
}

/// Draws the number of results that change a state, and the time from a soft one to the next check.
fn draw_confirmation(random: &mut SeededRandom) -> (ConfirmationRules, Option<Duration>) {
    let results = |random: &mut SeededRandom| NonZeroU16::new(random.pick(&[1, 2, 3, 5])).unwrap();
    match random.percent(50) {
        true => (ConfirmationRules::default(), None),
        false => {
            let rules = ConfirmationRules {
                unhealthy_after: results(random),
                healthy_after: results(random),
            };
            let retry_interval = random.pick(&[None, Some(S), Some(3 * S), Some(7 * S)]);
            (rules, retry_interval)
        }
    }
}
