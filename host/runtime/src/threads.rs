//! Threads for blocking calls: each plugin has its own, limited in number, and never shares them.
//!
//! Jobs that are due together arrive together, and one thread processes them without waking others, as long as the
//! calls are quick. Calls that usually take longer get a thread each at once; [`nudge`](ThreadPool::nudge) detects a
//! hanging call of a quick plugin a tick later. A call that the host has given up on keeps its thread, which no longer
//! counts towards the limit.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use conductor_sandbox::WorkerLimits;

/// A job queue and the threads that serve it.
pub(super) struct ThreadPool<J> {
    shared: Arc<SharedPool<J>>,
}

/// Runs jobs on a thread.
pub(super) trait JobRunner<J>: Send + 'static {
    /// Runs one job.
    fn run(&mut self, job: J) -> JobOutcome;
}

/// The outcome of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct JobOutcome {
    /// The time it took.
    pub(super) took: Duration,
    /// `true` if [`abandoned`](ThreadPool::abandoned) was called for it.
    pub(super) abandoned: bool,
}

struct SharedPool<J> {
    state: Mutex<PoolState<J>>,
    wake: Condvar,
    limit: usize,
    name: String,
    work: Box<dyn Fn() -> Box<dyn JobRunner<J>> + Send + Sync>,
}

struct PoolState<J> {
    queue: VecDeque<J>,
    /// Threads alive, including those inside abandoned jobs.
    threads: usize,
    idle: usize,
    abandoned: usize,
    /// Smoothed duration of a job.
    usual: Duration,
    closed: bool,
    /// `true` if the last attempt to start a thread failed, and that was logged.
    refused: bool,
}

impl<J: Send + 'static> ThreadPool<J> {
    /// Creates a queue without threads; `limit` (at least 1) limits those that are not stuck.
    pub(super) fn new<W: JobRunner<J>>(
        name: &str,
        limit: usize,
        work: impl Fn() -> W + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(SharedPool {
                state: Mutex::new(PoolState {
                    queue: VecDeque::new(),
                    threads: 0,
                    idle: 0,
                    abandoned: 0,
                    usual: SLOW,
                    closed: false,
                    refused: false,
                }),
                wake: Condvar::new(),
                limit: limit.max(1),
                name: name.to_owned(),
                work: Box::new(move || Box::new(work())),
            }),
        }
    }

    /// Queues jobs; returns `true` if some may be waiting behind others, so that a nudge is needed a tick later.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = J>) -> bool {
        let mut state = self.shared.lock();
        let before = state.queue.len();
        state.queue.extend(jobs);
        let more = state.queue.len() - before;
        let wanted = if state.usual < SLOW { 1 } else { more };
        self.shared.engage(&mut state, wanted);
        state.queue.len() > state.idle
    }

    /// Adds threads if jobs are still waiting: as many as are busy, so that the number doubles each time.
    pub(super) fn nudge(&self) -> bool {
        let mut state = self.shared.lock();
        let waiting = state.queue.len();
        if waiting == 0 {
            return false;
        }
        let busy = state.threads - state.idle;
        self.shared.engage(&mut state, waiting.min(busy.max(1)));
        true
    }

    /// Returns `true` if no job is waiting or running, except for abandoned ones.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.shared.lock();
        state.queue.is_empty() && state.threads - state.idle <= state.abandoned
    }

    /// Keeps only the waiting jobs selected by `which`.
    pub(super) fn retain(&self, which: impl FnMut(&J) -> bool) {
        self.shared.lock().queue.retain(which);
    }

    /// Notes that the host has given up on a running job.
    pub(super) fn abandoned(&self) {
        self.shared.lock().abandoned += 1;
    }
}

impl<J> Drop for ThreadPool<J> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl<J> SharedPool<J> {
    fn lock(&self) -> MutexGuard<'_, PoolState<J>> {
        // No code panics while holding the lock, so the state is consistent either way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Send + 'static> SharedPool<J> {
    /// Wakes idle threads for `wanted` jobs, and starts new ones if those do not suffice.
    fn engage(self: &Arc<Self>, state: &mut PoolState<J>, wanted: usize) {
        let woken = wanted.min(state.idle);
        for _ in 0..woken {
            self.wake.notify_one();
        }
        let room = (self.limit + state.abandoned).saturating_sub(state.threads);
        for _ in 0..(wanted - woken).min(room) {
            let shared = Arc::clone(self);
            let started = thread::Builder::new()
                .name(self.name.clone())
                .stack_size(STACK_SIZE)
                .spawn(move || shared.work_off());
            match started {
                Ok(_) => {
                    state.threads += 1;
                    state.refused = false;
                }
                Err(error) => {
                    // The existing threads continue; waiting jobs count as saturated at their next slot.
                    if !state.refused {
                        tracing::error!("cannot start a thread for plugin calls: {error}");
                    }
                    state.refused = true;
                    break;
                }
            }
        }
    }

