//! The queue of calls, the calls in flight, and their limit. Pure.
//!
//! Slow calls are only sent as fast as the worker has threads for them, so that the others wait here, where waiting
//! does not count towards their deadline. While the plugin is quick, many more are sent at once, but no more than it
//! completes well before any deadline. Asynchronous calls take no threads while they wait, and are all sent.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{error::MessageError, numbered::NumberedTable};
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
    under_way: NumberedTable<UnderWay>,
    /// In flight and given up by the host; each occupies a thread that may never return.
    given_up: usize,
    /// Smoothed duration of a call.
    usual: Duration,
    /// The open ones. Numbers are not reused: calls into a closed probe may still be on their way.
    probes: NumberedTable<OpenProbe>,
}

/// An open probe, from the host's view.
#[derive(Clone, Copy, Debug, Default)]
struct OpenProbe {
    call: InProbe,
    kept: Option<KeptReport>,
}

/// The report of a probe's last call, which its caller keeps: an equal one need not be sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct KeptReport {
    /// The caller's number of the call. Only its next one may end with the same report: between the two, the caller's
    /// report cannot have changed.
    sequence: u64,
    /// The [revision](crate::redaction::revision) of the secrets that were redacted in it.
    secrets: u64,
}

/// The call into a probe. The guard admits one at a time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum InProbe {
    #[default]
    None,
    Starting {
        given_up: bool,
    },
    UnderWay(u64),
}

/// A call in flight.
pub(super) struct UnderWay {
    pub(super) caller: Arc<dyn CallOwner>,
    pub(super) sequence: u64,
    pub(super) started: Duration,
    /// `true` if the caller has the report of its previous call, and the worker knows it.
    pub(super) known: bool,
    probe: ProbeId,
    given_up: bool,
}

/// A call taken off the queue, with its deadline once it is known to be still wanted.
pub(super) struct StartingCall {
    pub(super) call: AdmittedCall,
    pub(super) deadline: Option<Duration>,
}

