//! The cost of encoding `/metrics` per series, compared with the `prometheus` crate's encoder.
//!
//! `cargo bench -p conductor-engine --features prometheus` prints nanoseconds of CPU per series for 10 000 and 100 000
//! platforms, each the least and the median of several runs, and the ratio to the crate's `Registry::gather` and
//! `TextEncoder` for the same samples, a thousand at a time. The crate's figure lacks the time to build its model. Where
//! there is a `/proc`, it prints the private memory that a scrape adds, while it lasts and afterwards.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends at the first surprise"
)]

use std::{
    fs,
    hint::black_box,
    sync::{Arc, Mutex},
    time::Duration,
};

use conductor_engine::metrics::{
    CheckOutcome, FAMILIES, HistogramReading, HostMetrics, MetricDefinition, MetricKind, Sample,
    SampleValue,
    prometheus::{ExpositionFormat, SeriesEncoder, render},
};
use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

fn main() {
    println!(
        "platforms    series       MB   ns per series, least / median: text   OpenMetrics   the crate   ratio"
    );
    for platforms in [10_000, 100_000] {
        let metrics = host(platforms);
        let memory = memory_of_a_scrape(&metrics);
        let (series, bytes) = sizes(&metrics);
        let text = measure(series, || encode(&metrics, ExpositionFormat::Text));
        let open = measure(series, || {
            encode(&metrics, ExpositionFormat::OpenMetrics);
        });
        let of_crate = crate_cost(&metrics);
        println!(
            "{platforms:>9} {series:>9} {:>8.1} {:>32} {:>15} {of_crate:>11.0} {:>7.3}",
            bytes as f64 / 1e6,
            format!("{:.1} / {:.1}", text[0], text[RUNS / 2]),
            format!("{:.1} / {:.1}", open[0], open[RUNS / 2]),
            text[0] / of_crate
        );
        if let Some((during, after)) = memory {
            println!(
                "{:>9} memory: {during:+} kB during the scrape, {after:+} kB after",
                ""
            );
        }
    }
}

/// Returns a host whose platforms have been checked.
fn host(platforms: u64) -> HostMetrics {
    let metrics = HostMetrics::new();
    for n in 0..platforms {
        let platform = metrics.platform(&format!("platform-{n}"), "tcp");
        for check in 0..=n % 5 {
            let took = Duration::from_micros(317 * (n % 97 + check));
            platform.record(
                CheckOutcome::Healthy,
                took,
                Duration::from_micros(10_001 * n),
            );
        }
    }
    metrics
}

/// Encodes the families of platforms and plugins.
fn encode(metrics: &HostMetrics, format: ExpositionFormat) {
    let mut out = |text: &mut Vec<u8>| {
        black_box(&text);
        Ok(())
    };
    let snapshot = metrics.snapshot();
    let mut encoder = SeriesEncoder::new(format, &mut out);
    for family in FAMILIES.iter().filter(|family| !family.is_of_host()) {
        encoder.begin_family(family.name, family.help, family.kind);
        family.visit(&snapshot, &mut encoder);
    }
    encoder.finish().unwrap();
}

/// Returns the nanoseconds per series of several runs, sorted.
fn measure(series: usize, work: impl Fn()) -> [f64; RUNS] {
    let mut costs = [(); RUNS].map(|()| {
        let start = cpu_time();
        work();
        (cpu_time() - start).as_nanos() as f64 / series as f64
    });
    costs.sort_by(f64::total_cmp);
    costs
}

/// Returns the CPU time of this thread: a busy machine interrupts a scrape many times.
#[cfg(unix)]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().unwrap()
}

#[cfg(not(unix))]
fn cpu_time() -> Duration {
    static CLOCK: std::sync::LazyLock<conductor_core::clock::Clock> =
        std::sync::LazyLock::new(conductor_core::clock::Clock::start);
    CLOCK.now()
}

