//! Level 4: the probe under resource shortage, and while signals interrupt it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    advice::LanguageAdvice,
    behaviour::{CHECK, MARGIN, TestBench},
    catalogue::PluginTest,
    machine,
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};

fn low_memory(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    go_on!(bench.check(probe));
    // The panic barrier can catch a panic, but Rust aborts on a failed allocation.
    if let Err(verdict) = limit(Resource::As, machine::address_space() + (8 << 20)) {
        return verdict;
    }
    subject.doing(
        "checking with 8 MiB of memory left, which a process that aborts over it does not survive",
    );
    for _ in 0..5 {
        match bench.harness.check(probe, CHECK, MARGIN) {
            None => {
                return TestVerdict::failed(
                    "with 8 MiB of memory left a check is not back at its deadline",
                    subject.cure(LanguageAdvice::Failure),
                );
            }
            Some(end) => {
                if let Some(panic) = end.panic() {
                    return TestVerdict::warning(
                        format!("with 8 MiB of memory left a check ends in {}", told(panic)),
                        subject.cure(LanguageAdvice::Failure),
                    );
                }
            }
        }
    }
    TestVerdict::passed("")
}

fn no_descriptors(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    let alone = go_on!(bench.check(probe));
    if let Err(verdict) = limit(Resource::Nofile, 0) {
        return verdict;
    }
    subject.doing("checking without a free descriptor");
    for _ in 0..5 {
        match bench.harness.check(probe, CHECK, MARGIN) {
            None => {
                return TestVerdict::failed(
                    "without a free descriptor a check is not back at its deadline",
                    format!(
                        "{}, and do not try again in a loop",
                        subject.cure(LanguageAdvice::Failure)
                    ),
                );
            }
            Some(end) => {
                if let Some(panic) = end.panic() {
                    return TestVerdict::failed(
                        format!("without a free descriptor a check ends in {}", told(panic)),
                        subject.cure(LanguageAdvice::Failure),
                    );
                }
            }
        }
    }
    if let Err(verdict) = limit(Resource::Nofile, 256) {
        return verdict;
    }
    let after = go_on!(bench.check(probe));
    match (alone.result, after.result) {
        (Ok(_), Err(failure)) => TestVerdict::failed(
            format!("once there are descriptors again, the check fails: {failure}"),
            "leave nothing behind in a check that failed",
        ),
        _ => TestVerdict::passed(""),
    }
}

/// Sets a soft limit of this process.
fn limit(resource: Resource, to: u64) -> Result<(), TestVerdict> {
    let maximum = getrlimit(resource).maximum;
    let limit = Rlimit {
        current: Some(to),
        maximum,
    };
    setrlimit(resource, limit)
        .map_err(|e| TestVerdict::skipped(format!("the limit cannot be set: {e}")))
}

fn signals(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    let probe = bench.open();
    let alone = go_on!(bench.check(probe));
    if !machine::let_signals_interrupt() {
        return TestVerdict::skipped("no signal handler can be set");
    }
    subject.doing("checking while signals interrupt every system call");
    let stopped = AtomicBool::new(false);
    let ends = thread::scope(|scope| {
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                machine::interrupt_the_others();
                thread::sleep(Duration::from_micros(500));
            }
        });
        let ends: Vec<_> = (0..20)
            .map(|_| bench.harness.check(probe, CHECK, MARGIN))
            .collect();
        stopped.store(true, Ordering::Relaxed);
        ends
    });
    for end in ends {
        let Some(end) = end else {
            return TestVerdict::failed(
                "while signals come in, a check is not back at its deadline",
                "reckon with what is left of the deadline after each interruption",
            );
        };
        if let Some(panic) = end.panic() {
            return TestVerdict::failed(
                format!("while signals come in, a check ends in {}", told(panic)),
                "try a call again that was interrupted (EINTR)",
            );
        }
        if let (Ok(_), Err(failure)) = (&alone.result, &end.result) {
            return TestVerdict::failed(
                format!("while signals come in, a check fails that went well without: {failure}"),
                "try a call again that was interrupted (EINTR)",
            );
        }
    }
    TestVerdict::passed("")
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        4,
        "stress/low-memory",
        "With 8 MiB of memory left a check fails or goes well, and does not abort.",
        low_memory,
    )
    .may_die(),
    PluginTest::new(
        4,
        "stress/no-descriptors",
        "Without a free descriptor a check fails or goes well, and once there are some again it goes well.",
        no_descriptors,
    )
    .within(30),
    PluginTest::new(
        4,
        "stress/signals",
        "Signals that interrupt system calls change no result.",
        signals,
    )
    .within(60),
];
