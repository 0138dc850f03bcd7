//! Level 3: leaks after probes are dropped.

use std::{thread, time::Duration};

use super::{
    behaviour::TestBench,
    catalogue::PluginTest,
    machine::{HANDLES, memory_kib, open_handles, threads},
    subject::{LibraryUnderTest, go_on, told},
    verdict::TestVerdict,
};

/// This process's resources that can leak.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeakableResources {
    pub(super) memory_kib: u64,
    pub(super) handles: usize,
    pub(super) threads: usize,
}

impl LeakableResources {
    pub(super) fn now() -> Self {
        Self {
            memory_kib: memory_kib(),
            handles: open_handles(),
            threads: threads(),
        }
    }

    /// Returns a phrase for the growth up to `after`; the allocator may keep up to `slack_kib` of memory.
    pub(super) fn growth(&self, after: &Self, slack_kib: u64) -> Option<String> {
        let mut grown = Vec::new();
        let memory = after.memory_kib.saturating_sub(self.memory_kib);
        if memory > slack_kib {
            grown.push(format!("{memory} KiB of memory"));
        }
        for (what, before, after) in [
            (HANDLES, self.handles, after.handles),
            ("threads", self.threads, after.threads),
        ] {
            // One or two can be a cache that is filled at some point.
            if after > before + 2 {
                grown.push(format!("{} {what}", after - before));
            }
        }
        (!grown.is_empty()).then(|| grown.join(", "))
    }
}

fn churn(subject: &LibraryUnderTest) -> TestVerdict {
    let door = go_on!(subject.door());
    let config = go_on!(subject.good_config(&*door)).to_string();
    let round = |count: usize| {
        for nth in 0..count {
            let probe = subject.create(&*door, &config);
            if let Err(failure) = probe.and_then(|probe| subject.close(probe)) {
                return Err(TestVerdict::failed(
                    format!(
                        "after {nth} probes were created and dropped, the next fails: {}",
                        told(&failure)
                    ),
                    "let a drop take back all that create took",
                ));
            }
        }
        Ok(LeakableResources::now())
    };
    subject.doing("creating and dropping 1000 probes");
    // Data created once and kept is no leak, so the second half counts.
    go_on!(round(CHURN / 2));
    settle(threads());
    let before = LeakableResources::now();
    go_on!(round(CHURN / 2));
    settle(before.threads);
    match before.growth(&LeakableResources::now(), SLACK_KIB) {
        Some(grown) => TestVerdict::failed(
            format!("creating and dropping {} probes leaves {grown}", CHURN / 2),
            "let a drop take back all that create took; a thread that was started has to be ended and joined",
        ),
        None => TestVerdict::passed(""),
    }
}

fn joins_threads(subject: &LibraryUnderTest) -> TestVerdict {
    let bench = go_on!(TestBench::new(subject, 1));
    // A runtime shared by all probes exists after the first; so do the threads that make the calls.
    let first = bench.open();
    go_on!(bench.check(first));
    bench.harness.plugin.close(first);
    settle(0);
    let before = threads();
    for _ in 0..8 {
        let probe = bench.open();
        go_on!(bench.check(probe));
        bench.harness.plugin.close(probe);
    }
    settle(before);
    let after = threads();
    // The calls may have added one thread meanwhile.
    if after > before + 2 {
        return TestVerdict::failed(
            format!(
                "{} threads are left of 8 probes that were dropped",
                after - before
            ),
            "end and join in drop what was started: a thread that lives on may run code of a probe that is gone",
        );
    }
    TestVerdict::passed("")
}

/// Waits a while for threads that are about to end, until at most `wanted` are left.
fn settle(wanted: usize) {
    for _ in 0..30 {
        if threads() <= wanted {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

pub(super) const TESTS: &[PluginTest] = &[
    PluginTest::new(
        3,
        "leaks/churn",
        "A thousand probes that are created and dropped leave no memory, descriptors or threads.",
        churn,
    )
    .within(60),
    PluginTest::new(
        3,
        "leaks/threads",
        "A probe that is dropped takes its threads along.",
        joins_threads,
    )
    .within(60),
];

const CHURN: usize = 1000;
/// Two KiB per probe.
const SLACK_KIB: u64 = 1024;
