//! The queue of calls, the calls in flight, and their limit. Pure.
//!
//! Slow calls are only sent as fast as the worker has threads for them, so that the others wait here, where waiting
//! does not count towards their deadline. While the plugin is quick, many more are sent at once, but no more than it
//! completes well before any deadline. Asynchronous calls take no threads while they wait, and are all sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::error::MessageError;
use crate::{
    AdmittedCall, CallOwner, ProbeId,
    protocol::messages::{CallRequest, nanos},
};

/// The calls into one worker, from their arrival to their answer.
pub(super) struct WorkerCalls {
    threads: usize,
    asynchronous: bool,
    waiting: VecDeque<AdmittedCall>,
    /// Taken off the queue, but not yet in flight.
    starting: usize,
    under_way: HashMap<u64, UnderWay>,
    /// In flight and given up by the host; each occupies a thread that may never return.
    given_up: usize,
    /// Smoothed duration of a call.
    usual: Duration,
    next_call: u64,
    next_probe: usize,
    /// The open ones. Numbers are not reused: calls into a closed probe may still be on their way.
    probes: HashMap<usize, InProbe>,
}

/// The call into a probe. The guard admits one at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum InProbe {
    None,
    Starting { given_up: bool },
    UnderWay(u64),
}

/// A call in flight.
pub(super) struct UnderWay {
    pub(super) caller: Arc<dyn CallOwner>,
    pub(super) sequence: u64,
    pub(super) started: Duration,
    probe: ProbeId,
    given_up: bool,
}

/// A call taken off the queue, with its deadline if it is still wanted.
pub(super) struct StartingCall {
    pub(super) call: AdmittedCall,
    pub(super) deadline: Option<Duration>,
}

/// The messages for the worker.
#[derive(Default)]
pub(super) struct ToSend {
    pub(super) requests: Vec<CallRequest>,
    pub(super) cancels: Vec<CancelRequest>,
}

/// A call that the host has given up on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CancelRequest {
    pub(super) probe: u64,
    pub(super) call: u64,
}

