//! The driver's checks of targets, which clients request: a target has a probe for one check, and no slot.

use super::{SchedulerDriver, TargetCheck, platforms::ScheduledPlatform, takeover::progress};
use crate::guard::{CallProgress, SkipCause};

impl SchedulerDriver {
    /// Begins a check of a target, if its guard admits it; `None` if there is no such plugin any more.
    pub(super) fn check_target(&mut self, check: TargetCheck) -> Option<Result<(), SkipCause>> {
        let plugin = self.plugin_ix(check.guard.plugin().id())?;
        let now = self.shared.clock.now();
        let begun = check.guard.begin(now, now, self.watch.token());
        let mut target = ScheduledPlatform {
            guard: check.guard,
            plugin,
            config: check.config,
            probe: Ok(None),
            recheck: None,
            leaving: false,
            is_target: true,
        };
        if begun.is_ok()
            && let Some(loaded) = self.plugins[plugin].loaded()
        {
            target.probe = Ok(Some(loaded.open(target.spec())));
        }
        let at = self.platforms.add(target);
        let sequence = begun.as_ref().ok().copied();
        let started = self.go_on(at, begun, now);
        match sequence {
            Some(sequence) => self.targets.push((at, sequence)),
            None => self.drop_platform(at),
        }
        Some(started)
    }

    /// Removes the targets whose check is over.
    pub(super) fn drop_checked_targets(&mut self) {
        let platforms = &self.platforms;
        let is_over =
            |&mut (at, sequence): &mut _| progress(platforms, at, sequence) == CallProgress::Over;
        let over: Vec<_> = self.targets.extract_if(.., is_over).collect();
        for (at, _) in over {
            self.drop_platform(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use conductor_core::breaker::BreakerSettings;
    use conductor_runtime::CallFailure;
    use conductor_types::{ErrorType, Isolation, PlatformState, Priority};

    use super::*;
    use crate::{
        guard::{CallEnds, PlatformGuard, PlatformSettings},
        scheduler::simulation::{PluginBehaviour, S, SimulatedHost, SimulatedPlatform},
    };

    /// A target, and a host with one platform of the same plugin.
    struct TargetFixture {
        host: SimulatedHost,
        guard: Arc<PlatformGuard>,
        ends: Arc<CallEnds>,
    }

    impl TargetFixture {
        fn new() -> Self {
            let mut host = SimulatedHost::new(0);
            host.add_plugin(
                "played",
                PluginBehaviour::Manual,
                Isolation::InProcess,
                false,
            );
            host.add_platform("shop", SimulatedPlatform::new());
            host.start();
            let settings = PlatformSettings {
                name: "http_2xx:example.com".into(),
                interval: 5 * S,
                timeout: S,
                priority: Priority::Normal,
                breaker: BreakerSettings::try_new(1, 30 * S, 60 * S).unwrap(),
                labels: Default::default(),
                url: None,
                description: None,
            };
            let (plugin, shared) = (&host.plugins[0].guard, &host.shared);
            let ends = Arc::new(CallEnds::default());
            let guard = PlatformGuard::of_target(
                settings,
                Arc::clone(plugin),
                Arc::clone(shared),
                Arc::clone(&ends),
            );
            Self {
                guard: Arc::new(guard),
                host,
                ends,
            }
        }

        fn ask(&mut self) -> Result<(), SkipCause> {
            let check = TargetCheck {
                guard: Arc::clone(&self.guard),
                config: "{}".into(),
            };
            let asked = self.host.driver.check_target(check);
            self.host.driver.dispatch();
            asked.unwrap()
        }

        fn has_ended(&self) -> bool {
            self.ends.wait_beyond(0, Duration::ZERO)
        }

        fn open_probes(&self) -> usize {
            let loaded = self.host.driver.plugins.iter().next().unwrap().loaded();
            loaded.unwrap().open_probes()
        }
    }

    #[test]
    fn a_target_has_a_probe_for_one_check_and_neither_slot_nor_series() {
        let mut fixture = TargetFixture::new();
        let slots = fixture.host.driver.schedule.plan().entries().len();
        assert_eq!(fixture.ask(), Ok(()));
        assert_eq!(fixture.open_probes(), 2);
        assert!(matches!(fixture.ask(), Err(SkipCause::Waiting(_))));
        assert!(!fixture.has_ended());
        let now = fixture.host.world.now();
        let plugin = fixture.host.plugins[0].source.generation(1);
        plugin.succeed("http_2xx:example.com", now);
        assert!(fixture.has_ended());
        assert_eq!(fixture.guard.target_result().state, PlatformState::Healthy);
        fixture.host.driver.expire(now);
        assert_eq!(fixture.open_probes(), 1);
        assert_eq!(fixture.host.driver.platforms.count(), 1);
        let driver = &fixture.host.driver;
        assert_eq!(driver.schedule.plan().entries().len(), slots);
        let snapshot = fixture.host.shared.metrics.snapshot();
        assert_eq!(snapshot.platform_count(), 1);
    }

    #[test]
    fn a_check_of_a_target_ends_at_its_deadline_and_failures_open_its_breaker() {
        let mut fixture = TargetFixture::new();
        assert_eq!(fixture.ask(), Ok(()));
        let now = fixture.host.world.now();
        let plugin = fixture.host.plugins[0].source.generation(1);
        let call = plugin.call("http_2xx:example.com");
        call.caller.started(call.sequence, now).unwrap();
        fixture.host.driver.expire(now + 2 * S);
        assert!(fixture.has_ended());
        let result = fixture.guard.target_result();
        assert_eq!(result.error_type, Some(ErrorType::Timeout));
        assert_eq!(fixture.open_probes(), 1);
        let late = CallFailure::new(ErrorType::Error, "late");
        call.caller.finished(call.sequence, now, Err(late));
        assert_eq!(fixture.ask(), Err(SkipCause::BreakerOpen));
        assert_eq!(fixture.open_probes(), 1);
    }

    #[test]
    fn a_check_of_a_target_waits_for_a_plugin_that_is_being_started() {
        let mut fixture = TargetFixture::new();
        let now = fixture.host.world.now();
        let at = fixture.host.driver.plugin_ix("played").unwrap();
        fixture.host.driver.stop_plugin(at, now);
        assert_eq!(fixture.ask(), Ok(()));
        fixture.host.pass_until(now + 30 * S);
        fixture.host.driver.dispatch();
        let now = fixture.host.world.now();
        let plugin = fixture.host.plugins[0].source.generation(2);
        plugin.succeed("http_2xx:example.com", now);
        assert_eq!(fixture.guard.target_result().state, PlatformState::Healthy);
    }
}
