//! The running calls of all test hosts, and the functions that probes call on them.
//!
//! Calls and hosts are numbers, not addresses, so that a probe which asks too late gets a harmless result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use abi_stable::{
    prefix_type::PrefixTypeTrait,
    std_types::{RResult, RSlice, RStr, RVec},
};

use super::LogEntry;
use crate::{
    MAX_STATE,
    abi::{
        AbiCall, AbiFailure, AbiHost, AbiHostHandle, AbiHostRef, AbiLabel, AbiLevel, AbiLogRecord,
        AbiReport,
    },
};

/// The state a test host shares with its calls.
#[derive(Debug)]
pub(super) struct TestHostState {
    number: usize,
    cancelled: AtomicBool,
    #[cfg(feature = "tokio")]
    cancel: tokio::sync::Notify,
    log: Mutex<Vec<LogEntry>>,
    /// The platform's state.
    state: Mutex<Vec<u8>>,
}

impl TestHostState {
    pub(super) fn new() -> Arc<Self> {
        let shared = Arc::new(Self {
            number: next_number(),
            cancelled: AtomicBool::new(false),
            #[cfg(feature = "tokio")]
            cancel: tokio::sync::Notify::new(),
            log: Mutex::default(),
            state: Mutex::default(),
        });
        lock(&HOSTS).insert(shared.number, Arc::downgrade(&shared));
        shared
    }

    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        #[cfg(feature = "tokio")]
        self.cancel.notify_waiters();
    }

    /// Waits until the host is cancelled.
    #[cfg(feature = "tokio")]
    pub(super) async fn cancelled(&self) {
        let mut cancelled = std::pin::pin!(self.cancel.notified());
        // Listen first, so that a cancellation in between is not missed.
        cancelled.as_mut().enable();
        if !self.cancelled.load(Ordering::SeqCst) {
            cancelled.await;
        }
    }

    pub(super) fn log(&self) -> Vec<LogEntry> {
        lock(&self.log).clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.state)
    }
}

impl Drop for TestHostState {
    fn drop(&mut self) {
        lock(&HOSTS).remove(&self.number);
    }
}

/// A running call; it is over when this is dropped.
pub(super) struct TestCall {
    abi: AbiCall,
    terms: Arc<CallConditions>,
}

/// The conditions of a call.
struct CallConditions {
    host: Arc<TestHostState>,
    platform: &'static str,
    settings: TestPlatform,
    deadline: Instant,
    cancel_at: Option<Instant>,
}

/// The settings of a test host's platform.
#[derive(Clone, Debug)]
pub(super) struct TestPlatform {
    pub(super) name: String,
    pub(super) interval: Duration,
    pub(super) labels: BTreeMap<String, String>,
}

impl TestCall {
    pub(super) fn begin(
        host: &Arc<TestHostState>,
        platform: &TestPlatform,
        timeout: Duration,
        cancel_after: Option<Duration>,
    ) -> Self {
        let start = now();
        let terms = Arc::new(CallConditions {
            host: Arc::clone(host),
            platform: kept(&platform.name),
            settings: platform.clone(),
            deadline: start + timeout,
            cancel_at: cancel_after.map(|after| start + after),
        });
        let call = next_number();
        lock(&CALLS).insert(call, Arc::clone(&terms));
        let host = AbiHostHandle {
            functions: *FUNCTIONS,
            plugin: host.number,
        };
        Self {
            abi: AbiCall { host, call },
            terms,
        }
    }

    pub(super) fn abi(&self) -> &AbiCall {
        &self.abi
    }

    pub(super) fn is_overdue(&self) -> bool {
        now() > self.terms.deadline
    }
}

impl Drop for TestCall {
    fn drop(&mut self) {
        lock(&CALLS).remove(&self.abi.call);
    }
}

static FUNCTIONS: LazyLock<AbiHostRef> = LazyLock::new(|| {
    AbiHost {
        max_level,
        log,
        remaining_ns,
        is_cancelled,
        platform,
        complete,
        interval_ns,
        labels,
        set,
        state,
        store_state,
    }
    .leak_into_prefix()
});

extern "C" fn max_level(_: usize) -> AbiLevel {
    AbiLevel::TRACE
}

extern "C" fn log(plugin: usize, _: usize, record: &AbiLogRecord<'_>) {
    let host = lock(&HOSTS).get(&plugin).and_then(Weak::upgrade);
    if let Some(host) = host {
        lock(&host.log).push(LogEntry::from(record));
    }
}

extern "C" fn remaining_ns(call: usize) -> u64 {
    let remaining = terms(call).map_or(Duration::ZERO, |terms| {
        terms.deadline.saturating_duration_since(now())
    });
    u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX)
}

extern "C" fn is_cancelled(call: usize) -> bool {
    terms(call).is_none_or(|terms| {
        let now = now();
        // The host gives up at the deadline too.
        terms.host.cancelled.load(Ordering::SeqCst)
            || now >= terms.deadline
            || terms.cancel_at.is_some_and(|at| now >= at)
    })
}

extern "C" fn platform(call: usize) -> RStr<'static> {
    RStr::from_str(terms(call).map_or("", |terms| terms.platform))
}

extern "C" fn complete(_: usize, _: RResult<AbiReport, AbiFailure>) {
    // No check is begun here: checks are awaited on the test's own thread.
}

extern "C" fn interval_ns(call: usize) -> u64 {
    let interval = terms(call).map_or(Duration::ZERO, |terms| terms.settings.interval);
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}

extern "C" fn labels(call: usize) -> RVec<AbiLabel> {
    let labels = terms(call).map(|terms| terms.settings.labels.clone());
    let labels = labels.into_iter().flatten();
    labels
        .map(|(name, value)| AbiLabel {
            name: name.into(),
            value: value.into(),
        })
        .collect()
}

extern "C" fn set(_: usize, _: usize, _: RStr<'_>, _: RSlice<'_, RStr<'_>>, _: f64) {
    // No report crosses here: a test gets the author's own.
}

extern "C" fn state(call: usize) -> RVec<u8> {
    let state = terms(call).map(|terms| terms.host.state().clone());
    state.unwrap_or_default().into()
}

extern "C" fn store_state(call: usize, state: RSlice<'_, u8>) -> bool {
    let Some(terms) = terms(call).filter(|_| state.len() <= MAX_STATE) else {
        return false;
    };
    *terms.host.state() = state.to_vec();
    true
}

fn terms(call: usize) -> Option<Arc<CallConditions>> {
    lock(&CALLS).get(&call).cloned()
}

/// The ABI promises that a name lives as long as the call; each name is leaked once, in a short-lived process.
fn kept(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = lock(&NAMES);
    names.get(name).copied().unwrap_or_else(|| {
        let name: &str = Box::leak(name.into());
        names.insert(name);
        name
    })
}

fn next_number() -> usize {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    // Never 0, which means no call.
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[expect(
    clippy::disallowed_methods,
    reason = "stands in for the driver that reads the clock"
)]
fn now() -> Instant {
    Instant::now()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static CALLS: Mutex<BTreeMap<usize, Arc<CallConditions>>> = Mutex::new(BTreeMap::new());
static HOSTS: Mutex<BTreeMap<usize, Weak<TestHostState>>> = Mutex::new(BTreeMap::new());