/// A call in flight, for the worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartedCall {
    pub(super) request: CallRequest,
    /// Its cancellation, if the host has already given up on it.
    pub(super) cancel: Option<CancelRequest>,
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
            under_way: NumberedTable::new(),
            given_up: 0,
            usual: SLOW,
            probes: NumberedTable::new(),
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
        ProbeId::from_number(self.probes.insert(OpenProbe::default()))
    }

    /// Removes a probe; returns `false` if there is none.
    pub(super) fn close(&mut self, probe: ProbeId) -> bool {
        self.probes.remove(probe.number()).is_some()
    }

    /// Returns the number of open probes.
    pub(super) fn open_probes(&self) -> usize {
        self.probes.len()
    }

    /// Queues calls.
    pub(super) fn wait(&mut self, calls: impl IntoIterator<Item = AdmittedCall>) {
        self.waiting.extend(calls);
    }

    /// Takes the calls that may start off the queue, and adds them to `starting`; each is passed to
    /// [`started`](Self::started) next.
    pub(super) fn ready(&mut self, starting: &mut Vec<StartingCall>) {
        let window = if self.asynchronous {
            IN_FLIGHT
        } else if self.usual < SLOW {
            self.threads.max(QUICK)
        } else {
            self.threads
        };
        let busy = self.under_way.len() + self.starting;
        let room = (window + self.given_up).saturating_sub(busy);
        for _ in 0..room {
            let Some(call) = self.waiting.pop_front() else {
                break;
            };
            self.set(call.probe, InProbe::Starting { given_up: false });
            self.starting += 1;
            starting.push(StartingCall {
                call,
                deadline: None,
            });
        }
    }

    /// Records that a call starts at `now`, or drops it if it is no longer wanted; `secrets` is the revision of the
    /// known ones.
    pub(super) fn started(
        &mut self,
        starting: StartingCall,
        now: Duration,
        secrets: u64,
    ) -> Option<StartedCall> {
        self.starting -= 1;
        let StartingCall { call, deadline } = starting;
        let Some(deadline) = deadline else {
            self.set(call.probe, InProbe::None);
            return None;
        };
        let given_up = self.get(call.probe) == InProbe::Starting { given_up: true };
        self.given_up += usize::from(given_up);
        let known = self.take_kept(call.probe, call.sequence, secrets);
        let number = self.under_way.insert(UnderWay {
            caller: call.caller,
            sequence: call.sequence,
            started: now,
            known,
            probe: call.probe,
            given_up,
        });
        self.set(call.probe, InProbe::UnderWay(number));
        let probe = call.probe.number();
        Some(StartedCall {
            request: CallRequest {
                call: number,
                probe,
                deadline: nanos(deadline),
                known,
            },
            cancel: given_up.then_some(CancelRequest {
                probe,
                call: number,
            }),
        })
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
                let under_way = self.under_way.get_mut(call)?;
                if std::mem::replace(&mut under_way.given_up, true) {
                    return None;
                }
                self.given_up += 1;
                let probe = probe.number();
                Some(CancelRequest { probe, call })
            }
        }
    }

    /// Removes the call that was answered after `took`.
    ///
    /// # Errors
    /// When there is no such call.
    pub(super) fn answered(&mut self, call: u64, took: Duration) -> Result<UnderWay, MessageError> {
        let Some(under_way) = self.under_way.remove(call) else {
            return Err(match self.under_way.has_issued(call) {
                true => MessageError::AnsweredTwice(call),
                false => MessageError::NeverMade(call),
            });
        };
        self.given_up -= usize::from(under_way.given_up);
        if self.get(under_way.probe) == InProbe::UnderWay(call) {
            self.set(under_way.probe, InProbe::None);
        }
        self.usual = (self.usual * 7 + took) / 8;
        Ok(under_way)
    }

    /// Notes that the caller keeps the report of this call, whose `secrets` are redacted.
    pub(super) fn kept(&mut self, call: &UnderWay, secrets: u64) {
        if let Some(probe) = self.probes.get_mut(call.probe.number()) {
            probe.kept = Some(KeptReport {
                sequence: call.sequence,
                secrets,
            });
        }
    }

    /// Returns `true` if the caller of this call keeps the report of the probe's last one; no later call refers to it.
    fn take_kept(&mut self, probe: ProbeId, sequence: u64, secrets: u64) -> bool {
        let probe = self.probes.get_mut(probe.number());
        let kept = probe.and_then(|probe| probe.kept.take());
        kept.is_some_and(|kept| {
            kept.sequence.checked_add(1) == Some(sequence) && kept.secrets == secrets
        })
    }

    /// Removes the calls in flight, and drops the queued ones.
    pub(super) fn take_all(&mut self) -> Vec<UnderWay> {
        self.given_up = 0;
        self.forget_waiting();
        self.under_way.take_all()
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
        let known = self.probes.get(probe.number());
        known.map_or(InProbe::None, |known| known.call)
    }

    fn set(&mut self, probe: ProbeId, to: InProbe) {
        if let Some(known) = self.probes.get_mut(probe.number()) {
            known.call = to;
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

    fn take_ready(calls: &mut WorkerCalls) -> Vec<StartingCall> {
        let mut starting = Vec::new();
        calls.ready(&mut starting);
        starting
    }

    fn start(calls: &mut WorkerCalls, ready: Vec<StartingCall>) -> Vec<StartedCall> {
        let wanted = ready.into_iter().map(|starting| StartingCall {
            deadline: Some(S),
            ..starting
        });
        wanted
            .filter_map(|starting| calls.started(starting, S, 0))
            .collect()
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn slow_calls_are_sent_as_threads_come_free() {
        let mut calls = WorkerCalls::new(2);
        calls_into(&mut calls, 5);
        let ready = take_ready(&mut calls);
        assert_eq!(ready.len(), 2);
        assert!(
            take_ready(&mut calls).is_empty(),
            "those that start count already"
        );
        start(&mut calls, ready);
        assert!(take_ready(&mut calls).is_empty());
        calls.answered(1, S).ok().unwrap();
        assert_eq!(take_ready(&mut calls).len(), 1);
    }

    #[test]
    fn quick_calls_are_sent_at_once_as_far_as_the_worker_gets_through_them_in_time() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = take_ready(&mut calls);
        start(&mut calls, ready);
        calls.answered(0, Duration::ZERO).ok().unwrap();
        calls_into(&mut calls, 100_000);
        assert_eq!(take_ready(&mut calls).len(), QUICK);
    }

    #[test]
    fn asynchronous_calls_are_all_sent_however_long_they_take() {
        let mut calls = WorkerCalls::new(1);
        calls.are_asynchronous();
        calls_into(&mut calls, 100_000);
        let ready = take_ready(&mut calls);
        assert_eq!(ready.len(), IN_FLIGHT);
        start(&mut calls, ready);
        calls.answered(0, S).ok().unwrap();
        assert_eq!(take_ready(&mut calls).len(), 1);
    }

    #[test]
    fn trials_of_an_asynchronous_plugin_are_sent_as_far_as_there_are_threads() {
        let mut calls = WorkerCalls::new(2);
        calls.are_asynchronous();
        calls.keep_threads();
        calls_into(&mut calls, 3);
        assert_eq!(take_ready(&mut calls).len(), 2);
    }

    #[test]
    fn a_call_that_was_given_up_leaves_room_for_another() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 3);
        let ready = take_ready(&mut calls);
        start(&mut calls, ready);
        let cancel = CancelRequest { probe: 0, call: 0 };
        assert_eq!(calls.give_up(ProbeId(0)), Some(cancel));
        assert_eq!(calls.give_up(ProbeId(0)), None, "once");
        let ready = take_ready(&mut calls);
        assert_eq!(ready.len(), 1);
        start(&mut calls, ready);
        calls.answered(0, S).ok().unwrap();
        assert!(
            take_ready(&mut calls).is_empty(),
            "its room is gone with it"
        );
        assert_eq!(calls.give_up(ProbeId(0)), None);
    }

    #[test]
    fn a_call_given_up_before_it_was_sent_is_cancelled_when_it_is() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = take_ready(&mut calls);
        assert_eq!(calls.give_up(ProbeId(0)), None);
        let sent = start(&mut calls, ready);
        let cancel = CancelRequest { probe: 0, call: 0 };
        assert_eq!(sent[0].cancel, Some(cancel));
    }

    #[test]
    fn calls_no_longer_wanted_are_not_sent_and_leave_their_room() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 2);
        let dropped = take_ready(&mut calls).pop().unwrap();
        assert!(calls.started(dropped, S, 0).is_none());
        assert_eq!(take_ready(&mut calls).len(), 1);
    }

    #[test]
    fn a_closed_probe_is_forgotten_and_its_late_answer_disturbs_no_other() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = take_ready(&mut calls);
        start(&mut calls, ready);
        calls.give_up(ProbeId(0)).unwrap();
        assert!(calls.close(ProbeId(0)) && !calls.close(ProbeId(0)));
        for _ in 0..2000 {
            let probe = calls.open();
            calls.close(probe);
        }
        assert_eq!(calls.open_probes(), 0);
        calls_into(&mut calls, 1);
        let ready = take_ready(&mut calls);
        let next = start(&mut calls, ready)[0].request;
        assert_ne!(next.probe, 0);
        calls.answered(0, S).ok().unwrap();
        let probe = ProbeId::from_number(next.probe);
        assert_eq!(calls.get(probe), InProbe::UnderWay(next.call));
    }

    #[test]
    fn only_the_callers_next_call_after_one_whose_report_it_keeps_may_end_with_the_same() {
        let mut calls = WorkerCalls::new(1);
        let probe = calls.open();
        // Starts and ends a call of this number, and returns whether it may end with the last report.
        let mut call = |sequence: u64, kept: Option<u64>, secrets: u64| {
            calls.wait([AdmittedCall {
                probe,
                caller: Arc::new(Nobody),
                sequence,
            }]);
            let starting = StartingCall {
                deadline: Some(S),
                ..take_ready(&mut calls).pop().unwrap()
            };
            let request = calls.started(starting, S, secrets).unwrap().request;
            let ended = calls.answered(request.call, S).ok().unwrap();
            assert_eq!(ended.known, request.known);
            if let Some(secrets) = kept {
                calls.kept(&ended, secrets);
            }
            request.known
        };
        assert!(!call(1, Some(0), 0), "the first");
        assert!(call(2, Some(0), 0));
        assert!(call(3, None, 0));
        assert!(!call(4, None, 0), "the one before failed");
        assert!(!call(5, Some(0), 0));
        assert!(!call(7, Some(0), 0), "another one began in between");
        assert!(!call(8, Some(1), 1), "its text may contain a new secret");
        assert!(call(9, Some(1), 1));
    }

    #[test]
    fn answers_to_no_call_are_told_apart() {
        let mut calls = WorkerCalls::new(1);
        calls_into(&mut calls, 1);
        let ready = take_ready(&mut calls);
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
