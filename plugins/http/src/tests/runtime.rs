//! Concurrent checks, which share one runtime, and their duration.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    mpsc::sync_channel,
};

use conductor_net::TimeLimit;

use super::*;
use crate::progress::{CheckPhase, CheckProgress};

#[test]
fn no_check_waits_for_another_whichever_is_done_first() {
    for first in [0, 1] {
        thread::scope(|scope| {
            let mut checks: Vec<_> = (0..2)
                .map(|_| {
                    let (asked, was_asked) = sync_channel(1);
                    let (answer, may_answer) = sync_channel::<()>(1);
                    let may_answer = std::sync::Mutex::new(may_answer);
                    let address = serve(move |_, stream| {
                        asked.send(()).unwrap();
                        may_answer.lock().unwrap().recv().unwrap();
                        stream
                            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                            .unwrap();
                    });
                    let check = scope.spawn(move || patient(&get(address)));
                    was_asked.recv().unwrap();
                    (answer, check)
                })
                .collect();
            // Both are running.
            let last = checks.remove(1 - first);
            for (answer, check) in [checks.remove(0), last] {
                answer.send(()).unwrap();
                assert_healthy(&check.join().unwrap());
            }
        });
    }
}

#[test]
fn the_steps_of_all_requests_add_up() {
    let remaining = AtomicU64::new(60);
    let clock = || Duration::from_secs(remaining.load(Ordering::SeqCst));
    let mut progress = CheckProgress::new(TimeLimit::of(&clock));
    for phase in [
        CheckPhase::Connect,
        CheckPhase::Tls,
        CheckPhase::Connect,
        CheckPhase::Transfer,
    ] {
        progress.enter(phase);
        remaining.fetch_sub(5, Ordering::SeqCst);
    }
    let report = metrics::set(
        Report::healthy(""),
        20.0,
        &progress.phases,
        &progress.findings,
    );
    assert_eq!(phases(&report), ["connect", "tls"]);
    assert_eq!(phase(&report, "connect"), 10.0);
    assert_eq!(phase(&report, "tls"), 5.0);
}

#[test]
fn many_checks_at_once_all_end() {
    let silent = serve(|_, stream| keep_silent(stream));
    let healthy = answering("HTTP/1.1 204 No Content\r\n\r\n");
    thread::scope(|scope| {
        let silent: Vec<_> = (0..32)
            .map(|_| scope.spawn(move || impatient(&get(silent))))
            .collect();
        let healthy: Vec<_> = (0..32)
            .map(|_| scope.spawn(move || patient(&get(healthy))))
            .collect();
        for check in healthy {
            assert_healthy(&check.join().unwrap());
        }
        for check in silent {
            assert_unhealthy(&check.join().unwrap(), "no answer within");
        }
    });
}
