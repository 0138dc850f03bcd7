//! The calls known to C plugins, and the outcome of each so far.
//!
//! A call is identified by a number in the form of a pointer, which is never reused and is looked up: a plugin that
//! uses one too late, or from any thread, gets nothing rather than another call's memory. Calls that block a host
//! thread have even numbers; calls that were begun keep the odd numbers they have in [`call_context`].

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    ptr,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_plugin_api::{abi::AbiFailureKind, c};
use conductor_types::ErrorType;

use super::config::ProbeConfig;
use crate::{
    CallFailure, CheckReport, DeclaredMetrics, MAX_MEASUREMENTS, ProbeSpec, SetValues,
    call_context::{self, CallContext, CallNumber, CallTerms},
    observer::{CallObserver, ContractViolation},
};

/// A plugin's handle of a call; 0 is none.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct CallHandle(usize);

impl CallHandle {
    pub(super) fn of(begun: CallNumber) -> Self {
        Self(begun.0)
    }

    pub(super) fn from_ptr(call: *const c::Call) -> Self {
        Self(call.addr())
    }

    /// Returns a pointer that is never dereferenced.
    pub(super) fn as_ptr(self) -> *const c::Call {
        ptr::without_provenance(self.0)
    }

    /// Returns `true` if the call was begun, and continues by itself.
    pub(super) fn is_begun(self) -> bool {
        self.0 % 2 == 1
    }

    /// Returns the number that the rest of the host uses.
    pub(super) fn number(self) -> usize {
        self.0
    }
}

/// A call in progress.
pub(super) struct CallInProgress {
    about: ContextSource,
    pub(super) subject: Arc<CallSubject>,
    /// The config, for a call that creates a probe.
    pub(super) config: Option<ProbeConfig>,
    /// `None` once the call is over.
    outcome: Mutex<Option<ReportedOutcome>>,
    observer: Option<Arc<dyn CallObserver>>,
}

/// The platform of a probe's calls, as C reads it.
pub(super) struct CallSubject {
    pub(super) platform: CString,
    /// Names and values.
    labels: Vec<(CString, CString)>,
    spec: ProbeSpec,
    metrics: Arc<DeclaredMetrics>,
}

impl CallSubject {
    pub(super) fn new(spec: &ProbeSpec, metrics: &Arc<DeclaredMetrics>) -> Arc<Self> {
        // No name of a platform and no label contains the byte that ends a C string.
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let labels = spec.labels.iter();
        Arc::new(Self {
            platform: text(&spec.platform),
            labels: labels
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            spec: spec.clone(),
            metrics: Arc::clone(metrics),
        })
    }

    /// Returns the value of a label of the platform.
    pub(super) fn label(&self, name: &[u8]) -> Option<&CStr> {
        let mut labels = self.labels.iter();
        let found = labels.find(|(known, _)| known.to_bytes() == name);
        found.map(|(_, value)| value.as_c_str())
    }

    /// Returns the time between the starts of the platform's checks.
    pub(super) fn interval(&self) -> Duration {
        self.spec.interval
    }

    /// Returns the platform's state.
    pub(super) fn state(&self) -> Vec<u8> {
        self.spec.states.load(&self.spec.platform)
    }

    /// Stores the platform's state.
    pub(super) fn store_state(&self, state: &[u8]) {
        self.spec.states.store(&self.spec.platform, state);
    }
}

enum ContextSource {
    Waited(CallTerms),
    Begun(usize),
}

impl CallInProgress {
    pub(super) fn remaining(&self) -> Duration {
        let remaining = self.ask(CallTerms::remaining);
        remaining.unwrap_or_default()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        // A call unknown to the host was given up.
        self.ask(CallTerms::is_cancelled).unwrap_or(true)
    }

    /// Changes the outcome, unless the call is over.
    pub(super) fn change(&self, change: impl FnOnce(&mut ReportedOutcome)) {
        if let Some(outcome) = &mut *self.outcome() {
            change(outcome);
        }
    }

    /// Returns the observer of the plugin, if any.
    pub(super) fn observer(&self) -> Option<&dyn CallObserver> {
        self.observer.as_deref()
    }

    fn outcome(&self) -> MutexGuard<'_, Option<ReportedOutcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, question: impl FnOnce(&CallTerms) -> T) -> Option<T> {
        match &self.about {
            ContextSource::Waited(terms) => Some(question(terms)),
            ContextSource::Begun(number) => {
                call_context::with(*number, |data| question(&data.terms))
            }
        }
    }
}

/// The outcome of a call, as reported by the plugin.
#[derive(Default)]
pub(super) struct ReportedOutcome {
    said: Option<ReportOrFailure>,
    measurements: Vec<(Vec<u8>, f64)>,
    declared: SetValues,
}

enum ReportOrFailure {
    Report(i32, Vec<u8>),
    Failure(CallFailure),
}

impl ReportedOutcome {
    pub(super) fn report(&mut self, status: i32, message: &[u8]) {
        self.said = Some(ReportOrFailure::Report(status, message.to_owned()));
    }

    pub(super) fn measure(&mut self, name: &[u8], value: f64) {
        if self.measurements.len() < MAX_MEASUREMENTS {
            self.measurements.push((name.to_owned(), value));
        }
    }

    /// Sets the value of a declared metric; a second one for the same labels replaces the first.
    pub(super) fn set(
        &mut self,
        subject: &CallSubject,
        metric: &[u8],
        labels: &[&[u8]],
        value: f64,
        observer: Option<&dyn CallObserver>,
    ) {
        // What is not kept is counted, and logged once.
        let metrics = &subject.metrics;
        let set = metrics.set(&mut self.declared, metric, labels.iter().copied(), value);
        if let Some(observer) = observer {
            observer.set(metric, labels, set.as_ref().copied());
        }
    }

