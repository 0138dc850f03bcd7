//! The worker's side: loads one library, and makes the calls that the host requests.
//!
//! The main thread reads the host's messages and never runs plugin code once the library is loaded, so that it
//! continues while every call hangs. Calls run on the threads of [`InProcess`], or continue by themselves once begun;
//! responses leave through the [`ResponseWriter`].

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use conductor_core::clock::Clock;
use conductor_sandbox as sandbox;
use conductor_types::ErrorType;

#[cfg(unix)]
use self::unix as os;
#[cfg(windows)]
use self::windows as os;
use self::{
    forward::LogSender, os::leave, pending::PendingCall, response_writer::ResponseWriter,
    states::WorkerStates,
};
use super::{
    channel::{ReadOutcome, WorkerChannel},
    numbered::NumberedTable,
};
use crate::{
    AdmittedCall, LoadError, LoadedPlugin as _, MemoryStates, ProbeId, ProbeSpec, ProbeStates,
    call_journal::JournalSlot,
    in_process::InProcess,
    protocol::{
        self, FrameDecoder, GREETING, GreetingReader,
        messages::{CallRequest, FromWorker, HelloMessage, ToWorker},
    },
    redaction,
    schema::SchemaCompiler,
};

mod forward;
mod pending;
mod response_writer;
mod states;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
pub(super) mod windows;

pub use self::os::{die_of_faults, exit};

/// Runs a worker, with a channel to the host as standard input. Does not return once it has one.
///
/// `compiler` compiles config schemas for trials; the program of ordinary workers has none.
pub fn child_main(compiler: Option<SchemaCompiler>) -> ExitCode {
    match os::take_channel() {
        Ok(channel) => work(channel, compiler),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: only a host starts workers, as part of \"conductor run\": {error}"
            );
            ExitCode::from(2)
        }
    }
}

fn work(channel: WorkerChannel, compiler: Option<SchemaCompiler>) -> ! {
    die_of_faults();
    os::die_with_host();
    meet_host(&channel);
    let mut host = HostMessages::new();
    let ToWorker::Hello(hello) = host.first(&channel) else {
        leave();
    };
    os::take_programs_along(&hello.policy);
    os::leave_without_host(hello.host);
    os::name_process(&hello.manifest.id);
    let clock = Clock::join(hello.clock);
    let writer = Arc::new(ResponseWriter::new(channel, clock));
    writer.greet();
    let log = forward::start(hello.log_level, &writer);
    match load(&hello, clock, &writer, compiler) {
        Ok((plugin, unconfined)) => {
            let schema = plugin.description().config_schema.as_str().to_owned();
            let metrics = plugin.description().metrics.to_json();
            let asynchronous = plugin.description().asynchronous;
            if asynchronous {
                writer.gather();
            }
            let told = writer.say(&FromWorker::Loaded {
                schema,
                metrics,
                asynchronous,
                unconfined,
            });
            if let Err(unsent) = told {
                let message = format!(
                    "its config schema, with its declared metrics, {unsent}; make it shorter"
                );
                refuse(&writer, LoadError::load(&message));
            }
            LibraryServer {
                states: Arc::new(WorkerStates::new(Arc::clone(&writer))),
                writer,
                log,
                plugin,
                probes: NumberedTable::new(),
                calls: Vec::new(),
                clock,
            }
            .serve(host)
        }
        Err(error) => {
            log.flush();
            refuse(&writer, error)
        }
    }
}

fn load(
    hello: &HelloMessage,
    clock: Clock,
    writer: &ResponseWriter,
    compiler: Option<SchemaCompiler>,
) -> Result<(InProcess, Vec<String>), LoadError> {
    // Before any code of the library runs.
    let unconfined = sandbox::apply(&hello.policy)
        .map_err(|what| LoadError::load(&format!("its worker cannot be confined: {what}")))?;
    let call_threads = usize::try_from(hello.call_threads).unwrap_or(usize::MAX);
    let mut plugin = InProcess::open_copy(
        Path::new(&hello.path),
        Path::new(&hello.origin),
        &hello.manifest.manifest(),
        call_threads,
        clock,
        JournalSlot::unrecorded,
    )?;
    if hello.trials {
        // From here on, problems come from the library's schema.
        let _ = writer.say(&FromWorker::Opened);
        let compile = compiler.ok_or_else(|| {
            LoadError::load("this program compiles no config schemas; start it as a plain worker")
        })?;
        let schema = compile(plugin.description().config_schema.value());
        let schema = schema.map_err(|error| LoadError::load(&error.to_string()))?;
        plugin.try_configs_with(schema);
    }
    Ok((plugin, unconfined))
}

