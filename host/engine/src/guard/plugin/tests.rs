//! Starts of generations against the breakers, and stuck calls.

use conductor_core::clock::Clock;
use conductor_runtime::LoadError;

use super::*;
use crate::metrics::HostMetrics;

const S: Duration = Duration::from_secs(1);

fn guard() -> PluginGuard {
    let settings = BreakerSettings::try_new(2, 30 * S, 600 * S).unwrap();
    let shared = GuardContext::new(Clock::start(), HostMetrics::new(), 1);
    PluginGuard::new("x", settings, 2, &shared)
}

fn error() -> LoadError {
    LoadError {
        kind: ErrorType::Load,
        message: "on purpose".to_owned(),
        detail: None,
    }
}

#[test]
fn a_library_that_does_not_load_is_tried_again_on_the_breakers_schedule_and_at_once_when_it_changed()
 {
    let guard = guard();
    for _ in 0..2 {
        guard.not_started(guard.permit_start(None, S).unwrap(), S, error());
    }
    assert!(guard.permit_start(None, 2 * S).is_none());
    assert!(guard.failure().message.contains("on purpose"));
    guard.not_started(guard.permit_start(None, 40 * S).unwrap(), 40 * S, error());
    assert!(
        guard.permit_start(None, 75 * S).is_none(),
        "twice as long after a failed trial"
    );
    guard.forget_failures(75 * S);
    assert!(guard.permit_start(None, 75 * S).is_some());
}

#[test]
fn stuck_calls_are_counted_against_a_plugin_whose_calls_keep_threads_and_no_other() {
    let guard = guard();
    assert!(!guard.call_stuck(0));
    assert!(guard.call_stuck(0), "one too many");
    assert!(guard.is_quarantined());
    guard.asynchronous.store(true, Ordering::Relaxed);
    assert!(!guard.is_quarantined());
    for _ in 0..1000 {
        assert!(!guard.call_stuck(0));
    }
    assert!(!guard.is_quarantined());
}

#[test]
fn a_start_that_the_other_breaker_refuses_uses_no_trial_up() {
    let guard = guard();
    guard.inner.lock().lives.force_open();
    guard.inner.lock().loading.force_closed();
    assert!(guard.permit_start(None, S).is_none());
    guard.inner.lock().lives.force_closed();
    assert_eq!(guard.permit_start(None, S).unwrap().number, 1);
}
