//! The lifecycle of a worker, from its start to its end: one thread that waits for its events.

use std::{
    io,
    sync::{Arc, mpsc},
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_types::ErrorType;

use super::{
    channel::{EventSources, ReadOutcome, WakeUps, WorkerEvents, wait},
    client::{ConnectionPhase, MAX_UNSENT, WorkerClient},
    error::MessageError,
    message_handler::{LoadedProperties, MessageEffect, MessageHandler},
    output::WorkerOutput,
    process::{WorkerProcess, describe},
    watch::ResourceWatch,
};
use crate::{
    LoadError, UnexpectedExit,
    protocol::{self, FrameDecoder, GreetingReader},
};

/// All event sources.
pub(super) struct WorkerSupervisor {
    /// `None` in tests, which simulate a worker.
    process: Option<WorkerProcess>,
    watch: Option<ResourceWatch>,
    client: Arc<WorkerClient>,
    wake_ups: WakeUps,
    output: WorkerOutput,
    greeting: GreetingReader,
    decoder: FrameDecoder,
    handler: MessageHandler,
    buffer: Box<[u8]>,
    clock: Clock,
}

/// The reason for the end of a worker, or of its loading.
enum WorkerEndCause {
    /// The process has ended, or closed its socket.
    Gone,
    /// It violated the protocol.
    Protocol(MessageError),
    /// It does not read its messages.
    Stuck,
    /// It was asked to end, and did not within [`END_TIMEOUT`].
    Lingers,
    /// It did not load in time.
    LoadTimeout(Duration),
    /// It refused its library.
    Refused(LoadError),
    /// The host cannot wait for it.
    Unwatched(io::Error),
    /// It far exceeds its limits.
    OverLimit(String),
}

impl WorkerSupervisor {
    pub(super) fn new(
        process: Option<WorkerProcess>,
        watch: Option<ResourceWatch>,
        client: Arc<WorkerClient>,
        wake_ups: WakeUps,
        output: WorkerOutput,
        plugin: Arc<str>,
    ) -> Self {
        Self {
            process,
            watch,
            wake_ups,
            output,
            greeting: GreetingReader::default(),
            decoder: FrameDecoder::new(protocol::FROM_WORKER),
            handler: MessageHandler::new(Arc::clone(&client), plugin),
            buffer: vec![0; 64 << 10].into(),
            clock: client.clock(),
            client,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, WorkerProcess::id)
    }

    /// Runs the whole lifecycle: the library is loaded, or it ends immediately; calls are made; it ends, and is cleaned
    /// up.
    pub(super) fn live(
        mut self,
        load_timeout: Duration,
        loaded: &mpsc::Sender<Result<LoadedProperties, LoadError>>,
        ended: impl FnOnce(UnexpectedExit),
    ) {
        // The loading thread waits for this.
        match self.load(load_timeout) {
            Ok(traits) => {
                let _ = loaded.send(Ok(traits));
            }
            Err(cause) => {
                let error = self.not_loaded(cause);
                let _ = loaded.send(Err(error));
                return;
            }
        }
        let cause = self.serve();
        let end = self.clean_up(&cause);
        let asked = self.client.conclude(&end);
        if !asked {
            ended(end);
        }
    }

    /// Waits for the worker to load its library.
    fn load(&mut self, timeout: Duration) -> Result<LoadedProperties, WorkerEndCause> {
        let deadline = self.clock.now() + timeout;
        loop {
            match self.turn(Some(deadline))? {
                MessageEffect::Loaded(traits) => return Ok(traits),
                MessageEffect::Refused(error) => return Err(WorkerEndCause::Refused(error)),
                MessageEffect::Nothing if self.clock.now() >= deadline => {
                    return Err(WorkerEndCause::LoadTimeout(timeout));
                }
                MessageEffect::Nothing => {}
            }
        }
    }

    /// Makes calls until the end.
    fn serve(&mut self) -> WorkerEndCause {
        // Messages that arrived together with the load's result.
        if let Err(cause) = self.hear() {
            return cause;
        }
        loop {
            let deadline = match self.client.phase() {
                ConnectionPhase::Ending(since) => Some(since + END_TIMEOUT),
                _ => None,
            };
            if deadline.is_some_and(|deadline| deadline <= self.clock.now()) {
                return WorkerEndCause::Lingers;
            }
            if self.client.unsent() > MAX_UNSENT {
                return WorkerEndCause::Stuck;
            }
            match self.turn(deadline) {
                Ok(_) => {
                    self.client.send_ready();
                }
                Err(cause) => return cause,
            }
        }
    }

    /// Waits for an event or the next scheduled time, and handles it.
    fn turn(&mut self, deadline: Option<Duration>) -> Result<MessageEffect, WorkerEndCause> {
        let happened = self.wait(deadline).map_err(WorkerEndCause::Unwatched)?;
        let now = self.clock.now();
        if happened.woken {
            self.wake_ups.clear();
        }
        if happened.writable {
            self.client.send_rest();
        }
        if happened.printed {
            self.output.read(now);
        }
        self.output.say_dropped(now, false);
        self.handler.say_dropped(now, false);
        if let Some(what) = self.watch.as_mut().and_then(|watch| watch.look(now)) {
            return Err(WorkerEndCause::OverLimit(what));
        }
        let heard = match happened.readable || happened.ended {
            true => self.receive(happened.ended)?,
            false => MessageEffect::Nothing,
        };
        match (happened.ended, &heard) {
            (true, MessageEffect::Nothing) => Err(WorkerEndCause::Gone),
            _ => Ok(heard),
        }
    }

    /// Reads the worker's messages; all of them, if none will follow.
    fn receive(&mut self, all: bool) -> Result<MessageEffect, WorkerEndCause> {
        // A worker that never stops sending gets no advantage: its time limits are checked in between.
        let most = if all { LAST_WORDS } else { WORDS };
        for _ in 0..most {
            let channel = self.client.channel();
            let received = channel
                .receive_now(&mut self.buffer)
                .map_err(WorkerEndCause::Unwatched)?;
            let bytes = match received {
                ReadOutcome::Bytes(bytes) => bytes,
                ReadOutcome::Nothing => return Ok(MessageEffect::Nothing),
                ReadOutcome::End => return Err(WorkerEndCause::Gone),
            };
            let messages = self.greeting.take(&self.buffer[..bytes]);
            let messages = messages.map_err(|other| WorkerEndCause::Refused(other.into()))?;
            self.decoder.feed(messages);
            let heard = self.hear()?;
            let more = all || bytes == self.buffer.len();
            if !more || !matches!(heard, MessageEffect::Nothing) {
                return Ok(heard);
            }
        }
        match all {
            // A worker that still sends does not count as alive.
            true => Err(WorkerEndCause::Gone),
            false => Ok(MessageEffect::Nothing),
        }
    }

    /// Handles the received messages, up to one that changes the worker's state.
    fn hear(&mut self) -> Result<MessageEffect, WorkerEndCause> {
        let now = self.clock.now();
        loop {
            let message = match self.decoder.message() {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(MessageEffect::Nothing),
                Err(fault) => return Err(WorkerEndCause::Protocol(MessageError::Frame(fault))),
            };
            match self
                .handler
                .hear(message, now)
                .map_err(WorkerEndCause::Protocol)?
            {
                MessageEffect::Nothing => {}
                heard => return Ok(heard),
            }
        }
    }

    fn wait(&self, deadline: Option<Duration>) -> io::Result<WorkerEvents> {
        let now = self.clock.now();
        let look = self.watch.as_ref().map(ResourceWatch::due);
        let due = [deadline, self.output.due(now), self.handler.due(), look];
        let due = due.into_iter().flatten().min();
        wait(&EventSources {
            channel: self.client.channel(),
            unsent: self.client.unsent() > 0,
            wake_ups: &self.wake_ups,
            output: self.output.readable(now),
            process: self.process.as_ref(),
            timeout: due.map(|due| due.saturating_sub(now)),
        })
    }

    /// Ends the rest of the worker, and returns how it ended.
    fn clean_up(&mut self, cause: &WorkerEndCause) -> UnexpectedExit {
        let by_itself = matches!(cause, WorkerEndCause::Gone)
            && self
                .process
                .as_ref()
                .is_some_and(|process| process.wait_a_while(EXIT_PATIENCE, self.clock));
        let status = self.process.as_mut().and_then(WorkerProcess::kill);
        self.output.finish(self.clock.now());
        self.handler.say_dropped(self.clock.now(), true);
        let ended = |kind, message: &str| UnexpectedExit {
            kind,
            message: message.to_owned(),
            over_limit: matches!(cause, WorkerEndCause::OverLimit(_)),
        };
        match cause {
            WorkerEndCause::Gone if by_itself => ended(ErrorType::Crash, &describe(status)),
            WorkerEndCause::Gone if self.decoder.is_between_frames() => ended(
                ErrorType::Protocol,
                "closed its connection to the host, and was killed",
            ),
            WorkerEndCause::Gone => ended(
                ErrorType::Protocol,
                "closed its connection to the host within a frame, and was killed",
            ),
            WorkerEndCause::Protocol(what) => {
                ended(ErrorType::Protocol, &format!("{what}, and was killed"))
            }
            WorkerEndCause::Stuck => ended(
                ErrorType::Crash,
                "took no messages any more, and was killed",
            ),
            WorkerEndCause::Lingers => {
                ended(ErrorType::Crash, "did not end in time, and was killed")
            }
            WorkerEndCause::LoadTimeout(timeout) => ended(
                ErrorType::Timeout,
                &format!(
                    "did not finish loading within {}, and was killed{}",
                    humantime::format_duration(*timeout),
                    match self.handler.has_opened() {
                        true => " while it compiled its config schema",
                        false => "; a constructor of the library's hangs",
                    }
                ),
            ),
            WorkerEndCause::Refused(error) => ended(error.kind, &error.message),
            WorkerEndCause::OverLimit(what) => {
                ended(ErrorType::Crash, &format!("{what}, and was killed"))
            }
            WorkerEndCause::Unwatched(error) => ended(
                ErrorType::Crash,
                &format!("could not be watched ({error}), and was killed"),
            ),
        }
    }

    /// Describes why the library was not loaded.
    fn not_loaded(&mut self, cause: WorkerEndCause) -> LoadError {
        let ended = self.clean_up(&cause);
        if let WorkerEndCause::Refused(error) = cause {
            return error;
        }
        let last_words: Vec<_> = self.output.last_words().collect();
        let last_words = match last_words.is_empty() {
            true => String::new(),
            false => format!("; it printed: {}", last_words.join(" | ")),
        };
        let while_loading = match cause {
            WorkerEndCause::LoadTimeout(_) => "",
            _ if self.handler.has_opened() => " while it compiled its config schema",
            _ => " while it loaded the library",
        };
        LoadError {
            kind: ended.kind,
            message: format!("its worker {}{while_loading}{last_words}", ended.message),
            detail: None,
        }
    }
}

/// Maximum time for a worker to end when asked to; it gives its probes two seconds of that.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time for a worker with a closed socket to exit: the kernel takes a while for a big process.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
/// Number of buffers of a worker's messages read before other events are handled.
const WORDS: usize = 4;
/// Number of buffers read from a worker that has ended: more than a socket can contain.
const LAST_WORDS: usize = 64;