fn refuse(writer: &ResponseWriter, error: LoadError) -> ! {
    let detail = error.detail.filter(|detail| detail.len() < MAX_DETAIL);
    let _ = writer.say(&FromWorker::Refused {
        kind: error.kind as u8,
        message: error.message,
        detail,
    });
    exit(1)
}

/// A library and its probes, by the host's numbers.
struct LibraryServer {
    writer: Arc<ResponseWriter>,
    log: Arc<LogSender>,
    plugin: InProcess,
    probes: NumberedTable<OpenedProbe>,
    /// Requested calls that were not passed on.
    calls: Vec<AdmittedCall>,
    states: Arc<WorkerStates>,
    clock: Clock,
}

struct OpenedProbe {
    probe: ProbeId,
    /// The last call into it.
    call: Arc<PendingCall>,
}

impl LibraryServer {
    fn serve(mut self, mut host: HostMessages) -> ! {
        let (mut nudge, mut last_tick) = (false, self.clock.now());
        loop {
            while let Some(message) = host.next() {
                nudge |= self.obey(message);
            }
            nudge |= self.start_calls();
            self.log.flush();
            let ticks = self.writer.ticks(nudge);
            let next_tick = ticks.then_some(last_tick + TICK);
            let left = next_tick.map(|at| at.saturating_sub(self.clock.now()));
            host.wait(self.writer.channel(), left);
            let now = self.clock.now();
            if next_tick.is_none_or(|at| at <= now) {
                last_tick = now;
                if ticks {
                    self.writer.flush();
                    nudge = nudge && self.plugin.nudge();
                }
            }
        }
    }

    /// Handles a message of the host; returns `true` if some calls may be waiting behind others.
    fn obey(&mut self, message: ToWorker) -> bool {
        let request = match message {
            ToWorker::Call(request) => {
                self.call(&request);
                return false;
            }
            other => other,
        };
        // In the order of the messages: a closed probe gets its last calls first.
        let nudge = self.start_calls();
        match request {
            ToWorker::Open {
                probe,
                platform,
                config,
                secrets,
                interval,
                labels,
                state,
                trial,
            } => {
                redaction::learn(secrets.iter().map(String::as_str));
                let states: Arc<dyn ProbeStates> = match trial {
                    // Only a check's state is the platform's.
                    Some(_) => Arc::new(MemoryStates::default()),
                    None => {
                        self.states.open(&platform, &state);
                        Arc::clone(&self.states) as _
                    }
                };
                let spec = ProbeSpec {
                    platform: platform.into(),
                    config: config.into(),
                    interval: Duration::from_nanos(interval),
                    labels,
                    states,
                    trial: trial.map(Arc::new),
                };
                let opened = OpenedProbe {
                    probe: self.plugin.open(spec),
                    call: Arc::new(PendingCall::new(Arc::clone(&self.writer))),
                };
                self.probes.insert_at(probe, opened);
            }
            ToWorker::Close { probe } => {
                if let Some(opened) = self.probes.remove_at(probe) {
                    self.plugin.close(opened.probe);
                }
            }
            ToWorker::Cancel { probe, call } => {
                if let Some(opened) = self.probes.get(probe) {
                    let pending = &opened.call;
                    pending.cancel(call, || self.plugin.abandoned(opened.probe));
                }
            }
            ToWorker::State { platform, state } => self.states.replace(&platform, &state),
            ToWorker::End => self.end(),
            // The host only sends `Hello` as the first message.
            ToWorker::Hello(_) | ToWorker::Call(_) => {}
        }
        nudge
    }

