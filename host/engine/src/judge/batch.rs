//! The concurrent trials in one worker.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::{
    AdmittedCall, CallFailure, CallOwner, CheckReport, DeliveryOutcome, LoadedPlugin, ProbeId,
    UnexpectedExit,
};

/// The trials in one worker: one batch after the other.
#[derive(Default)]
pub(super) struct TrialBatch {
    state: Mutex<BatchState>,
    changed: Condvar,
}

#[derive(Default)]
struct BatchState {
    stages: Vec<TrialStage>,
    /// The number of trials that have ended.
    over: usize,
    /// The number of the first trial of this batch; calls of earlier ones can still return.
    first: u64,
    each: Duration,
    given_up: bool,
    ended: Option<UnexpectedExit>,
}

enum TrialStage {
    Waiting,
    /// Until this time.
    Running(Duration),
    Stuck,
    Over(Result<(), CallFailure>),
}

/// The result of a batch.
pub(super) struct BatchOutcome {
    pub(super) ends: Vec<TrialEnd>,
    /// The worker died.
    pub(super) ended: Option<UnexpectedExit>,
}

/// The end of one trial.
#[derive(Debug, PartialEq)]
pub(super) enum TrialEnd {
    Passed,
    Failed(CallFailure),
    Stuck,
    /// It was under way when the worker died.
    Died,
    NotStarted,
}

impl BatchOutcome {
    /// Returns the number of trials that were under way when the worker died.
    pub(super) fn died(&self) -> usize {
        self.ends
            .iter()
            .filter(|end| **end == TrialEnd::Died)
            .count()
    }
}

impl TrialBatch {
    /// Runs one trial with each probe, until `until` at the latest. The plugin sends them as fast as it has threads.
    pub(super) fn run(
        self: &Arc<Self>,
        plugin: &impl LoadedPlugin,
        probes: &[ProbeId],
        each: Duration,
        until: Duration,
        clock: Clock,
    ) -> BatchOutcome {
        let first = {
            let mut state = self.lock();
            state.first += state.stages.len() as u64;
            state.stages = probes.iter().map(|_| TrialStage::Waiting).collect();
            (state.over, state.each) = (0, each);
            state.first
        };
        let mut calls: Vec<_> = (first..)
            .zip(probes)
            .map(|(sequence, &probe)| AdmittedCall {
                probe,
                caller: Arc::clone(self) as Arc<dyn CallOwner>,
                sequence,
            })
            .collect();
        plugin.start(&mut calls);
        loop {
            let now = clock.now();
            let (late, over, is_over) = {
                let mut state = self.lock();
                let late = state.late(now);
                let over = state.over;
                let is_over = over == probes.len() || state.ended.is_some() || now >= until;
                (late, over, is_over)
            };
            for at in late {
                plugin.abandoned(probes[at]);
            }
            if is_over {
                break;
            }
            self.wait(over);
            plugin.nudge();
        }
        let mut state = self.lock();
        let ended = state.ended.clone();
        let ends = state
            .stages
            .iter_mut()
            .map(|stage| stage.end(ended.as_ref()));
        BatchOutcome {
            ends: ends.collect(),
            ended,
        }
    }

    /// Records that the worker died.
    pub(super) fn worker_ended(&self, ended: UnexpectedExit) {
        self.lock().ended = Some(ended);
        self.changed.notify_all();
    }

    /// Stops waiting for results.
    pub(super) fn give_up(&self) {
        self.lock().given_up = true;
    }

    /// Waits until more than `over` trials have ended, or for a tick.
    fn wait(&self, over: usize) {
        let same = |state: &mut BatchState| state.over == over && state.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), TICK, same);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, BatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BatchState {
    /// Marks the trials that are past their deadline, and returns their indices.
    fn late(&mut self, now: Duration) -> Vec<usize> {
        let mut late = Vec::new();
        for (at, stage) in self.stages.iter_mut().enumerate() {
            if matches!(stage, TrialStage::Running(deadline) if *deadline <= now) {
                *stage = TrialStage::Stuck;
                late.push(at);
            }
        }
        self.over += late.len();
        late
    }

    fn stage(&mut self, sequence: u64) -> Option<&mut TrialStage> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.stages.get_mut(at)
    }
}

impl TrialStage {
    fn end(&mut self, ended: Option<&UnexpectedExit>) -> TrialEnd {
        match std::mem::replace(self, Self::Stuck) {
            Self::Waiting => TrialEnd::NotStarted,
            // There is no time left to wait for it.
            Self::Running(_) => TrialEnd::NotStarted,
            Self::Stuck => TrialEnd::Stuck,
            Self::Over(Ok(())) => TrialEnd::Passed,
            Self::Over(Err(failure)) => {
                // The failure of calls under way in a worker that dies.
                let of_its_end = |ended: &UnexpectedExit| {
                    failure.kind == ended.kind
                        && failure
                            .message
                            .starts_with(&format!("its worker {}", ended.message))
                };
                match ended.is_some_and(of_its_end) {
                    true => TrialEnd::Died,
                    false => TrialEnd::Failed(failure),
                }
            }
        }
    }
}

impl CallOwner for TrialBatch {
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration> {
        let mut state = self.lock();
        if state.given_up {
            return None;
        }
        let deadline = now + state.each;
        *state.stage(sequence)? = TrialStage::Running(deadline);
        Some(deadline)
    }

    fn finished(
        &self,
        sequence: u64,
        _: Duration,
        result: Result<&CheckReport, CallFailure>,
    ) -> DeliveryOutcome {
        let mut state = self.lock();
        match state.stage(sequence) {
            None | Some(TrialStage::Stuck) => return DeliveryOutcome::No,
            Some(stage) => *stage = TrialStage::Over(result.map(|_| ())),
        }
        state.over += 1;
        drop(state);
        self.changed.notify_all();
        DeliveryOutcome::Yes
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        let mut state = self.lock();
        state.given_up || !matches!(state.stage(sequence), Some(TrialStage::Running(_)))
    }
}

/// The interval at which deadlines are checked.
const TICK: Duration = Duration::from_millis(10);
