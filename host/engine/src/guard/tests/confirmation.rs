//! Confirmed and soft states, as the guard shows, exports and logs them.

use conductor_types::{SoftState, StateUrgency};

use super::*;
use crate::metrics::{FAMILIES, Sample, SampleValue};

/// Returns a guard that needs three results for a worse state and two for a better one.
fn damped() -> PlatformGuard {
    let guard = guard();
    guard.set_confirmation(rules(3, 2), None);
    guard
}

fn rules(unhealthy_after: u16, healthy_after: u16) -> ConfirmationRules {
    ConfirmationRules {
        unhealthy_after: unhealthy_after.try_into().unwrap(),
        healthy_after: healthy_after.try_into().unwrap(),
    }
}

/// Makes a check at this second.
fn check(guard: &PlatformGuard, second: u32, status: Option<Status>) {
    let now = second * S;
    let call = guard.begin_asked(now, &CallToken::default()).unwrap();
    guard.started(call, now).unwrap();
    match status {
        Some(status) => {
            let report = CheckReport {
                status,
                message: format!("check {second}"),
                ..CheckReport::empty()
            };
            guard.finished(call, now, Ok(&report));
        }
        None => {
            let failure = CallFailure::new(ErrorType::Error, format!("check {second}"));
            guard.finished(call, now, Err(failure));
        }
    }
}

const HEALTHY: Option<Status> = Some(Status::Healthy);
const UNHEALTHY: Option<Status> = Some(Status::Unhealthy);
const FAILED: Option<Status> = None;

fn soft(status: PlatformState, results: u16, needed: u16) -> Option<SoftState> {
    Some(SoftState {
        status,
        results,
        needed,
    })
}

/// Returns `conductor_platform_state`, `_up`, `_soft_state` and `_flapping`.
fn exported(guard: &PlatformGuard, second: u32) -> [Option<u64>; 4] {
    let snapshot = guard.shared.metrics.snapshot_at(second * S, 0.0);
    ["state", "up", "soft_state", "flapping"].map(|name| {
        let name = format!("conductor_platform_{name}");
        let family = FAMILIES.iter().find(|family| family.name == name);
        let mut value = None;
        let mut sink = |sample: Sample<'_>| {
            if let SampleValue::Count(count) = sample.value {
                value = Some(count);
            }
        };
        family.unwrap().visit(&snapshot, &mut sink);
        value
    })
}

#[test]
fn a_state_is_shown_and_exported_once_it_is_confirmed_and_the_soft_one_until_then() {
    let guard = damped();
    let shown = |second| {
        let view = guard.view_at(second * S);
        (view.status, view.soft, view.message)
    };
    let message = |second| format!("check {second}");
    let (up, down) = (PlatformState::Healthy, PlatformState::Unhealthy);
    check(&guard, 1, HEALTHY);
    check(&guard, 2, UNHEALTHY);
    assert_eq!(shown(2), (up, soft(down, 1, 3), message(2)));
    assert_eq!(exported(&guard, 2), [Some(0), Some(1), Some(2), None]);
    assert!(!guard.view_at(2 * S).needs_attention());
    assert!(guard.view_at(2 * S).has_bad_result());
    check(&guard, 3, UNHEALTHY);
    check(&guard, 4, UNHEALTHY);
    assert_eq!(shown(4), (down, None, message(4)));
    assert_eq!(exported(&guard, 4), [Some(2), Some(0), Some(2), None]);
    assert_eq!(since_start(&guard, guard.view().since), Some(4.0));
    check(&guard, 5, HEALTHY);
    assert_eq!(shown(5), (down, soft(up, 1, 2), message(5)));
    assert_eq!(exported(&guard, 5), [Some(2), Some(0), Some(0), None]);
    check(&guard, 6, HEALTHY);
    assert_eq!(shown(6), (up, None, message(6)));
    let history: Vec<_> = guard.history().iter().map(|past| past.status).collect();
    assert_eq!(
        history,
        [up, up, down, down, down, up],
        "as each check found"
    );
}

