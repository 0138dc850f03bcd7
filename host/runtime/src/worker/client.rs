//! The host's side of the connection to one worker: outgoing messages, and calls in flight.
//!
//! Nothing here blocks: not on the worker, which may be stopped or busy, and callers are never called with the lock
//! held. Data that the worker's channel does not accept stays in a buffer, and the worker's
//! [supervisor](super::supervisor) sends it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_core::clock::Clock;

use super::{
    calls::{StartingCall, UnderWay, WorkerCalls},
    channel::{SupervisorWaker, WorkerChannel},
    error::MessageError,
};
use crate::{
    AdmittedCall, CallFailure, CallOwner, ProbeId, ProbeSpec, UnexpectedExit,
    protocol::{self, EncodeError, FrameEncoder, messages::ToWorker},
    redaction,
};

/// The connection of the host to one worker.
pub(super) struct WorkerClient {
    channel: WorkerChannel,
    /// Wakes the worker's thread.
    waker: SupervisorWaker,
    clock: Clock,
    state: Mutex<ClientState>,
}

struct ClientState {
    calls: WorkerCalls,
    /// The platforms of its open probes.
    platforms: ProbePlatforms,
    outgoing: OutgoingFrames,
    phase: ConnectionPhase,
}

/// The state of the connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ConnectionPhase {
    /// Open.
    Open,
    /// The worker was asked to end, at this time.
    Ending(Duration),
    /// The worker is gone; calls fail with this.
    Over(CallFailure),
}

