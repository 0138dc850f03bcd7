//! The duration of each phase of a check.

use std::time::Duration;

use conductor_plugin_api::{Metric, Report, tracing};

use crate::limit::TimeLimit;

/// The time limit of a check, and the duration of each phase that ended successfully.
pub struct PhaseClock<'a> {
    /// The limit of the whole check.
    pub limit: TimeLimit<'a>,
    current: Option<(&'static str, Duration)>,
    done: Vec<(&'static str, Duration)>,
}

impl<'a> PhaseClock<'a> {
    /// Starts the clock, in no phase.
    pub fn new(limit: TimeLimit<'a>) -> Self {
        Self {
            limit,
            current: None,
            done: Vec::new(),
        }
    }

    /// Begins a phase; the current one ended successfully. Phases of the same name add up.
    pub fn enter(&mut self, phase: &'static str) {
        self.end();
        self.current = Some((phase, self.limit.elapsed()));
    }

    /// Ends the current phase successfully. A phase that does not end so is not measured.
    pub fn end(&mut self) {
        let Some((phase, since)) = self.current.take() else {
            return;
        };
        let took = self.limit.elapsed().saturating_sub(since);
        tracing::debug!(phase, ?took, "ended a phase");
        match self.done.iter_mut().find(|(name, _)| *name == phase) {
            Some((_, sum)) => *sum += took,
            None => self.done.push((phase, took)),
        }
    }

    /// Returns the phases that ended, in their order.
    pub fn phases(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.done.iter().copied()
    }

    /// Returns the duration of a phase; `None` if it did not end.
    pub fn took(&self, phase: &str) -> Option<Duration> {
        let mut done = self.phases();
        done.find_map(|(name, took)| (name == phase).then_some(took))
    }

    /// Adds the duration of each phase, in seconds, to a metric with the one label `phase`.
    #[must_use]
    pub fn record(&self, report: Report, metric: &Metric<1>) -> Report {
        self.phases().fold(report, |report, (phase, took)| {
            report.set(metric, [phase], took.as_secs_f64())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_phase_that_did_not_end_is_not_measured_and_equal_ones_add_up() {
        let left = AtomicU64::new(1000);
        let remaining = || Duration::from_millis(left.load(Ordering::SeqCst));
        let mut clock = PhaseClock::new(TimeLimit::of(&remaining));
        let wait = |millis| left.fetch_sub(millis, Ordering::SeqCst);
        clock.enter("connect");
        wait(10);
        clock.enter("response");
        wait(20);
        clock.end();
        wait(100);
        clock.enter("connect");
        wait(1);
        clock.end();
        clock.enter("tls");
        wait(50);
        let phases: Vec<_> = clock
            .phases()
            .map(|(name, took)| (name, took.as_millis()))
            .collect();
        assert_eq!(phases, [("connect", 11), ("response", 20)]);
    }
}
