//! The costs of a running host, measured over some seconds.

use std::{thread, time::Duration};

use crate::{
    host::{RunningHost, Scrape},
    machine::{CpuReading, cpu_with_ended_threads, memory},
};

/// The cost of the checks of a host, over [`WINDOW`].
pub(crate) struct CheckCost {
    /// CPU time of one, in seconds.
    pub(crate) cpu: f64,
    /// The number of cores that host and workers keep busy, and the host alone.
    pub(crate) cores: f64,
    host_cores: f64,
    /// The number of checks per second.
    pub(crate) rate: f64,
}

impl CheckCost {
    /// Measures once every probe was created, which takes `warm_up`.
    pub(crate) fn measure(host: &RunningHost, warm_up: Duration) -> Self {
        thread::sleep(warm_up + SETTLE);
        let first = host.scrape(|| {});
        thread::sleep(SETTLE / 2);
        let (pids, start) = (host.pids(), host.clock.now());
        let readings = || [&pids[..1], &pids[1..]].map(CpuReading::of);
        let before = readings();
        thread::sleep(WINDOW);
        let [of_host, of_workers] = readings();
        let of_host = of_host.since(&before[0]).as_secs_f64();
        let of_workers = of_workers.since(&before[1]).as_secs_f64();
        let took = (host.clock.now() - start).as_secs_f64();
        let last = host.scrape(|| {});
        let rate = (last.checks - first.checks) / (last.at - first.at).as_secs_f64();
        let cores = (of_host + of_workers) / took;
        Self {
            cpu: cores / rate,
            cores,
            host_cores: of_host / took,
            rate,
        }
    }
}

/// The average cost of a scrape.
pub(crate) struct ScrapeCost {
    /// CPU time of the host in seconds, without that of the checks.
    pub(crate) cpu: f64,
    pub(crate) took: f64,
    pub(crate) series: f64,
    pub(crate) bytes: f64,
    /// The most memory (PSS) of host and workers during one of them.
    pub(crate) most_memory: f64,
}

impl ScrapeCost {
    pub(crate) fn measure(host: &RunningHost, checks: &CheckCost, times: u32) -> Self {
        let pid = &host.pids()[0];
        let (start, before) = (host.clock.now(), cpu_with_ended_threads(pid));
        let mut last = Scrape::default();
        for _ in 0..times {
            last = host.scrape(|| {});
        }
        let took = (host.clock.now() - start).as_secs_f64();
        let spent = (cpu_with_ended_threads(pid) - before).as_secs_f64();
        let mut most_memory = 0.0_f64;
        host.scrape(|| most_memory = most_memory.max(pss(host)));
        Self {
            cpu: (spent - took * checks.host_cores) / f64::from(times),
            took: took / f64::from(times),
            series: last.series as f64,
            bytes: last.bytes as f64,
            most_memory,
        }
    }
}

/// The lateness of the checks that started between two scrapes.
pub(crate) struct LatenessSpread {
    /// Upper bounds in seconds, with the number of checks up to each.
    buckets: Vec<(f64, f64)>,
}

impl LatenessSpread {
    pub(crate) fn between(before: &Scrape, after: &Scrape) -> Self {
        let pairs = after.lateness.iter().zip(&before.lateness);
        Self {
            buckets: pairs
                .map(|((bound, after), (_, before))| (*bound, after - before))
                .collect(),
        }
    }

    /// Returns the lateness that this share of checks did not exceed, in seconds, as Prometheus's `histogram_quantile`
    /// does: evenly spread within a bucket.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let (_, all) = self.buckets[self.buckets.len() - 1];
        let rank = share * all;
        let (mut lower, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if count >= rank {
                let part = (rank - below) / (count - below).max(1.0);
                return if bound.is_finite() {
                    lower + (bound - lower) * part
                } else {
                    lower
                };
            }
            (lower, below) = (bound, count);
        }
        lower
    }
}

/// Returns the memory of a host and its workers in bytes: what is private, and a share of what is not.
pub(crate) fn pss(host: &RunningHost) -> f64 {
    host.pids().iter().map(|pid| memory(pid, &["Pss"])).sum()
}

/// The length of a measurement.
pub(crate) const WINDOW: Duration = Duration::from_secs(6);
/// The time until a change of load is over.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