#[test]
fn the_same_report_again_confirms_a_state_like_any_other() {
    let guard = damped();
    check(&guard, 1, HEALTHY);
    let lines = logged(|| {
        check(&guard, 2, UNHEALTHY);
        for second in 3..=4 {
            let call = guard
                .begin(second * S, second * S, &CallToken::default())
                .unwrap();
            guard.started(call, second * S).unwrap();
            guard.finished_same(call, second * S);
        }
    });
    assert_eq!(guard.view_at(4 * S).status, PlatformState::Unhealthy);
    let expected = [
        "INFO  shop: soft state: unhealthy (1 of 3): check 2",
        "WARN  shop (plugin http): unhealthy (was healthy): check 2",
    ];
    assert_eq!(lines, expected);
    assert_eq!(
        guard
            .metrics
            .ends()
            .find(|(end, _)| *end == "unhealthy")
            .unwrap()
            .1,
        3
    );
}

#[test]
fn a_blip_is_logged_and_changes_nothing() {
    let guard = damped();
    check(&guard, 1, HEALTHY);
    let lines = logged(|| {
        check(&guard, 2, FAILED);
        assert_eq!(guard.view_at(2 * S).urgency(), StateUrgency::Healthy);
        assert_eq!(guard.view_at(2 * S).error_type.as_deref(), Some("error"));
        check(&guard, 3, FAILED);
        check(&guard, 4, HEALTHY);
    });
    let expected = [
        "INFO  shop: soft state: check failed (1 of 3): error: check 2",
        "INFO  shop: soft state ended (2 of 3): still healthy",
    ];
    assert_eq!(lines, expected);
    assert_eq!(since_start(&guard, guard.view().since), Some(1.0));
}

#[test]
fn a_failed_check_hides_the_measurements_but_not_the_confirmed_state() {
    let guard = damped();
    guard.metrics.set_patience(14 * S);
    let report = CheckReport {
        measurements: vec![("items".to_owned(), 42.0)],
        ..CheckReport::empty()
    };
    let call = guard.begin(S, S, &CallToken::default()).unwrap();
    guard.finished(call, S, Ok(&report));
    let measured = |second: u32| {
        let mut measured = 0;
        guard.metrics.measured(second * S, |_, _| measured += 1);
        measured
    };
    assert_eq!(measured(2), 1);
    check(&guard, 10, FAILED);
    check(&guard, 20, FAILED);
    assert_eq!(measured(20), 0);
    assert_eq!(exported(&guard, 20), [Some(0), Some(1), Some(3), None]);
    assert_eq!(
        exported(&guard, 35),
        [Some(3), Some(0), Some(3), None],
        "checks stopped"
    );
}

#[test]
fn a_breaker_that_opens_confirms_that_checks_fail() {
    let guard = guard();
    guard.set_confirmation(rules(9, 2), None);
    check(&guard, 1, HEALTHY);
    for second in 2..=4 {
        assert_eq!(guard.view_at(second * S).status, PlatformState::Healthy);
        check(&guard, second, FAILED);
    }
    let view = guard.view_at(4 * S);
    assert_eq!((view.status, view.soft), (PlatformState::Unknown, None));
    assert_eq!(view.urgency(), StateUrgency::CheckFailed);
    // The trial succeeds: the first of two results.
    check(&guard, 5, HEALTHY);
    let view = guard.view_at(5 * S);
    assert_eq!(view.soft, soft(PlatformState::Healthy, 1, 2));
    assert_eq!(
        view.urgency(),
        StateUrgency::CheckFailed,
        "still unknown because checks failed"
    );
    check(&guard, 6, HEALTHY);
    assert_eq!(guard.view_at(6 * S).status, PlatformState::Healthy);
}

