//! The circuit breaker: after several failures in a row it refuses calls for a while, then lets one trial through.
//!
//! A pure state machine: it reads no clock, takes no lock, writes no log and allocates nothing.
//! `now` is handed in, as time since the host clock's origin, and every change of state is handed
//! back for the caller to log and count.
//!
//! ```text
//!          failure_threshold failures in a row         `until` has passed and a call is due
//!  closed ─────────────────────────────────────► open ────────────────────────────────────► half-open
//!    ▲                                            ▲                                            │  │
//!    │                                            └───── the trial fails: open for longer ─────┘  │
//!    └──────────────────────────────────────────────────────── the trial succeeds ────────────────┘
//! ```
//!
//! The *generation* makes it safe to use from many calls at once. It moves on whenever the breaker starts something new
//! (each change of state, each trial, each operator action), and a result counts only if its ticket is of the current
//! generation. So the late result of a call from before a trip can neither close nor re-open anything, and of the
//! trials of one half-open period only the last one decides.

use std::{mem, time::Duration};

pub use self::{
    settings::{BreakerSettings, SettingsError},
    snapshot::{BreakerPosition, BreakerSnapshot},
};
use crate::random::mix;

mod settings;
mod snapshot;

/// A breaker around one kind of call: a platform's checks, or a plugin's loading.
///
/// Call [`admit`](Self::admit) before each call and [`record`](Self::record) with its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Breaker {
    settings: BreakerSettings,
    phase: BreakerPhase,
    generation: u64,
    jitter_seed: u64,
    /// The number of trips since it was last quiet: the `n` of `reset_timeout` × 2ⁿ.
    trips: u32,
}

/// Permission to make one call; it is returned to the breaker with the outcome.
///
/// It may be lost: while closed a lost ticket changes nothing, and while half-open the lease covers it.
#[derive(Debug, PartialEq, Eq, Hash)]
#[must_use = "a ticket is leave to make one call, whose outcome goes to `Breaker::record`"]
pub struct Ticket {
    generation: u64,
    transition: Option<Transition>,
}

/// The refusal of a call, which changes nothing in the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// The time from which a call is admitted. `None` when an operator holds the breaker open.
    pub retry_at: Option<Duration>,
}

/// The outcome of an admitted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The call returned a report, even an unhealthy one.
    Success,
    /// The call could not report: error, timeout, panic, crash.
    Failure,
    /// The call ended without saying anything about the plugin: the host was starved or shutting down, or it never ran.
    Ignored,
}

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open {
        /// The time at which the next call is admitted as a trial. `None` while an operator holds it open.
        until: Option<Duration>,
    },
    /// A trial is under way, or ended without a result: the next call is admitted when it ends or its lease expires.
    HalfOpen,
}

/// A change of [`CircuitState`], for the caller to log and count after releasing the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// The previous state.
    pub from: CircuitState,
    /// The new state.
    pub to: CircuitState,
}

/// The error for a ticket of an older generation, whose result changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StaleTicket;

impl Breaker {
    /// Creates a closed breaker. Breakers with different seeds get different jitter.
    pub fn new(settings: BreakerSettings, jitter_seed: u64) -> Self {
        Self {
            settings,
            phase: BreakerPhase::Closed {
                failures: 0,
                since: Duration::ZERO,
            },
            generation: 0,
            jitter_seed: mix(jitter_seed),
            trips: 0,
        }
    }

