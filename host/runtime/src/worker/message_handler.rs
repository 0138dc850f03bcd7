//! Handles a worker's messages: validates everything, and sanitizes it again for log and metrics.

use std::{sync::Arc, time::Duration};

use conductor_types::ErrorType;

use super::{
    MAX_UNCONFINED,
    client::WorkerClient,
    error::MessageError,
    limiter::{DroppedLines, LogRateLimiter},
};
use crate::{
    CallFailure, CheckReport, ConfigSchema, DeclaredMetrics, DeliveryOutcome, LoadError,
    declared::label_value,
    probe_state,
    protocol::messages::{CallResponse, CallResult, FromWorker, WireFailure, WireReport},
    redaction,
    schema::{MAX_VIOLATIONS, SchemaViolation},
    set_message,
};

/// The message handler of one worker.
pub(super) struct MessageHandler {
    client: Arc<WorkerClient>,
    plugin: Arc<str>,
    limiter: LogRateLimiter,
    loaded: bool,
    opened: bool,
    /// Empty before the library is loaded.
    metrics: Arc<DeclaredMetrics>,
    /// Reused for each answer, so that none allocates.
    report: CheckReport,
}

/// The properties that the host cannot read from a library without running it.
#[derive(Debug)]
pub(super) struct LoadedProperties {
    /// The JSON Schema of a platform's `config` table.
    pub(super) config_schema: ConfigSchema,
    /// Its declared metrics.
    pub(super) metrics: Arc<DeclaredMetrics>,
    /// `true` if its checks take no thread while they wait.
    pub(super) asynchronous: bool,
    /// The restrictions that it could not put on itself, a line each.
    pub(super) unconfined: Vec<String>,
}

/// The effect of a message on the worker's state.
pub(super) enum MessageEffect {
    /// None.
    Nothing,
    /// The library is loaded.
    Loaded(LoadedProperties),
    /// The library is not loaded.
    Refused(LoadError),
}

impl MessageHandler {
    pub(super) fn new(client: Arc<WorkerClient>, plugin: Arc<str>) -> Self {
        Self {
            client,
            plugin,
            limiter: LogRateLimiter::default(),
            loaded: false,
            opened: false,
            metrics: Arc::default(),
            report: CheckReport::empty(),
        }
    }

    /// Handles a message.
    ///
    /// # Errors
    /// When no worker sends such a message.
    pub(super) fn hear(
        &mut self,
        message: FromWorker<&str>,
        now: Duration,
    ) -> Result<MessageEffect, MessageError> {
        match message {
            FromWorker::Answer(answer) => {
                self.answer(&answer, now)?;
                Ok(MessageEffect::Nothing)
            }
            FromWorker::Log {
                level,
                platform,
                text,
            } => {
                self.log(level, platform, text, now);
                Ok(MessageEffect::Nothing)
            }
            FromWorker::Dropped { lines, errors } => {
                self.limiter.missed(now, DroppedLines { lines, errors });
                Ok(MessageEffect::Nothing)
            }
            FromWorker::Opened | FromWorker::Loaded { .. } | FromWorker::Refused { .. }
                if self.loaded =>
            {
                Err(MessageError::LoadedTwice)
            }
            FromWorker::State { platform, state } => {
                if !probe_state::is_storable(state.len()) {
                    return Err(MessageError::State(state.len()));
                }
                self.client.store_state(platform, &state);
                Ok(MessageEffect::Nothing)
            }
            FromWorker::Opened => {
                self.opened = true;
                Ok(MessageEffect::Nothing)
            }
            FromWorker::Loaded {
                schema,
                metrics,
                asynchronous,
                unconfined,
            } => {
                let config_schema = ConfigSchema::new(schema)?;
                self.metrics = Arc::new(DeclaredMetrics::new(metrics)?);
                self.loaded = true;
                if asynchronous {
                    self.client.is_asynchronous();
                }
                let unconfined = unconfined.into_iter().take(MAX_UNCONFINED).map(line);
                Ok(MessageEffect::Loaded(LoadedProperties {
                    config_schema,
                    metrics: Arc::clone(&self.metrics),
                    asynchronous,
                    unconfined: unconfined.collect(),
                }))
            }
            FromWorker::Refused {
                kind,
                message,
                detail,
            } => Ok(MessageEffect::Refused(LoadError {
                kind: one_of(kind, &[ErrorType::Load, ErrorType::Abi])
                    .ok_or(MessageError::Refusal(kind))?,
                message: line(message),
                detail: detail.map(str::to_owned),
            })),
        }
    }

    /// Returns `true` once the library is open; the worker then compiles its config schema, if requested.
    pub(super) fn has_opened(&self) -> bool {
        self.opened
    }

    /// Returns the time to report lines that were not logged.
    pub(super) fn due(&self) -> Option<Duration> {
        self.limiter.due()
    }

