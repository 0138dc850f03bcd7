//! The data of a call that the host's functions need while it lasts.
//!
//! A plugin identifies its call by an opaque number. For a call that blocks the calling thread, it is the address of
//! the call's data on that thread's stack. For a call that was begun and continues by itself, it is an odd number that
//! is never reused and is looked up: completing it twice, or asking about it too late, matches nothing rather than
//! another call.
#![expect(
    unsafe_code,
    reason = "a plugin hands the address of the call under way back as a number"
)]

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_core::clock::Clock;

use super::{CallFailure, CallOwner, CheckReport, ProbeSpec, SetValues, observer::CallObserver};

/// The data of a call.
pub struct CallContext {
    pub(super) terms: CallTerms,
    /// The values of declared metrics that it has set so far.
    set: Mutex<SetValues>,
}

/// The probe and the deadline of a call.
#[derive(Clone)]
pub(super) struct CallTerms {
    pub(super) spec: Arc<ProbeSpec>,
    pub(super) deadline: Duration,
    pub(super) clock: Clock,
    /// The caller, which knows whether the call is still wanted.
    pub(super) caller: Option<(Arc<dyn CallOwner>, u64)>,
}

/// The completion callback of a call that was begun.
pub(super) type End = Box<dyn FnOnce(Result<CheckReport, CallFailure>) + Send>;

/// A call that was begun.
pub(super) struct BegunCall {
    /// Shared with code that is asking about it right now.
    data: Arc<CallContext>,
    end: End,
    observer: Option<Arc<dyn CallObserver>>,
}

impl BegunCall {
    /// Takes the values of declared metrics that it has set.
    pub(super) fn take_set(&self) -> SetValues {
        self.data.take_set()
    }

    /// Returns the observer of its result, if any.
    pub(super) fn observer(&self) -> Option<&dyn CallObserver> {
        self.observer.as_deref()
    }

    /// Ends the call.
    pub(super) fn end(self, result: Result<CheckReport, CallFailure>) {
        // The platform's name was lent to the plugin until now.
        let Self { data, end, .. } = self;
        end(result);
        drop(data);
    }
}

/// The number of a call that was begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CallNumber(pub(super) usize);

impl CallContext {
    /// Creates the data of a probe's call with this `deadline`, which is never given up.
    pub fn new(spec: Arc<ProbeSpec>, deadline: Duration, clock: Clock) -> Self {
        Self::of(CallTerms {
            spec,
            deadline,
            clock,
            caller: None,
        })
    }

    pub(super) fn of(terms: CallTerms) -> Self {
        let set = Mutex::default();
        Self { terms, set }
    }

    /// Returns the name of its platform.
    pub(super) fn platform(&self) -> &str {
        &self.terms.spec.platform
    }

    /// Takes the values of declared metrics that it has set.
    pub(super) fn take_set(&self) -> SetValues {
        std::mem::take(&mut *self.set())
    }

    /// Returns the values of declared metrics that it has set so far.
    pub(super) fn set(&self) -> MutexGuard<'_, SetValues> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns its number while it blocks the calling thread.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).expose_provenance()
    }
}

impl CallTerms {
    /// Returns the time left until the deadline.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.clock.now())
    }

    /// Returns `true` if the host has given up on it.
    pub(super) fn is_cancelled(&self) -> bool {
        let caller = self.caller.as_ref();
        caller.is_some_and(|(caller, sequence)| caller.is_cancelled(*sequence))
    }
}

/// Registers a call that is about to begin; `end` is called once with its result, from a thread of the plugin.
pub(super) fn begin(data: CallContext, end: End) -> CallNumber {
    let number = NEXT.fetch_add(2, Ordering::Relaxed);
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let call = BegunCall {
        data: Arc::new(data),
        end,
        observer: None,
    };
    begun.insert(number, call);
    CallNumber(number)
}

/// Sets the observer of the result of a call that is about to begin.
pub(super) fn observe(call: CallNumber, observer: &Arc<dyn CallObserver>) {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(call) = begun.get_mut(&call.0) {
        call.observer = Some(Arc::clone(observer));
    }
}

/// Removes a begun call that is over; `None` if there is no such call (any more).
pub(super) fn take(call: usize) -> Option<BegunCall> {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    begun.remove(&call)
}

/// Calls `ask` with the data of this call; 0 is none.
pub(super) fn with<T>(call: usize, ask: impl FnOnce(&CallContext) -> T) -> Option<T> {
    if call % 2 == 1 {
        let data = {
            let begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
            begun.get(&call).map(|call| Arc::clone(&call.data))
        };
        return data.map(|data| ask(&data));
    }
    let data = std::ptr::with_exposed_provenance::<CallContext>(call);
    // SAFETY: null outside a call; otherwise the address of the `CallContext` on the stack of the thread that is inside
    // the call, and the API lends it to the plugin for exactly that long.
    unsafe { data.as_ref() }.map(ask)
}

/// Returns the platform of a call, valid as long as the call.
pub(super) fn platform(call: usize) -> &'static str {
    with(call, |data| {
        // SAFETY: the text lives as long as the call, and the API lends it to the plugin for exactly that long.
        unsafe { &*std::ptr::from_ref::<str>(data.platform()) }
    })
    .unwrap_or("")
}

static BEGUN: LazyLock<Mutex<HashMap<usize, BegunCall>>> = LazyLock::new(Mutex::default);
/// Odd, unlike any address of a `CallContext`.
static NEXT: AtomicUsize = AtomicUsize::new(1);
