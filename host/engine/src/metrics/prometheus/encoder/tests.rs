//! The encoder's bytes are those of the `prometheus` crate.

use std::{io, time::Duration};

use ::prometheus::TextEncoder;
use proptest::prelude::*;

use super::{CHUNK_BYTES, SeriesEncoder};
use crate::metrics::{
    BucketBounds, HistogramReading, MetricKind, Sample, SampleSink as _, SampleValue,
    label_text::push_label,
    openmetrics::OpenMetrics,
    prometheus::{ExpositionFormat, crate_model::FamilyBuilder},
    sample::float,
};

type Labels = Vec<(String, String)>;

/// A family's samples: the labels of the owner, those of the sample, and the value.
#[derive(Debug)]
struct AnyFamily {
    name: String,
    unit: &'static str,
    help: String,
    kind: MetricKind,
    samples: Vec<(Labels, Labels, AnyValue)>,
}

#[derive(Clone, Debug)]
enum AnyValue {
    Count(u64),
    Number(f64),
    Histogram(Box<HistogramReading>),
}

impl AnyValue {
    fn as_value(&self) -> SampleValue<'_> {
        match self {
            Self::Count(n) => SampleValue::Count(*n),
            Self::Number(value) => SampleValue::Number(*value),
            Self::Histogram(reading) => SampleValue::Histogram(reading),
        }
    }
}

fn any_labels(at_most: usize) -> impl Strategy<Value = Labels> {
    let value = prop_oneof![
        any::<String>(),
        "[a-z\\\\\"\n{},=]{0,8}",
        Just("le=\"5\"".to_owned()),
    ];
    let name = "[a-z_][a-z0-9_]{0,8}".prop_filter("the encoder's own", |name| name != "le");
    prop::collection::vec((name, value), 0..=at_most)
}

fn any_number() -> impl Strategy<Value = AnyValue> {
    prop_oneof![
        any::<u64>().prop_map(AnyValue::Count),
        (0..100_u64).prop_map(AnyValue::Count),
        ((1_u64 << 53) - 2..(1 << 53) + 5).prop_map(AnyValue::Count),
        any::<u64>().prop_map(|bits| AnyValue::Number(f64::from_bits(bits))),
        any::<i32>().prop_map(|n| AnyValue::Number(n.into())),
        any::<u64>().prop_map(|n| AnyValue::Number(float(n))),
        (-1e6..1e6).prop_map(AnyValue::Number),
        prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0])
            .prop_map(AnyValue::Number),
        ((1_u64 << 53) - 2..(1 << 53) + 5).prop_map(|n| AnyValue::Number(-float(n))),
    ]
}

fn any_histogram() -> impl Strategy<Value = AnyValue> {
    let bounds = prop::collection::btree_set(1..100_000_000_000_u64, 0..12);
    let whole = prop::collection::btree_set((1..100_u64).prop_map(|s| s * 1_000_000_000), 0..5);
    let counts = prop::collection::vec(any::<u64>(), 30);
    (bounds, whole, counts, any::<f64>(), any::<u64>()).prop_map(
        |(mut bounds, whole, counts, sum, count)| {
            bounds.extend(whole);
            let cumulative = &counts[..bounds.len()];
            let bounds = BucketBounds::new(bounds.into_iter().map(Duration::from_nanos));
            AnyValue::Histogram(Box::new(HistogramReading::of(
                bounds, cumulative, sum, count,
            )))
        },
    )
}

fn any_family() -> impl Strategy<Value = AnyFamily> {
    let samples = |value: BoxedStrategy<AnyValue>| {
        prop::collection::vec((any_labels(3), any_labels(2), value), 1..5)
    };
    let of_kind = prop_oneof![
        samples(any_number().boxed()).prop_map(|samples| (MetricKind::Counter, samples)),
        samples(any_number().boxed()).prop_map(|samples| (MetricKind::Gauge, samples)),
        samples(any_histogram().boxed()).prop_map(|samples| (MetricKind::Histogram, samples)),
    ];
    let name = prop_oneof![
        "[a-z_:][a-z0-9_:]{0,12}",
        "[a-z]{1,8}_total",
        "[a-z]{0,2}_?seconds(_total)?",
    ];
    let unit = prop::sample::select(vec!["", "seconds"]);
    let help = prop_oneof![any::<String>(), "[a-z\\\\\"\n ]{0,12}"];
    (name, unit, help, of_kind).prop_map(|(name, unit, help, (kind, samples))| AnyFamily {
        name,
        unit,
        help,
        kind,
        samples,
    })
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    let pairs = labels.iter();
    pairs.map(|(name, value)| (&**name, &**value)).collect()
}

