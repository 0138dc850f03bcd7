//! What the host's functions know of a call while it lasts.
//!
//! A plugin names its call by a number that means nothing to it. A call that the calling thread waits for is named by the
//! address of its data on that thread's stack. One that was begun and goes on by itself is named by an odd number, which is
//! never used again and is looked up: so one that is completed twice, or asked about too late, is nobody's rather than
//! another's.
#![expect(
    unsafe_code,
    reason = "a plugin hands the address of the call under way back as a number"
)]

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use conductor_core::clock::Clock;

use super::{Caller, Failure, Report};

/// Whom a call is for, and how long it may take.
#[derive(Clone)]
pub struct CallData {
    pub(super) platform: Arc<str>,
    pub(super) deadline: Duration,
    pub(super) clock: Clock,
    /// Who can tell whether it is still wanted.
    pub(super) caller: Option<(Arc<dyn Caller>, u64)>,
}

/// What is done at the end of a call that was begun.
pub(super) type End = Box<dyn FnOnce(Result<Report, Failure>) + Send>;

/// A call that was begun.
pub(super) struct BegunCall {
    /// Shared with whoever asks about it at this moment.
    data: Arc<CallData>,
    end: End,
}

impl BegunCall {
    /// The call is over.
    pub(super) fn end(self, result: Result<Report, Failure>) {
        // The platform's name was lent to the plugin up to here.
        let Self { data, end } = self;
        end(result);
        drop(data);
    }
}

/// The number of a call that was begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Begun(pub(super) usize);

impl CallData {
    /// A call of a platform's that may take until `deadline`, and that nobody gives up.
    pub fn new(platform: &str, deadline: Duration, clock: Clock) -> Self {
        Self {
            platform: platform.into(),
            deadline,
            clock,
            caller: None,
        }
    }

    /// Its name while the calling thread waits for it.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).expose_provenance()
    }

    /// How long it may still take.
    pub(super) fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.clock.now())
    }

    /// Whether the host has given up on it.
    pub(super) fn is_cancelled(&self) -> bool {
        let caller = self.caller.as_ref();
        caller.is_some_and(|(caller, sequence)| caller.is_cancelled(*sequence))
    }
}

/// Notes a call that is about to be begun; `end` is called once with what came of it, from a thread of the plugin's.
pub(super) fn begin(data: CallData, end: End) -> Begun {
    let number = NEXT.fetch_add(2, Ordering::Relaxed);
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    let call = BegunCall {
        data: Arc::new(data),
        end,
    };
    begun.insert(number, call);
    Begun(number)
}

/// Takes out a call that was begun and is over; `None` where nobody waits for it (any more).
pub(super) fn take(call: usize) -> Option<BegunCall> {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    begun.remove(&call)
}

/// Asks about the call of this name; 0 is none.
pub(super) fn with<T>(call: usize, ask: impl FnOnce(&CallData) -> T) -> Option<T> {
    if call % 2 == 1 {
        let data = {
            let begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
            begun.get(&call).map(|call| Arc::clone(&call.data))
        };
        return data.map(|data| ask(&data));
    }
    let data = std::ptr::with_exposed_provenance::<CallData>(call);
    // SAFETY: null outside a call; else the address of the `CallData` on the stack of the thread that is inside the
    // call, where the API lends it to the plugin for just as long.
    unsafe { data.as_ref() }.map(ask)
}

/// The platform of a call, for as long as that lasts.
pub(super) fn platform(call: usize) -> &'static str {
    with(call, |data| {
        // SAFETY: the text lives as long as the call, which is for how long the API lends it to the plugin.
        unsafe { &*std::ptr::from_ref::<str>(&data.platform) }
    })
    .unwrap_or("")
}

static BEGUN: LazyLock<Mutex<HashMap<usize, BegunCall>>> = LazyLock::new(Mutex::default);
/// Odd, as no address of a `CallData` is.
static NEXT: AtomicUsize = AtomicUsize::new(1);
