//! A platform's state over a restart: what is shown, exported and published.

use std::sync::Arc;

use conductor_types::{StateUrgency, requests::BreakerOrder};

use super::*;
use crate::{
    actor::ActionOrigin,
    changes::{ChangeSubscription, ConfirmedChange},
    metrics::FAMILIES,
    resumption::{FileEncoder, Resumption, SavedHost, SavedPosition},
};

const CONFIG: &str = r#"{"url":"https://shop.example"}"#;

/// The processes of a host, one after the other: each continues from what the one before has saved.
struct Restarts {
    folder: tempfile::TempDir,
    limit: Duration,
}

struct Process {
    guard: PlatformGuard,
    changes: ChangeSubscription,
}

impl Restarts {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            limit: 3600 * S,
        }
    }

    /// Starts a process, with the platform's config.
    fn start(&self, config: &str) -> Process {
        let clock = Clock::start();
        let resumption = Resumption::read(self.folder.path(), clock, self.limit);
        let shared = GuardContext::new(clock, HostMetrics::by(clock), 1);
        let mut guard = guard_of(Arc::new(shared.with_resumption(resumption)));
        guard.resume_saved(config);
        let changes = guard.shared.changes.subscribe(8);
        Process { guard, changes }
    }

    /// Saves the state of a process `ago` seconds before the next.
    fn save(&self, process: Process, ago: u32) {
        let guard = process.guard;
        let now = guard.shared.clock.now() + 100 * S;
        let wall = guard.shared.clock.unix_seconds(guard.shared.clock.now()) - f64::from(ago);
        let mut file = FileEncoder::new(&SavedHost {
            written: wall,
            ..SavedHost::default()
        });
        file.add(&guard.saved(now, wall));
        let path = self.folder.path().join(crate::resumption::FILE);
        std::fs::write(path, file.finish()).unwrap();
    }

    fn restart(&self, process: Process, ago: u32) -> Process {
        self.save(process, ago);
        self.start(CONFIG)
    }
}

impl Process {
    /// Makes a check at this second, as a report or a failure.
    fn check(&self, second: u32, status: Option<Status>) {
        let now = second * S;
        let call = self.guard.begin_asked(now, &CallToken::default()).unwrap();
        self.guard.started(call, now).unwrap();
        let message = format!("at {second}");
        match status {
            Some(status) => {
                let report = CheckReport {
                    status,
                    message,
                    ..CheckReport::empty()
                };
                self.guard.finished(call, now, Ok(&report));
            }
            None => {
                let failure = CallFailure::new(ErrorType::Error, message);
                self.guard.finished(call, now, Err(failure));
            }
        }
    }

    fn published(&self) -> Vec<(StateUrgency, StateUrgency)> {
        let next = || self.changes.next(Duration::ZERO).ok();
        let pair = |change: Arc<ConfirmedChange>| (change.before, change.after);
        std::iter::from_fn(next).map(pair).collect()
    }

