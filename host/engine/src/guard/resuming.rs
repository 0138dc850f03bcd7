//! The part of a platform that outlives a restart.

use std::{sync::atomic::Ordering, time::Duration};

use conductor_core::{breaker::Breaker, confirmation::StateConfirmation, flapping::FlapDetector};

use super::{PlatformGuard, log::breaker_label};
use crate::{
    resumption::{SavedBreaker, SavedPlatform, SavedSlot, SavedState, cut, fingerprint},
    state::RestoredTimes,
};

impl PlatformGuard {
    /// Continues from the state that the platform had before the restart, if that was saved.
    ///
    /// `config` is the platform's config: with another one the breaker starts closed, as after a reload, unless an
    /// operator holds it.
    pub fn resume_saved(&mut self, config: &str) {
        self.fingerprint = fingerprint(config);
        let (shared, settings) = (&self.shared, &self.settings);
        let claimed = shared
            .resumption
            .claim(&settings.name, self.plugin.id(), shared.clock);
        let Some(saved) = claimed else {
            return;
        };
        let now = shared.clock.now();
        let wall = shared.clock.unix_seconds(now);
        if let Some(slot) = saved.slot.filter(|slot| slot.interval == settings.interval) {
            self.set_slot(Some(slot.number));
        }
        let mut inner = self.inner.lock();
        if saved.fingerprint == self.fingerprint || saved.breaker.is_held() {
            let seed = shared.seed_of(&settings.name);
            let snapshot = saved.breaker.snapshot(wall);
            let breaker = Breaker::restore(settings.breaker, seed, snapshot, now);
            self.metrics.breaker(breaker_label(breaker.state()));
            *inner.calls.breaker_mut() = breaker;
        }
        if let Some(state) = saved.state {
            let view = &mut inner.view;
            view.confirmation = StateConfirmation::restore(state.confirmation());
            view.flaps = FlapDetector::restore(state.flaps());
            self.metrics.set_flapping(view.flaps.is_flapping());
            view.message = cut(&state.message).to_owned();
            view.restored = Some(Box::new(RestoredTimes {
                since: past(state.since, wall),
                ended: past(state.ended, wall),
            }));
        }
        drop(inner);
        self.resume(now);
        self.follow_pauses(now);
    }

    /// Returns what outlives a restart at `now`, which is `wall` in seconds since 1970.
    pub(crate) fn saved(&self, now: Duration, wall: f64) -> SavedPlatform {
        let unix = |at: Duration| wall - now.saturating_sub(at).as_secs_f64();
        let inner = self.inner.lock();
        let view = &inner.view;
        let times = |restored: Option<RestoredTimes>| {
            let ended = match view.last_check {
                Some((ended, _)) => unix(ended),
                None => restored?.ended,
            };
            let since = restored.map_or_else(|| unix(view.since), |restored| restored.since);
            Some(RestoredTimes { since, ended })
        };
        let times = times(view.restored.as_deref().copied());
        let state = times.and_then(|times| {
            let confirmation = view.confirmation.snapshot()?;
            let flaps = view.flaps.snapshot();
            Some(SavedState {
                confirmed: confirmation.confirmed,
                result: confirmation.result,
                runs: confirmation.runs,
                flap_steps: flaps.steps,
                is_flapping: flaps.is_flapping,
                message: cut(&view.message).to_owned(),
                since: times.since,
                ended: times.ended,
            })
        });
        let breaker = inner.calls.breaker().snapshot(now);
        drop(inner);
        SavedPlatform {
            name: self.settings.name.to_string(),
            plugin: self.plugin.id().to_owned(),
            fingerprint: self.fingerprint,
            slot: self.slot().map(|number| SavedSlot {
                interval: self.settings.interval,
                number,
            }),
            breaker: SavedBreaker::of(breaker, wall),
            state,
        }
    }

    /// Returns the state of its breaker.
    #[cfg(test)]
    pub(crate) fn breaker_state(&self) -> conductor_core::breaker::CircuitState {
        self.inner.lock().calls.breaker().state()
    }

    /// Sets the number of its slot on the schedule.
    pub fn set_slot(&self, number: Option<u32>) {
        let number = number.unwrap_or(NO_SLOT);
        self.slot.store(number, Ordering::Relaxed);
    }

    /// Returns the number of its slot on the schedule; before it has one, the slot from before the restart.
    pub fn slot(&self) -> Option<u32> {
        let number = self.slot.load(Ordering::Relaxed);
        (number != NO_SLOT).then_some(number)
    }
}

/// Returns a time that is not after `now`, in seconds since 1970.
fn past(seconds: f64, now: f64) -> f64 {
    match seconds.is_finite() {
        true => seconds.clamp(0.0, now.max(0.0)),
        false => now,
    }
}

/// No slot; greater than every number.
pub(super) const NO_SLOT: u32 = u32::MAX;
