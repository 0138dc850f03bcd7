//! The conditions on timers.

use super::{
    service::{TestBus, TestUnit, ago},
    *,
};

/// A timer that waits for a time some seconds ago.
fn waiting(late: u64) -> TestUnit {
    let mut timer = TestUnit::new("backup.timer").state("active", "waiting");
    (timer.next_realtime, timer.last_trigger) = (ago(late), ago(90_000));
    timer
}

fn change(mut timer: TestUnit, change: impl FnOnce(&mut TestUnit)) -> TestUnit {
    change(&mut timer);
    timer
}

fn monotonic(late: u64) -> u64 {
    let now = Duration::from_secs_f64(present().unwrap().monotonic);
    u64::try_from((now - Duration::from_secs(late)).as_micros()).unwrap()
}

#[test]
fn what_is_wrong_with_a_timer_is_named() {
    let never = |timer: TestUnit| change(timer, |timer| timer.last_trigger = 0);
    for (timer, keys, status, message) in [
        (waiting(0), json!({}), Status::Healthy, "1 timer on time"),
        // Not for longer than its AccuracySec.
        (
            waiting(50),
            json!({"overdue": {"degraded_above": "0s"}}),
            Status::Healthy,
            "on time",
        ),
        (
            waiting(660),
            json!({}),
            Status::Degraded,
            "backup.timer is overdue by 10 min 0 s (`overdue.degraded_above` is 5m)",
        ),
        (
            waiting(7260),
            json!({}),
            Status::Unhealthy,
            "backup.timer is overdue by 2 h 0 min (`overdue.unhealthy_above` is 1h)",
        ),
        (
            change(waiting(660), |timer| timer.accuracy = 3_600_000_000),
            json!({}),
            Status::Healthy,
            "on time",
        ),
        // Its unit runs.
        (
            waiting(7260).state("active", "running"),
            json!({}),
            Status::Healthy,
            "on time",
        ),
        // It elapses no more.
        (
            change(waiting(0).state("active", "elapsed"), |timer| {
                timer.next_realtime = 0
            }),
            json!({}),
            Status::Healthy,
            "on time",
        ),
        (
            change(waiting(0), |timer| {
                (timer.next_realtime, timer.next_monotonic) = (u64::MAX, monotonic(0));
            }),
            json!({}),
            Status::Healthy,
            "on time",
        ),
        (
            waiting(0),
            json!({"last_trigger": {"unhealthy_above": "24h"}}),
            Status::Unhealthy,
            "backup.timer has last triggered 1 d 1 h ago (`last_trigger.unhealthy_above` is 1day)",
        ),
        (
            never(waiting(0)),
            json!({"last_trigger": {"degraded_above": "30m"}}),
            Status::Degraded,
            "backup.timer has not triggered since its start 1 h 0 min ago",
        ),
        (
            waiting(0).state("inactive", "dead"),
            json!({}),
            Status::Unhealthy,
            "backup.timer is inactive (dead), expected active: it starts nothing",
        ),
        (
            waiting(0).load("not-found").state("inactive", "dead"),
            json!({}),
            Status::Unhealthy,
            "backup.timer has no unit file",
        ),
    ] {
        let Some(bus) = TestBus::start(vec![timer]) else {
            return;
        };
        let report = bus.check(&with(json!({"timers": ["backup.timer"]}), &keys));
        assert_report(&report, status, message);
    }
}

#[test]
fn a_wildcard_selects_timers_that_are_on() {
    let mut monitored = waiting(0);
    monitored.next_monotonic = u64::MAX;
    let units = vec![
        monitored,
        TestUnit::new("repair.timer").state("inactive", "dead"),
        TestUnit::new("backup.service"),
    ];
    let Some(bus) = TestBus::start(units) else {
        return;
    };
    let report = bus.check(&json!({"timers": ["*"]}));
    assert_report(&report, Status::Healthy, "1 timer on time");
    let last = report.value(&LAST_TRIGGER, ["backup.timer"]).unwrap();
    let age = present().unwrap().unix - last;
    assert!((89_999.0..100_000.0).contains(&age), "{age}");
    assert!(report.value(&NEXT_ELAPSE, ["backup.timer"]).is_some());
    bus.change("repair.timer", |unit| {
        *unit = unit.clone().state("failed", "failed");
    });
    let report = bus.check(&json!({"timers": ["*.timer"]}));
    assert_report(
        &report,
        Status::Unhealthy,
        "repair.timer is failed (failed)",
    );
    let report = bus.check(&json!({"timers": ["*.timer"], "ignore": ["*.timer"]}));
    assert_report(&report, Status::Unhealthy, "no unit matches *.timer");
}

#[test]
fn the_earlier_of_two_times_counts_and_the_monotonic_one_is_converted() {
    use crate::{systemd::PropertyValue, timers::TimerState};
    let now = PresentTime {
        unix: 1_000_000.0,
        monotonic: 500.0,
    };
    let timer = |realtime: u64, monotonic: u64| {
        let numbers = [0, realtime, monotonic, 60_000_000, 0];
        let properties = numbers.map(|number| Some(PropertyValue::Number(number)));
        let unit = systemd::ListedUnit::for_tests("a.timer", "waiting");
        TimerState::new(unit, &properties, now)
    };
    let seconds = |seconds: u64| seconds * 1_000_000;
    assert_eq!(timer(0, u64::MAX).next, None);
    assert_eq!(timer(0, seconds(600)).next, Some(1_000_100.0));
    let both = timer(seconds(999_000), seconds(600));
    assert_eq!(both.next, Some(999_000.0));
    assert_eq!(both.overdue(now), Some(Duration::from_secs(940)));
    assert_eq!(
        timer(seconds(1_000_500), seconds(400)).next,
        Some(999_900.0)
    );
    assert_eq!(timer(0, seconds(450)).overdue(now), None);
}
