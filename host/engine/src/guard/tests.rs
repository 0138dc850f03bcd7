//! Next check, effective interval and age of results in a guard's view.

use std::sync::LazyLock;

use conductor_core::clock::Clock;
use conductor_types::{Checks, requests::BreakerOrder};
use tracing::{Dispatch, subscriber::NoSubscriber};

use super::*;
use crate::{actor::ActionOrigin, metrics::HostMetrics};

mod confirmation;
mod resuming;

const S: Duration = Duration::from_secs(1);

fn guard() -> PlatformGuard {
    let clock = Clock::start();
    guard_of(Arc::new(GuardContext::new(
        clock,
        HostMetrics::by(clock),
        1,
    )))
}

fn guard_of(shared: Arc<GuardContext>) -> PlatformGuard {
    named_guard("shop", "http", shared)
}

/// Returns the guard of a platform that continues from before the restart.
pub(crate) fn resumed_guard(name: &str, plugin: &str, shared: &Arc<GuardContext>) -> PlatformGuard {
    let mut guard = named_guard(name, plugin, Arc::clone(shared));
    guard.resume_saved("{}");
    guard
}

fn named_guard(name: &str, plugin: &str, shared: Arc<GuardContext>) -> PlatformGuard {
    let breaker = BreakerSettings::try_new(3, 30 * S, 600 * S).unwrap();
    let plugin = PluginGuard::new(plugin, breaker, 8, &shared);
    let settings = PlatformSettings {
        name: name.into(),
        interval: 5 * S,
        timeout: 4 * S,
        priority: Priority::Normal,
        breaker,
        labels: BTreeMap::new(),
        url: None,
        description: None,
    };
    PlatformGuard::new(settings, Arc::new(plugin), shared)
}

fn window(checks: Checks, until: f64) -> Option<Arc<InForce>> {
    Some(Arc::new(InForce {
        name: "patching".into(),
        reason: "".into(),
        checks,
        until,
        by: None,
    }))
}

/// Converts to seconds from the origin of the guard's clock.
fn since_start(guard: &PlatformGuard, unix: Option<f64>) -> Option<f64> {
    let origin = guard.shared.unix_seconds(Duration::ZERO);
    unix.map(|unix| ((unix - origin) * 1000.0).round() / 1000.0)
}

fn next(guard: &PlatformGuard) -> Option<f64> {
    since_start(guard, guard.view().next_check)
}

#[test]
fn the_next_check_is_the_one_that_is_made_and_not_the_next_slot() {
    let guard = guard();
    assert_eq!(next(&guard), None, "no slot yet");
    guard.set_next(12 * S);
    assert_eq!(next(&guard), Some(12.0));

    for second in 1..=3 {
        let call = guard
            .begin(second * S, second * S, &CallToken::default())
            .unwrap();
        let failure = CallFailure::new(ErrorType::Error, "on purpose");
        guard.finished(call, second * S, Err(failure));
    }
    let view = guard.view();
    let trial = since_start(&guard, view.breaker.retry_at).unwrap();
    assert!((33.0..=36.0).contains(&trial), "{trial}");
    let at = next(&guard).unwrap();
    assert!((trial..trial + 5.0).contains(&at), "{at}");
    assert_eq!((at - 12.0) % 5.0, 0.0, "a slot of its own");
    assert_eq!(view.paused.as_deref(), Some("breaker open"));

    guard.order(BreakerOrder::Open, &ActionOrigin::default(), 4 * S);
    assert_eq!(next(&guard), None);
    assert_eq!(guard.view().paused.as_deref(), Some("breaker held open"));

    guard.order(BreakerOrder::Reset, &ActionOrigin::default(), 4 * S);
    let until = guard.shared.unix_seconds(61 * S);
    guard.set_maintenance(window(Checks::Pause, until), 4 * S);
    assert_eq!(next(&guard), Some(62.0));
    assert_eq!(guard.view().paused.as_deref(), Some("maintenance"));
    guard.set_maintenance(window(Checks::GoOn, until), 5 * S);
    assert_eq!(next(&guard), Some(12.0), "checks go on");
    assert_eq!(guard.view().paused, None);
}