/// Returns the kilobytes of private memory that the first scrape adds, at most and afterwards.
fn memory_of_a_scrape(metrics: &HostMetrics) -> Option<(i64, i64)> {
    let before = private_memory()?;
    let (mut most, mut chunks) = (before, 0);
    render(metrics, ExpositionFormat::Text, &mut |_| {
        if chunks % 64 == 0 {
            most = most.max(private_memory().unwrap());
        }
        chunks += 1;
        Ok(())
    })
    .unwrap();
    Some((most - before, private_memory()? - before))
}

/// Returns the private memory of this process in kilobytes.
fn private_memory() -> Option<i64> {
    let text = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("Private_Dirty:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the number of series and of bytes of a scrape.
fn sizes(metrics: &HostMetrics) -> (usize, usize) {
    let (mut series, mut bytes) = (0, 0);
    render(metrics, ExpositionFormat::Text, &mut |text| {
        bytes += text.len();
        let lines = text.split(|&byte| byte == b'\n');
        series += lines.filter(|l| !l.is_empty() && l[0] != b'#').count();
        Ok(())
    })
    .unwrap();
    (series, bytes)
}

/// Returns the nanoseconds per series that the crate takes for the same samples.
fn crate_cost(metrics: &HostMetrics) -> f64 {
    let snapshot = metrics.snapshot();
    let page = PageCollector::default();
    let registry = Registry::new();
    registry.register(Box::new(page.clone())).unwrap();
    let (mut spent, mut series) = (Duration::ZERO, 0);
    let mut encode = |family: MetricFamily| {
        *page.0.lock().unwrap() = Some(family);
        let start = cpu_time();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        spent += cpu_time() - start;
        series += text.lines().filter(|line| !line.starts_with('#')).count();
    };
    for family in FAMILIES.iter().filter(|family| !family.is_of_host()) {
        let mut samples = Vec::new();
        let mut sink = |sample: Sample<'_>| {
            samples.push(metric(sample, family.kind));
            if samples.len() == PAGE {
                encode(model(family, std::mem::take(&mut samples)));
            }
        };
        family.visit(&snapshot, &mut sink);
        if !samples.is_empty() {
            encode(model(family, samples));
        }
    }
    spent.as_nanos() as f64 / f64::from(u32::try_from(series).unwrap())
}

/// Returns the page that was put into it.
#[derive(Clone, Default)]
struct PageCollector(Arc<Mutex<Option<MetricFamily>>>);

impl Collector for PageCollector {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        Vec::from_iter(self.0.lock().unwrap().take())
    }
}

fn model(family: &MetricDefinition, metrics: Vec<Metric>) -> MetricFamily {
    let mut model = MetricFamily::default();
    model.set_name(family.name.to_owned());
    model.set_help(family.help.to_owned());
    model.set_field_type(match family.kind {
        MetricKind::Counter => MetricType::COUNTER,
        MetricKind::Gauge => MetricType::GAUGE,
        MetricKind::Histogram => MetricType::HISTOGRAM,
    });
    model.set_metric(metrics);
    model
}

fn metric(sample: Sample<'_>, kind: MetricKind) -> Metric {
    // No label of this host has a quote in its value.
    let owner = sample.owner.split_terminator('"').collect::<Vec<_>>();
    let owner = owner
        .chunks(2)
        .map(|pair| (pair[0].trim_matches([',', '=']), pair[1]));
    let labels = owner.chain(sample.labels.iter().copied());
    let labels = labels.map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    });
    let mut metric = Metric::from_label(labels.collect());
    let Some(value) = sample.value.number() else {
        if let SampleValue::Histogram(reading) = sample.value {
            metric.set_histogram(histogram(reading));
        }
        return metric;
    };
    if kind == MetricKind::Counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn histogram(reading: &HistogramReading) -> Histogram {
    let buckets = reading.buckets().map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.seconds());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_sum(reading.sum);
    histogram.set_sample_count(reading.count);
    histogram
}

const RUNS: usize = 9;
/// The number of samples that the crate gets at a time.
const PAGE: usize = 1024;