impl WorkerCalls {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: threads.max(1),
            asynchronous: false,
            waiting: VecDeque::new(),
            starting: 0,
            under_way: HashMap::new(),
            given_up: 0,
            usual: SLOW,
            next_call: 0,
            next_probe: 0,
            probes: HashMap::new(),
        }
    }

    /// Records that the worker's threads only begin calls, which then continue by themselves.
    pub(super) fn are_asynchronous(&mut self) {
        self.asynchronous = true;
    }

    /// Records that the calls are trials of configs, which occupy their threads in an asynchronous plugin, too.
    pub(super) fn keep_threads(&mut self) {
        self.asynchronous = false;
    }

    pub(super) fn open(&mut self) -> ProbeId {
        let probe = self.next_probe;
        self.next_probe += 1;
        self.probes.insert(probe, InProbe::None);
        ProbeId(probe)
    }

    /// Removes a probe; returns `false` if there is none.
    pub(super) fn close(&mut self, probe: ProbeId) -> bool {
        let known = self.probes.remove(&probe.0).is_some();
        // Frees memory after all platforms of a host changed at once.
        if self.probes.len() < self.probes.capacity() / 4 {
            self.probes.shrink_to(self.probes.len() * 2);
        }
        known
    }

    /// Returns the number of open probes.
    pub(super) fn open_probes(&self) -> usize {
        self.probes.len()
    }

    /// Queues calls.
    pub(super) fn wait(&mut self, calls: impl IntoIterator<Item = AdmittedCall>) {
        self.waiting.extend(calls);
    }

    /// Takes the calls that may start off the queue; each is passed to [`started`](Self::started) next.
    pub(super) fn ready(&mut self) -> Vec<AdmittedCall> {
        let window = if self.asynchronous {
            IN_FLIGHT
        } else if self.usual < SLOW {
            self.threads.max(QUICK)
        } else {
            self.threads
        };
        let busy = self.under_way.len() + self.starting;
        let room = (window + self.given_up).saturating_sub(busy);
        let ready: Vec<_> = self.waiting.drain(..room.min(self.waiting.len())).collect();
        for call in &ready {
            self.set(call.probe, InProbe::Starting { given_up: false });
        }
        self.starting += ready.len();
        ready
    }

    /// Records the calls that start at `now`, and drops those that are no longer wanted.
    pub(super) fn started(
        &mut self,
        calls: impl ExactSizeIterator<Item = StartingCall>,
        now: Duration,
    ) -> ToSend {
        let mut to_send = ToSend {
            requests: Vec::with_capacity(calls.len()),
            cancels: Vec::new(),
        };
        for StartingCall { call, deadline } in calls {
            self.starting -= 1;
            let Some(deadline) = deadline else {
                self.set(call.probe, InProbe::None);
                continue;
            };
            let (number, probe) = (self.next_call, call.probe.0 as u64);
            self.next_call += 1;
            let given_up = self.get(call.probe) == InProbe::Starting { given_up: true };
            if given_up {
                self.given_up += 1;
                let call = number;
                to_send.cancels.push(CancelRequest { probe, call });
            }
            self.set(call.probe, InProbe::UnderWay(number));
            let under_way = UnderWay {
                caller: call.caller,
                sequence: call.sequence,
                started: now,
                probe: call.probe,
                given_up,
            };
            self.under_way.insert(number, under_way);
            to_send.requests.push(CallRequest {
                call: number,
                probe,
                deadline: nanos(deadline),
            });
        }
        to_send
    }

    /// Notes that the host no longer waits for the call into this probe.
    pub(super) fn give_up(&mut self, probe: ProbeId) -> Option<CancelRequest> {
        match self.get(probe) {
            InProbe::None => None,
            InProbe::Starting { .. } => {
                self.set(probe, InProbe::Starting { given_up: true });
                None
            }
            InProbe::UnderWay(call) => {
                let under_way = self.under_way.get_mut(&call)?;
                if std::mem::replace(&mut under_way.given_up, true) {
                    return None;
                }
                self.given_up += 1;
                let probe = probe.0 as u64;
                Some(CancelRequest { probe, call })
            }
        }
    }

    /// Removes the call that was answered after `took`.
    ///
    /// # Errors
    /// When there is no such call.
    pub(super) fn answered(&mut self, call: u64, took: Duration) -> Result<UnderWay, MessageError> {
        let Some(under_way) = self.under_way.remove(&call) else {
            return Err(if call < self.next_call {
                MessageError::AnsweredTwice(call)
            } else {
                MessageError::NeverMade(call)
            });
        };
        self.given_up -= usize::from(under_way.given_up);
        if self.get(under_way.probe) == InProbe::UnderWay(call) {
            self.set(under_way.probe, InProbe::None);
        }
        self.usual = (self.usual * 7 + took) / 8;
        Ok(under_way)
    }

    /// Removes the calls in flight, and drops the queued ones.
    pub(super) fn take_all(&mut self) -> Vec<UnderWay> {
        let under_way = std::mem::take(&mut self.under_way).into_values();
        self.given_up = 0;
        self.forget_waiting();
        under_way.collect()
    }

    /// Drops the queued calls.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Returns `true` if calls are queued.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn get(&self, probe: ProbeId) -> InProbe {
        let known = self.probes.get(&probe.0).copied();
        known.unwrap_or(InProbe::None)
    }

    fn set(&mut self, probe: ProbeId, to: InProbe) {
        if let Some(known) = self.probes.get_mut(&probe.0) {
            *known = to;
        }
    }
}

