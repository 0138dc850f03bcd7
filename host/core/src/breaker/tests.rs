//! The breaker's promises one by one, with the original's settings: 3 failures, 30 s, and at most 10 min.

use std::time::Duration;

use super::*;

#[test]
fn it_opens_at_the_third_failure_in_a_row() {
    let mut breaker = closed();
    assert_eq!(call(&mut breaker, CallOutcome::Failure, 0), None);
    assert_eq!(call(&mut breaker, CallOutcome::Failure, 5), None);
    let transition = call(&mut breaker, CallOutcome::Failure, 10);
    let until = open_until(&breaker, transition);
    assert!((secs(40)..=secs(43)).contains(&until), "{until:?}");
}

#[test]
fn a_success_starts_the_count_again_and_an_ignored_call_does_not() {
    let mut breaker = closed();
    for outcome in [
        CallOutcome::Failure,
        CallOutcome::Failure,
        CallOutcome::Success,
        CallOutcome::Failure,
        CallOutcome::Failure,
    ] {
        assert_eq!(call(&mut breaker, outcome, 0), None);
    }
    assert_eq!(call(&mut breaker, CallOutcome::Ignored, 0), None);
    assert!(call(&mut breaker, CallOutcome::Failure, 0).is_some());
}

/// In the original a refused call was recorded as a failure, which pushed the opening time on.
#[test]
fn a_refused_call_changes_nothing_so_an_open_breaker_becomes_half_open() {
    let mut breaker = closed();
    let until = trip(&mut breaker, 0);
    let open = breaker.clone();
    for second in 0..30 {
        assert_eq!(
            breaker.admit(secs(second), TIMEOUT),
            Err(Refused {
                retry_at: Some(until)
            })
        );
        assert_eq!(breaker, open);
    }
    let just_before = until - Duration::from_nanos(1);
    assert_eq!(
        breaker.admit(just_before, TIMEOUT),
        Err(Refused {
            retry_at: Some(until)
        })
    );
    let trial = breaker.admit(until, TIMEOUT).unwrap();
    let from = CircuitState::Open { until: Some(until) };
    assert_eq!(
        trial.transition(),
        Some(Transition {
            from,
            to: CircuitState::HalfOpen
        })
    );
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
}

/// In the original half-open let every call through, and reset the failure count first.
#[test]
fn half_open_lets_one_trial_through_and_its_failure_reopens_at_once() {
    let mut breaker = closed();
    let now = trip(&mut breaker, 0);
    let trial = breaker.admit(now, TIMEOUT).unwrap();
    let lease_end = now + TIMEOUT + secs(1);
    for _ in 0..1000 {
        assert_eq!(
            breaker.admit(now, TIMEOUT),
            Err(Refused {
                retry_at: Some(lease_end)
            })
        );
    }
    let transition = breaker.record(trial, CallOutcome::Failure, now).unwrap();
    assert_eq!(transition.map(|t| t.from), Some(CircuitState::HalfOpen));
    let until = open_until(&breaker, transition);
    assert_eq!(
        breaker.admit(now, TIMEOUT),
        Err(Refused {
            retry_at: Some(until)
        })
    );
}

#[test]
fn a_trial_that_succeeds_closes_and_the_count_starts_at_nought() {
    let mut breaker = closed();
    let now = trip(&mut breaker, 0);
    let trial = breaker.admit(now, TIMEOUT).unwrap();
    let transition = breaker.record(trial, CallOutcome::Success, now);
    assert_eq!(
        transition,
        Ok(Some(Transition {
            from: CircuitState::HalfOpen,
            to: CircuitState::Closed
        }))
    );
    assert_eq!(call(&mut breaker, CallOutcome::Failure, 100), None);
    assert_eq!(call(&mut breaker, CallOutcome::Failure, 100), None);
    assert!(call(&mut breaker, CallOutcome::Failure, 100).is_some());
}

