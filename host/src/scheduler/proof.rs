//! A new library proves itself beside the running one: one check of each platform, which nobody counts.
//!
//! This is the one exception to the rule that a platform has at most one call under way: the running generation goes on
//! meanwhile, so that no slot is missed whatever becomes of the new one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::plugin::{Call, Caller, Failure, ProbeId, Report, Waiting};

/// The checks of one proof.
pub(super) struct Proof(Mutex<Checks>);

struct Checks {
    /// Each platform's place, with the failure if its check came to one.
    ended: BTreeMap<usize, Option<Failure>>,
    wanted: usize,
    /// Called once, with the last check's end.
    done: Option<Box<dyn FnOnce() + Send>>,
}

impl Proof {
    /// Makes the calls of a proof: one for each platform's place, probe and timeout. `done` is called when all have ended.
    pub(super) fn start(
        probes: &[(usize, ProbeId, Duration)],
        done: impl FnOnce() + Send + 'static,
    ) -> (Arc<Self>, Vec<Call>) {
        let proof = Arc::new(Self(Mutex::new(Checks {
            ended: BTreeMap::new(),
            wanted: probes.len(),
            done: Some(Box::new(done)),
        })));
        let call = |&(platform, probe, timeout): &(usize, ProbeId, Duration)| Call {
            probe,
            caller: Arc::new(ProvingCall {
                proof: Arc::clone(&proof),
                platform,
                timeout,
            }),
            sequence: 0,
        };
        let calls = probes.iter().map(call).collect();
        (proof, calls)
    }

    /// How the check of the platform at this place ended; one that is still under way has failed.
    pub(super) fn failure(&self, platform: usize) -> Option<String> {
        match self.lock().ended.get(&platform) {
            Some(failure) => {
                let failure = failure.as_ref()?;
                Some(format!("{}: {failure}", failure.kind.label()))
            }
            None => Some("timeout: no answer in time".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One platform's check within a proof.
struct ProvingCall {
    proof: Arc<Proof>,
    platform: usize,
    timeout: Duration,
}

impl Caller for ProvingCall {
    fn started(&self, _: u64, now: Duration) -> Option<Duration> {
        Some(now + self.timeout)
    }

    fn finished(&self, _: u64, _: Duration, result: Result<&Report, Failure>) -> Waiting {
        let mut checks = self.proof.lock();
        checks.ended.insert(self.platform, result.err());
        let done = match checks.ended.len() == checks.wanted {
            true => checks.done.take(),
            false => None,
        };
        drop(checks);
        if let Some(done) = done {
            done();
        }
        Waiting::Yes
    }

    fn is_cancelled(&self, _: u64) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::metrics::ErrorType;

    #[test]
    fn it_is_done_with_the_last_check_and_tells_each_failure() {
        let done = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&done);
        let second = Duration::from_secs(1);
        let probes = [(3, ProbeId(0), second), (5, ProbeId(1), second)];
        let (proof, calls) = Proof::start(&probes, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(calls[0].caller.started(0, second), Some(2 * second));
        let failure = Failure::new(ErrorType::Panic, "on purpose");
        calls[1].caller.finished(0, second, Err(failure));
        assert_eq!(done.load(Ordering::Relaxed), 0);
        assert_eq!(proof.failure(5).unwrap(), "panic: on purpose");
        assert!(proof.failure(3).unwrap().contains("no answer"));
        calls[0].caller.finished(0, second, Ok(&Report::empty()));
        assert_eq!(done.load(Ordering::Relaxed), 1);
        assert_eq!(proof.failure(3), None);
    }
}
