//! Work that several benchmarks measure: a host's series, and the path of a check through the guards.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use conductor_core::{breaker::BreakerSettings, clock::Clock};
use conductor_engine::{
    guard::{CallToken, GuardContext, PlatformGuard, PlatformSettings, PluginGuard},
    metrics::HostMetrics,
};
use conductor_runtime::{CallOwner as _, CheckReport};
use conductor_types::Priority;

/// Platforms of one plugin, without the plugin: each check ends at once, with the same healthy report.
pub(crate) struct GuardedPlatforms {
    guards: Vec<PlatformGuard>,
    report: CheckReport,
    token: CallToken,
    now: Duration,
}

impl GuardedPlatforms {
    /// Creates the guards of so many platforms.
    pub(crate) fn new(platforms: usize) -> Self {
        let breaker = BreakerSettings::try_new(3, 30 * SECOND, 600 * SECOND).unwrap();
        let clock = Clock::start();
        let shared = Arc::new(GuardContext::new(clock, HostMetrics::new(), platforms));
        let plugin = Arc::new(PluginGuard::new("http", breaker, 8, &shared));
        let guard = |nth| {
            let settings = PlatformSettings {
                name: format!("platform-{nth}").into(),
                interval: 5 * SECOND,
                timeout: 4 * SECOND,
                priority: Priority::Normal,
                breaker,
                labels: BTreeMap::new(),
                url: None,
                description: None,
            };
            PlatformGuard::new(settings, Arc::clone(&plugin), Arc::clone(&shared))
        };
        let mut report = CheckReport::empty();
        report.message.push_str("HTTP 200 in 31 ms");
        Self {
            guards: (0..platforms).map(guard).collect(),
            report,
            token: CallToken::default(),
            now: SECOND,
        }
    }

    /// Begins, starts and ends one check of each platform.
    pub(crate) fn check_all(&mut self) {
        self.now += 5 * SECOND;
        for guard in &self.guards {
            let call = guard.begin(self.now, self.now, &self.token).unwrap();
            guard.started(call, self.now).unwrap();
            guard.finished(call, self.now + TOOK, Ok(&self.report));
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const TOOK: Duration = Duration::from_micros(31_700);