impl WorkerClient {
    pub(super) fn new(
        channel: WorkerChannel,
        waker: SupervisorWaker,
        clock: Clock,
        call_threads: usize,
    ) -> Self {
        Self {
            channel,
            waker,
            clock,
            state: Mutex::new(ClientState {
                calls: WorkerCalls::new(call_threads),
                platforms: ProbePlatforms::default(),
                outgoing: OutgoingFrames::new(),
                phase: ConnectionPhase::Open,
            }),
        }
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn channel(&self) -> &WorkerChannel {
        &self.channel
    }

    pub(super) fn phase(&self) -> ConnectionPhase {
        self.lock().phase.clone()
    }

    /// Sends a message to the worker.
    pub(super) fn say(&self, message: &ToWorker) -> Result<(), EncodeError> {
        let mut state = self.lock();
        state.outgoing.push(message)?;
        self.flush(&mut state);
        Ok(())
    }

    pub(super) fn open(&self, spec: ProbeSpec) -> ProbeId {
        let secrets = redaction::within(&spec.config);
        let mut state = self.lock();
        let probe = state.calls.open();
        if spec.trial.is_some() {
            state.calls.keep_threads();
        }
        state.platforms.add(probe, Arc::clone(&spec.platform));
        let told = state.outgoing.push(&ToWorker::Open {
            probe: probe.0 as u64,
            platform: spec.platform.to_string(),
            config: spec.config.to_string(),
            secrets,
            trial: spec.trial.as_deref().cloned(),
        });
        self.flush(&mut state);
        drop(state);
        if let Err(unsent) = told {
            // Its calls will fail, because the worker does not know the probe.
            tracing::error!(
                platform = &*spec.platform,
                "the platform's config {unsent}; make it shorter, or set isolation = \"in-process\" for its plugin"
            );
        }
        probe
    }

    pub(super) fn close(&self, probe: ProbeId) {
        let mut state = self.lock();
        if !state.calls.close(probe) {
            return;
        }
        state.platforms.remove(probe);
        drop(state);
        let probe = probe.0 as u64;
        self.say_what_always_fits(&ToWorker::Close { probe });
    }

    /// Returns the number of open probes.
    pub(super) fn open_probes(&self) -> usize {
        self.lock().calls.open_probes()
    }

    /// Returns `true` if the worker has a probe of this platform.
    pub(super) fn knows(&self, platform: &str) -> bool {
        self.lock().platforms.by_name.contains_key(platform)
    }

    /// Records that the plugin is asynchronous.
    pub(super) fn is_asynchronous(&self) {
        self.lock().calls.are_asynchronous();
    }

    /// Queues calls, and sends those that may start; returns `true` if some are still queued.
    pub(super) fn start(&self, calls: &mut Vec<AdmittedCall>) -> bool {
        self.lock().calls.wait(calls.drain(..));
        self.send_ready()
    }

    /// Sends the calls that may start now; returns `true` if some are still queued.
    pub(super) fn send_ready(&self) -> bool {
        loop {
            let mut state = self.lock();
            if matches!(state.phase, ConnectionPhase::Over(_)) {
                // Calls that never started may be started elsewhere by their callers.
                state.calls.take_all();
                return false;
            }
            let ready = state.calls.ready();
            let waiting = state.calls.is_waiting();
            drop(state);
            if ready.is_empty() {
                return waiting;
            }
            let now = self.clock.now();
            let starting: Vec<_> = ready
                .into_iter()
                .map(|call| StartingCall {
                    deadline: call.caller.started(call.sequence, now),
                    call,
                })
                .collect();
            self.send(starting, now);
        }
    }

    /// Notes that the host no longer waits for the call into this probe.
    pub(super) fn abandoned(&self, probe: ProbeId) {
        let mut state = self.lock();
        if let Some(cancel) = state.calls.give_up(probe) {
            let (probe, call) = (cancel.probe, cancel.call);
            let first = state.outgoing.len() == 0;
            // Its few bytes fit into any frame.
            let _ = state.outgoing.push(&ToWorker::Cancel { probe, call });
            // Thousands may time out together, and the worker's thread has the time to send them.
            if first {
                self.wake();
            }
        }
    }

    /// Drops the queued calls.
    pub(super) fn retire(&self) {
        self.lock().calls.forget_waiting();
    }

    /// Asks the worker to end.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        if state.phase == ConnectionPhase::Open {
            state.phase = ConnectionPhase::Ending(self.clock.now());
            let _ = state.outgoing.push(&ToWorker::End);
            self.flush(&mut state);
            self.wake();
        }
    }

    /// Removes the call that was answered, see [`WorkerCalls::answered`].
    pub(super) fn answered(&self, call: u64, took: Duration) -> Result<UnderWay, MessageError> {
        self.lock().calls.answered(call, took)
    }

    /// Sends the rest of the buffer.
    pub(super) fn send_rest(&self) {
        self.flush(&mut self.lock());
    }

    /// Returns the size of the unsent data, in bytes.
    pub(super) fn unsent(&self) -> usize {
        self.lock().outgoing.len()
    }

    /// Handles the worker's end: ends all started calls, and drops the queued ones. Returns `true` if the worker had
    /// been asked to end.
    pub(super) fn conclude(&self, ended: &UnexpectedExit) -> bool {
        let mut state = self.lock();
        let under_way = state.calls.take_all();
        let failure = |others: &str| {
            CallFailure::new(ended.kind, format!("its worker {}{others}", ended.message))
        };
        let asked = state.phase != ConnectionPhase::Open;
        state.phase = ConnectionPhase::Over(failure(""));
        state.outgoing.clear();
        drop(state);
        let failure = match under_way.len() {
            0 | 1 => failure(""),
            many => failure(&format!(
                "; {many} calls were under way, any of them may be the cause"
            )),
        };
        self.fail(
            under_way.iter().map(|call| (&call.caller, call.sequence)),
            &failure,
        );
        asked
    }

    fn send(&self, starting: Vec<StartingCall>, now: Duration) {
        let mut state = self.lock();
        if let ConnectionPhase::Over(failure) = &state.phase {
            let failure = failure.clone();
            drop(state);
            let wanted = starting.iter().filter(|call| call.deadline.is_some());
            self.fail(wanted.map(|call| owner(&call.call)), &failure);
            return;
        }
        let to_send = state.calls.started(starting.into_iter(), now);
        for requests in to_send.requests.chunks(PER_FRAME) {
            // This many fit into a frame.
            let _ = state.outgoing.push(&ToWorker::Calls(requests.to_vec()));
        }
        for cancel in to_send.cancels {
            let (probe, call) = (cancel.probe, cancel.call);
            let _ = state.outgoing.push(&ToWorker::Cancel { probe, call });
        }
        self.flush(&mut state);
    }

    fn say_what_always_fits(&self, message: &ToWorker) {
        if let Err(unsent) = self.say(message) {
            tracing::error!("a message to a worker {unsent}");
        }
    }

    fn fail<'a>(
        &self,
        calls: impl Iterator<Item = (&'a Arc<dyn CallOwner>, u64)>,
        failure: &CallFailure,
    ) {
        let now = self.clock.now();
        for (caller, sequence) in calls {
            caller.finished(sequence, now, Err(failure.clone()));
        }
    }

    /// Sends what fits; the worker's thread sends the rest, or ends the worker.
    fn flush(&self, state: &mut ClientState) {
        let waited = state.outgoing.waits;
        state.outgoing.flush(&self.channel);
        if state.outgoing.waits && (!waited || state.outgoing.len() > MAX_UNSENT) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, ClientState> {
        // No code panics while holding the lock, so the state is consistent either way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Platforms by probe and by name: while one's config changes, it has two probes.
#[derive(Default)]
struct ProbePlatforms {
    by_probe: HashMap<usize, Arc<str>>,
    by_name: HashMap<Arc<str>, usize>,
}

impl ProbePlatforms {
    fn add(&mut self, probe: ProbeId, name: Arc<str>) {
        *self.by_name.entry(Arc::clone(&name)).or_default() += 1;
        self.by_probe.insert(probe.0, name);
    }

    fn remove(&mut self, probe: ProbeId) {
        let Some(name) = self.by_probe.remove(&probe.0) else {
            return;
        };
        if let Some(probes) = self.by_name.get_mut(&name) {
            *probes -= 1;
            if *probes == 0 {
                self.by_name.remove(&name);
            }
        }
        if self.by_probe.len() < self.by_probe.capacity() / 4 {
            self.by_probe.shrink_to(self.by_probe.len() * 2);
            self.by_name.shrink_to(self.by_name.len() * 2);
        }
    }
}

fn owner(call: &AdmittedCall) -> (&Arc<dyn CallOwner>, u64) {
    (&call.caller, call.sequence)
}

/// Frames on their way to the worker.
struct OutgoingFrames {
    encoder: FrameEncoder,
    bytes: Vec<u8>,
    /// Number of bytes already sent.
    sent: usize,
    /// `true` while the channel accepts nothing more.
    waits: bool,
}

impl OutgoingFrames {
    fn new() -> Self {
        Self {
            encoder: FrameEncoder::new(protocol::FROM_HOST),
            bytes: Vec::new(),
            sent: 0,
            waits: false,
        }
    }

    fn push(&mut self, message: &ToWorker) -> Result<(), EncodeError> {
        self.encoder.frame(message, &mut self.bytes)
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn flush(&mut self, channel: &WorkerChannel) {
        while self.sent < self.bytes.len() {
            match channel.send_now(&self.bytes[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waits = true;
                    // Moved only if that frees more than it copies.
                    if self.sent > self.bytes.len() / 2 {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return;
                }
                // The worker is gone, and its thread detects that by itself.
                Err(_) => break,
            }
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.sent = 0;
        self.waits = false;
    }
}

/// A worker with more unsent bytes than this counts as stuck: the configs of 100 000 platforms are less.
pub(super) const MAX_UNSENT: usize = 64 << 20;
/// Maximum number of calls in one frame; each takes up to 30 bytes.
const PER_FRAME: usize = 100_000;
/// Memory of the buffer that is kept, in bytes.
const KEEP: usize = 256 << 10;
