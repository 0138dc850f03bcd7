//! A sample, as the families list them: labels and value of one series.

use super::histogram::HistogramReading;

/// One series and its value.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The labels of the platform or plugin that it belongs to, rendered: `platform="a",plugin="b"`; empty for the
    /// host's own.
    pub owner: &'a str,
    /// Names and values of the labels that follow them.
    pub labels: &'a [(&'a str, &'a str)],
    /// The current value.
    pub value: SampleValue<'a>,
}

/// The value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SampleValue<'a> {
    /// A counter or a gauge of whole numbers; exact up to 2^53, as the formats know only floats.
    Count(u64),
    /// A counter or a gauge.
    Number(f64),
    /// A histogram.
    Histogram(&'a HistogramReading),
}

impl SampleValue<'_> {
    /// Returns the number of a counter or gauge, as the formats show it.
    #[must_use]
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Count(n) => Some(float(n)),
            Self::Number(value) => Some(value),
            Self::Histogram(_) => None,
        }
    }
}

/// Returns a count as the formats show it: they know only floats.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

/// Receives samples one by one.
pub trait SampleSink {
    /// Takes a sample.
    fn add(&mut self, sample: Sample<'_>);

    /// Takes the samples of a counter with a closed label, whose values are the same for each owner.
    fn add_counts(
        &mut self,
        owner: &str,
        label: &'static str,
        counts: &mut dyn Iterator<Item = (&'static str, u64)>,
    ) {
        for (text, n) in counts {
            self.add(Sample {
                owner,
                labels: &[(label, text)],
                value: SampleValue::Count(n),
            });
        }
    }

    /// Called after the samples of each platform and plugin; returns `false` if no more are wanted.
    fn goes_on(&mut self) -> bool {
        true
    }
}

impl<F: FnMut(Sample<'_>)> SampleSink for F {
    fn add(&mut self, sample: Sample<'_>) {
        self(sample);
    }
}

/// A sink for the samples of one platform, one plugin, or the host.
pub(super) struct OwnerSamples<'a> {
    owner: &'a str,
    sink: &'a mut dyn SampleSink,
}

impl<'a> OwnerSamples<'a> {
    /// Creates a sink for the owner with these rendered labels.
    pub(super) fn new(owner: &'a str, sink: &'a mut dyn SampleSink) -> Self {
        Self { owner, sink }
    }

    /// Adds a sample with labels of its own.
    pub(super) fn labelled(&mut self, labels: &[(&str, &str)], value: SampleValue<'_>) {
        self.sink.add(Sample {
            owner: self.owner,
            labels,
            value,
        });
    }

    /// Adds a sample of a counter or gauge of whole numbers.
    pub(super) fn count(&mut self, n: impl Into<u64>) {
        self.labelled(&[], SampleValue::Count(n.into()));
    }

    /// Adds a sample of a counter or gauge.
    pub(super) fn number(&mut self, value: f64) {
        self.labelled(&[], SampleValue::Number(value));
    }

    /// Adds the samples of a counter with a closed label.
    pub(super) fn counts(
        &mut self,
        label: &'static str,
        mut counts: impl Iterator<Item = (&'static str, u64)>,
    ) {
        self.sink.add_counts(self.owner, label, &mut counts);
    }

    /// Adds a histogram.
    pub(super) fn histogram(&mut self, reading: &HistogramReading) {
        self.labelled(&[], SampleValue::Histogram(reading));
    }
}