#[test]
fn a_stretched_interval_is_shown_and_makes_a_report_last_longer() {
    let guard = guard();
    assert_eq!(guard.view().effective_interval, 5.0);
    assert_eq!(guard.patience(), 14 * S);
    guard.set_stretch(4, S);
    assert_eq!(guard.view().effective_interval, 20.0);
    assert_eq!(guard.view().interval, 5.0);
    assert_eq!(guard.patience(), 44 * S);
    guard.set_stretch(1, S);
    assert_eq!(guard.view().effective_interval, 5.0);
    assert_eq!(
        guard.patience(),
        44 * S,
        "the check that ends the wait has only just begun"
    );
    guard.set_stretch(1, S);
    assert_eq!(guard.patience(), 14 * S);
}

#[test]
fn what_is_skipped_on_purpose_is_paused_and_not_stale() {
    let guard = guard();
    let call = guard.begin(S, S, &CallToken::default()).unwrap();
    guard.finished(call, S, Ok(&CheckReport::empty()));
    let shown = |now| {
        let view = guard.view_at(now);
        (view.stale, view.paused)
    };
    assert_eq!(shown(15 * S), (false, None));
    assert_eq!(shown(16 * S), (true, None), "older than 14 s");
    guard.order(BreakerOrder::Open, &ActionOrigin::default(), 16 * S);
    assert_eq!(shown(99 * S), (false, Some("breaker held open".to_owned())));
    guard.order(BreakerOrder::Reset, &ActionOrigin::default(), 99 * S);
    guard.set_maintenance(window(Checks::Pause, f64::MAX), 99 * S);
    assert_eq!(shown(99 * S), (false, Some("maintenance".to_owned())));
    guard.set_maintenance(None, 200 * S);
    assert_eq!(shown(214 * S), (false, None), "the next check is due");
    assert_eq!(shown(215 * S), (true, None), "no check for 14 s since");
}

#[test]
fn a_failed_check_and_a_missing_one_are_unknown_and_differ_in_error_type_and_message() {
    let guard = guard();
    let shown = |now| {
        let view = guard.view_at(now);
        let attention = view.needs_attention();
        let since = view.since.is_some();
        (view.status, view.message, view.error_type, since, attention)
    };
    let unknown = |message: &str, error_type: Option<&str>| {
        let failed = error_type.is_some();
        (
            PlatformState::Unknown,
            message.to_owned(),
            error_type.map(str::to_owned),
            failed,
            failed,
        )
    };
    assert_eq!(shown(S), unknown("not checked yet", None));
    let call = guard.begin(S, S, &CallToken::default()).unwrap();
    let failure = CallFailure::new(ErrorType::Error, "no route");
    guard.finished(call, S, Err(failure));
    assert_eq!(shown(2 * S), unknown("no route", Some("error")));
    guard.set_maintenance(window(Checks::Pause, f64::MAX), 2 * S);
    let paused = "check failed before the pause: no route";
    assert_eq!(shown(99 * S), unknown(paused, None));
}

#[test]
fn a_state_from_before_a_pause_is_shown_as_such() {
    let guard = guard();
    let unhealthy = CheckReport {
        status: Status::Unhealthy,
        message: "503".to_owned(),
        ..CheckReport::empty()
    };
    let shown = |now| {
        let view = guard.view_at(now);
        (view.status, view.message)
    };
    let waiting = (
        PlatformState::Unknown,
        "unhealthy before the pause: 503".to_owned(),
    );
    let mut second = 1;
    let pauses: [&dyn Fn(bool, Duration); 3] = [
        &|paused, now| {
            guard.set_maintenance(
                paused.then(|| window(Checks::Pause, f64::MAX)).flatten(),
                now,
            )
        },
        &|paused, now| {
            let order = if paused {
                BreakerOrder::Open
            } else {
                BreakerOrder::Reset
            };
            guard.order(order, &ActionOrigin::default(), now);
        },
        &|paused, now| {
            let factor = if paused { 180 } else { 1 };
            guard.set_stretch(factor, now);
        },
    ];
    for pause in pauses {
        let start = second * S;
        let call = guard.begin(start, start, &CallToken::default()).unwrap();
        guard.finished(call, start, Ok(&unhealthy));
        pause(true, start);
        assert_eq!(shown(start), (PlatformState::Unhealthy, "503".to_owned()));
        assert_eq!(shown(start + 99 * S), waiting, "paused");
        assert!(guard.view_at(start + 99 * S).paused.is_some());
        assert_eq!(guard.view_at(start + 99 * S).since, None);
        pause(false, start + 100 * S);
        assert_eq!(shown(start + 101 * S), waiting, "the next check is due");
        let call = guard
            .begin(start + 102 * S, start + 102 * S, &CallToken::default())
            .unwrap();
        guard.finished(call, start + 102 * S, Ok(&unhealthy));
        assert_eq!(
            shown(start + 103 * S),
            (PlatformState::Unhealthy, "503".to_owned())
        );
        second += 200;
    }
}

