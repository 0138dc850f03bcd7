//! The concurrent trials in one worker.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_runtime::{Call, Caller, Ended, Failure, LoadedPlugin, ProbeId, Report, Waiting};

/// The trials in one worker: one batch after the other.
#[derive(Default)]
pub(super) struct Batch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stages: Vec<Stage>,
    /// The number of trials that have ended.
    over: usize,
    /// The number of the first trial of this batch; calls of earlier ones can still return.
    first: u64,
    each: Duration,
    given_up: bool,
    ended: Option<Ended>,
}

enum Stage {
    Waiting,
    /// Until this time.
    Running(Duration),
    Stuck,
    Over(Result<(), Failure>),
}

/// The result of a batch.
pub(super) struct Outcome {
    pub(super) ends: Vec<End>,
    /// The worker died.
    pub(super) ended: Option<Ended>,
}

/// The end of one trial.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    Passed,
    Failed(Failure),
    Stuck,
    /// It was under way when the worker died.
    Died,
    NotStarted,
}

impl Outcome {
    /// Returns the number of trials that were under way when the worker died.
    pub(super) fn died(&self) -> usize {
        self.ends.iter().filter(|end| **end == End::Died).count()
    }
}

impl Batch {
    /// Runs one trial with each probe, until `until` at the latest. The plugin sends them as fast as it has threads.
    pub(super) fn run(
        self: &Arc<Self>,
        plugin: &impl LoadedPlugin,
        probes: &[ProbeId],
        each: Duration,
        until: Duration,
        clock: Clock,
    ) -> Outcome {
        let first = {
            let mut state = self.lock();
            state.first += state.stages.len() as u64;
            state.stages = probes.iter().map(|_| Stage::Waiting).collect();
            (state.over, state.each) = (0, each);
            state.first
        };
        let mut calls: Vec<_> = (first..)
            .zip(probes)
            .map(|(sequence, &probe)| Call {
                probe,
                caller: Arc::clone(self) as Arc<dyn Caller>,
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
        Outcome {
            ends: ends.collect(),
            ended,
        }
    }

    /// Records that the worker died.
    pub(super) fn worker_ended(&self, ended: Ended) {
        self.lock().ended = Some(ended);
        self.changed.notify_all();
    }

    /// Stops waiting for results.
    pub(super) fn give_up(&self) {
        self.lock().given_up = true;
    }

    /// Waits until more than `over` trials have ended, or for a tick.
    fn wait(&self, over: usize) {
        let same = |state: &mut State| state.over == over && state.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), TICK, same);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Marks the trials that are past their deadline, and returns their indices.
    fn late(&mut self, now: Duration) -> Vec<usize> {
        let mut late = Vec::new();
        for (at, stage) in self.stages.iter_mut().enumerate() {
            if matches!(stage, Stage::Running(deadline) if *deadline <= now) {
                *stage = Stage::Stuck;
                late.push(at);
            }
        }
        self.over += late.len();
        late
    }

    fn stage(&mut self, sequence: u64) -> Option<&mut Stage> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.stages.get_mut(at)
    }
}

impl Stage {
    fn end(&mut self, ended: Option<&Ended>) -> End {
        match std::mem::replace(self, Self::Stuck) {
            Self::Waiting => End::NotStarted,
            // There is no time left to wait for it.
            Self::Running(_) => End::NotStarted,
            Self::Stuck => End::Stuck,
            Self::Over(Ok(())) => End::Passed,
            Self::Over(Err(failure)) => {
                // The failure of calls under way in a worker that dies.
                let of_its_end = |ended: &Ended| {
                    failure.kind == ended.kind
                        && failure
                            .message
                            .starts_with(&format!("its worker {}", ended.message))
                };
                match ended.is_some_and(of_its_end) {
                    true => End::Died,
                    false => End::Failed(failure),
                }
            }
        }
    }
}

impl Caller for Batch {
    fn started(&self, sequence: u64, now: Duration) -> Option<Duration> {
        let mut state = self.lock();
        if state.given_up {
            return None;
        }
        let deadline = now + state.each;
        *state.stage(sequence)? = Stage::Running(deadline);
        Some(deadline)
    }

    fn finished(&self, sequence: u64, _: Duration, result: Result<&Report, Failure>) -> Waiting {
        let mut state = self.lock();
        match state.stage(sequence) {
            None | Some(Stage::Stuck) => return Waiting::No,
            Some(stage) => *stage = Stage::Over(result.map(|_| ())),
        }
        state.over += 1;
        drop(state);
        self.changed.notify_all();
        Waiting::Yes
    }

    fn is_cancelled(&self, sequence: u64) -> bool {
        let mut state = self.lock();
        state.given_up || !matches!(state.stage(sequence), Some(Stage::Running(_)))
    }
}

/// The interval at which deadlines are checked.
const TICK: Duration = Duration::from_millis(10);
