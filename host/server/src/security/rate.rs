//! Rate limiting: a token bucket, like exporter-toolkit's `rate_limit`.

use std::time::Duration;

use conductor_config::web::RateLimit;
use tokio::time::Instant;

/// A token bucket: the requests left of a burst.
#[derive(Default)]
pub(super) struct TokenBucket {
    last: Option<(RateLimit, Instant, f64)>,
}

impl TokenBucket {
    /// Takes a request from the bucket and returns `true` if there was one. A changed limit begins full.
    pub(super) fn takes(&mut self, limit: Option<RateLimit>) -> bool {
        self.takes_at(limit, Instant::now())
    }

    fn takes_at(&mut self, limit: Option<RateLimit>, now: Instant) -> bool {
        let Some(limit) = limit else {
            return true;
        };
        let burst = f64::from(limit.burst);
        let left = match self.last {
            Some((of, then, left)) if of == limit => {
                let refilled = ratio(now.saturating_duration_since(then), limit.interval);
                (left + refilled).min(burst)
            }
            _ => burst,
        };
        let takes = left >= 1.0;
        self.last = Some((limit, now, if takes { left - 1.0 } else { left }));
        takes
    }
}

fn ratio(time: Duration, interval: Duration) -> f64 {
    time.as_secs_f64() / interval.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_for_each_interval() {
        let limit = Some(RateLimit {
            interval: Duration::from_secs(2),
            burst: 3,
        });
        let (mut bucket, start) = (TokenBucket::default(), Instant::now());
        let mut taken = |seconds| {
            let now = start + Duration::from_secs(seconds);
            (0..10).filter(|_| bucket.takes_at(limit, now)).count()
        };
        assert_eq!([0, 1, 2, 4, 100].map(&mut taken), [3, 0, 1, 1, 3]);
        assert!((0..10).all(|_| bucket.takes_at(None, start)));
    }
}