/// Returns the text of the encoder.
fn encoded(format: ExpositionFormat, family: &AnyFamily) -> String {
    let mut all = Vec::new();
    let mut out = |text: &mut Vec<u8>| {
        all.append(text);
        Ok(())
    };
    let mut encoder = SeriesEncoder::new(format, &mut out);
    encoder.begin_family_in(&family.name, family.unit, &family.help, family.kind);
    for (owner, own, value) in &family.samples {
        let mut rendered = String::new();
        for (name, value) in owner {
            push_label(&mut rendered, name, value);
        }
        encoder.add(Sample {
            owner: &rendered,
            labels: &pairs(own),
            value: value.as_value(),
        });
    }
    encoder.finish().unwrap();
    String::from_utf8(all).unwrap()
}

/// Returns the text of the crate's encoder.
fn of_crate(family: &AnyFamily) -> String {
    let mut builder = FamilyBuilder::new(&family.name, &family.help, family.kind);
    for (owner, own, value) in &family.samples {
        let all: Vec<_> = pairs(owner).into_iter().chain(pairs(own)).collect();
        builder.add(Sample {
            owner: "",
            labels: &all,
            value: value.as_value(),
        });
    }
    let built = builder.build().unwrap();
    TextEncoder::new().encode_to_string(&[built]).unwrap()
}

