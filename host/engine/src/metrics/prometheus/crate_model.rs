//! Our samples in the `prometheus` crate's model.

use ::prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::metrics::{HistogramReading, MetricKind, Sample, SampleSink, SampleValue};

/// Builds a family from samples of the host, which have no owner.
pub(super) struct FamilyBuilder {
    family: MetricFamily,
    kind: MetricKind,
    metrics: Vec<Metric>,
}

impl FamilyBuilder {
    pub(super) fn new(name: &str, help: &str, kind: MetricKind) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(match kind {
            MetricKind::Counter => MetricType::COUNTER,
            MetricKind::Gauge => MetricType::GAUGE,
            MetricKind::Histogram => MetricType::HISTOGRAM,
        });
        Self {
            family,
            kind,
            metrics: Vec::new(),
        }
    }

    /// Returns the family, if it has samples.
    pub(super) fn build(mut self) -> Option<MetricFamily> {
        if self.metrics.is_empty() {
            return None;
        }
        self.family.set_metric(self.metrics);
        Some(self.family)
    }

    fn number(&self, metric: &mut Metric, value: f64) {
        if self.kind == MetricKind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
}

impl SampleSink for FamilyBuilder {
    fn add(&mut self, sample: Sample<'_>) {
        let mut metric = Metric::from_label(sample.labels.iter().map(label).collect());
        match sample.value {
            SampleValue::Histogram(reading) => metric.set_histogram(histogram(reading)),
            number => self.number(&mut metric, number.number().unwrap_or(f64::NAN)),
        }
        self.metrics.push(metric);
    }
}

fn label(&(name, value): &(&str, &str)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
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