    /// Requests one call that ends at most `timeout` after `now`.
    ///
    /// An open breaker whose time is up becomes half-open here, and the ticket reports it. The call is then the trial,
    /// and no other is admitted before it is recorded or its lease (`timeout` plus one second) expires.
    ///
    /// # Errors
    /// [`Refused`] while open, and while a trial is under way. Nothing has changed then, and it is not a failure.
    pub fn admit(&mut self, now: Duration, timeout: Duration) -> Result<Ticket, Refused> {
        let transition = match self.phase {
            BreakerPhase::Closed { .. } | BreakerPhase::HeldClosed => None,
            BreakerPhase::Open { until: retry_at }
            | BreakerPhase::HalfOpen {
                lease_end: retry_at,
            } if now < retry_at => {
                return Err(Refused {
                    retry_at: Some(retry_at),
                });
            }
            BreakerPhase::HeldOpen => return Err(Refused { retry_at: None }),
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. } => {
                let lease_end = now.saturating_add(timeout).saturating_add(LEASE_MARGIN);
                self.enter(BreakerPhase::HalfOpen { lease_end })
            }
        };
        Ok(Ticket {
            generation: self.generation,
            transition,
        })
    }

    /// Requests one call on behalf of an operator: an open breaker admits it as its trial, before its time is up.
    ///
    /// # Errors
    /// [`Refused`] while an operator holds it open, and while a trial is under way.
    pub fn admit_asked(&mut self, now: Duration, timeout: Duration) -> Result<Ticket, Refused> {
        if let BreakerPhase::Open { .. } = self.phase {
            self.phase = BreakerPhase::Open { until: now };
        }
        self.admit(now, timeout)
    }

    /// Takes back a ticket with the outcome of its call, and returns the resulting change of state, if any.
    ///
    /// [`CallOutcome::Ignored`] never changes the state. If it is the current trial's, that trial's lease ends immediately,
    /// so that the next call becomes the trial instead; from any other call it frees nothing.
    ///
    /// # Errors
    /// [`StaleTicket`] if the breaker has moved on since the ticket was issued. Nothing has changed then.
    pub fn record(
        &mut self,
        ticket: Ticket,
        outcome: CallOutcome,
        now: Duration,
    ) -> Result<Option<Transition>, StaleTicket> {
        if ticket.generation != self.generation {
            return Err(StaleTicket);
        }
        match (&mut self.phase, outcome) {
            (BreakerPhase::Closed { failures, since }, CallOutcome::Success) => {
                *failures = 0;
                if now.saturating_sub(*since) >= self.settings.max_reset_timeout {
                    self.trips = 0;
                }
                Ok(None)
            }
            (BreakerPhase::Closed { failures, .. }, CallOutcome::Failure) => {
                *failures = failures.saturating_add(1);
                let trips = *failures >= self.settings.failure_threshold;
                Ok(if trips { self.trip(now) } else { None })
            }
            (BreakerPhase::HalfOpen { .. }, CallOutcome::Success) => {
                Ok(self.enter(BreakerPhase::Closed {
                    failures: 0,
                    since: now,
                }))
            }
            (BreakerPhase::HalfOpen { .. }, CallOutcome::Failure) => Ok(self.trip(now)),
            (BreakerPhase::HalfOpen { .. }, CallOutcome::Ignored) => {
                Ok(self.enter(BreakerPhase::HalfOpen { lease_end: now }))
            }
            (BreakerPhase::Closed { .. }, CallOutcome::Ignored) | (BreakerPhase::HeldClosed, _) => {
                Ok(None)
            }
            // No ticket is issued while open, so a matching one belongs to another breaker.
            (BreakerPhase::Open { .. } | BreakerPhase::HeldOpen, _) => Err(StaleTicket),
        }
    }

    /// Returns the state last entered.
    ///
    /// It leaves `Open` only when it admits the trial, so `until` may be in the past. That way the state changes only
    /// with a [`Transition`], and the displayed state always matches what was logged and counted.
    pub fn state(&self) -> CircuitState {
        match self.phase {
            BreakerPhase::Closed { .. } | BreakerPhase::HeldClosed => CircuitState::Closed,
            BreakerPhase::Open { until } => CircuitState::Open { until: Some(until) },
            BreakerPhase::HeldOpen => CircuitState::Open { until: None },
            BreakerPhase::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Returns `true` if an operator holds it open or closed.
    pub fn is_forced(&self) -> bool {
        matches!(
            self.phase,
            BreakerPhase::HeldOpen | BreakerPhase::HeldClosed
        )
    }

    /// Refuses every call until [`unforce`](Self::unforce) or [`reset`](Self::reset).
    pub fn force_open(&mut self) -> Option<Transition> {
        self.enter(BreakerPhase::HeldOpen)
    }

    /// Admits every call, whatever its outcome, until [`unforce`](Self::unforce) or [`reset`](Self::reset).
    pub fn force_closed(&mut self) -> Option<Transition> {
        self.enter(BreakerPhase::HeldClosed)
    }

    /// Returns a forced breaker to automatic control; changes nothing if it is not forced.
    ///
    /// One held open lets a trial through at the next call; one held closed stays closed and counts from 0.
    pub fn unforce(&mut self, now: Duration) -> Option<Transition> {
        match self.phase {
            BreakerPhase::HeldOpen => self.enter(BreakerPhase::Open { until: now }),
            BreakerPhase::HeldClosed => self.enter(BreakerPhase::Closed {
                failures: 0,
                since: now,
            }),
            BreakerPhase::Closed { .. }
            | BreakerPhase::Open { .. }
            | BreakerPhase::HalfOpen { .. } => None,
        }
    }

    /// Closes the breaker as if it were new: no failures, no past trips, not forced. Calls under way no longer count.
    pub fn reset(&mut self, now: Duration) -> Option<Transition> {
        self.trips = 0;
        self.enter(BreakerPhase::Closed {
            failures: 0,
            since: now,
        })
    }

    /// Replaces the settings, for a reload. The state is kept: they apply from the next failure and the next trip on.
    pub fn set_settings(&mut self, settings: BreakerSettings) {
        self.settings = settings;
    }

    /// Opens for `reset_timeout` × 2ⁿ, at most `max_reset_timeout`, plus up to a tenth of jitter.
    fn trip(&mut self, now: Duration) -> Option<Transition> {
        let factor = 1 << self.trips.min(31);
        let open_for = self
            .settings
            .reset_timeout
            .saturating_mul(factor)
            .min(self.settings.max_reset_timeout);
        self.trips = self.trips.saturating_add(1);
        self.enter(BreakerPhase::Open {
            until: now
                .saturating_add(open_for)
                .saturating_add(self.jitter(open_for)),
        })
    }

    /// Returns between zero and a tenth of `open_for`, so that breakers that tripped together do not retry together.
    ///
    /// Always positive, because a trial before `reset_timeout` would violate the config.
    fn jitter(&self, open_for: Duration) -> Duration {
        let [a, b, ..] = mix(self.jitter_seed ^ self.generation).to_le_bytes();
        open_for / (10 << 16) * u32::from(u16::from_le_bytes([a, b]))
    }

    /// Changes the phase; the only way to, so that each change starts a new generation.
    fn enter(&mut self, phase: BreakerPhase) -> Option<Transition> {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        let to = self.state();
        (mem::discriminant(&from) != mem::discriminant(&to)).then_some(Transition { from, to })
    }
}

impl Ticket {
    /// Returns the change of state that the admission caused: from open to half-open, or none.
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }
}

impl CircuitState {
    /// Returns its name in logs and labels: `closed`, `open` or `half-open`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum BreakerPhase {
    /// `failures` in a row so far; `since` is when it closed.
    Closed {
        failures: u32,
        since: Duration,
    },
    Open {
        until: Duration,
    },
    /// No second trial before `lease_end`. An ignored trial moves it to the instant the trial ended.
    HalfOpen {
        lease_end: Duration,
    },
    /// By an operator.
    HeldOpen,
    /// By an operator.
    HeldClosed,
}

/// The margin of a trial's lease over its timeout: time for its result to arrive.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod model;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
