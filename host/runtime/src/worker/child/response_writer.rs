//! The worker's output to the host: log lines, and responses, gathered so that those of quick calls, and those of
//! asynchronous calls that end together, share a write.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_types::ErrorType;

use super::{super::channel::WorkerChannel, TICK, leave};
use crate::{
    protocol::{
        self, EncodeError, FrameEncoder,
        messages::{CallResponse, FromWorker, WireFailure},
    },
    schema::SchemaViolation,
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
    /// Unsent responses.
    answers: Vec<CallResponse<String>>,
    /// Their approximate size in bytes.
    bytes: usize,
    /// Number of requested calls that have not started.
    waiting: usize,
    /// `true` if the main thread flushes each tick.
    ticking: bool,
    gathering: Option<FlushSchedule>,
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
                bytes: 0,
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

    /// Passes on an answer: at once if no other is expected soon, otherwise with the next ones.
    pub(super) fn answer(&self, mut answer: CallResponse<String>) {
        let bytes = size(&answer);
        if bytes > MAX_ANSWER {
            answer.result = Err(WireFailure {
                kind: ErrorType::Error as u8,
                message: format!(
                    "its report takes {bytes} bytes, a worker can pass on {MAX_ANSWER}; measure less, or under shorter names"
                ),
                violations: Vec::new(),
            });
        }
        let slow = Duration::from_nanos(answer.took) >= SLOW;
        let mut state = self.lock();
        state.bytes += bytes.min(MAX_ANSWER);
        state.answers.push(answer);
        let leaves = match state.gathering {
            Some(gathering) => {
                let paused = |sent| self.clock.now() >= sent + TICK;
                !gathering.due && gathering.sent.is_none_or(paused)
            }
            None => slow || state.waiting == 0 || !state.ticking,
        };
        if leaves || state.bytes > FULL {
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
        let answers = std::mem::take(&mut state.answers);
        let mut message = FromWorker::Answers(answers);
        let WriterState {
            encoder, frames, ..
        } = state;
        if encoder.frame(&message, frames).is_err() {
            // Each was measured before; the host would end a worker that never responds.
            leave();
        }
        self.send(frames);
        if let Some(gathering) = &mut state.gathering {
            *gathering = FlushSchedule {
                sent: Some(self.clock.now()),
                due: false,
            };
        }
        state.bytes = 0;
        if let FromWorker::Answers(answers) = &mut message {
            answers.clear();
            state.answers = std::mem::take(answers);
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

/// Returns the maximum size of an answer in a frame, in bytes.
fn size(answer: &CallResponse<String>) -> usize {
    let text = match &answer.result {
        Ok(found) => {
            let measured = found.measurements.iter();
            let measurements: usize = measured.map(|(name, _)| name.len() + 13).sum();
            found.message.len() + measurements
        }
        Err(failed) => {
            let violations = failed.violations.iter().map(SchemaViolation::size);
            failed.message.len() + violations.sum::<usize>()
        }
    };
    text + 50
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
    use crate::{
        protocol::{FrameDecoder, messages::WireReport},
        worker::channel::ReadOutcome,
    };

    fn writer() -> (ResponseWriter, WorkerChannel) {
        let (ours, theirs) = WorkerChannel::pair().unwrap();
        let theirs = WorkerChannel::of_worker(theirs).unwrap();
        (ResponseWriter::new(ours, Clock::start()), theirs)
    }

    fn answer(call: u64, took: Duration) -> CallResponse<String> {
        CallResponse {
            call,
            ended: 0,
            took: u64::try_from(took.as_nanos()).unwrap(),
            result: Ok(WireReport {
                status: 0,
                message: String::new(),
                measurements: Vec::new(),
            }),
        }
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
            while let Some(message) = decoder.message::<FromWorker<&str>>().unwrap() {
                let FromWorker::Answers(answers) = message else {
                    panic!("{message:?}");
                };
                writes.push(answers.iter().map(|answer| answer.call).collect());
            }
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
            writer.answer(answer(call, Duration::ZERO));
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
        writer.answer(answer(0, Duration::ZERO));
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
        writer.answer(answer(0, Duration::ZERO));
        assert_eq!(sent(&host), [[0]]);
    }

    #[test]
    fn a_slow_call_takes_the_answers_before_it_along() {
        let (writer, host) = writer();
        writer.expect(9);
        writer.ticks(true);
        writer.answer(answer(0, Duration::ZERO));
        writer.answer(answer(1, SLOW));
        assert_eq!(sent(&host), [[0, 1]]);
    }

    #[test]
    fn answers_of_calls_that_go_on_by_themselves_leave_together_and_the_first_at_once() {
        let (writer, host) = writer();
        let writer = Arc::new(writer);
        writer.gather();
        writer.answer(answer(0, SLOW));
        let read = thread::spawn(move || {
            let mut writes = 0;
            let mut decoder = FrameDecoder::new(protocol::FROM_WORKER);
            let (mut bytes, mut next) = (vec![0; 2 << 20], 0);
            while next < 10_000 {
                let read = wait_for_bytes(&host, &mut bytes).unwrap();
                decoder.feed(&bytes[..read]);
                while let Some(message) = decoder.message::<FromWorker<&str>>().unwrap() {
                    let FromWorker::Answers(answers) = message else {
                        panic!("{message:?}");
                    };
                    writes += 1;
                    assert!(writes > 1 || answers.len() == 1, "the first leaves at once");
                    for answer in answers {
                        assert_eq!(answer.call, next);
                        next += 1;
                    }
                }
            }
            writes
        });
        for call in 1..10_000 {
            writer.answer(answer(call, SLOW));
        }
        let writes = read.join().unwrap();
        assert!(writes < 500, "{writes} writes");
    }

    #[test]
    fn a_report_too_long_for_a_frame_is_a_failure_and_the_longest_that_is_not_fits() {
        let (writer, host) = writer();
        let host = thread::spawn(move || answered(|bytes| wait_for_bytes(&host, bytes)));
        let with = |bytes: usize| {
            let mut long = answer(0, Duration::ZERO);
            let found = long.result.as_mut().unwrap();
            found.measurements = vec![("x".repeat(2000), 1.0); bytes / 2000];
            long
        };
        writer.expect(9);
        writer.ticks(true);
        writer.answer(with(FULL - 3000));
        writer.answer(with(MAX_ANSWER - 5000));
        writer.answer(with(10 << 20));
        writer.flush();
        drop(writer);
        assert_eq!(host.join().unwrap().concat(), [0, 0, 0]);
    }
}