    pub(super) fn fail(&mut self, kind: i32, message: &[u8], observer: Option<&dyn CallObserver>) {
        let kind = match u8::try_from(kind).map(AbiFailureKind) {
            Ok(AbiFailureKind::PANIC) => ErrorType::Panic,
            Ok(AbiFailureKind::CONFIG) => ErrorType::Config,
            Ok(AbiFailureKind::TIMEOUT) => ErrorType::Timeout,
            Ok(AbiFailureKind::ERROR) => ErrorType::Error,
            _ => {
                misuse(observer, ContractViolation::UnknownKind);
                ErrorType::Error
            }
        };
        if let Some(observer) = observer {
            observer.failure(message);
        }
        let message = match message {
            b"" => {
                misuse(observer, ContractViolation::NoReason);
                "the plugin failed and did not say why".into()
            }
            said => String::from_utf8_lossy(said),
        };
        self.said = Some(ReportOrFailure::Failure(CallFailure::new(kind, message)));
    }

    /// Returns the failure, if it was reported last.
    pub(super) fn failure(self) -> Option<CallFailure> {
        match self.said {
            Some(ReportOrFailure::Failure(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Ends a check: applies the last report, within the host's limits.
    pub(super) fn fill(
        self,
        report: &mut CheckReport,
        observer: Option<&dyn CallObserver>,
    ) -> Result<(), CallFailure> {
        match self.said {
            Some(ReportOrFailure::Report(status, message)) => {
                let status = u8::try_from(status).map_err(|_| {
                    CallFailure::new(
                        ErrorType::Protocol,
                        format!("the probe reported status {status}; known are 0 healthy, 1 degraded and 2 unhealthy"),
                    )
                })?;
                report.declared = self.declared;
                let measured = self.measurements.iter();
                report.fill_observed(
                    observer,
                    status,
                    &message,
                    measured.map(|(name, value)| (name.as_slice(), *value)),
                )
            }
            Some(ReportOrFailure::Failure(failure)) => Err(failure),
            None => {
                misuse(observer, ContractViolation::NoReport);
                Err(CallFailure::new(
                    ErrorType::Error,
                    "the check ended without a report; it calls conductor_report or conductor_fail before",
                ))
            }
        }
    }
}

/// Makes a call that blocks this thread: returns the result of `run`, and the outcome reported meanwhile.
pub(super) fn wait<T>(
    data: &CallContext,
    subject: &Arc<CallSubject>,
    config: Option<ProbeConfig>,
    observer: Option<&Arc<dyn CallObserver>>,
    run: impl FnOnce(*const c::Call) -> T,
) -> (T, ReportedOutcome) {
    let name = CallHandle(NEXT.fetch_add(2, Ordering::Relaxed));
    let running = add(
        name,
        ContextSource::Waited(data.terms.clone()),
        subject,
        config,
        observer,
    );
    let answer = run(name.as_ptr());
    forget(name);
    let outcome = running.outcome().take();
    (answer, outcome.unwrap_or_default())
}

/// Registers a call that is about to begin.
pub(super) fn begin(
    begun: CallNumber,
    subject: &Arc<CallSubject>,
    observer: Option<&Arc<dyn CallObserver>>,
) -> CallHandle {
    let name = CallHandle::of(begun);
    add(name, ContextSource::Begun(begun.0), subject, None, observer);
    name
}

/// Returns the call of this name, if it is in progress; it may just have ended.
pub(super) fn get(name: CallHandle) -> Option<Arc<CallInProgress>> {
    lock().get(&name).cloned()
}

/// Ends a begun call: returns its outcome, or `None` if it was already over.
pub(super) fn finish(name: CallHandle) -> Option<(ReportedOutcome, Option<Arc<dyn CallObserver>>)> {
    let mut calls = lock();
    let running = Arc::clone(calls.get(&name)?);
    // An observed call stays until its probe's next one, so that its observer is known if it is completed twice.
    if running.observer.is_none() {
        calls.remove(&name);
    }
    let outcome = running.outcome().take()?;
    Some((outcome, running.observer.clone()))
}

/// Shows a misuse of a call to the plugin's observer, if the call is known.
pub(super) fn note_misuse(name: CallHandle, found: ContractViolation) {
    let running = get(name);
    misuse(running.as_ref().and_then(|call| call.observer()), found);
}

/// Drops a call and its outcome.
pub(super) fn forget(name: CallHandle) {
    lock().remove(&name);
}

fn misuse(observer: Option<&dyn CallObserver>, found: ContractViolation) {
    if let Some(observer) = observer {
        observer.misuse(found);
    }
}

fn add(
    name: CallHandle,
    about: ContextSource,
    subject: &Arc<CallSubject>,
    config: Option<ProbeConfig>,
    observer: Option<&Arc<dyn CallObserver>>,
) -> Arc<CallInProgress> {
    let running = Arc::new(CallInProgress {
        about,
        subject: Arc::clone(subject),
        config,
        outcome: Mutex::new(Some(ReportedOutcome::default())),
        observer: observer.cloned(),
    });
    lock().insert(name, Arc::clone(&running));
    running
}

fn lock() -> MutexGuard<'static, HashMap<CallHandle, Arc<CallInProgress>>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

static CALLS: LazyLock<Mutex<HashMap<CallHandle, Arc<CallInProgress>>>> =
    LazyLock::new(Mutex::default);
/// Even, unlike the numbers of begun calls, and never 0.
static NEXT: AtomicUsize = AtomicUsize::new(2);