/// Calls that usually take at least this long get a thread each, as in [`threads`](crate::threads).
const SLOW: Duration = Duration::from_micros(50);
/// Maximum number of quick calls in flight: they take a worker several milliseconds, at worst 100 ms. More of them
/// would pass their deadlines in its queue on an overloaded machine, and appear stuck.
const QUICK: usize = 2048;
/// Maximum number of asynchronous calls in flight: together they take about 64 MiB of the worker's memory. Beginning
/// one takes it a few microseconds. Other needs of a check are between the plugin and the worker's limits: many wait
/// for a socket each, of which `open_files` allows far fewer, others for nothing.
const IN_FLIGHT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallFailure, CheckReport, DeliveryOutcome};

    struct Nobody;
    impl CallOwner for Nobody {
        fn started(&self, _: u64, now: Duration) -> Option<Duration> {
            Some(now)
        }

        fn finished(
            &self,
            _: u64,
            _: Duration,
            _: Result<&CheckReport, CallFailure>,
        ) -> DeliveryOutcome {
            DeliveryOutcome::Yes
        }

        fn is_cancelled(&self, _: u64) -> bool {
            false
        }
    }

    fn calls_into(calls: &mut WorkerCalls, probes: usize) {
        let probes: Vec<_> = (0..probes).map(|_| calls.open()).collect();
        calls.wait(probes.into_iter().map(|probe| AdmittedCall {
            probe,
            caller: Arc::new(Nobody),
            sequence: 0,
        }));
    }

    fn start(calls: &mut WorkerCalls, ready: Vec<AdmittedCall>) -> ToSend {
        let starting = ready.into_iter().map(|call| StartingCall {
            call,
            deadline: Some(S),
        });
        calls.started(starting, S)
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn slow_calls_are_sent_as_threads_come_free() {
        let mut calls = WorkerCalls::new(2);
        calls_into(&mut calls, 5);
        let ready = calls.ready();
        assert_eq!(ready.len(), 2);
        assert!(calls.ready().is_empty(), "those that start count already");
        start(&mut calls, ready);
        assert!(calls.ready().is_empty());
        calls.answered(1, S).ok().unwrap();
        assert_eq!(calls.ready().len(), 1);
    }

    #[test]
    fn quick_calls_are_sent_at_once_as_far_as_the_worker_gets_through_them_in_time() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = calls.ready();
        start(&mut calls, ready);
        calls.answered(0, Duration::ZERO).ok().unwrap();
        calls_into(&mut calls, 100_000);
        assert_eq!(calls.ready().len(), QUICK);
    }

    #[test]
    fn asynchronous_calls_are_all_sent_however_long_they_take() {
        let mut calls = WorkerCalls::new(1);
        calls.are_asynchronous();
        calls_into(&mut calls, 100_000);
        let ready = calls.ready();
        assert_eq!(ready.len(), IN_FLIGHT);
        start(&mut calls, ready);
        calls.answered(0, S).ok().unwrap();
        assert_eq!(calls.ready().len(), 1);
    }

    #[test]
    fn trials_of_an_asynchronous_plugin_are_sent_as_far_as_there_are_threads() {
        let mut calls = WorkerCalls::new(2);
        calls.are_asynchronous();
        calls.keep_threads();
        calls_into(&mut calls, 3);
        assert_eq!(calls.ready().len(), 2);
    }

    #[test]
    fn a_call_that_was_given_up_leaves_room_for_another() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 3);
        let ready = calls.ready();
        start(&mut calls, ready);
        let cancel = CancelRequest { probe: 0, call: 0 };
        assert_eq!(calls.give_up(ProbeId(0)), Some(cancel));
        assert_eq!(calls.give_up(ProbeId(0)), None, "once");
        let ready = calls.ready();
        assert_eq!(ready.len(), 1);
        start(&mut calls, ready);
        calls.answered(0, S).ok().unwrap();
        assert!(calls.ready().is_empty(), "its room is gone with it");
        assert_eq!(calls.give_up(ProbeId(0)), None);
    }

    #[test]
    fn a_call_given_up_before_it_was_sent_is_cancelled_when_it_is() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = calls.ready();
        assert_eq!(calls.give_up(ProbeId(0)), None);
        let sent = start(&mut calls, ready);
        assert_eq!(sent.cancels, [CancelRequest { probe: 0, call: 0 }]);
    }

    #[test]
    fn calls_no_longer_wanted_are_not_sent_and_leave_their_room() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 2);
        let dropped = calls.ready().into_iter().map(|call| StartingCall {
            call,
            deadline: None,
        });
        assert!(calls.started(dropped, S).requests.is_empty());
        assert_eq!(calls.ready().len(), 1);
    }

    #[test]
    fn a_closed_probe_is_forgotten_and_its_late_answer_disturbs_no_other() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = calls.ready();
        start(&mut calls, ready);
        calls.give_up(ProbeId(0)).unwrap();
        assert!(calls.close(ProbeId(0)) && !calls.close(ProbeId(0)));
        for _ in 0..2000 {
            let probe = calls.open();
            calls.close(probe);
        }
        assert_eq!(calls.open_probes(), 0);
        assert!(calls.probes.capacity() < 64);
        calls_into(&mut calls, 1);
        let ready = calls.ready();
        start(&mut calls, ready);
        calls.answered(0, S).ok().unwrap();
        let probe = ProbeId(calls.next_probe - 1);
        assert_eq!(calls.get(probe), InProbe::UnderWay(1));
    }

    #[test]
    fn answers_to_no_call_are_told_apart() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = calls.ready();
        start(&mut calls, ready);
        calls.answered(0, S).ok().unwrap();
        let wrong = |answered: Result<UnderWay, MessageError>| answered.err().unwrap().to_string();
        assert_eq!(wrong(calls.answered(0, S)), "answered call 0 twice");
        assert_eq!(
            wrong(calls.answered(1, S)),
            "answered call 1, which was never made"
        );
    }
}
