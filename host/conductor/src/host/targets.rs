//! Checks of targets that clients name: a module of `/probe` is a template of the config.
//!
//! Each pair of module and target keeps its guard, and with it its breaker, for as long as it is among the last
//! [`KEPT_TARGETS`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_config::{ConductorConfig, TemplateConfig};
use conductor_engine::{
    guard::{CallEnds, PlatformGuard, PlatformSettings, SkipCause},
    scheduler::TargetCheck,
};
use conductor_runtime::wording::listed;
use conductor_server::{CheckedTarget, TargetOutcome, TargetProber, TargetRefusal, TargetRequest};
use conductor_types::Priority;

use super::{Host, assembly::breaker_settings};

/// Checks targets on request.
pub(super) struct TargetChecker {
    host: Arc<Host>,
    known: Mutex<HashMap<(String, String), KnownTarget>>,
}

/// A target that was checked before.
#[derive(Clone)]
struct KnownTarget {
    guard: Arc<PlatformGuard>,
    /// Its config as JSON text.
    config: Arc<str>,
    ends: Arc<CallEnds>,
    /// The time of the last request.
    used: Duration,
}

impl TargetChecker {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self {
            host,
            known: Mutex::default(),
        }
    }

    fn config(&self) -> Arc<ConductorConfig> {
        let running = self.host.running.lock();
        Arc::clone(&running.unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the target as it was known before, or with a new guard.
    fn target(
        &self,
        config: &ConductorConfig,
        template: &TemplateConfig,
        target: &str,
    ) -> Option<KnownTarget> {
        let plugin = self.host.assembly.plugin_guard(&template.plugin)?;
        let now = self.host.shared.clock.now();
        let text: Arc<str> = template.config_for(target).to_string().into();
        let key = (template.name.clone(), target.to_owned());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = known.get_mut(&key)
            && before.config == text
            && before.guard.settings().timeout == template.timeout
            && Arc::ptr_eq(before.guard.plugin(), &plugin)
        {
            before.used = now;
            return Some(before.clone());
        }
        let settings = PlatformSettings {
            name: format!("{}:{target}", template.name).into(),
            interval: template.timeout.max(config.host.interval),
            timeout: template.timeout,
            priority: Priority::default(),
            breaker: breaker_settings(&config.breaker),
            labels: Default::default(),
            url: None,
            description: None,
        };
        let ends = Arc::new(CallEnds::default());
        let shared = Arc::clone(&self.host.shared);
        let guard = PlatformGuard::of_target(settings, plugin, shared, Arc::clone(&ends));
        let made = KnownTarget {
            guard: Arc::new(guard),
            config: text,
            ends,
            used: now,
        };
        if known.len() >= KEPT_TARGETS
            && let Some(oldest) = known.iter().min_by_key(|(_, target)| target.used)
        {
            let oldest = oldest.0.clone();
            known.remove(&oldest);
        }
        known.insert(key, made.clone());
        Some(made)
    }
}

impl TargetProber for TargetChecker {
    fn check(&self, request: &TargetRequest) -> Result<CheckedTarget, TargetRefusal> {
        let config = self.config();
        let Some(template) = config.templates.get(&request.module) else {
            let known: Vec<_> = config.templates.keys().map(String::as_str).collect();
            return Err(TargetRefusal::Unknown(match known.is_empty() {
                true => "the config has no [template.NAME]".to_owned(),
                false => format!("the modules are {}", listed(&known)),
            }));
        };
        if !config.probe.allows(&request.target) {
            return Err(TargetRefusal::Forbidden);
        }
        let Some(target) = self.target(&config, template, &request.target) else {
            return Err(TargetRefusal::Leaving);
        };
        let wait = request.patience.min(template.timeout + BEYOND_TIMEOUT);
        let ended = target.ends.count();
        let check = TargetCheck {
            guard: Arc::clone(&target.guard),
            config: Arc::clone(&target.config),
        };
        let started = self.host.scheduler.check_target(check);
        let outcome = match started.ok_or(TargetRefusal::Leaving)? {
            // The result of the check under way is as good.
            Ok(()) | Err(SkipCause::Overlap | SkipCause::Waiting(_)) => {
                match target.ends.wait_beyond(ended, wait) {
                    true => TargetOutcome::Checked(target.guard.target_result()),
                    false => TargetOutcome::NoResult(wait),
                }
            }
            Err(skip) => TargetOutcome::Skipped(skip.into()),
        };
        Ok(CheckedTarget {
            outcome,
            now: self.host.shared.clock.now(),
        })
    }
}

/// The number of targets whose guards are kept.
const KEPT_TARGETS: usize = 10_000;
/// The time after a check's deadline by which its end is known.
const BEYOND_TIMEOUT: Duration = Duration::from_secs(1);
