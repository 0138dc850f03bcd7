//! `unhealthy_after`, `healthy_after` and `retry_interval` of `[host]` and of platforms: how a platform's state is confirmed.

use std::{num::NonZeroU16, time::Duration};

use conductor_core::confirmation::ConfirmationRules;

use super::{
    check::TableValidator,
    duration::{RawDuration, given},
};

/// Confirmation of a platform's state by several results.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConfirmationConfig {
    /// The numbers of consecutive results that change the state.
    pub rules: ConfirmationRules,
    /// Time from a check whose result is not confirmed to the next one, from one tick to the interval; `None` leaves it
    /// to the schedule.
    pub retry_interval: Option<Duration>,
}

/// The keys of one table, as they are written.
pub(super) struct RawConfirmation {
    pub(super) unhealthy_after: Option<NonZeroU16>,
    pub(super) healthy_after: Option<NonZeroU16>,
    pub(super) retry_interval: Option<RawDuration>,
}

impl RawConfirmation {
    /// Fills in missing values from `default`; a default retry interval is at most the table's interval.
    pub(super) fn resolve(
        self,
        default: &ConfirmationConfig,
        interval: Duration,
        tick: Duration,
        check: &mut TableValidator<'_>,
    ) -> ConfirmationConfig {
        let rules = ConfirmationRules {
            unhealthy_after: self
                .unhealthy_after
                .unwrap_or(default.rules.unhealthy_after),
            healthy_after: self.healthy_after.unwrap_or(default.rules.healthy_after),
        };
        let default_retry = default.retry_interval.map(|retry| retry.min(interval));
        let Some(retry) = given(self.retry_interval) else {
            return ConfirmationConfig {
                rules,
                retry_interval: default_retry,
            };
        };
        let retry_interval = (!retry.is_zero()).then_some(retry);
        if let Some(retry) = retry_interval {
            check.at_least_a_tick(RETRY_INTERVAL, retry, tick);
            check.at_most(RETRY_INTERVAL, retry, "interval", interval);
        }
        ConfirmationConfig {
            rules,
            retry_interval,
        }
    }
}

impl ConfirmationConfig {
    /// Warns of a platform's own retry interval that has no effect.
    pub(super) fn warn(&self, check: &mut TableValidator<'_>) {
        let is_written = check.has(RETRY_INTERVAL);
        if is_written && self.retry_interval.is_some() && self.rules == ConfirmationRules::default()
        {
            let name = check.name(RETRY_INTERVAL);
            check.warn(
                RETRY_INTERVAL,
                format!(
                    "{name} has no effect, as one result confirms a state: set unhealthy_after or healthy_after to more than 1"
                ),
            );
        }
    }
}

const RETRY_INTERVAL: &str = "retry_interval";