#[test]
fn age_counts_from_the_end_of_a_held_or_open_breaker() {
    let guard = guard();
    let stale = |now| guard.view_at(now).stale;
    let call = guard.begin(S, S, &CallToken::default()).unwrap();
    guard.finished(call, S, Ok(&CheckReport::empty()));
    for order in [
        BreakerOrder::Release,
        BreakerOrder::Reset,
        BreakerOrder::Close,
    ] {
        guard.order(BreakerOrder::Open, &ActionOrigin::default(), 2 * S);
        guard.order(order, &ActionOrigin::default(), 100 * S);
        assert!(!stale(114 * S), "{order:?}");
        assert!(stale(115 * S), "{order:?}");
    }
    guard.order(BreakerOrder::Reset, &ActionOrigin::default(), 100 * S);

    for second in 101..=103 {
        let call = guard
            .begin(second * S, second * S, &CallToken::default())
            .unwrap();
        let failure = CallFailure::new(ErrorType::Error, "on purpose");
        guard.finished(call, second * S, Err(failure));
    }
    let view = guard.view_at(104 * S);
    let until = view.breaker.retry_at.unwrap() - guard.shared.unix_seconds(Duration::ZERO);
    let until = Duration::from_secs_f64(until);
    assert!(!stale(until + 13 * S), "the trial is due");
    assert!(stale(until + 15 * S));
    let trial = guard
        .begin(until + 15 * S, until + 15 * S, &CallToken::default())
        .unwrap();
    assert!(!stale(until + 16 * S), "the trial is under way");
    guard.finished(trial, until + 16 * S, Ok(&CheckReport::empty()));
    assert!(!stale(until + 16 * S));
}

