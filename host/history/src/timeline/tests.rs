//! Uptime, incidents and timelines, compared with computations of their own.

use proptest::prelude::*;

use super::*;

fn change(at: i64, state: StoredState) -> StoredChange {
    StoredChange {
        at,
        state,
        maintenance: false,
        message: format!("since {at}"),
    }
}

use StoredState::{Degraded, Failed, Healthy, None as NoResult, Unhealthy};

#[test]
fn consecutive_bad_states_are_one_incident_with_the_first_message() {
    let changes = [
        change(10, Healthy),
        change(20, Failed),
        change(30, Unhealthy),
        change(40, Degraded),
        change(50, Unhealthy),
    ];
    let runs = [HostRun { start: 0, seen: 60 }];
    let found = incidents(&spans(&changes, &runs, 0, 60));
    let told: Vec<_> = found
        .iter()
        .map(|i| (i.start, i.end, i.state, &*i.message))
        .collect();
    assert_eq!(
        told,
        [
            (20, Some(40), Unhealthy, "since 20"),
            (50, None, Unhealthy, "since 50")
        ]
    );
}

#[test]
fn a_host_that_was_off_leaves_a_gap_that_neither_counts_nor_ends_an_incident() {
    let changes = [
        change(0, Healthy),
        change(50, Unhealthy),
        change(210, Unhealthy),
        change(250, Healthy),
    ];
    let runs = [
        HostRun {
            start: 0,
            seen: 100,
        },
        HostRun {
            start: 200,
            seen: 300,
        },
    ];
    let all = spans(&changes, &runs, 0, 300);
    assert_eq!(
        uptime(&all, 0, 300),
        KnownTime {
            up: 100,
            known: 190
        }
    );
    let found = incidents(&all);
    assert_eq!(
        (found[0].start, found[0].end, found.len()),
        (50, Some(250), 1)
    );
    // Back and well again: it is known until the gap.
    let changes = [change(50, Unhealthy), change(210, Healthy)];
    let found = incidents(&spans(&changes, &runs, 0, 300));
    assert_eq!((found[0].start, found[0].end), (50, Some(100)));
}

#[test]
fn a_gap_of_more_than_a_day_and_a_removal_end_an_incident() {
    let day = LONGEST_BRIDGE;
    let changes = [
        change(0, Unhealthy),
        change(2 * day, Unhealthy),
        change(2 * day + 10, NoResult),
    ];
    let runs = [
        HostRun {
            start: 0,
            seen: 100,
        },
        HostRun {
            start: 2 * day,
            seen: 3 * day,
        },
    ];
    let found = incidents(&spans(&changes, &runs, 0, 3 * day));
    let told: Vec<_> = found.iter().map(|i| (i.start, i.end)).collect();
    assert_eq!(told, [(0, Some(100)), (2 * day, Some(2 * day + 10))]);
}

#[test]
fn maintenance_does_not_count_and_marks_incidents_within_it() {
    let in_maintenance = |at, state| StoredChange {
        maintenance: true,
        ..change(at, state)
    };
    let changes = [
        change(0, Healthy),
        in_maintenance(10, Healthy),
        in_maintenance(20, Unhealthy),
        change(30, Healthy),
    ];
    let runs = [HostRun { start: 0, seen: 40 }];
    let all = spans(&changes, &runs, 0, 40);
    assert_eq!(uptime(&all, 0, 40), KnownTime { up: 20, known: 20 });
    assert!(incidents(&all)[0].maintenance);
}

fn any_state() -> impl Strategy<Value = StoredState> {
    prop::sample::select(StoredState::ALL.to_vec())
}

proptest! {
    /// The computation by milliseconds, from the log of states alone.
    #[test]
    fn uptime_equals_that_of_a_walk_through_every_millisecond(
        steps in prop::collection::vec((1_i64..40, any_state(), any::<bool>()), 0..25),
        lives in prop::collection::vec((0_i64..60, 1_i64..120), 0..6),
        window in (0_i64..300, 0_i64..400),
    ) {
        let mut at = 0;
        let changes: Vec<_> = steps.iter().map(|(wait, state, maintenance)| {
            at += wait;
            StoredChange { maintenance: *maintenance, ..change(at, *state) }
        }).collect();
        let mut clock = 0;
        let runs: Vec<_> = lives.iter().map(|(off, on)| {
            let start = clock + off;
            clock = start + on;
            HostRun { start, seen: clock }
        }).collect();
        let (from, to) = (window.0, window.0 + window.1);
        let mut slow = KnownTime::default();
        for now in from..to {
            let Some(run) = runs.iter().rev().find(|run| run.start <= now && now < run.seen) else { continue };
            let last = changes.iter().rev().find(|change| change.at <= now && change.at >= run.start);
            match last {
                Some(last) if last.state != NoResult && !last.maintenance => {
                    slow.known += 1;
                    slow.up += i64::from(matches!(last.state, Healthy | Degraded));
                }
                _ => {}
            }
        }
        let all = spans(&changes, &runs, from, to);
        prop_assert_eq!(uptime(&all, from, to), slow);
        // The spans cover the window, in order.
        let mut reached = from;
        for span in &all {
            prop_assert_eq!(span.from, reached);
            prop_assert!(span.to > span.from);
            reached = span.to;
        }
        prop_assert_eq!(reached, to.max(from));
        prop_assert_eq!(uptime(&joined(&all), from, to).known <= to - from, true);
        // Every bad millisecond is in an incident.
        let found = incidents(&all);
        for span in all.iter().filter(|span| span.state().is_some_and(StoredState::is_bad)) {
            prop_assert!(found.iter().any(|i| i.start <= span.from && span.to <= i.seen));
        }
    }
}
