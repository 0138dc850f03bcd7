//! The encoder of the families of platforms and plugins.
//!
//! A platform's labels are rendered when they are set; a scrape copies them and writes numbers. Its output equals that
//! of the `prometheus` crate's `TextEncoder` for the same samples, and in OpenMetrics that of [`OpenMetrics`] for the
//! encoder's text, and a UNIT line for each declared family in a unit; tests compare them.

use std::{io, ptr};

use super::ExpositionFormat;
use crate::metrics::{
    HistogramReading, MetricKind, Sample, SampleSink, SampleValue,
    label_text::{escape, push_label},
    openmetrics::OpenMetrics,
};

mod number;
#[cfg(test)]
mod tests;

/// Takes a chunk of whole lines: the callee takes or copies the text, and may leave the buffer for the next chunk.
pub type ChunkSink<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> io::Result<()>;

/// Encodes samples, family by family, into chunks.
pub struct SeriesEncoder<'a> {
    format: ExpositionFormat,
    out: ChunkSink<'a>,
    text: Vec<u8>,
    /// The first error of `out`.
    failure: Option<io::Error>,
    family: FamilyText,
}

/// The text that all samples of the current family share.
struct FamilyText {
    /// HELP, TYPE and UNIT, until the first sample is written.
    header: Vec<u8>,
    name: String,
    /// The names of a histogram's series.
    bucket: String,
    sum: String,
    count: String,
    /// The closed label of an owner's series, each up to its value: `status="healthy"} `.
    closed_labels: Vec<ClosedLabel>,
}

/// A rendered label with a closed set of values.
struct ClosedLabel {
    name: &'static str,
    value: &'static str,
    rendered: Vec<u8>,
}

impl<'a> SeriesEncoder<'a> {
    /// Creates an encoder that passes its text to `out` in chunks of about [`CHUNK_BYTES`].
    pub fn new(format: ExpositionFormat, out: ChunkSink<'a>) -> Self {
        Self {
            format,
            out,
            text: Vec::new(),
            failure: None,
            family: FamilyText::new(format, "", "", "", MetricKind::Gauge),
        }
    }

    /// Starts a family: the samples added next are its.
    pub fn begin_family(&mut self, name: &str, help: &str, kind: MetricKind) {
        self.begin_family_in(name, "", help, kind);
    }

    /// Starts a family whose samples are in this unit, if any. Only OpenMetrics states it, and only of a name that ends in
    /// the unit.
    pub fn begin_family_in(&mut self, name: &str, unit: &str, help: &str, kind: MetricKind) {
        self.family = FamilyText::new(self.format, name, unit, help, kind);
    }

    /// Adds whole families in the text format, as the `prometheus` crate writes it.
    ///
    /// # Errors
    /// If a chunk was not taken.
    pub(super) fn crate_text(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            ExpositionFormat::Text => self.text.extend_from_slice(text.as_bytes()),
            ExpositionFormat::OpenMetrics => OpenMetrics(&mut self.text).write_lines(text)?,
        }
        self.goes_on();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Ends the text and passes on the last chunk.
    ///
    /// # Errors
    /// If a chunk was not taken.
    pub fn finish(mut self) -> io::Result<()> {
        if self.format == ExpositionFormat::OpenMetrics {
            OpenMetrics(&mut self.text).end()?;
        }
        self.pass_on();
        self.failure.map_or(Ok(()), Err)
    }

    fn pass_on(&mut self) {
        if self.failure.is_none() {
            self.failure = (self.out)(&mut self.text).err();
        }
        self.text.clear();
    }

    /// Writes the header of the family, if this is its first sample.
    fn begin_sample(&mut self) {
        // A chunk is passed on as soon as it is full; the space beyond that is for the owner that fills it.
        if self.text.capacity() == 0 {
            self.text.reserve(CHUNK_BYTES + CHUNK_BYTES / 8);
        }
        self.text.append(&mut self.family.header);
    }

    fn histogram(&mut self, sample: Sample<'_>, reading: &HistogramReading) {
        let is_float = self.format == ExpositionFormat::OpenMetrics;
        let (text, family) = (&mut self.text, &self.family);
        let start = text.len();
        let has_labels = open_series(text, &family.bucket, &sample);
        text.push(if has_labels { b',' } else { b'{' });
        let common = start..text.len();
        for (bound, count) in reading.buckets() {
            text.extend_from_slice(bound.label_text(is_float).as_bytes());
            number::push_count(text, count);
            text.push(b'\n');
            text.extend_from_within(common.clone());
        }
        text.extend_from_slice(b"le=\"+Inf\"} ");
        number::push_count(text, reading.count);
        text.push(b'\n');
        series(text, &family.sum, &sample);
        number::push_float(text, reading.sum);
        text.push(b'\n');
        series(text, &family.count, &sample);
        number::push_count(text, reading.count);
        text.push(b'\n');
    }
}