/// Returns the text of several owners' counters with a closed label.
fn encoded_counts(owners: &[(String, Vec<u64>)], values: &[&'static str]) -> (String, String) {
    let mut all = Vec::new();
    let mut out = |text: &mut Vec<u8>| {
        all.append(text);
        Ok(())
    };
    let mut encoder = SeriesEncoder::new(ExpositionFormat::Text, &mut out);
    encoder.begin_family("a_total", "b", MetricKind::Counter);
    let mut builder = FamilyBuilder::new("a_total", "b", MetricKind::Counter);
    for (owner, counts) in owners {
        let mut rendered = String::new();
        if !owner.is_empty() {
            push_label(&mut rendered, "owner", owner);
        }
        let counts = values.iter().copied().zip(counts.iter().copied());
        encoder.add_counts(&rendered, "closed", &mut counts.clone());
        for (value, n) in counts {
            let labels = [("owner", owner.as_str()), ("closed", value)];
            builder.add(Sample {
                owner: "",
                labels: &labels[usize::from(owner.is_empty())..],
                value: SampleValue::Count(n),
            });
        }
    }
    encoder.finish().unwrap();
    let built = builder.build().unwrap();
    let expected = TextEncoder::new().encode_to_string(&[built]).unwrap();
    (String::from_utf8(all).unwrap(), expected)
}

proptest! {
    #[test]
    fn closed_labels_are_those_of_the_crate_for_any_owners_and_counts(
        owners in prop::collection::vec((any::<String>(), prop::collection::vec(any::<u64>(), 4)), 1..5),
        turned in any::<bool>(),
    ) {
        let values = if turned { ["c\\", "\"b", "a", "d\n"] } else { ["a", "\"b", "c\\", "d\n"] };
        let (text, expected) = encoded_counts(&owners, &values);
        prop_assert_eq!(text, expected);
    }

    #[test]
    fn the_text_is_that_of_the_crate_for_any_samples(family in any_family()) {
        prop_assert_eq!(encoded(ExpositionFormat::Text, &family), of_crate(&family));
    }

    #[test]
    fn open_metrics_is_the_converted_text_for_any_samples(family in any_family()) {
        let mut converted = Vec::new();
        let mut open = OpenMetrics(&mut converted);
        open.write_lines(&of_crate(&family)).unwrap();
        open.end().unwrap();
        let converted = String::from_utf8(converted).unwrap();
        let expected = with_unit(&family, &converted);
        prop_assert_eq!(encoded(ExpositionFormat::OpenMetrics, &family), expected);
    }
}

/// Returns the text with a line for the unit after the type, if the name of the family ends in `_` and the unit.
fn with_unit(family: &AnyFamily, converted: &str) -> String {
    if family.unit.is_empty() {
        return converted.to_owned();
    }
    let lines = converted.split_inclusive('\n');
    let told = lines.map(|line| match line.strip_prefix("# TYPE ") {
        Some(kind) => {
            let (title, _) = kind.split_once(' ').unwrap();
            let words = title.rsplit_once('_');
            match words.filter(|(name, last)| !name.is_empty() && *last == family.unit) {
                Some((_, unit)) => format!("{line}# UNIT {title} {unit}\n"),
                None => line.to_owned(),
            }
        }
        None => line.to_owned(),
    });
    told.collect()
}

#[test]
fn open_metrics_states_the_unit_in_which_a_name_ends_and_the_text_format_none() {
    let header = |format, name: &str, unit, kind| {
        let family = AnyFamily {
            name: name.to_owned(),
            unit,
            help: "Sent.".to_owned(),
            kind,
            samples: vec![(Vec::new(), Vec::new(), AnyValue::Count(1))],
        };
        encoded(format, &family)
    };
    let open = ExpositionFormat::OpenMetrics;
    assert_eq!(
        header(open, "sent_bytes_total", "bytes", MetricKind::Counter),
        "# HELP sent_bytes Sent.\n# TYPE sent_bytes counter\n# UNIT sent_bytes bytes\nsent_bytes_total 1\n# EOF\n"
    );
    for (name, unit) in [
        ("sent", "bytes"),
        ("bytes", "bytes"),
        ("sent_bytes", ""),
        ("kilobytes", "bytes"),
    ] {
        let text = header(open, name, unit, MetricKind::Gauge);
        assert!(!text.contains("# UNIT"), "{text}");
    }
    let text = header(
        ExpositionFormat::Text,
        "sent_bytes",
        "bytes",
        MetricKind::Gauge,
    );
    assert!(!text.contains("# UNIT"), "{text}");
}

#[test]
fn chunks_are_passed_on_when_they_are_full_and_end_with_a_line() {
    let mut sizes = Vec::new();
    let mut out = |text: &mut Vec<u8>| {
        assert_eq!(text.last(), Some(&b'\n'));
        sizes.push(text.len());
        Ok(())
    };
    let mut encoder = SeriesEncoder::new(ExpositionFormat::Text, &mut out);
    encoder.begin_family("a", "b", MetricKind::Gauge);
    for n in 0..20_000 {
        encoder.add(Sample {
            owner: "platform=\"p\"",
            labels: &[],
            value: SampleValue::Count(n),
        });
        assert!(encoder.goes_on());
    }
    encoder.finish().unwrap();
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() > 3 && *last < CHUNK_BYTES + 100, "{sizes:?}");
    assert!(
        full.iter()
            .all(|size| (CHUNK_BYTES..CHUNK_BYTES + 100).contains(size)),
        "{sizes:?}"
    );
}

#[test]
fn nothing_is_encoded_after_a_chunk_was_not_taken() {
    let mut calls = 0;
    let mut out = |_: &mut Vec<u8>| {
        calls += 1;
        Err(io::ErrorKind::BrokenPipe.into())
    };
    let mut encoder = SeriesEncoder::new(ExpositionFormat::Text, &mut out);
    encoder.begin_family("a", "b", MetricKind::Gauge);
    let mut goes_on = 0;
    for n in 0..20_000 {
        encoder.add(Sample {
            owner: "",
            labels: &[],
            value: SampleValue::Count(n),
        });
        goes_on += usize::from(encoder.goes_on());
    }
    assert!(goes_on < 20_000);
    assert_eq!(
        encoder.finish().unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
    assert_eq!(calls, 1);
}
