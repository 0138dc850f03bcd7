//! A sparkline of a platform's last checks: their durations, and which were bad.

use std::fmt::Write as _;

use conductor_types::{PlatformState, views::PastView};

use super::times::took;

/// A sparkline of the last checks, 120 wide and 20 high, the latest check on the right.
pub(super) struct CheckSparkline {
    /// The outline of all checks.
    pub(super) all: String,
    /// The bars of failed and unhealthy ones.
    pub(super) bad: String,
    /// The bars of degraded ones.
    pub(super) degraded: String,
    /// A description in words.
    pub(super) words: String,
}

impl CheckSparkline {
    /// Draws checks, the latest first; `None` without checks.
    pub(super) fn of(history: &[PastView]) -> Option<Self> {
        let history = &history[..history.len().min(CHECKS)];
        let durations = || history.iter().map(|past| past.duration);
        let (least, most) = durations().fold((f64::MAX, 0.0_f64), |(least, most), d| {
            (least.min(d), most.max(d))
        });
        if history.is_empty() {
            return None;
        }
        let first = (CHECKS - history.len()) * WIDTH;
        let (mut all, mut bad, mut degraded) =
            (format!("M{first} 20"), String::new(), String::new());
        let (mut last, mut run) = (None, 0);
        let mut counts = [0; 2];
        for (place, past) in history.iter().rev().enumerate() {
            let x = first + place * WIDTH;
            let y = top(past.duration, most);
            if last != Some(y) {
                step(&mut all, run, y);
                (last, run) = (Some(y), 0);
            }
            run += WIDTH;
            let bar = match past.status {
                PlatformState::Unknown | PlatformState::Unhealthy => {
                    counts[0] += 1;
                    &mut bad
                }
                PlatformState::Degraded => {
                    counts[1] += 1;
                    &mut degraded
                }
                PlatformState::Healthy => continue,
            };
            // Writing to a string cannot fail.
            let _ = write!(bar, "M{x} 20V{y}h{WIDTH}V20z");
        }
        step(&mut all, run, 20);
        all.push('z');
        let mut words = format!(
            "Last {} checks: {} to {}",
            history.len(),
            took(least),
            took(most)
        );
        for (count, word) in counts.into_iter().zip(["bad", "degraded"]) {
            if count > 0 {
                let _ = write!(words, "; {count} {word}");
            }
        }
        Some(Self {
            all,
            bad,
            degraded,
            words,
        })
    }
}

/// Continues at the current height, then steps to the next.
fn step(path: &mut String, run: usize, y: u8) {
    if run > 0 {
        let _ = write!(path, "h{run}");
    }
    let _ = write!(path, "V{y}");
}

/// Returns the top of a bar: 2 for the longest, 18 for a duration of zero, so that all are visible.
fn top(duration: f64, most: f64) -> u8 {
    let share = if most > 0.0 { duration / most } else { 0.0 };
    let eighths = (0..16_u8).find(|&n| share * 16.0 <= f64::from(n));
    18 - eighths.unwrap_or(16)
}

const CHECKS: usize = 60;
const WIDTH: usize = 2;