impl SampleSink for SeriesEncoder<'_> {
    fn add(&mut self, sample: Sample<'_>) {
        self.begin_sample();
        if let SampleValue::Histogram(reading) = sample.value {
            return self.histogram(sample, reading);
        }
        series(&mut self.text, &self.family.name, &sample);
        match sample.value {
            SampleValue::Count(n) => number::push_count(&mut self.text, n),
            SampleValue::Number(value) => number::push_float(&mut self.text, value),
            SampleValue::Histogram(_) => {}
        }
        self.text.push(b'\n');
    }

    fn add_counts(
        &mut self,
        owner: &str,
        label: &'static str,
        counts: &mut dyn Iterator<Item = (&'static str, u64)>,
    ) {
        self.begin_sample();
        let (text, family) = (&mut self.text, &mut self.family);
        let start = text.len();
        text.extend_from_slice(family.name.as_bytes());
        text.push(b'{');
        text.extend_from_slice(owner.as_bytes());
        if !owner.is_empty() {
            text.push(b',');
        }
        let common = start..text.len();
        for (nth, (value, n)) in counts.enumerate() {
            if nth > 0 {
                text.extend_from_within(common.clone());
            }
            text.extend_from_slice(family.closed_label(nth, label, value));
            number::push_count(text, n);
            text.push(b'\n');
        }
    }

    fn goes_on(&mut self) -> bool {
        if self.text.len() >= CHUNK_BYTES {
            self.pass_on();
        }
        self.failure.is_none()
    }
}

/// Writes the name and labels of a series, up to its value.
fn series(text: &mut Vec<u8>, name: &str, sample: &Sample<'_>) {
    let has_labels = open_series(text, name, sample);
    text.extend_from_slice(if has_labels { b"} " } else { b" " });
}

/// Writes the name and labels of a series without the closing brace; returns `true` if there are labels.
fn open_series(text: &mut Vec<u8>, name: &str, sample: &Sample<'_>) -> bool {
    text.extend_from_slice(name.as_bytes());
    let mut mark = b'{';
    if !sample.owner.is_empty() {
        text.push(mark);
        text.extend_from_slice(sample.owner.as_bytes());
        mark = b',';
    }
    for (name, value) in sample.labels {
        text.push(mark);
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"=\"");
        escape(value, |piece| text.extend_from_slice(piece.as_bytes()));
        text.push(b'"');
        mark = b',';
    }
    mark == b','
}

impl FamilyText {
    fn new(format: ExpositionFormat, name: &str, unit: &str, help: &str, kind: MetricKind) -> Self {
        let of_kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let mut help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let mut title = name;
        if format == ExpositionFormat::OpenMetrics {
            help = help.replace('"', "\\\"");
            if kind == MetricKind::Counter {
                title = name.strip_suffix("_total").unwrap_or(name);
            }
        }
        let mut header = String::new();
        if !help.is_empty() {
            header.push_str(&format!("# HELP {title} {help}\n"));
        }
        header.push_str(&format!("# TYPE {title} {of_kind}\n"));
        if format == ExpositionFormat::OpenMetrics && ends_in_unit(title, unit) {
            header.push_str(&format!("# UNIT {title} {unit}\n"));
        }
        Self {
            header: header.into_bytes(),
            name: name.to_owned(),
            bucket: format!("{name}_bucket"),
            sum: format!("{name}_sum"),
            count: format!("{name}_count"),
            closed_labels: Vec::new(),
        }
    }

    /// Returns the rendered label of an owner's `nth` series. It is rendered for the first owner, and again if another
    /// owner has another label there.
    fn closed_label(&mut self, nth: usize, name: &'static str, value: &'static str) -> &[u8] {
        // Texts at the same place are the same, as both are static.
        let is_same =
            |known: &ClosedLabel| ptr::eq(known.name, name) && ptr::eq(known.value, value);
        if !self.closed_labels.get(nth).is_some_and(is_same) {
            let mut rendered = String::new();
            push_label(&mut rendered, name, value);
            rendered.push_str("} ");
            self.closed_labels.truncate(nth);
            self.closed_labels.push(ClosedLabel {
                name,
                value,
                rendered: rendered.into_bytes(),
            });
        }
        &self.closed_labels[nth].rendered
    }
}

/// Returns `true` if the name of a family has the unit as its last word.
fn ends_in_unit(name: &str, unit: &str) -> bool {
    let before = name.strip_suffix(unit).filter(|_| !unit.is_empty());
    before.is_some_and(|before| before.len() > 1 && before.ends_with('_'))
}

/// The size at which a chunk is passed on.
pub const CHUNK_BYTES: usize = 64 << 10;
