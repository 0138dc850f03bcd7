//! The cost of a check in the guards, without the plugin: `cargo bench -p conductor-engine --bench guard`.
//!
//! Each check is begun, started and ended with a healthy report: breaker, view, history and metrics. The throughput is
//! per check. With 100 000 platforms their state does not fit into the processor's caches.
#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first surprise")]

use criterion::{BenchmarkId, Criterion, Throughput};
use work::GuardedPlatforms;

mod work;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut group = criterion.benchmark_group("guard");
    for platforms in [100_u32, 10_000, 100_000] {
        let mut guarded = GuardedPlatforms::new(platforms as usize);
        group.throughput(Throughput::Elements(platforms.into()));
        group.bench_function(BenchmarkId::new("check", platforms), |bencher| {
            bencher.iter(|| guarded.check_all());
        });
    }
    group.finish();
    criterion.final_summary();
}
