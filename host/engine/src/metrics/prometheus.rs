//! The metrics in Prometheus's text format, or in OpenMetrics.
//!
//! The `prometheus` crate's own metric types merge different series, because their label hash has no separator:
//! `("disk1", "2")` and `("disk", "12")` would be one. So only its `Registry`, its process collector and its
//! `TextEncoder` are used, with a [`Collector`] of ours that returns our samples. It does so a page at a time, since
//! the crate's model of all series of a large host would take several times the memory of the host.
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use ::prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    FAMILIES, HostMetrics, MetricDefinition, MetricKind, MetricSample, SampleValue, SeriesSnapshot,
    openmetrics::{self, OpenMetrics},
};

mod process;
#[cfg(test)]
mod tests;

/// A format that a scraper can ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExpositionFormat {
    /// Prometheus's text format, 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl ExpositionFormat {
    /// Returns the content type of [`render`]'s output.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }
}

/// Writes all metrics, and on Linux and Windows those of the process, to `out`, in writes of some hundred kilobytes at most.
///
/// Takes about a microsecond per series: not for a latency-sensitive thread.
///
/// # Errors
/// If a write to `out` fails; nothing more is written then.
pub fn render(
    metrics: &HostMetrics,
    format: ExpositionFormat,
    out: &mut dyn Write,
) -> io::Result<()> {
    render_snapshot(&metrics.snapshot(), format, out)
}

fn render_snapshot(
    snapshot: &SeriesSnapshot,
    format: ExpositionFormat,
    out: &mut dyn Write,
) -> io::Result<()> {
    if format == ExpositionFormat::Text {
        return render_text(snapshot, &mut |text| out.write_all(text.as_bytes()));
    }
    let mut out = OpenMetrics(out);
    render_text(snapshot, &mut |text| out.write_lines(text))?;
    out.end()
}

/// Writes the text format, some hundred kilobytes of whole lines at a time.
fn render_text(snapshot: &SeriesSnapshot, out: TextSink<'_>) -> io::Result<()> {
    let tray = PageCollector::default();
    let registry = Registry::new();
    registry
        .register(Box::new(tray.clone()))
        .map_err(io::Error::other)?;
    let mut text = String::new();
    for family in &FAMILIES {
        let mut samples = family.samples(snapshot).map(metric_of(family)).peekable();
        let mut first = true;
        while samples.peek().is_some() {
            tray.put(page(family, samples.by_ref().take(PAGE).collect()));
            text.clear();
            TextEncoder::new()
                .encode_utf8(&registry.gather(), &mut text)
                .map_err(io::Error::other)?;
            out(if first { &text } else { without_header(&text) })?;
            first = false;
        }
    }
    process::write(out)
}

/// Writes a piece of the text.
type TextSink<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// The collector of our samples: returns the page that was last put into it.
#[derive(Clone, Default)]
struct PageCollector(Arc<Mutex<Option<MetricFamily>>>);

impl PageCollector {
    fn put(&self, page: MetricFamily) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
    }
}

impl Collector for PageCollector {
    /// No descriptions: they only serve to find conflicting collectors, and this one is alone in its registry.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        page.into_iter().collect()
    }
}

fn page(family: &MetricDefinition, metrics: Vec<Metric>) -> MetricFamily {
    let mut page = MetricFamily::default();
    page.set_name(family.name.to_owned());
    page.set_help(family.help.to_owned());
    page.set_field_type(match family.kind {
        MetricKind::Counter => MetricType::COUNTER,
        MetricKind::Gauge => MetricType::GAUGE,
        MetricKind::Histogram => MetricType::HISTOGRAM,
    });
    page.set_metric(metrics);
    page
}

fn metric_of(family: &MetricDefinition) -> impl Fn(MetricSample<'_>) -> Metric {
    let kind = family.kind;
    move |sample| {
        let labels = sample.labels.into_iter().map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name(name.into_owned());
            label.set_value(value.into_owned());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        match (sample.value, kind) {
            (SampleValue::Number(value), MetricKind::Counter) => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            (SampleValue::Number(value), _) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            (
                SampleValue::Histogram {
                    buckets,
                    sum,
                    count,
                },
                _,
            ) => {
                let mut histogram = Histogram::default();
                histogram.set_bucket(buckets.into_iter().map(bucket).collect());
                histogram.set_sample_sum(sum);
                histogram.set_sample_count(count);
                metric.set_histogram(histogram);
            }
        }
        metric
    }
}

fn bucket((upper_bound, cumulative_count): (f64, u64)) -> Bucket {
    let mut bucket = Bucket::default();
    bucket.set_upper_bound(upper_bound);
    bucket.set_cumulative_count(cumulative_count);
    bucket
}

/// Returns a page without its HELP and TYPE lines, which a family may have only once.
fn without_header(page: &str) -> &str {
    let mut ends = page.match_indices('\n').map(|(end, _)| end + 1);
    &page[ends.nth(1).unwrap_or(page.len())..]
}

/// The number of samples of a metric that are encoded at a time: about 1 MB of the crate's model.
const PAGE: usize = 1024;
