//! One limit with hysteresis, which keeps the mode from flapping.
use std::{fmt, time::Duration};

/// A limit with hysteresis: crossed after several consecutive samples, and crossed back only after a quiet time.
#[derive(Clone, Debug)]
pub(super) struct HysteresisLimit {
    above: f64,
    pub(super) recover_below: f64,
    samples: u32,
    pub(super) over: bool,
    high_running: u32,
    low_since: Option<Duration>,
}

impl HysteresisLimit {
    pub(super) fn new(above: f64, recover_below: f64, samples: u32) -> Self {
        Self {
            above,
            recover_below,
            samples,
            over: false,
            high_running: 0,
            low_since: None,
        }
    }

    /// Records a measurement; returns a crossing of the limit.
    pub(super) fn observe(&mut self, now: Duration, percent: Option<f64>) -> Option<LimitCrossing> {
        let Some(percent) = percent.filter(|percent| !percent.is_nan()) else {
            // An unknown value may have been high, so the quiet time starts again.
            self.low_since = None;
            return None;
        };
        self.high_running = match percent > self.above {
            true => self.high_running.saturating_add(1),
            false => 0,
        };
        self.low_since = (percent < self.recover_below).then(|| self.low_since.unwrap_or(now));

        let quiet = self.low_since.map(|since| now.saturating_sub(since));
        if !self.over && self.high_running >= self.samples {
            self.over = true;
            Some(LimitCrossing::Over {
                percent,
                limit: self.above,
                samples: self.samples,
            })
        } else if self.over && quiet >= Some(QUIET) {
            self.over = false;
            Some(LimitCrossing::Back {
                percent,
                limit: self.recover_below,
            })
        } else {
            None
        }
    }
}

/// A limit that was crossed, formatted to follow the name of the resource.
#[derive(Clone, Copy, Debug)]
pub(super) enum LimitCrossing {
    Over {
        percent: f64,
        limit: f64,
        samples: u32,
    },
    Back {
        percent: f64,
        limit: f64,
    },
}

impl fmt::Display for LimitCrossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One decimal: "92.4 % (limit 92 %)" makes sense where "92 % (limit 92 %)" does not.
        let round = |percent: f64| (percent * 10.0).round() / 10.0;
        match *self {
            Self::Over {
                percent,
                limit,
                samples: 1,
            } => write!(f, "at {} % (limit {limit} %)", round(percent)),
            Self::Over {
                percent,
                limit,
                samples,
            } => write!(
                f,
                "above {limit} % for {samples} consecutive samples ({} %)",
                round(percent)
            ),
            Self::Back { percent, limit } => write!(
                f,
                "below {limit} % for {} s ({} %)",
                QUIET.as_secs(),
                round(percent)
            ),
        }
    }
}

/// The time below the line after which a measurement counts as recovered.
const QUIET: Duration = Duration::from_secs(60);
