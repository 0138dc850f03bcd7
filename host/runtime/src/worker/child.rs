//! The worker's side: loads one library, and makes the calls that the host requests.
//!
//! The main thread reads the host's messages and never runs plugin code once the library is loaded, so that it
//! continues while every call hangs. Calls run on the threads of [`InProcess`], or continue by themselves once begun;
//! responses leave through the [`ResponseWriter`].

use std::{
    collections::HashMap,
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
use self::{forward::LogSender, os::leave, pending::PendingCall, response_writer::ResponseWriter};
use super::channel::{ReadOutcome, WorkerChannel};
use crate::{
    AdmittedCall, LoadError, LoadedPlugin as _, ProbeId, ProbeSpec,
    call_journal::JournalSlot,
    in_process::InProcess,
    protocol::{
        self, FrameDecoder,
        messages::{CallRequest, FromWorker, HelloMessage, ToWorker},
    },
    redaction,
    schema::CompiledSchema,
};

mod forward;
mod pending;
mod response_writer;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
pub(super) mod windows;

pub use self::os::{die_of_faults, exit};

/// Runs `conductor worker`, with a channel to the host as standard input. Does not return once it has one.
pub fn child_main() -> ExitCode {
    match os::take_channel() {
        Ok(channel) => work(channel),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "error: this command is for the host, which starts its workers with it: {error}"
            );
            ExitCode::from(2)
        }
    }
}

fn work(channel: WorkerChannel) -> ! {
    die_of_faults();
    os::die_with_host();
    let mut decoder = FrameDecoder::new(protocol::FROM_HOST);
    let Some(ToWorker::Hello(hello)) = receive(&channel, &mut decoder, None) else {
        leave();
    };
    os::take_programs_along(&hello.policy);
    os::leave_without_host(hello.host);
    os::name_process(&hello.manifest.id);
    let clock = Clock::join(hello.clock);
    let writer = Arc::new(ResponseWriter::new(channel, clock));
    let log = forward::start(hello.log_level, &writer);
    match load(&hello, clock, &writer) {
        Ok((plugin, unconfined)) => {
            let schema = plugin.description().config_schema.as_str().to_owned();
            let asynchronous = plugin.description().asynchronous;
            if asynchronous {
                writer.gather();
            }
            let told = writer.say(&FromWorker::Loaded {
                schema,
                asynchronous,
                unconfined,
            });
            if let Err(unsent) = told {
                let message = format!("its config schema {unsent}; make it shorter");
                refuse(&writer, LoadError::load(&message));
            }
            LibraryServer {
                writer,
                log,
                plugin,
                probes: HashMap::new(),
                clock,
            }
            .serve(decoder)
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
        let schema = plugin.description().config_schema.value();
        let schema =
            CompiledSchema::new(schema).map_err(|error| LoadError::load(&error.to_string()))?;
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
    probes: HashMap<u64, OpenedProbe>,
    clock: Clock,
}

struct OpenedProbe {
    probe: ProbeId,
    /// The last call into it.
    last: Option<(u64, Arc<PendingCall>)>,
}

impl LibraryServer {
    fn serve(mut self, mut decoder: FrameDecoder) -> ! {
        let (mut nudge, mut last_tick) = (false, self.clock.now());
        loop {
            let ticks = self.writer.ticks(nudge);
            let next_tick = ticks.then_some(last_tick + TICK);
            let left = next_tick.map(|at| at.saturating_sub(self.clock.now()));
            if let Some(message) = receive(self.writer.channel(), &mut decoder, left) {
                nudge |= self.obey(message);
                self.log.flush();
            }
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
        match message {
            ToWorker::Calls(requests) => return self.call(requests),
            ToWorker::Open {
                probe,
                platform,
                config,
                secrets,
                trial,
            } => {
                redaction::learn(secrets.iter().map(String::as_str));
                let spec = ProbeSpec {
                    platform: platform.into(),
                    config: config.into(),
                    trial: trial.map(Arc::new),
                };
                let opened = OpenedProbe {
                    probe: self.plugin.open(spec),
                    last: None,
                };
                self.probes.insert(probe, opened);
            }
            ToWorker::Close { probe } => {
                if let Some(opened) = self.probes.remove(&probe) {
                    self.plugin.close(opened.probe);
                }
            }
            ToWorker::Cancel { probe, call } => {
                if let Some(opened) = self.probes.get(&probe)
                    && let Some((last, pending)) = &opened.last
                    && *last == call
                {
                    pending.cancel(|| self.plugin.abandoned(opened.probe));
                }
            }
            ToWorker::End => self.end(),
            // The host only sends it as the first message.
            ToWorker::Hello(_) => {}
        }
        false
    }

    fn call(&mut self, requests: Vec<CallRequest>) -> bool {
        self.writer.expect(requests.len());
        let calls = requests.into_iter().filter_map(|request| {
            let deadline = Duration::from_nanos(request.deadline);
            let pending = Arc::new(PendingCall::new(Arc::clone(&self.writer), deadline));
            let Some(opened) = self.probes.get_mut(&request.probe) else {
                pending.refuse(
                    request.call,
                    "the host has closed the probe, or never opened it",
                );
                return None;
            };
            opened.last = Some((request.call, Arc::clone(&pending)));
            Some(AdmittedCall {
                probe: opened.probe,
                caller: pending,
                sequence: request.call,
            })
        });
        let mut calls: Vec<_> = calls.collect();
        self.plugin.start(&mut calls)
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

/// Returns the next message, or `None` after `patience`; without one it waits indefinitely.
///
/// Exits if the host is gone.
fn receive(
    channel: &WorkerChannel,
    decoder: &mut FrameDecoder,
    patience: Option<Duration>,
) -> Option<ToWorker> {
    let mut buffer = [0; 16 << 10];
    loop {
        match decoder.message() {
            Ok(Some(message)) => return Some(message),
            Ok(None) => {}
            Err(fault) => {
                // The plugin has consumed part of it, or the host is of another build.
                let _ = writeln!(io::stderr(), "the host {fault}");
                leave();
            }
        }
        match channel.wait(patience) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(_) => leave(),
        }
        match channel.receive_now(&mut buffer) {
            Ok(ReadOutcome::Bytes(bytes)) => decoder.feed(&buffer[..bytes]),
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
