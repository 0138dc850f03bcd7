//! Properties for any settings and any sequence of events, including times at the limits of `Duration`.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum BreakerEvent {
    Wait(Duration),
    Admit(Duration),
    Record(usize, CallOutcome),
    Reset,
    ForceOpen,
    ForceClosed,
    Unforce,
    SetSettings(BreakerSettings),
}

proptest! {
    #[test]
    fn every_change_of_state_is_told_and_no_other(
        settings in settings(), seed: u64, events in vec(event(), 0..200),
    ) {
        let mut run = BreakerRun::new(settings, seed);
        let mut told = run.breaker.state();
        for event in &events {
            let transition = run.step(event).transition;
            if let Some(transition) = transition {
                prop_assert_eq!(transition.from, told);
                prop_assert_ne!(transition.from.name(), transition.to.name());
                told = transition.to;
            }
            // Forcing an open breaker, or ending that, may change its `until`; that is no change of state.
            prop_assert_eq!(run.breaker.state().name(), told.name());
            told = run.breaker.state();
        }
    }

    #[test]
    fn refused_and_stale_change_nothing(
        settings in settings(), seed: u64, events in vec(event(), 0..200),
    ) {
        let mut run = BreakerRun::new(settings, seed);
        for event in &events {
            let before = run.breaker.clone();
            let step = run.step(event);
            if step.turned_away {
                prop_assert_eq!(&run.breaker, &before);
                prop_assert_eq!(step.transition, None);
            }
        }
    }

    #[test]
    fn a_refusal_names_a_time_at_which_a_call_is_admitted_and_none_before_is(
        settings in settings(), seed: u64, events in vec(event(), 0..200), earlier in 1..u64::MAX,
    ) {
        let mut run = BreakerRun::new(settings, seed);
        for event in &events {
            run.step(event);
        }
        let answer = run.breaker.clone().admit(run.now, Duration::ZERO);
        if let Err(Refused { retry_at: Some(retry_at) }) = answer {
            prop_assert!(retry_at > run.now);
            prop_assert!(run.breaker.clone().admit(retry_at, Duration::ZERO).is_ok());
            let before = retry_at.saturating_sub(Duration::from_nanos(earlier));
            prop_assert!(run.breaker.clone().admit(before, Duration::ZERO).is_err());
        }
    }

    #[test]
    fn the_open_time_is_the_settings_time_doubled_and_at_most_a_tenth_more(
        settings in settings(), seed: u64, trips in 1_u32..70,
    ) {
        let mut breaker = Breaker::new(settings, seed);
        let mut now = Duration::ZERO;
        for n in 0..trips {
            while {
                let ticket = breaker.admit(now, Duration::ZERO).unwrap();
                breaker.record(ticket, CallOutcome::Failure, now).unwrap().is_none()
            } {}
            let CircuitState::Open { until: Some(until) } = breaker.state() else {
                panic!("{:?}", breaker.state());
            };
            let doubled = settings.reset_timeout.saturating_mul(1 << n.min(31));
            let least = doubled.min(settings.max_reset_timeout);
            let most = least.saturating_add(least / 10);
            prop_assert!(until >= now.saturating_add(least), "trip {n}: until {until:?}");
            prop_assert!(until <= now.saturating_add(most), "trip {n}: until {until:?}");
            now = until;
        }
    }

    #[test]
    fn the_same_seed_and_events_lead_to_the_same_state(
        settings in settings(), seed: u64, events in vec(event(), 0..100),
    ) {
        let (mut one, mut other) = (BreakerRun::new(settings, seed), BreakerRun::new(settings, seed));
        for event in &events {
            one.step(event);
            other.step(event);
        }
        prop_assert_eq!(one.breaker, other.breaker);
    }

    #[test]
    fn a_restored_breaker_behaves_like_the_one_that_was_saved(
        settings in settings(), seed: u64,
        before in vec(event(), 0..100), after in vec(event(), 0..100),
    ) {
        let mut one = BreakerRun::new(settings, seed);
        for event in &before {
            one.step(event);
        }
        // What was under way does not outlive the process: a trial counts as lost, and no ticket is left.
        one.tickets.clear();
        if let BreakerPhase::HalfOpen { .. } = one.breaker.phase {
            one.breaker.phase = BreakerPhase::Open { until: one.now };
        }
        // Settings that became shorter while it was open hold for the restored one.
        if let BreakerPhase::Open { until } = &mut one.breaker.phase {
            let longest = one.breaker.settings.max_reset_timeout;
            let longest = longest.saturating_add(longest / 10);
            *until = (*until).min(one.now.saturating_add(longest));
        }
        let now = one.now;
        let snapshot = one.breaker.snapshot(now);
        let restored = Breaker::restore(one.breaker.settings, seed, snapshot, now);
        // Jitter depends on the number of changes, which starts again.
        let mut other = BreakerRun {
            breaker: Breaker { generation: one.breaker.generation, ..restored },
            now,
            tickets: Vec::new(),
        };
        prop_assert_eq!(other.breaker.snapshot(now), snapshot);
        for event in &after {
            let (a, b) = (one.step(event), other.step(event));
            prop_assert_eq!(a.transition.map(|t| (t.from.name(), t.to.name())), b.transition.map(|t| (t.from.name(), t.to.name())));
            prop_assert_eq!(a.turned_away, b.turned_away);
            prop_assert_eq!(one.breaker.snapshot(one.now), other.breaker.snapshot(other.now));
        }
    }
}