    /// Adds a call to those that start together.
    fn call(&mut self, request: &CallRequest) {
        let Some(opened) = self.probes.get_mut(request.probe) else {
            self.writer.refuse(
                request.call,
                "the host has closed the probe, or never opened it",
            );
            return;
        };
        if !opened.call.expect(request) {
            // The last call is still under way, and has its own end.
            opened.call = Arc::new(PendingCall::new(Arc::clone(&self.writer)));
            opened.call.expect(request);
        }
        self.calls.push(AdmittedCall {
            probe: opened.probe,
            caller: Arc::clone(&opened.call) as _,
            sequence: request.call,
        });
    }

    /// Starts the calls that arrived together; returns `true` if some may be waiting behind others.
    fn start_calls(&mut self) -> bool {
        if self.calls.is_empty() {
            return false;
        }
        self.writer.expect(self.calls.len());
        self.plugin.start(&mut self.calls)
    }

    /// Drops all probes, each behind the plugin's panic barrier, and exits without the library's exit handlers.
    fn end(&self) -> ! {
        self.plugin.end();
        let until = self.clock.now() + END_TIMEOUT;
        while !self.plugin.is_idle() && self.clock.now() < until {
            self.plugin.nudge();
            std::thread::sleep(TICK / 2);
        }
        self.writer.flush();
        self.log.flush();
        exit(0)
    }
}

/// Reads the host's greeting. Exits if the host is of another build, which then reads this one's.
fn meet_host(channel: &WorkerChannel) {
    let mut reader = GreetingReader::default();
    let mut buffer = [0; GREETING];
    let mut at = 0;
    while !reader.is_complete() {
        // No more than the greeting: what follows is for the decoder.
        let received = match channel.receive_now(&mut buffer[at..]) {
            Ok(ReadOutcome::Bytes(bytes)) => reader.take(&buffer[at..at + bytes]).map(|_| bytes),
            Ok(ReadOutcome::Nothing) if channel.wait(None).is_ok() => Ok(0),
            Ok(ReadOutcome::Nothing | ReadOutcome::End) | Err(_) => leave(),
        };
        match received {
            Ok(bytes) => at += bytes,
            Err(host) => {
                let _ = channel.send_all(&protocol::greeting());
                let own = protocol::BUILD;
                let _ = writeln!(
                    io::stderr(),
                    "error: the host is {host}, this worker is of conductor {own}"
                );
                leave();
            }
        }
    }
}

/// The messages of the host. Exits if the host is gone, or sends anything else.
struct HostMessages {
    decoder: FrameDecoder,
    buffer: Box<[u8]>,
}

impl HostMessages {
    fn new() -> Self {
        Self {
            decoder: FrameDecoder::new(protocol::FROM_HOST),
            buffer: vec![0; 16 << 10].into(),
        }
    }

    /// Waits for the first message.
    fn first(&mut self, channel: &WorkerChannel) -> ToWorker {
        loop {
            if let Some(message) = self.next() {
                return message;
            }
            self.wait(channel, None);
        }
    }

    /// Returns the next message that has arrived.
    fn next(&mut self) -> Option<ToWorker> {
        self.decoder.message().unwrap_or_else(|fault| {
            // The plugin has consumed part of it, or the host is of another build.
            let _ = writeln!(io::stderr(), "the host {fault}");
            leave();
        })
    }

    /// Waits until more has arrived, at most for `patience`; without one it waits indefinitely.
    fn wait(&mut self, channel: &WorkerChannel, patience: Option<Duration>) {
        match channel.wait(patience) {
            Ok(false) => return,
            Ok(true) => {}
            Err(_) => leave(),
        }
        match channel.receive_now(&mut self.buffer) {
            Ok(ReadOutcome::Bytes(bytes)) => self.decoder.feed(&self.buffer[..bytes]),
            Ok(ReadOutcome::Nothing) => {}
            Ok(ReadOutcome::End) | Err(_) => leave(),
        }
    }
}

impl LoadError {
    fn load(message: &str) -> Self {
        Self {
            kind: ErrorType::Load,
            message: message.to_owned(),
            detail: None,
        }
    }
}

/// Interval at which queued calls get more threads, and gathered responses are sent.
const TICK: Duration = Duration::from_millis(10);
/// Time for the plugin to drop its probes; the host kills the worker a second later.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum detail of a refusal that is passed on, in bytes.
const MAX_DETAIL: usize = 512 << 10;