    /// Reports the number of lines that were not logged, once it is time to.
    pub(super) fn say_dropped(&mut self, now: Duration, last: bool) {
        if let Some(dropped) = self.limiter.dropped(now, last) {
            let plugin = &*self.plugin;
            tracing::warn!(target: "plugin", plugin, "logs too much: {dropped}");
        }
    }

    fn answer(&mut self, answer: &CallResponse<&str>, now: Duration) -> Result<(), MessageError> {
        let took = Duration::from_nanos(answer.took);
        let call = self.client.answered(answer.call, took)?;
        // Read before the report is redacted.
        let secrets = redaction::revision();
        // A call cannot end before it began, nor after its answer arrived.
        let ended = Duration::from_nanos(answer.ended).clamp(call.started, now.max(call.started));
        let finished = |result: Result<&CheckReport, CallFailure>| {
            call.caller.finished(call.sequence, ended, result)
        };
        let result = match &answer.result {
            CallResult::Report(found) => take(&mut self.report, found, &self.metrics, answer.call)
                .map(|()| finished(Ok(&self.report))),
            CallResult::Failure(failed) => {
                failure(failed, answer.call).map(|failure| finished(Err(failure)))
            }
            CallResult::Same if call.known => Ok(call.caller.finished_same(call.sequence, ended)),
            CallResult::Same => Err(MessageError::NothingTheSame(answer.call)),
        };
        let outcome = result.inspect_err(|wrong| {
            let failure = CallFailure::new(ErrorType::Protocol, format!("its worker {wrong}"));
            finished(Err(failure));
        })?;
        if outcome == DeliveryOutcome::Kept {
            self.client.kept(&call, secrets);
        }
        Ok(())
    }

    fn log(&mut self, level: u8, platform: Option<&str>, text: &str, now: Duration) {
        let is_error = !matches!(level, 2..=5);
        if !self.limiter.admit(now, is_error) {
            return;
        }
        let (plugin, text) = (&*self.plugin, line(text));
        // The last log lines are kept by platform, and a worker could make up any number of platforms.
        let platform = platform.filter(|name| self.client.knows(name));
        // The macros require a constant level.
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(target: "plugin", tracing::Level::$level, plugin, platform, "{text}")
            };
        }
        match level {
            2 => emit!(WARN),
            3 => emit!(INFO),
            4 => emit!(DEBUG),
            5 => emit!(TRACE),
            _ => emit!(ERROR),
        }
    }
}

/// Copies the result of a check, under the same limits as in process.
///
/// # Errors
/// When it is nothing a worker sends.
fn take(
    report: &mut CheckReport,
    found: &WireReport<&str>,
    metrics: &Arc<DeclaredMetrics>,
    call: u64,
) -> Result<(), MessageError> {
    let declared = &mut report.declared;
    declared.kept.clear();
    declared.of = None;
    declared.dropped = found.dropped;
    for (metric, labels, value) in &found.declared {
        let labels = labels.iter().map(|label| label_value(label.as_bytes()));
        // What a worker's own check has passed is kept.
        metrics
            .check(declared, *metric, labels.collect(), *value)
            .map_err(|why| MessageError::Declared { call, why })?;
    }
    let measured = found.measurements.iter();
    let measured = measured.map(|(name, value)| (name.as_bytes(), *value));
    report
        .fill(found.status, found.message.as_bytes(), measured)
        .map_err(|_| MessageError::Status {
            call,
            status: found.status,
        })
}

/// Returns the failure of a call; its type must not be one that only the host can determine.
fn failure(failed: &WireFailure<&str>, call: u64) -> Result<CallFailure, MessageError> {
    let known = [
        ErrorType::Error,
        ErrorType::Timeout,
        ErrorType::Panic,
        ErrorType::Config,
        ErrorType::Protocol,
    ];
    let kind = failed.kind;
    let violations = failed.violations.iter().take(MAX_VIOLATIONS);
    one_of(kind, &known)
        .map(|kind| CallFailure {
            violations: violations.map(believed).collect(),
            ..CallFailure::new(kind, failed.message)
        })
        .ok_or(MessageError::ErrorType { call, kind })
}

/// Sanitizes a violation: each text one line, within the limits, and without secrets.
fn believed(told: &SchemaViolation) -> SchemaViolation {
    SchemaViolation {
        path: told.path.clone(),
        at_key: told.at_key,
        message: line(&told.message),
        help: told.help.as_deref().map(line),
    }
}

fn one_of(kind: u8, known: &[ErrorType]) -> Option<ErrorType> {
    let kind = ErrorType::ALL.get(usize::from(kind))?;
    known.contains(kind).then_some(*kind)
}

fn line(text: &str) -> String {
    let mut line = String::new();
    set_message(&mut line, text.as_bytes());
    line
}