#[test]
fn a_lost_trial_is_replaced_when_its_lease_is_over_and_then_decides_nothing() {
    let mut breaker = closed();
    let now = trip(&mut breaker, 0);
    let lost = breaker.admit(now, TIMEOUT).unwrap();
    let lease_end = now + TIMEOUT + secs(1);
    assert!(
        breaker
            .admit(lease_end - Duration::from_nanos(1), TIMEOUT)
            .is_err()
    );
    let second = breaker.admit(lease_end, TIMEOUT).unwrap();
    assert_eq!(second.transition(), None, "it was half-open already");
    let during = breaker.clone();
    assert_eq!(
        breaker.record(lost, CallOutcome::Success, lease_end),
        Err(StaleTicket)
    );
    assert_eq!(breaker, during);
    assert!(
        breaker
            .record(second, CallOutcome::Failure, lease_end)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_late_trial_still_decides_while_none_has_taken_its_place() {
    let mut breaker = closed();
    let now = trip(&mut breaker, 0);
    let trial = breaker.admit(now, TIMEOUT).unwrap();
    let transition = breaker
        .record(trial, CallOutcome::Success, now + secs(3600))
        .unwrap();
    assert_eq!(transition.map(|t| t.to), Some(CircuitState::Closed));
}

#[test]
fn an_ignored_trial_makes_room_for_one_other_and_moves_nothing_else() {
    let mut breaker = closed();
    let now = trip(&mut breaker, 0);
    let ignored = breaker.admit(now, TIMEOUT).unwrap();
    assert_eq!(breaker.record(ignored, CallOutcome::Ignored, now), Ok(None));
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    let second = breaker.admit(now, TIMEOUT).unwrap();
    assert_eq!(second.transition(), None);
    assert!(breaker.admit(now, TIMEOUT).is_err());
    let transition = breaker.record(second, CallOutcome::Failure, now).unwrap();
    let open_for = open_until(&breaker, transition) - now;
    assert!(
        (secs(60)..=secs(66)).contains(&open_for),
        "{open_for:?}: the ignored trial was counted"
    );
}

#[test]
fn results_from_before_a_trip_are_stale() {
    for outcome in [
        CallOutcome::Success,
        CallOutcome::Failure,
        CallOutcome::Ignored,
    ] {
        let mut breaker = closed();
        let late = [
            breaker.admit(secs(0), TIMEOUT).unwrap(),
            breaker.admit(secs(0), TIMEOUT).unwrap(),
        ];
        let until = trip(&mut breaker, 0);
        let [while_open, while_half_open] = late;
        let open = breaker.clone();
        assert_eq!(
            breaker.record(while_open, outcome, secs(1)),
            Err(StaleTicket)
        );
        assert_eq!(breaker, open);
        let _trial = breaker.admit(until, TIMEOUT).unwrap();
        let half_open = breaker.clone();
        assert_eq!(
            breaker.record(while_half_open, outcome, until),
            Err(StaleTicket)
        );
        assert_eq!(breaker, half_open);
    }
}

#[test]
fn the_open_time_doubles_with_each_failed_trial_up_to_ten_minutes() {
    let mut breaker = closed();
    let mut now = Duration::ZERO;
    let mut until = trip(&mut breaker, 0);
    for expected in [30, 60, 120, 240, 480, 600, 600, 600] {
        let open_for = until - now;
        let with_jitter = secs(expected) + secs(expected) / 10;
        assert!(
            (secs(expected)..=with_jitter).contains(&open_for),
            "{open_for:?} instead of {expected} s"
        );
        now = until;
        let trial = breaker.admit(now, TIMEOUT).unwrap();
        let transition = breaker.record(trial, CallOutcome::Failure, now).unwrap();
        until = open_until(&breaker, transition);
    }
}

#[test]
fn it_opens_longer_when_it_trips_again_soon_after_closing() {
    let mut breaker = closed();
    let closed_at = trip_and_close(&mut breaker);
    call_at(
        &mut breaker,
        CallOutcome::Success,
        closed_at + Duration::from_mins(10) - Duration::from_nanos(1),
    );
    let again = closed_at + Duration::from_mins(11);
    let open_for = trip_at(&mut breaker, again) - again;
    assert!((secs(60)..=secs(66)).contains(&open_for), "{open_for:?}");
}

#[test]
fn a_success_after_a_quiet_time_forgets_the_earlier_trips() {
    let mut breaker = closed();
    let closed_at = trip_and_close(&mut breaker);
    call_at(
        &mut breaker,
        CallOutcome::Success,
        closed_at + Duration::from_mins(10),
    );
    let again = closed_at + Duration::from_mins(11);
    let open_for = trip_at(&mut breaker, again) - again;
    assert!((secs(30)..=secs(33)).contains(&open_for), "{open_for:?}");
}

#[test]
fn breakers_that_trip_together_come_back_apart() {
    let mut untils: Vec<_> = (0..100)
        .map(|seed| trip(&mut Breaker::new(BreakerSettings::default(), seed), 0))
        .collect();
    untils.sort_unstable();
    untils.dedup();
    assert_eq!(untils.len(), 100);
    let spread = untils[99] - untils[0];
    assert!(spread > secs(2), "{spread:?} of the 3 s there are");
}

#[test]
fn no_two_openings_of_a_breaker_have_the_same_jitter() {
    for seed in 0..16 {
        let mut breaker = Breaker::new(BreakerSettings::default(), seed);
        let mut until = trip(&mut breaker, 0);
        let mut lasted: Vec<_> = (0..20)
            .map(|_| {
                let now = until;
                let failed = call_at(&mut breaker, CallOutcome::Failure, now);
                until = open_until(&breaker, failed);
                until - now
            })
            .skip(5) // until it is open for ten minutes each time
            .collect();
        lasted.sort_unstable();
        lasted.dedup();
        assert_eq!(lasted.len(), 15, "seed {seed}: {lasted:?}");
    }
}

#[test]
fn an_operator_gets_the_trial_of_an_open_breaker_before_its_time_but_no_second_one() {
    let mut breaker = closed();
    let until = trip(&mut breaker, 0);
    assert!(breaker.admit(secs(1), TIMEOUT).is_err());
    let trial = breaker.admit_asked(secs(1), TIMEOUT).unwrap();
    assert!(secs(1) < until);
    assert_eq!(breaker.state(), CircuitState::HalfOpen);
    assert!(breaker.admit_asked(secs(2), TIMEOUT).is_err());
    breaker
        .record(trial, CallOutcome::Success, secs(2))
        .unwrap();
    assert_eq!(breaker.state(), CircuitState::Closed);
}

#[test]
fn an_operator_holds_it_open_and_lets_a_trial_through_afterwards() {
    let mut breaker = closed();
    let under_way = breaker.admit(secs(0), TIMEOUT).unwrap();
    let held = CircuitState::Open { until: None };
    assert_eq!(
        breaker.force_open(),
        Some(Transition {
            from: CircuitState::Closed,
            to: held
        })
    );
    assert!(breaker.is_forced());
    assert_eq!(
        breaker.record(under_way, CallOutcome::Success, secs(1)),
        Err(StaleTicket)
    );
    assert_eq!(
        breaker.admit(Duration::MAX, TIMEOUT),
        Err(Refused { retry_at: None })
    );
    assert_eq!(
        breaker.unforce(secs(9)),
        None,
        "it stays open until a call is due"
    );
    assert_eq!(
        breaker.state(),
        CircuitState::Open {
            until: Some(secs(9))
        }
    );
    let trial = breaker.admit(secs(9), TIMEOUT).unwrap();
    assert!(breaker.record(trial, CallOutcome::Success, secs(9)).is_ok());
    assert_eq!(
        (breaker.state(), breaker.is_forced()),
        (CircuitState::Closed, false)
    );
}

#[test]
fn an_operator_holds_it_closed_whatever_fails() {
    let mut breaker = closed();
    trip(&mut breaker, 0);
    assert_eq!(
        breaker.force_closed().map(|t| t.to),
        Some(CircuitState::Closed)
    );
    for second in 0..10 {
        assert_eq!(call(&mut breaker, CallOutcome::Failure, second), None);
    }
    assert!(breaker.is_forced());
    assert_eq!(breaker.unforce(secs(10)), None);
    assert!(!breaker.is_forced());
    assert_eq!(
        call(&mut breaker, CallOutcome::Failure, 10),
        None,
        "the failures while held do not count"
    );
    assert_eq!(call(&mut breaker, CallOutcome::Failure, 10), None);
    assert!(call(&mut breaker, CallOutcome::Failure, 10).is_some());
}

#[test]
fn unforce_leaves_a_breaker_alone_that_is_not_forced() {
    let mut breaker = closed();
    let mut seen = vec![breaker.clone()];
    let until = trip(&mut breaker, 0);
    seen.push(breaker.clone());
    let _trial = breaker.admit(until, TIMEOUT).unwrap();
    seen.push(breaker);
    for before in seen {
        let mut breaker = before.clone();
        assert_eq!(breaker.unforce(until), None);
        assert_eq!(breaker, before);
    }
}

#[test]
fn a_reset_forgets_failures_trips_force_and_calls_under_way() {
    let mut breaker = closed();
    let now = trip(&mut breaker, 0);
    let trial = breaker.admit(now, TIMEOUT).unwrap();
    assert_eq!(
        breaker.reset(now),
        Some(Transition {
            from: CircuitState::HalfOpen,
            to: CircuitState::Closed
        })
    );
    assert_eq!(
        breaker.record(trial, CallOutcome::Failure, now),
        Err(StaleTicket)
    );
    let open_for = trip_at(&mut breaker, now) - now;
    assert!(open_for <= secs(33), "{open_for:?}");

    breaker.force_open();
    breaker.reset(now);
    assert_eq!(
        (breaker.state(), breaker.is_forced()),
        (CircuitState::Closed, false)
    );

    let under_way = breaker.admit(now, TIMEOUT).unwrap();
    assert_eq!(breaker.reset(now), None, "it was closed already");
    assert_eq!(
        breaker.record(under_way, CallOutcome::Failure, now),
        Err(StaleTicket)
    );
}

#[test]
fn new_settings_keep_the_state_and_bear_on_what_comes() {
    let mut breaker = closed();
    call(&mut breaker, CallOutcome::Failure, 0);
    call(&mut breaker, CallOutcome::Failure, 0);
    breaker.set_settings(BreakerSettings::try_new(2, secs(7), secs(7)).unwrap());
    assert_eq!(breaker.state(), CircuitState::Closed);
    let transition = call(&mut breaker, CallOutcome::Failure, 0);
    let until = open_until(&breaker, transition);
    assert!((secs(7)..secs(8)).contains(&until), "{until:?}");
    let open = breaker.state();
    breaker.set_settings(BreakerSettings::default());
    assert_eq!(breaker.state(), open);
}

#[test]
fn more_patient_settings_differ_in_their_failures_alone() {
    let settings = BreakerSettings::try_new(2, secs(7), secs(70)).unwrap();
    let patient = BreakerSettings::try_new(8, secs(7), secs(70)).unwrap();
    assert_eq!(settings.more_patient(4), patient);
    assert_eq!(settings.more_patient(0), settings);
    assert_eq!(settings.reset_timeout(), secs(7));
}

#[test]
fn settings_that_make_no_sense_cannot_be_built() {
    let refused = |failures, reset, max| {
        BreakerSettings::try_new(failures, secs(reset), secs(max))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused(0, 30, 600),
        "failure_threshold is 0, so the breaker would open before anything failed; use 1 or more"
    );
    assert_eq!(
        refused(3, 0, 600),
        "reset_timeout is 0, so an open breaker would keep nothing away; use a time such as 30s"
    );
    assert_eq!(
        refused(3, 1200, 600),
        "max_reset_timeout (600s) is below reset_timeout (1200s); raise it to 1200s or more, or lower reset_timeout"
    );
    assert_eq!(
        BreakerSettings::try_new(3, secs(30), secs(600)),
        Ok(BreakerSettings::default())
    );
}

#[test]
fn a_hundred_thousand_breakers_fit_in_ten_megabytes() {
    assert!(size_of::<Breaker>() <= 96, "{} bytes", size_of::<Breaker>());
}

fn closed() -> Breaker {
    Breaker::new(BreakerSettings::default(), 1)
}

fn call(breaker: &mut Breaker, outcome: CallOutcome, second: u64) -> Option<Transition> {
    call_at(breaker, outcome, secs(second))
}

fn call_at(breaker: &mut Breaker, outcome: CallOutcome, now: Duration) -> Option<Transition> {
    let ticket = breaker.admit(now, TIMEOUT).unwrap();
    breaker.record(ticket, outcome, now).unwrap()
}

fn trip(breaker: &mut Breaker, second: u64) -> Duration {
    trip_at(breaker, secs(second))
}

/// Fails three times and returns the time of the next trial.
fn trip_at(breaker: &mut Breaker, now: Duration) -> Duration {
    assert_eq!(call_at(breaker, CallOutcome::Failure, now), None);
    assert_eq!(call_at(breaker, CallOutcome::Failure, now), None);
    let transition = call_at(breaker, CallOutcome::Failure, now);
    open_until(breaker, transition)
}

/// Returns the time at which it closed.
fn trip_and_close(breaker: &mut Breaker) -> Duration {
    let now = trip(breaker, 0);
    assert_eq!(
        call_at(breaker, CallOutcome::Success, now).map(|t| t.to),
        Some(CircuitState::Closed)
    );
    now
}

/// Returns the opening time in a transition, which must match the breaker's own.
fn open_until(breaker: &Breaker, transition: Option<Transition>) -> Duration {
    let to = transition.expect("it should have opened").to;
    assert_eq!(to, breaker.state());
    let CircuitState::Open { until: Some(until) } = to else {
        panic!("{to:?} instead of open for a time")
    };
    until
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const TIMEOUT: Duration = Duration::from_secs(4);