struct BreakerRun {
    breaker: Breaker,
    now: Duration,
    tickets: Vec<Ticket>,
}

struct StepResult {
    transition: Option<Transition>,
    turned_away: bool,
}

impl BreakerRun {
    fn new(settings: BreakerSettings, seed: u64) -> Self {
        Self {
            breaker: Breaker::new(settings, seed),
            now: Duration::ZERO,
            tickets: Vec::new(),
        }
    }

    fn step(&mut self, event: &BreakerEvent) -> StepResult {
        let mut turned_away = false;
        let transition = match *event {
            BreakerEvent::Wait(time) => {
                self.now = self.now.saturating_add(time);
                None
            }
            BreakerEvent::Admit(timeout) => match self.breaker.admit(self.now, timeout) {
                Ok(ticket) => {
                    let transition = ticket.transition();
                    self.tickets.push(ticket);
                    transition
                }
                Err(Refused { .. }) => {
                    turned_away = true;
                    None
                }
            },
            BreakerEvent::Record(..) if self.tickets.is_empty() => None,
            BreakerEvent::Record(which, outcome) => {
                let ticket = self.tickets.swap_remove(which % self.tickets.len());
                let result = self.breaker.record(ticket, outcome, self.now);
                turned_away = result.is_err();
                result.unwrap_or(None)
            }
            BreakerEvent::Reset => self.breaker.reset(self.now),
            BreakerEvent::ForceOpen => self.breaker.force_open(),
            BreakerEvent::ForceClosed => self.breaker.force_closed(),
            BreakerEvent::Unforce => self.breaker.unforce(self.now),
            BreakerEvent::SetSettings(settings) => {
                self.breaker.set_settings(settings);
                None
            }
        };
        StepResult {
            transition,
            turned_away,
        }
    }
}

fn event() -> impl Strategy<Value = BreakerEvent> {
    let outcome = prop_oneof![
        2 => Just(CallOutcome::Success),
        6 => Just(CallOutcome::Failure),
        1 => Just(CallOutcome::Ignored),
    ];
    prop_oneof![
        6 => time().prop_map(BreakerEvent::Wait),
        12 => time().prop_map(BreakerEvent::Admit),
        12 => (any::<usize>(), outcome).prop_map(|(which, outcome)| BreakerEvent::Record(which, outcome)),
        1 => Just(BreakerEvent::Reset),
        1 => Just(BreakerEvent::ForceOpen),
        1 => Just(BreakerEvent::ForceClosed),
        2 => Just(BreakerEvent::Unforce),
        1 => settings().prop_map(BreakerEvent::SetSettings),
    ]
}

fn settings() -> impl Strategy<Value = BreakerSettings> {
    (1_u32..5, time(), time()).prop_map(|(failures, one, other)| {
        let reset = one.min(other).max(Duration::from_nanos(1));
        BreakerSettings::try_new(failures, reset, one.max(reset).max(other)).unwrap()
    })
}

/// Mostly realistic times, sometimes the extremes.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        20 => (0..1_200_000_u64).prop_map(Duration::from_millis),
        5 => (0..10_000_u64).prop_map(Duration::from_millis),
        1 => (0..1000_u64).prop_map(Duration::from_nanos),
        1 => Just(Duration::MAX),
    ]
}