/// Returns the lines that `write` logs, without their times.
fn logged(write: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Captured(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Captured {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    // While there is one subscriber alone, `tracing` turns off for good each line that a thread without a subscriber is the
    // first to reach, as other tests do.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND);
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .event_format(crate::log_text::LogText)
        .finish();
    tracing::subscriber::with_default(subscriber, write);
    let bytes = captured.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap().1);
    lines.map(str::to_owned).collect()
}

#[test]
fn a_check_that_changes_a_platform_and_its_breaker_is_one_line() {
    let guard = guard();
    let lines = logged(|| {
        for second in 1..=3 {
            let call = guard
                .begin(second * S, second * S, &CallToken::default())
                .unwrap();
            let failure = match second {
                1 => CallFailure::new(
                    ErrorType::Crash,
                    "its worker was killed by signal 6 (SIGABRT); 5 calls were under way",
                ),
                _ => CallFailure::new(ErrorType::Error, "on purpose"),
            };
            guard.finished(call, second * S, Err(failure));
        }
        let trial = guard.begin_asked(4 * S, &CallToken::default()).unwrap();
        guard.finished(trial, 4 * S, Ok(&CheckReport::empty()));
    });
    let [failed, open, healthy] = &lines[..] else {
        panic!("{lines:#?}");
    };
    assert_eq!(
        failed,
        "ERROR shop (plugin http): check failed: its worker crashed"
    );
    assert!(
        open.starts_with("WARN  shop (plugin http): breaker open for 3"),
        "{open}"
    );
    assert_eq!(
        healthy,
        "INFO  shop: healthy (was unknown): ; breaker closed"
    );
}

#[test]
fn lines_of_the_host_about_a_platform_fit_80_columns() {
    let guard = guard();
    let operator = ActionOrigin::Unauthenticated;
    let lines = logged(|| {
        let check = |second: u32, result: Result<&CheckReport, CallFailure>| {
            let call = guard
                .begin_asked(second * S, &CallToken::default())
                .unwrap();
            guard.finished(call, second * S, result);
        };
        check(1, Ok(&CheckReport::empty()));
        let call = guard.begin(2 * S, 2 * S, &CallToken::default()).unwrap();
        guard.started(call, 2 * S).unwrap();
        guard.expire(call, 6 * S, || ());
        guard.finished(call, 7 * S, Ok(&CheckReport::empty()));
        check(8, Err(CallFailure::new(ErrorType::Crash, "")));
        check(9, Ok(&CheckReport::empty()));
        for second in 10..13 {
            check(second, Err(CallFailure::new(ErrorType::Error, "")));
        }
        for (_, order) in BreakerOrder::ALL {
            guard.order(order, &operator, 20 * S);
        }
        let twice = ConfirmationRules {
            unhealthy_after: 2.try_into().unwrap(),
            ..ConfirmationRules::default()
        };
        guard.set_confirmation(twice, None);
        for second in 21..40 {
            check(second, Ok(&CheckReport::empty()));
            check(second, Err(CallFailure::new(ErrorType::Error, "")));
        }
    });
    assert!(lines.iter().any(|line| line.contains("flapping")));
    // The time of each line was cut off.
    let time = "2026-11-29T18:44:03Z ".len();
    assert!(lines.len() >= 9, "{lines:#?}");
    for line in lines {
        assert!(
            time + line.len() <= 80,
            "{} columns: {line}",
            time + line.len()
        );
    }
}

#[test]
fn of_many_healthy_first_checks_ten_are_logged_one_by_one() {
    let guard = guard();
    let shared = &guard.shared;
    let lines = logged(|| {
        assert_eq!((0..48).filter(|_| shared.logs_first_report()).count(), 10);
        shared.log_first_reports();
        shared.log_first_reports();
        assert!(shared.logs_first_report(), "a platform that is new");
    });
    assert_eq!(lines, ["INFO  38 more platforms are healthy"]);
}

#[test]
fn the_same_report_again_is_a_check_like_any_other_and_keeps_what_the_first_one_said() {
    let guard = guard();
    let report = CheckReport {
        message: "42 items".to_owned(),
        measurements: vec![("items".to_owned(), 42.0)],
        ..CheckReport::empty()
    };
    let call = guard.begin(S, S, &CallToken::default()).unwrap();
    guard.started(call, S);
    let outcome = guard.finished(call, S, Ok(&report));
    assert_eq!(outcome, DeliveryOutcome::Kept);
    let first = guard.view();
    for second in 2..=4 {
        let call = guard
            .begin(second * S, second * S, &CallToken::default())
            .unwrap();
        guard.started(call, second * S);
        let outcome = guard.finished_same(call, second * S + S / 2);
        assert_eq!(outcome, DeliveryOutcome::Kept);
    }
    assert_eq!(guard.shared.in_flight(), 0);
    assert_eq!(guard.shared.ended(), 4);
    let ends: Vec<_> = guard.metrics.ends().filter(|(_, n)| *n > 0).collect();
    assert_eq!(ends, [("healthy", 4)]);
    assert_eq!(guard.metrics.last_report(), Some(4 * S + S / 2));
    let mut measured = Vec::new();
    guard
        .metrics
        .measured(5 * S, |name, value| measured.push((name.to_owned(), value)));
    assert_eq!(measured, [("items".to_owned(), 42.0)]);

    let view = guard.view();
    assert_eq!(view.message, "42 items");
    assert_eq!(view.measurements, first.measurements);
    assert_eq!((view.status, view.since), (first.status, first.since));
    assert_eq!(since_start(&guard, view.last_report), Some(4.5));
    assert_eq!(since_start(&guard, view.last_check), Some(4.5));
    assert_eq!(view.last_duration, Some(0.5));
    assert_eq!(guard.history().len(), 4);
}

#[test]
fn a_report_that_must_be_looked_at_again_is_not_kept() {
    let guard = guard();
    let mut report = CheckReport::empty();
    report.measurements = vec![("not a number".to_owned(), f64::NAN)];
    let call = guard.begin(S, S, &CallToken::default()).unwrap();
    let outcome = guard.finished(call, S, Ok(&report));
    assert_eq!(outcome, DeliveryOutcome::Yes, "each drop is counted");

    let call = guard.begin(2 * S, 2 * S, &CallToken::default()).unwrap();
    guard.started(call, 2 * S);
    guard.expire(call, 6 * S, || {});
    assert_eq!(
        guard.finished(call, 7 * S, Ok(&CheckReport::empty())),
        DeliveryOutcome::No,
        "the message is that of the timeout"
    );
    assert_eq!(guard.finished_same(call, 7 * S), DeliveryOutcome::Yes);
    assert!(guard.view().message.starts_with("no answer"));
}
