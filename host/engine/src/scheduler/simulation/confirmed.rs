//! The confirmed state of a simulated platform, judged by its last results alone.

use conductor_types::PlatformState;

use crate::{guard::PlatformGuard, metrics::PlatformMetrics};

/// The results of one guard, and the state that it has confirmed.
#[derive(Default)]
pub(super) struct ConfirmationBook {
    /// The number of results of each severity that the metrics count.
    counted: [u64; SEVERITIES.len()],
    /// The number of times that the breaker had opened.
    opened: u64,
    /// The time of the last result, in nanoseconds.
    ended: u64,
    /// The severities of the results, the last one at the end.
    results: Vec<usize>,
    /// `true` if there were results before them, in an unknown order.
    is_partial: bool,
    /// The number of states that were judged.
    pub(super) judged: u64,
    confirmed: Option<usize>,
}

impl ConfirmationBook {
    /// Checks the confirmed state, and returns `true`, if there was a result since the last look.
    pub(super) fn see(
        &mut self,
        platform: &str,
        guard: &PlatformGuard,
        metrics: &PlatformMetrics,
    ) -> bool {
        let counted = counts(metrics);
        let new: Vec<usize> = (0..SEVERITIES.len())
            .flat_map(|nth| (self.counted[nth]..counted[nth]).map(move |_| nth))
            .collect();
        self.counted = counted;
        if new.is_empty() {
            return false;
        }
        let after = severity(guard.confirmed().0);
        let [result] = new[..] else {
            // A call that ends in the turn in which it begins is seen with the next one.
            (self.opened, self.ended) = (metrics.times_opened(), metrics.last_check());
            self.forget_results();
            self.confirmed = Some(after);
            return true;
        };
        self.results.push(result);
        let opened = metrics.times_opened();
        // A failure that opens the breaker is confirmed at once, and so is the first result after a pause.
        let is_at_once = opened != self.opened || metrics.has_paused_since(self.ended);
        (self.opened, self.ended) = (opened, metrics.last_check());
        match self.confirmed {
            _ if is_at_once && after == result => {
                (self.results, self.is_partial) = (vec![result], false);
            }
            _ if self.is_partial && self.results.len() < MOST_NEEDED => {}
            None => assert_eq!(after, result, "the first state of {platform}"),
            Some(before) => {
                self.judged += 1;
                self.judge(platform, guard, before, after);
            }
        }
        self.confirmed = Some(after);
        true
    }

    /// Leaves out the next states, until enough results are known.
    pub(super) fn forget_results(&mut self) {
        (self.results, self.is_partial) = (Vec::new(), true);
    }

    /// Checks a state by the rules: the last results are all worse, or all better, than the state before.
    fn judge(&self, platform: &str, guard: &PlatformGuard, before: usize, after: usize) {
        let (_, rules) = guard.confirmed();
        let last = |results: u16| {
            let results = usize::from(results);
            self.results.get(self.results.len().wrapping_sub(results)..)
        };
        let worse = last(rules.unhealthy_after.get()).filter(|all| all.iter().all(|r| *r > before));
        let better = last(rules.healthy_after.get()).filter(|all| all.iter().all(|r| *r < before));
        let expected = match (worse, better) {
            (Some(worse), _) => *worse.iter().min().unwrap(),
            (None, Some(better)) => *better.iter().max().unwrap(),
            (None, None) => before,
        };
        let results = &self.results;
        assert_eq!(
            after, expected,
            "{platform} was {before} and has {rules:?}: {results:?}"
        );
    }
}

/// The most results that change a state in a simulation.
pub(super) const MOST_NEEDED: usize = 5;

/// The labels of results, by severity.
const SEVERITIES: [&str; 4] = ["healthy", "degraded", "unhealthy", "failed"];

fn counts(metrics: &PlatformMetrics) -> [u64; SEVERITIES.len()] {
    let mut counts = [0; SEVERITIES.len()];
    for (end, count) in metrics.ends() {
        if let Some(nth) = SEVERITIES.iter().position(|label| *label == end) {
            counts[nth] = count;
        }
    }
    counts
}

fn severity(state: PlatformState) -> usize {
    match state {
        PlatformState::Healthy => 0,
        PlatformState::Degraded => 1,
        PlatformState::Unhealthy => 2,
        PlatformState::Unknown => 3,
    }
}
