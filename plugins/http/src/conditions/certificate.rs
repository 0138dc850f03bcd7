//! Limits of a certificate's remaining validity.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::UnmetCondition;
use crate::config::CertificateLimits;

/// Returns what was found and expected if the certificate expires too soon; `expiry` is in Unix time.
pub(super) fn judge(limits: &CertificateLimits, expiry: Option<f64>) -> Option<UnmetCondition> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the dates of certificates are those of the calendar"
    )]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    judge_at(limits, expiry?, now)
}

fn judge_at(limits: &CertificateLimits, expiry: f64, now: Duration) -> Option<UnmetCondition> {
    let left = expiry - now.as_secs_f64();
    let exceeded = |limit: Option<conductor_plugin_api::config::Duration>| {
        limit.filter(|limit| left < limit.get().as_secs_f64())
    };
    let text = |limit| {
        let days = left / SECONDS_PER_DAY;
        format!("the certificate expires in {days:.1} days, expected at least {limit}")
    };
    match (
        exceeded(limits.unhealthy_before),
        exceeded(limits.degraded_before),
    ) {
        (Some(limit), _) => Some(UnmetCondition::unhealthy(text(limit))),
        (None, Some(limit)) => Some(UnmetCondition::degraded(text(limit))),
        (None, None) => None,
    }
}

const SECONDS_PER_DAY: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use conductor_plugin_api::Status;

    use super::*;

    #[test]
    fn a_certificate_that_expires_soon_is_degraded_and_later_unhealthy() {
        let limits = CertificateLimits {
            degraded_before: Some("14d".parse().unwrap()),
            unhealthy_before: Some("2d".parse().unwrap()),
        };
        let now = Duration::from_secs(1_000_000);
        let judged = |days: f64| judge_at(&limits, 1_000_000.0 + days * SECONDS_PER_DAY, now);
        assert!(judged(14.1).is_none());
        let found = judged(13.9).unwrap();
        assert_eq!(found.status, Status::Degraded);
        assert_eq!(
            found.text,
            "the certificate expires in 13.9 days, expected at least 14days"
        );
        let found = judged(1.9).unwrap();
        assert_eq!(found.status, Status::Unhealthy);
        assert!(found.text.ends_with("at least 2days"), "{}", found.text);
    }
}