    fn work_off(self: Arc<Self>) {
        let mut work = (self.work)();
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                let ran = work.run(job);
                state = self.lock();
                state.usual = (state.usual * 7 + ran.took) / 8;
                if ran.abandoned {
                    // `abandoned` may not have been called for it.
                    state.abandoned = state.abandoned.saturating_sub(1);
                    if state.threads > self.limit + state.abandoned {
                        break;
                    }
                }
            } else if state.closed {
                break;
            } else {
                state.idle += 1;
                let waited;
                (state, waited) = self
                    .wake
                    .wait_timeout(state, KEEP)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                if waited.timed_out() && state.queue.is_empty() && state.threads > 1 {
                    break;
                }
            }
        }
        state.threads -= 1;
    }
}

/// Jobs that usually take at least this long get a thread each: waking one costs about as much.
const SLOW: Duration = Duration::from_micros(50);
/// Time that an idle thread waits for work before it exits.
const KEEP: Duration = Duration::from_secs(30);
/// Returns the bytes to reserve for the stacks of as many threads as the limits allow.
#[must_use]
pub fn room_for_stacks(limits: &WorkerLimits) -> u64 {
    (STACK_SIZE as u64).saturating_mul(limits.processes.into())
}

/// Address space of a thread's stack, bytes: that of a C thread, as libraries expect. Only the used part takes memory.
const STACK_SIZE: usize = 8 << 20;

/// The variable that sets the stack size of Rust's threads, and its value in bytes: 8 MiB, as in C.
pub const RUST_STACKS: (&str, &str) = ("RUST_MIN_STACK", "8388608");

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Jobs that report their start and end on command.
    struct Job {
        running: mpsc::Sender<u32>,
        end: mpsc::Receiver<()>,
        number: u32,
        took: Duration,
        abandoned: bool,
    }

    struct Worker;
    impl JobRunner<Job> for Worker {
        fn run(&mut self, job: Job) -> JobOutcome {
            let _ = job.running.send(job.number);
            let _ = job.end.recv();
            JobOutcome {
                took: job.took,
                abandoned: job.abandoned,
            }
        }
    }

    fn jobs(count: u32, abandoned: bool) -> (Vec<Job>, mpsc::Receiver<u32>, Vec<mpsc::Sender<()>>) {
        let (running, started) = mpsc::channel();
        let (ends, list) = (0..count)
            .map(|number| {
                let (end, ended) = mpsc::channel();
                let job = Job {
                    running: running.clone(),
                    end: ended,
                    number,
                    took: Duration::ZERO,
                    abandoned,
                };
                (end, job)
            })
            .unzip();
        (list, started, ends)
    }

    #[test]
    fn jobs_of_unknown_length_get_a_thread_each_up_to_the_limit() {
        let threads = ThreadPool::new("test", 3, || Worker);
        let (list, started, ends) = jobs(5, false);
        threads.push(list);
        let mut first: Vec<_> = (0..3).map(|_| started.recv().unwrap()).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2]);
        assert!(started.try_recv().is_err());
        assert_eq!(threads.shared.lock().threads, 3);
        drop(ends);
        assert_eq!(started.iter().take(2).count(), 2);
    }

    #[test]
    fn a_quick_plugin_is_worked_off_by_one_thread_and_a_hang_is_passed_by_at_the_nudge() {
        let threads = ThreadPool::new("test", 8, || Worker);
        threads.shared.lock().usual = Duration::from_nanos(100);
        let (list, started, ends) = jobs(4, false);
        assert!(threads.push(list), "jobs behind the first want a nudge");
        assert_eq!(started.recv().unwrap(), 0);
        assert_eq!(threads.shared.lock().threads, 1);
        assert!(threads.nudge());
        assert_eq!(started.recv().unwrap(), 1);
        assert_eq!(threads.shared.lock().threads, 2);
        assert!(threads.nudge());
        assert_eq!(started.iter().take(2).count(), 2, "the nudges double");
        assert!(!threads.nudge());
        drop(ends);
    }

    #[test]
    fn an_abandoned_job_no_longer_takes_up_room() {
        let threads = ThreadPool::new("test", 1, || Worker);
        let (stuck, started, stuck_ends) = jobs(1, true);
        threads.push(stuck);
        started.recv().unwrap();
        threads.abandoned();
        let (next, started_next, next_ends) = jobs(1, false);
        threads.push(next);
        started_next.recv().unwrap();
        drop(stuck_ends);
        drop(next_ends);
        let (last, started_last, _ends) = jobs(1, false);
        threads.push(last);
        started_last.recv().unwrap();
        // The thread inside the stuck job records its return shortly after the job's end.
        while threads.shared.lock().abandoned > 0 {
            thread::yield_now();
        }
        assert!(threads.shared.lock().threads <= 2);
    }
}
