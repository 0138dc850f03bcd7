//! Restarts of a disturbed host: the next one continues from what was saved, on the same lattice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conductor_core::breaker::CircuitState;
use conductor_types::PlatformState;

use super::{S, SimulatedHost, SimulatedPlatform, SimulatedPluginSetup, world::MS};
use crate::{
    guard::{GuardContext, PlatformGuard},
    metrics::HostMetrics,
    resumption::{Resumption, decode},
    scheduler::index::{MONITOR_KEY, PlatformIx},
};

#[test]
fn a_host_that_is_restarted_again_and_again_keeps_its_promises() {
    for seed in 0..SEEDS {
        let mut host = SimulatedHost::disturbed(seed, 120);
        host.start();
        for nth in 0..RESTARTS {
            let life = host.world.draw(|random| random.between(20 * S, 400 * S));
            host.run_disturbed_until(host.world.now() + life);
            host = host.restarted(nth % 2 == 0);
        }
        host.run_disturbed_until(host.world.now() + 300 * S);
        host.stop_and_check();
    }
}

/// A platform as it was before a restart.
struct Before {
    state: PlatformState,
    breaker: CircuitState,
}

impl SimulatedHost {
    /// Stops the host, or kills it some seconds after it has saved its state, and starts the next one.
    fn restarted(mut self, is_killed: bool) -> Self {
        if !is_killed {
            self.stop_and_check();
        }
        let (saved, before) = (self.shared.saved(&self.driver.board), self.before());
        let (slots, saved_at) = (self.slots(), self.world.now());
        if is_killed {
            let lost = self.world.draw(|random| random.between(MS, 5 * S));
            self.run_until(self.world.now() + lost);
        }
        let away = self.world.draw(|random| random.between(100 * MS, 20 * S));
        // What the dead process has begun ends without effect.
        self.world.advance_to(self.world.now() + away);
        let mut next = self.successor(&saved);
        next.check_resumed(&before, is_killed, saved_at);
        while self.world.run_next() {}
        next.start();
        next.check_slots(&slots);
        next
    }

    /// Returns the next host, with the same plugins and platforms, which does not run yet.
    fn successor(&self, saved: &[u8]) -> Self {
        let clock = self.world.clock;
        let (host, platforms) = decode(saved).unwrap();
        let resumption = Resumption::of(host, platforms, 3600 * S);
        let shared = GuardContext::new(clock, HostMetrics::by(clock), 0);
        let mut next = Self::within(self.world.clone(), shared.with_resumption(resumption));
        next.reloads = self.reloads;
        for SimulatedPluginSetup { source, .. } in &self.plugins {
            let (id, mood) = (&source.id, source.mood());
            next.add_plugin(id, mood, source.isolation, source.is_asynchronous);
        }
        for guard in &self.platforms {
            let settings = guard.settings();
            let id = guard.plugin().id();
            let plugin = self.plugins.iter().position(|p| p.guard.id() == id);
            let platform = SimulatedPlatform {
                plugin: plugin.unwrap(),
                interval: settings.interval,
                priority: settings.priority,
                rules: guard.confirmed().1,
                retry_interval: guard.retry_interval(),
            };
            next.add_platform(&settings.name, platform);
            // Results before the restart count, which its books do not have.
            next.ledger.rules_changed(&settings.name);
        }
        next
    }

    fn before(&self) -> BTreeMap<Arc<str>, Before> {
        let before = |guard: &Arc<PlatformGuard>| {
            let before = Before {
                state: guard.confirmed().0,
                breaker: guard.breaker_state(),
            };
            (Arc::clone(&guard.settings().name), before)
        };
        self.platforms.iter().map(before).collect()
    }

    /// Checks that each platform continues with its state and its breaker, before any check.
    fn check_resumed(
        &self,
        before: &BTreeMap<Arc<str>, Before>,
        is_killed: bool,
        saved_at: Duration,
    ) {
        for guard in &self.platforms {
            let name = &guard.settings().name;
            // A reload during the last seconds of a host that is killed is not saved.
            let Some(before) = before.get(name) else {
                assert!(is_killed);
                continue;
            };
            assert_eq!(guard.confirmed().0, before.state, "{name}");
            let after = guard.breaker_state();
            match (before.breaker, after) {
                (CircuitState::Open { until: Some(a) }, CircuitState::Open { until: Some(b) }) => {
                    // One whose time is up is open until the next call.
                    let is_over = a <= self.world.now() && b <= self.world.now();
                    assert!(is_over || a.abs_diff(b) < MS, "{name}: {a:?} {b:?}");
                }
                // Its trial is lost.
                (CircuitState::HalfOpen, CircuitState::Open { until: Some(until) }) => {
                    assert!(until <= self.world.now(), "{name}, saved at {saved_at:?}");
                }
                (before, after) => assert_eq!(before, after, "{name}"),
            }
        }
    }

    /// Returns the start of each platform in the schedule after a fixed time, and its interval.
    fn slots(&self) -> BTreeMap<Arc<str>, (Duration, Duration)> {
        let mut slots = BTreeMap::new();
        for planned in self.driver.schedule.plan().entries() {
            if planned.key != MONITOR_KEY {
                let ix = PlatformIx::from_key(planned.key).unwrap();
                let name = Arc::clone(&self.driver.platforms[ix].guard.settings().name);
                let start = self.driver.schedule.start_of(planned, FAR);
                slots.insert(name, (start, planned.interval));
            }
        }
        slots
    }

    /// Checks that each platform that was saved keeps its moments.
    fn check_slots(&self, before: &BTreeMap<Arc<str>, (Duration, Duration)>) {
        let mut kept = 0;
        for (name, (after, interval)) in self.slots() {
            let Some((start, _)) = before.get(&name).filter(|slot| slot.1 == interval) else {
                continue;
            };
            let moved = after.abs_diff(*start);
            // The file has dates of a quarter of a microsecond.
            let moved = moved.min(interval.saturating_sub(moved));
            assert!(
                moved < Duration::from_micros(2),
                "{name} moved by {moved:?}"
            );
            kept += 1;
        }
        assert!(kept > 50, "{kept}");
    }

    fn stop_and_check(&mut self) {
        self.stop();
        assert_eq!(self.shared.in_flight(), 0);
        let polled = self.polled;
        self.ledger.each(|name, book| {
            assert_eq!(book.ended(), book.due(polled), "checks of {name}");
        });
    }
}

/// Later than the end of each simulation.
const FAR: Duration = Duration::from_secs(1_000_000);
/// The number of hosts, each with its own disturbances.
const SEEDS: u64 = 4;
/// The restarts of each.
const RESTARTS: u64 = 8;
