//! Operators' orders, and the ones that a reload keeps.

use std::{sync::PoisonError, time::Duration};

use conductor_core::breaker::{Breaker, CircuitState, Transition};
use conductor_types::requests::BreakerOrder;

use super::PlatformGuard;
use crate::actor::ActionOrigin;

impl PlatformGuard {
    /// Applies an operator's order to the breaker.
    pub fn order(&self, order: BreakerOrder, by: &ActionOrigin, now: Duration) {
        let mut inner = self.inner.lock();
        let was_open = matches!(inner.calls.breaker().state(), CircuitState::Open { .. });
        let transition = obey(inner.calls.breaker_mut(), order, now);
        drop(inner);
        if was_open && order != BreakerOrder::Open {
            self.resume(now);
        }
        self.follow_pauses(now);
        self.shared.resumption.note_order();
        let (platform, plugin) = (&*self.settings.name, self.plugin.id());
        // One line: the order includes the breaker's change.
        tracing::info!(platform, plugin, "{by} {}", order.told());
        self.count_transition(transition);
    }

    /// Takes over maintenance and the operator's order from the guard that a reload replaces by this one.
    pub fn succeed(&self, before: &Self) {
        let maintenance = before.maintenance.read();
        let maintenance = maintenance.unwrap_or_else(PoisonError::into_inner).clone();
        self.set_maintenance(maintenance, self.shared.clock.now());
        let held = held(before.inner.lock().calls.breaker());
        if let Some(order) = held {
            let now = self.shared.clock.now();
            // Still held, so there is nothing to log.
            let transition = obey(self.inner.lock().calls.breaker_mut(), order, now);
            self.count_transition(transition);
            self.follow_pauses(now);
        }
    }
}

/// Returns the operator's order in force for a breaker.
pub(super) fn held(breaker: &Breaker) -> Option<BreakerOrder> {
    breaker.is_forced().then(|| match breaker.state() {
        CircuitState::Closed => BreakerOrder::Close,
        CircuitState::Open { .. } | CircuitState::HalfOpen => BreakerOrder::Open,
    })
}

/// Executes an operator's order.
pub(super) fn obey(
    breaker: &mut Breaker,
    order: BreakerOrder,
    now: Duration,
) -> Option<Transition> {
    match order {
        BreakerOrder::Open => breaker.force_open(),
        BreakerOrder::Close => breaker.force_closed(),
        BreakerOrder::Release => breaker.unforce(now),
        BreakerOrder::Reset => breaker.reset(now),
    }
}