    /// Returns `true` if `/metrics` has the family for the platform, current at this second.
    fn exports(&self, family: &str, second: u32) -> bool {
        let snapshot = self.guard.shared.metrics.snapshot_at(second * S, 0.0);
        let family = FAMILIES.iter().find(|one| one.name == family).unwrap();
        let mut found = false;
        family.visit(&snapshot, &mut |_: crate::metrics::Sample<'_>| found = true);
        found
    }
}

const UP: Option<Status> = Some(Status::Healthy);
const DOWN: Option<Status> = Some(Status::Unhealthy);
const FAILED: Option<Status> = None;

#[test]
fn a_state_that_a_restart_does_not_change_is_no_change_and_another_one_is_one() {
    use StateUrgency::{CheckFailed, Healthy, NotChecked, Unhealthy};
    for (before, after, expected) in [
        (UP, UP, vec![]),
        (DOWN, DOWN, vec![]),
        (FAILED, FAILED, vec![]),
        (DOWN, UP, vec![(Unhealthy, Healthy)]),
        (UP, DOWN, vec![(Healthy, Unhealthy)]),
        (FAILED, UP, vec![(CheckFailed, Healthy)]),
        (UP, FAILED, vec![(Healthy, CheckFailed)]),
    ] {
        let restarts = Restarts::new();
        let first = restarts.start(CONFIG);
        first.check(90, before);
        assert_eq!(first.published()[0].0, NotChecked);
        let second = restarts.restart(first, 5);
        // A restart before the first check changes nothing.
        let third = restarts.restart(second, 5);
        third.check(2, after);
        assert_eq!(third.published(), expected, "{before:?} {after:?}");
        third.check(3, after);
        assert_eq!(third.published(), []);
    }
}

#[test]
fn until_its_first_check_a_platform_shows_the_state_as_from_before_the_restart() {
    let restarts = Restarts::new();
    let first = restarts.start(CONFIG);
    first.check(90, DOWN);
    let second = restarts.restart(first, 60);
    let view = second.guard.view_at(S);
    assert_eq!(view.status, PlatformState::Unknown, "no report is current");
    assert_eq!(view.urgency(), StateUrgency::NotChecked);
    assert_eq!(second.guard.urgency(), StateUrgency::NotChecked);
    assert_eq!(view.before_restart, Some(PlatformState::Unhealthy));
    assert_eq!(view.message, "unhealthy before the restart: at 90");
    assert_eq!(
        (view.since, view.last_report, view.error_type),
        (None, None, None)
    );
    assert!(view.age.unwrap() > 60.0, "{:?}", view.age);
    assert!(!view.stale, "its first check is not due yet");
    assert!(second.guard.view_at(60 * S).stale, "it is long due");
    assert!(!second.guard.has_reported());
    assert!(!second.exports("conductor_platform_up", 1));
    assert!(!second.exports("conductor_last_report_timestamp_seconds", 1));

    second.check(3, DOWN);
    let view = second.guard.view_at(4 * S);
    assert_eq!(view.status, PlatformState::Unhealthy);
    assert_eq!((view.before_restart, &*view.message), (None, "at 3"));
    assert!(second.exports("conductor_platform_up", 3));
    // Since 10 s before it was saved, which was 60 s before the start.
    let (known, start) = (
        view.since.unwrap(),
        second.guard.shared.unix_seconds(Duration::ZERO),
    );
    assert!((start - 70.0 - known).abs() < 30.0, "{known} {start}");
    second.check(4, UP);
    let view = second.guard.view_at(4 * S);
    assert!(view.since.unwrap() > known, "a new state has its own time");
}

#[test]
fn results_before_a_restart_count_for_the_confirmation_after_it() {
    let restarts = Restarts::new();
    let rules = ConfirmationRules {
        unhealthy_after: 3.try_into().unwrap(),
        healthy_after: 1.try_into().unwrap(),
    };
    let first = restarts.start(CONFIG);
    first.guard.set_confirmation(rules, None);
    for (second, status) in [(80, UP), (85, DOWN), (90, DOWN)] {
        first.check(second, status);
    }
    let second = restarts.restart(first, 1);
    second.guard.set_confirmation(rules, None);
    assert_eq!(second.guard.view_at(S).soft, None, "nothing is current");
    second.check(2, DOWN);
    let change = (StateUrgency::Healthy, StateUrgency::Unhealthy);
    assert_eq!(second.published(), [change]);
}

#[test]
fn an_open_breaker_stays_open_until_its_time_and_backs_off_further() {
    let restarts = Restarts::new();
    let first = restarts.start(CONFIG);
    for second in [96, 97, 98] {
        first.check(second, FAILED);
    }
    let second = restarts.restart(first, 10);
    let calls = CallToken::default();
    assert_eq!(
        second.guard.begin(S, S, &calls),
        Err(SkipCause::BreakerOpen)
    );
    let view = second.guard.view_at(S);
    assert_eq!(view.breaker.state, "open");
    let left = view.breaker.retry_at.unwrap() - second.guard.shared.unix_seconds(Duration::ZERO);
    // 30 s and at most a tenth from second 98 on; it was saved at second 100, and 10 s passed.
    assert!((12.0..22.0).contains(&left), "{left}");
    assert!(second.exports("circuit_breaker_state", 1));
    let trial = second.guard.begin(25 * S, 25 * S, &calls).unwrap();
    second.guard.started(trial, 25 * S).unwrap();
    let failure = CallFailure::new(ErrorType::Error, "again");
    second.guard.finished(trial, 25 * S, Err(failure));
    let view = second.guard.view_at(25 * S);
    let open_for = view.breaker.retry_at.unwrap() - second.guard.shared.unix_seconds(25 * S);
    assert!((60.0..67.0).contains(&open_for), "{open_for}");
}

#[test]
fn failures_before_a_restart_count_in_the_breaker() {
    let restarts = Restarts::new();
    let first = restarts.start(CONFIG);
    first.check(98, FAILED);
    first.check(99, FAILED);
    let second = restarts.restart(first, 1);
    second.check(2, FAILED);
    assert_eq!(second.guard.view_at(3 * S).breaker.state, "open");
}

#[test]
fn another_config_of_the_platform_closes_an_open_breaker_and_not_one_that_is_held() {
    for is_held in [false, true] {
        let restarts = Restarts::new();
        let first = restarts.start(CONFIG);
        for second in [96, 97, 98] {
            first.check(second, FAILED);
        }
        if is_held {
            let by = ActionOrigin::default();
            first.guard.order(BreakerOrder::Open, &by, 99 * S);
        }
        restarts.save(first, 1);
        let second = restarts.start(r#"{"url":"https://other.example"}"#);
        let view = second.guard.view_at(S);
        assert_eq!(view.breaker.forced, is_held);
        let expected = if is_held { "open" } else { "closed" };
        assert_eq!(view.breaker.state, expected);
        let before = view.before_restart;
        assert_eq!(
            before,
            Some(PlatformState::Unknown),
            "it is the same platform"
        );
    }
}

#[test]
fn a_state_that_is_too_old_is_forgotten_and_an_order_is_not() {
    let restarts = Restarts::new();
    let first = restarts.start(CONFIG);
    for second in [96, 97, 98] {
        first.check(second, FAILED);
    }
    let by = ActionOrigin::default();
    first.guard.order(BreakerOrder::Close, &by, 99 * S);
    let second = restarts.restart(first, 3700);
    let view = second.guard.view_at(S);
    assert_eq!(
        (view.before_restart, &*view.message),
        (None, "not checked yet")
    );
    assert!(view.breaker.forced && view.breaker.state == "closed");
    second.check(2, UP);
    let change = (StateUrgency::NotChecked, StateUrgency::Healthy);
    assert_eq!(second.published(), [change]);
    let saved = second.guard.saved(3 * S, 1e9);
    assert_eq!(saved.breaker.position, SavedPosition::HeldClosed);
}