#[test]
fn the_first_result_is_confirmed_at_once_also_after_a_pause_that_outlasted_the_last() {
    let guard = damped();
    check(&guard, 1, UNHEALTHY);
    assert_eq!(guard.view_at(S).status, PlatformState::Unhealthy);
    guard.set_maintenance(window(Checks::Pause, f64::MAX), 2 * S);
    guard.set_maintenance(None, 100 * S);
    check(&guard, 101, HEALTHY);
    let view = guard.view_at(101 * S);
    assert_eq!((view.status, view.soft), (PlatformState::Healthy, None));
    // A short pause does not outlast it.
    guard.set_maintenance(window(Checks::Pause, f64::MAX), 102 * S);
    guard.set_maintenance(None, 103 * S);
    check(&guard, 104, UNHEALTHY);
    assert_eq!(
        guard.view_at(104 * S).soft,
        soft(PlatformState::Unhealthy, 1, 3)
    );
}

#[test]
fn a_platform_without_rules_has_no_soft_state() {
    let guard = guard();
    check(&guard, 1, HEALTHY);
    check(&guard, 2, UNHEALTHY);
    assert_eq!(guard.view_at(2 * S).status, PlatformState::Unhealthy);
    assert_eq!(guard.view_at(2 * S).soft, None);
    assert_eq!(exported(&guard, 2), [Some(2), Some(0), None, None]);
}

#[test]
fn flapping_is_shown_exported_and_logged_even_if_no_state_is_confirmed() {
    let guard = damped();
    let lines = logged(|| {
        for second in 1..=7 {
            let status = if second % 2 == 1 { HEALTHY } else { UNHEALTHY };
            check(&guard, second, status);
        }
    });
    assert!(
        lines.contains(&"WARN  shop (plugin http): flapping: 6 changes in 20 checks".to_owned()),
        "{lines:#?}"
    );
    let view = guard.view_at(7 * S);
    assert!(view.flapping);
    assert_eq!(view.state_text(), "healthy, flapping");
    assert_eq!(exported(&guard, 7)[3], Some(1));
    let lines = logged(|| (8..30).for_each(|second| check(&guard, second, HEALTHY)));
    assert_eq!(lines, ["INFO  shop: no longer flapping"]);
    assert!(!guard.view_at(30 * S).flapping);
    assert_eq!(exported(&guard, 30)[3], Some(0));
}

#[test]
fn the_next_check_of_a_soft_state_is_the_recheck() {
    let guard = guard();
    guard.set_confirmation(rules(3, 2), Some(2 * S));
    guard.set_next(100 * S);
    guard.set_recheck(Some(99 * S));
    check(&guard, 1, HEALTHY);
    assert_eq!(next(&guard), Some(100.0));
    assert_eq!(guard.recheck_need(), RecheckNeed::Settled);
    check(&guard, 2, UNHEALTHY);
    assert_eq!(next(&guard), Some(99.0));
    assert_eq!(guard.recheck_need(), RecheckNeed::Soft);
    let _call = guard.begin(3 * S, 3 * S, &CallToken::default()).unwrap();
    assert_eq!(guard.recheck_need(), RecheckNeed::Undecided);
}

#[test]
fn subscribers_learn_of_confirmed_changes_alone() {
    let guard = damped();
    let changes = guard.shared.changes.subscribe(8);
    let next = || changes.next(Duration::ZERO).ok();
    check(&guard, 1, HEALTHY);
    let first = next().unwrap();
    assert_eq!(first.before, StateUrgency::NotChecked);
    assert_eq!(first.after, StateUrgency::Healthy);
    guard.set_maintenance(window(Checks::GoOn, f64::MAX), S);
    check(&guard, 2, FAILED);
    check(&guard, 3, FAILED);
    assert_eq!(next(), None, "the new state is soft");
    check(&guard, 4, FAILED);
    let change = next().unwrap();
    assert_eq!(change.after, StateUrgency::CheckFailed);
    assert_eq!(change.message, "check 4");
    assert_eq!(change.error_type, Some(ErrorType::Error));
    assert!(change.in_maintenance && !first.in_maintenance);
    check(&guard, 5, FAILED);
    assert_eq!(next(), None, "the state is the same");
}
