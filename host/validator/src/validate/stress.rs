//! Level 4: the probe under heavy load.

use std::time::Duration;

use conductor_runtime::{ProbeId, door::HostFunctions};

use super::{
    advice::LanguageAdvice,
    behaviour::{CHECK, MARGIN, TestBench},
    catalogue::PluginTest,
    growth::LeakableResources,
    machine,
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};

fn in_flight(subject: &LibraryUnderTest) -> TestVerdict {
    let asynchronous = go_on!(subject.door()).description().asynchronous;
    let (probes, at_once) = if asynchronous { (10_000, 8) } else { (640, 64) };
    let bench = go_on!(TestBench::new(subject, at_once));
    let alone = go_on!(bench.check(bench.open()));
    let probes: Vec<ProbeId> = (0..probes).map(|_| bench.open()).collect();
    let count = probes.len();
    let before = LeakableResources::now();
    subject.doing(format!("checking {count} probes at once"));
    let within = Duration::from_secs(10);
    let calls = bench.harness.start(&probes, within);
    let ends = bench.harness.wait(&calls, Duration::from_secs(60));
    let threads = machine::threads();
    let back = ends.iter().flatten().count();
    if back < count {
        return match alone.result {
            Ok(_) => TestVerdict::failed(
                format!(
                    "of {count} checks at once {} do not come back",
                    count - back
                ),
                "complete every check that was begun, at its deadline at the latest",
            ),
            Err(_) => {
                TestVerdict::skipped("a check alone fails already; give a --config that works here")
            }
        };
    }
    if let Some(panic) = ends.iter().flatten().find_map(|end| end.panic().cloned()) {
        return TestVerdict::failed(
            format!("one of {count} checks at once ends in {}", told(&panic)),
            "share nothing between probes, or share it safely",
        );
    }
    if asynchronous && threads > before.threads + 64 {
        return TestVerdict::warning(
            format!(
                "{count} checks at once take {} threads",
                threads - before.threads
            ),
            "leave nothing that blocks to a pool of threads",
        );
    }
    let failed = ends
        .iter()
        .flatten()
        .filter(|end| end.result.is_err())
        .count();
    TestVerdict::passed(format!("{count} checks, {failed} of them failures"))
}

fn soak(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 4));
    let probes: Vec<ProbeId> = (0..4).map(|_| bench.open()).collect();
    let begun = subject.clock.now();
    let mut rounds = 0_u64;
    let (mut early, mut halfway) = (None, None);
    while subject.clock.now() - begun < SOAK {
        let calls = bench.harness.start(&probes, CHECK);
        for end in bench.harness.wait(&calls, CHECK + MARGIN) {
            match end {
                None => {
                    return TestVerdict::skipped(
                        "a check was not back at its deadline, see time/deadline",
                    );
                }
                Some(end) => {
                    if let Some(panic) = end.panic() {
                        return TestVerdict::failed(
                            format!("after {rounds} rounds a check ends in {}", told(panic)),
                            subject.cure(LanguageAdvice::Failure),
                        );
                    }
                }
            }
        }
        rounds += 1;
        let since = subject.clock.now() - begun;
        if since >= EARLY {
            let kib = machine::memory_kib();
            let (then, kib_then) = *early.get_or_insert((since, kib));
            let grown = kib.saturating_sub(kib_then);
            if grown > FAST_KIB {
                let seconds = (since - then).as_secs_f64();
                return TestVerdict::failed(
                    format!("checks leave {grown} KiB of memory within {seconds:.1} s"),
                    LET_GO,
                );
            }
        }
        if halfway.is_none() && subject.clock.now() - begun > SOAK / 2 {
            halfway = Some((rounds, LeakableResources::now()));
        }
    }
    let Some((earlier, before)) = halfway else {
        return TestVerdict::skipped("the machine is too busy for a second half");
    };
    let after = LeakableResources::now();
    let checks = (rounds - earlier) * 4;
    let per_hour = after.memory_kib.saturating_sub(before.memory_kib) * 120;
    match before.growth(&after, 2048) {
        Some(grown) => TestVerdict::failed(
            format!("{checks} checks within 30 s leave {grown} ({per_hour} KiB an hour)"),
            LET_GO,
        ),
        None => TestVerdict::passed(format!("{} checks; {per_hour} KiB an hour", rounds * 4)),
    }
}

fn newer_host(subject: &LibraryUnderTest) -> TestVerdict {
    let check = |functions: HostFunctions| {
        let bench = TestBench::with_functions(subject, 1, functions)?;
        let probe = bench.open();
        let mut result = bench.check(probe)?.result;
        for _ in 0..2 {
            result = result.and(bench.check(probe)?.result);
        }
        Ok(result)
    };
    let Err(failure) = go_on!(check(HostFunctions::NextMinor)) else {
        return TestVerdict::passed("");
    };
    match go_on!(check(HostFunctions::Current)) {
        Ok(_) => TestVerdict::failed(
            format!("with a host of the next minor version a check fails: {failure}"),
            "accept every minor version: a newer host has all functions of today's",
        ),
        Err(_) => TestVerdict::passed("a failure, as with this host"),
    }
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        4,
        "stress/in-flight",
        "Ten thousand checks are in flight at once, or 64 at a time where they block, and all come back.",
        in_flight,
    )
    .within(120),
    PluginTest::new(
        4,
        "stress/newer-host",
        "A host that is one minor of the API newer can use it.",
        newer_host,
    ),
    PluginTest::new(
        4,
        "stress/soak",
        "A minute of checks without a pause leaves no memory, descriptors or threads.",
        soak,
    )
    .within(90),
];

const SOAK: Duration = Duration::from_secs(60);
/// Time after which caches are filled, and growth by `FAST_KIB` is proof of a leak.
const EARLY: Duration = Duration::from_secs(2);
const FAST_KIB: u64 = 32 << 10;
const LET_GO: &str = "let go in each check of what it took";
