//! The worker's output to the host: log lines, and responses, gathered so that those of quick calls, and those of
//! asynchronous calls that end together, share a write.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_plugin_api::Status;
use conductor_types::ErrorType;

use super::{super::channel::WorkerChannel, TICK, leave};
use crate::{
    CallFailure, CheckReport,
    protocol::{
        self, EncodeError, FrameEncoder, add_to_batch,
        messages::{CallResponse, CallResult, FromWorker, ReportView, WireFailure, nanos},
    },
};

/// A worker's connection to its host.
pub(super) struct ResponseWriter {
    channel: WorkerChannel,
    clock: Clock,
    state: Mutex<WriterState>,
    /// Wakes the thread that sends [gathered](Self::gather) responses.
    gathered: Condvar,
}

struct WriterState {
    encoder: FrameEncoder,
    frames: Vec<u8>,
    /// The batch of unsent responses.
    answers: Vec<u8>,
    /// Number of requested calls that have not started.
    waiting: usize,
    /// `true` if the main thread flushes each tick.
    ticking: bool,
    gathering: Option<FlushSchedule>,
}

/// The end of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallEnd<'a> {
    /// A report.
    Report(&'a CheckReport),
    /// The report of the probe's last call again, which the host has.
    Same,
    /// A failure.
    Failure(&'a CallFailure),
}

/// Schedule for flushing the gathered responses to calls that continue by themselves.
#[derive(Clone, Copy, Default)]
struct FlushSchedule {
    /// Time of the last send.
    sent: Option<Duration>,
    /// `true` if responses are waiting for a scheduled flush.
    due: bool,
}

impl ResponseWriter {
    pub(super) fn new(channel: WorkerChannel, clock: Clock) -> Self {
        Self {
            channel,
            clock,
            state: Mutex::new(WriterState {
                encoder: FrameEncoder::new(protocol::FROM_WORKER),
                frames: Vec::new(),
                answers: Vec::new(),
                waiting: 0,
                ticking: false,
                gathering: None,
            }),
            gathered: Condvar::new(),
        }
    }

    /// Makes responses leave once a tick, because thousands of calls that continue by themselves may end in the same
    /// one; the first after a pause leaves at once.
    ///
    /// Without a thread for that, each leaves at once.
    pub(super) fn gather(self: &Arc<Self>) {
        let writer = Arc::clone(self);
        let sender = thread::Builder::new().name("answers".to_owned());
        if sender.spawn(move || writer.send_gathered()).is_ok() {
            self.lock().gathering = Some(FlushSchedule::default());
        }
    }

    fn send_gathered(&self) -> ! {
        let idle =
            |state: &mut WriterState| !state.gathering.is_some_and(|gathering| gathering.due);
        loop {
            let waited = self.gathered.wait_while(self.lock(), idle);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            thread::sleep(TICK);
            self.flush();
        }
    }

    /// Puts the greeting before the first message.
    pub(super) fn greet(&self) {
        self.lock().frames.extend(protocol::greeting());
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns the channel that the host's messages arrive on.
    pub(super) fn channel(&self) -> &WorkerChannel {
        &self.channel
    }

    /// Sends a message at once.
    pub(super) fn say(&self, message: &FromWorker<String>) -> Result<(), EncodeError> {
        let mut state = self.lock();
        let WriterState {
            encoder, frames, ..
        } = &mut *state;
        encoder.frame(message, frames)?;
        self.send(frames);
        Ok(())
    }

    /// Announces this many calls; the main thread calls [`ticks`](Self::ticks) before it waits again.
    pub(super) fn expect(&self, calls: usize) {
        let mut state = self.lock();
        state.waiting += calls;
        // The first responses of a batch wait for the others, even if they arrive before the main thread calls `ticks`.
        state.ticking |= calls > 1;
    }

    /// Records that a call starts.
    pub(super) fn started(&self) {
        let mut state = self.lock();
        state.waiting = state.waiting.saturating_sub(1);
    }

    /// Reports a call as failed that was not made.
    pub(super) fn refuse(&self, call: u64, why: &str) {
        let failure = CallFailure::new(ErrorType::Error, why);
        self.started();
        let now = self.clock.now();
        self.answer(call, now, Duration::ZERO, CallEnd::Failure(&failure));
    }

    /// Passes on the end of a call: at once if no other is expected soon, otherwise with the next ones.
    pub(super) fn answer(&self, call: u64, ended: Duration, took: Duration, end: CallEnd<'_>) {
        let slow = took >= SLOW;
        let mut response = CallResponse {
            call,
            ended: nanos(ended),
            took: nanos(took),
            result: end.result(),
        };
        let mut state = self.lock();
        if let Err(unsent) = add_answer(&response, &mut state.answers) {
            let why = format!("its report {unsent}; measure less, or under shorter names");
            response.result = CallResult::Failure(WireFailure {
                kind: ErrorType::Error as u8,
                message: &why,
                violations: Vec::new(),
            });
            // It is short.
            let _ = add_answer(&response, &mut state.answers);
        }
        let leaves = match state.gathering {
            Some(gathering) => {
                let paused = |sent| self.clock.now() >= sent + TICK;
                !gathering.due && gathering.sent.is_none_or(paused)
            }
            None => slow || state.waiting == 0 || !state.ticking,
        };
        if leaves || state.answers.len() > FULL {
            self.send_answers(&mut state);
        } else if let Some(gathering) = &mut state.gathering
            && !gathering.due
        {
            gathering.due = true;
            self.gathered.notify_one();
        }
    }

    /// Sends the waiting responses.
    pub(super) fn flush(&self) {
        self.send_answers(&mut self.lock());
    }

    /// Returns `true` if the main thread has to flush each tick: calls or responses are waiting. Otherwise each
    /// response leaves at once.
    pub(super) fn ticks(&self, calls_wait: bool) -> bool {
        let mut state = self.lock();
        state.ticking = calls_wait || !state.answers.is_empty();
        state.ticking
    }

    fn send_answers(&self, state: &mut WriterState) {
        if state.answers.is_empty() {
            return;
        }
        let WriterState {
            encoder,
            frames,
            answers,
            ..
        } = state;
        if encoder.frame_batch(answers, frames).is_err() {
            // Each was measured before; the host would end a worker that never responds.
            leave();
        }
        answers.clear();
        answers.shrink_to(FULL);
        self.send(frames);
        if let Some(gathering) = &mut state.gathering {
            *gathering = FlushSchedule {
                sent: Some(self.clock.now()),
                due: false,
            };
        }
    }

    /// Blocks if the host does not receive: it always does, as long as it runs.
    fn send(&self, frames: &mut Vec<u8>) {
        if self.channel.send_all(frames).is_err() {
            leave();
        }
        frames.clear();
        frames.shrink_to(FULL);
    }

    fn lock(&self) -> MutexGuard<'_, WriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> CallEnd<'a> {
    fn result(self) -> CallResult<&'a str, ReportView<'a>> {
        match self {
            Self::Report(report) => CallResult::Report(ReportView {
                status: match report.status {
                    Status::Healthy => 0,
                    Status::Degraded => 1,
                    Status::Unhealthy => 2,
                },
                message: &report.message,
                measurements: &report.measurements,
                declared: &report.declared.kept,
                dropped: report.declared.dropped,
            }),
            Self::Same => CallResult::Same,
            Self::Failure(failure) => CallResult::Failure(WireFailure {
                kind: failure.kind as u8,
                message: &failure.message,
                violations: failure.violations.clone(),
            }),
        }
    }
}

/// Adds an answer to a batch, unless it is too long.
fn add_answer(
    answer: &CallResponse<&str, ReportView<'_>>,
    batch: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = batch.len();
    add_to_batch(&FromWorker::Answer(answer.clone()), batch)?;
    let bytes = batch.len() - start;
    if bytes > MAX_ANSWER {
        batch.truncate(start);
        return Err(EncodeError::TooLong {
            bytes,
            limit: MAX_ANSWER,
        });
    }
    Ok(())
}

/// A call that took this long has delayed earlier responses enough, see [`threads`](crate::threads).
const SLOW: Duration = Duration::from_micros(50);
/// Responses of this many bytes are sent immediately.
const FULL: usize = 256 << 10;
/// Maximum size of an answer, in bytes; together with the waiting ones it fits into a frame.
const MAX_ANSWER: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::FrameDecoder, worker::channel::ReadOutcome};

    fn writer() -> (ResponseWriter, WorkerChannel) {
        let (ours, theirs) = WorkerChannel::pair().unwrap();
        let theirs = WorkerChannel::of_worker(theirs).unwrap();
        (ResponseWriter::new(ours, Clock::start()), theirs)
    }

    fn answer(writer: &ResponseWriter, call: u64, took: Duration) {
        let report = CheckReport::empty();
        writer.answer(call, Duration::ZERO, took, CallEnd::Report(&report));
    }

    /// Returns the calls that have been answered, write by write.
    fn sent(host: &WorkerChannel) -> Vec<Vec<u64>> {
        answered(|bytes| match host.receive_now(bytes) {
            Ok(ReadOutcome::Bytes(read)) => Some(read),
            _ => None,
        })
    }

    /// Waits for bytes; returns `None` once the writer is gone.
    fn wait_for_bytes(host: &WorkerChannel, bytes: &mut [u8]) -> Option<usize> {
        loop {
            host.wait(None).unwrap();
            match host.receive_now(bytes).unwrap() {
                ReadOutcome::Bytes(read) => return Some(read),
                ReadOutcome::Nothing => {}
                ReadOutcome::End => return None,
            }
        }
    }

    /// Returns the answered calls, write by write, until there is nothing more to read.
    fn answered(mut read: impl FnMut(&mut [u8]) -> Option<usize>) -> Vec<Vec<u64>> {
        let mut decoder = FrameDecoder::new(protocol::FROM_WORKER);
        let mut bytes = vec![0; 2 << 20];
        let mut writes = Vec::new();
        while let Some(read) = read(&mut bytes) {
            decoder.feed(&bytes[..read]);
            let mut calls = Vec::new();
            while let Some(message) = decoder.message::<FromWorker<&str>>().unwrap() {
                let FromWorker::Answer(answer) = message else {
                    panic!("{message:?}");
                };
                calls.push(answer.call);
            }
            writes.push(calls);
        }
        writes
    }

    #[test]
    fn answers_of_a_quick_batch_leave_in_one_write() {
        let (writer, host) = writer();
        writer.expect(3);
        assert!(writer.ticks(true));
        for call in 0..3 {
            writer.started();
            answer(&writer, call, Duration::ZERO);
        }
        assert_eq!(sent(&host), [[0, 1, 2]]);
        assert!(!writer.ticks(false));
    }

    #[test]
    fn an_answer_behind_which_a_call_hangs_leaves_at_the_tick() {
        let (writer, host) = writer();
        writer.expect(2);
        writer.ticks(true);
        writer.started();
        answer(&writer, 0, Duration::ZERO);
        writer.started();
        assert!(sent(&host).is_empty());
        assert!(writer.ticks(false), "an answer waits");
        writer.flush();
        assert_eq!(sent(&host), [[0]]);
    }

    #[test]
    fn an_answer_leaves_at_once_where_nobody_would_look_in_a_tick_later() {
        let (writer, host) = writer();
        writer.expect(2);
        writer.ticks(false);
        writer.started();
        answer(&writer, 0, Duration::ZERO);
        assert_eq!(sent(&host), [[0]]);
    }

    #[test]
    fn a_slow_call_takes_the_answers_before_it_along() {
        let (writer, host) = writer();
        writer.expect(9);
        writer.ticks(true);
        answer(&writer, 0, Duration::ZERO);
        answer(&writer, 1, SLOW);
        assert_eq!(sent(&host), [[0, 1]]);
    }

    #[test]
    fn answers_of_calls_that_go_on_by_themselves_leave_together_and_the_first_at_once() {
        let (writer, host) = writer();
        let writer = Arc::new(writer);
        writer.gather();
        let mut decoder = FrameDecoder::new(protocol::FROM_WORKER);
        let mut bytes = vec![0; 2 << 20];
        // Waits for a write, and returns the answered calls.
        let mut read = move || {
            let read = wait_for_bytes(&host, &mut bytes).unwrap();
            decoder.feed(&bytes[..read]);
            let mut calls = Vec::new();
            while let Some(message) = decoder.message::<FromWorker<&str>>().unwrap() {
                let FromWorker::Answer(answer) = message else {
                    panic!("{message:?}");
                };
                calls.push(answer.call);
            }
            calls
        };
        answer(&writer, 0, SLOW);
        assert_eq!(read(), [0], "the first leaves at once");
        let read = thread::spawn(move || {
            let (mut writes, mut next) = (0, 1);
            while next < 10_000 {
                for call in read() {
                    assert_eq!(call, next);
                    next += 1;
                }
                writes += 1;
            }
            writes
        });
        for call in 1..10_000 {
            answer(&writer, call, SLOW);
        }
        let writes = read.join().unwrap();
        assert!(writes < 500, "{writes} writes");
    }

    #[test]
    fn a_report_too_long_for_a_frame_is_a_failure_and_the_longest_that_is_not_fits() {
        let (writer, host) = writer();
        let host = thread::spawn(move || answered(|bytes| wait_for_bytes(&host, bytes)));
        let answer_with = |bytes: usize| {
            let mut report = CheckReport::empty();
            report.measurements = vec![("x".repeat(2000), 1.0); bytes / 2000];
            let (now, took) = (Duration::ZERO, Duration::ZERO);
            writer.answer(0, now, took, CallEnd::Report(&report));
        };
        writer.expect(9);
        writer.ticks(true);
        answer_with(FULL - 3000);
        answer_with(MAX_ANSWER - 5000);
        answer_with(10 << 20);
        writer.flush();
        drop(writer);
        assert_eq!(host.join().unwrap().concat(), [0, 0, 0]);
    }
}
