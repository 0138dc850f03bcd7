//! The host's side of the connection to one worker: outgoing messages, and calls in flight.
//!
//! Nothing here blocks: not on the worker, which may be stopped or busy, and callers are never called with the lock
//! held. Data that the worker's channel does not accept stays in a buffer, and the worker's
//! [supervisor](super::supervisor) sends it.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use conductor_core::clock::Clock;

use super::{
    calls::{CancelRequest, StartedCall, StartingCall, UnderWay, WorkerCalls},
    channel::{SupervisorWaker, WorkerChannel},
    error::MessageError,
};
use crate::{
    AdmittedCall, CallFailure, CallOwner, ProbeId, ProbeSpec, ProbeStates, UnexpectedExit,
    protocol::{
        self, EncodeError, FrameEncoder, add_to_batch,
        messages::{ToWorker, nanos},
    },
    redaction::{self, HeldSecrets},
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
    /// Memory for the calls that start together; several threads may start some at the same time.
    starting: Vec<Vec<StartingCall>>,
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
                starting: Vec::new(),
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

    /// Opens a probe, which holds the secrets of its config.
    pub(super) fn open(&self, spec: ProbeSpec, held: HeldSecrets) -> ProbeId {
        let secrets = redaction::within(&spec.config);
        let platform_state = spec.states.load(&spec.platform);
        let mut state = self.lock();
        let probe = state.calls.open();
        if spec.trial.is_some() {
            state.calls.keep_threads();
        }
        state.platforms.add(probe, &spec, held);
        let told = state.outgoing.push(&ToWorker::Open {
            probe: probe.number(),
            platform: spec.platform.to_string(),
            config: spec.config.to_string(),
            secrets,
            interval: nanos(spec.interval),
            labels: spec.labels.clone(),
            state: platform_state,
            trial: spec.trial.as_deref().cloned(),
        });
        // Thousands are opened one after the other, and none is needed before a call, which sends what is before it.
        if state.outgoing.len() > MANY_BYTES {
            self.flush(&mut state);
        }
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
        let probe = probe.number();
        // Its few bytes fit into any frame.
        let _ = state.outgoing.push(&ToWorker::Close { probe });
        self.send_soon(&mut state);
    }

    /// Returns the number of open probes.
    pub(super) fn open_probes(&self) -> usize {
        self.lock().calls.open_probes()
    }

    /// Returns `true` if the worker has a probe of this platform.
    pub(super) fn knows(&self, platform: &str) -> bool {
        self.lock().platforms.by_name.contains_key(platform)
    }

    /// Stores a platform's state; a platform that the worker does not check has none.
    pub(super) fn store_state(&self, platform: &str, state: &[u8]) {
        let states = self.lock().platforms.states(platform);
        if let Some(states) = states {
            states.store(platform, state);
        }
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
            let mut starting = state.starting.pop().unwrap_or_default();
            state.calls.ready(&mut starting);
            if starting.is_empty() {
                state.starting.push(starting);
                return state.calls.is_waiting();
            }
            drop(state);
            let now = self.clock.now();
            for StartingCall { call, deadline } in &mut starting {
                *deadline = call.caller.started(call.sequence, now);
            }
            self.send(starting, now);
        }
    }

    /// Notes that the host no longer waits for the call into this probe.
    pub(super) fn abandoned(&self, probe: ProbeId) {
        let mut state = self.lock();
        if let Some(cancel) = state.calls.give_up(probe) {
            let (probe, call) = (cancel.probe, cancel.call);
            // Its few bytes fit into any frame.
            let _ = state.outgoing.push(&ToWorker::Cancel { probe, call });
            self.send_soon(&mut state);
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

    /// Notes that the caller keeps the report of this call, see [`WorkerCalls::kept`].
    pub(super) fn kept(&self, call: &UnderWay, secrets: u64) {
        self.lock().calls.kept(call, secrets);
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

    fn send(&self, mut starting: Vec<StartingCall>, now: Duration) {
        let mut state = self.lock();
        if let ConnectionPhase::Over(failure) = &state.phase {
            let failure = failure.clone();
            drop(state);
            let wanted = starting.iter().filter(|call| call.deadline.is_some());
            self.fail(wanted.map(|call| owner(&call.call)), &failure);
            return;
        }
        let secrets = redaction::revision();
        let ClientState {
            calls,
            platforms,
            outgoing,
            ..
        } = &mut *state;
        for call in starting.drain(..) {
            if let Some(StartedCall { request, cancel }) = calls.started(call, now, secrets) {
                if let Some((platform, state)) = platforms.written_state(request.probe) {
                    outgoing.add(&ToWorker::State { platform, state });
                }
                outgoing.add(&ToWorker::Call(request));
                if let Some(CancelRequest { probe, call }) = cancel {
                    outgoing.add(&ToWorker::Cancel { probe, call });
                }
            }
        }
        outgoing.frame_batch();
        state.starting.push(starting);
        self.flush(&mut state);
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

    /// Makes the worker's thread send the buffer: thousands of calls may time out together, or of probes be closed.
    fn send_soon(&self, state: &mut ClientState) {
        if !std::mem::replace(&mut state.outgoing.is_due, true) {
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
    /// The secrets in their configs, where there are some.
    secrets: HashMap<usize, HeldSecrets>,
    /// The store of their states, which they share.
    states: Option<Arc<dyn ProbeStates>>,
    /// The numbers of the probes whose platform's state the host writes.
    written: HashSet<u64>,
}

impl ProbePlatforms {
    fn add(&mut self, probe: ProbeId, spec: &ProbeSpec, secrets: HeldSecrets) {
        let name = Arc::clone(&spec.platform);
        *self.by_name.entry(Arc::clone(&name)).or_default() += 1;
        self.by_probe.insert(probe.0, name);
        if !secrets.is_empty() {
            self.secrets.insert(probe.0, secrets);
        }
        if spec.trial.is_none() {
            self.states = Some(Arc::clone(&spec.states));
            if spec.states.is_written_by_host(&spec.platform) {
                self.written.insert(probe.number());
            }
        }
    }

    /// Returns the platform of a probe and its state, if the host writes that.
    fn written_state(&self, probe: u64) -> Option<(String, Vec<u8>)> {
        if self.written.is_empty() || !self.written.contains(&probe) {
            return None;
        }
        let platform = self.by_probe.get(&ProbeId::from_number(probe).0)?;
        Some((platform.to_string(), self.states.as_ref()?.load(platform)))
    }

    fn states(&self, platform: &str) -> Option<Arc<dyn ProbeStates>> {
        self.states
            .clone()
            .filter(|_| self.by_name.contains_key(platform))
    }

    fn remove(&mut self, probe: ProbeId) {
        let Some(name) = self.by_probe.remove(&probe.0) else {
            return;
        };
        self.secrets.remove(&probe.0);
        self.written.remove(&probe.number());
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
    /// Messages of the next frame.
    batch: Vec<u8>,
    bytes: Vec<u8>,
    /// Number of bytes already sent.
    sent: usize,
    /// `true` while the channel accepts nothing more.
    waits: bool,
    /// `true` if the worker's thread was woken to send the bytes.
    is_due: bool,
}

impl OutgoingFrames {
    fn new() -> Self {
        Self {
            encoder: FrameEncoder::new(protocol::FROM_HOST),
            batch: Vec::new(),
            bytes: Vec::new(),
            sent: 0,
            waits: false,
            is_due: false,
        }
    }

    fn push(&mut self, message: &ToWorker) -> Result<(), EncodeError> {
        self.encoder.frame(message, &mut self.bytes)
    }

    /// Adds a short message to the batch.
    fn add(&mut self, message: &ToWorker) {
        // Its numbers can always be serialized.
        let _ = add_to_batch(message, &mut self.batch);
        if self.batch.len() > FULL {
            self.frame_batch();
        }
    }

    /// Frames the batch.
    fn frame_batch(&mut self) {
        if !self.batch.is_empty() {
            // It is far from the limit.
            let _ = self.encoder.frame_batch(&self.batch, &mut self.bytes);
            self.batch.clear();
        }
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
        self.is_due = false;
    }
}

/// A worker with more unsent bytes than this counts as stuck: the configs of 100 000 platforms are less.
pub(super) const MAX_UNSENT: usize = 64 << 20;
/// Calls of this many bytes get a frame.
const FULL: usize = 256 << 10;
/// Number of bytes worth a write of their own.
const MANY_BYTES: usize = 64 << 10;
/// Memory of the buffer that is kept, in bytes.
const KEEP: usize = 256 << 10;
