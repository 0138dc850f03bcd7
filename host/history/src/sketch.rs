//! A mergeable sketch of durations, after DDSketch: counts in buckets whose bounds grow by a constant factor.
//!
//! A percentile is the middle of its bucket, so it is within [`RELATIVE_ERROR`] of the exact one. Merging two sketches gives
//! the sketch of all their durations: nothing is lost by rolling up.

use std::time::Duration;

/// The greatest relative error of a percentile.
pub const RELATIVE_ERROR: f64 = 0.03;

/// Counts of durations, by the logarithm of their length.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DurationSketch {
    /// Bucket and count, in the order of buckets.
    counts: Vec<(u16, u32)>,
    /// The longest, in microseconds.
    max: u64,
}

impl DurationSketch {
    /// Adds a duration.
    pub fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.max = self.max.max(micros);
        self.count(bucket(micros), 1);
    }

    /// Adds all durations of another sketch.
    pub fn merge(&mut self, other: &Self) {
        self.max = self.max.max(other.max);
        for (bucket, count) in &other.counts {
            self.count(*bucket, *count);
        }
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.counts.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Returns `true` without a duration.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the longest duration; zero without any.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max)
    }

    /// Returns the shortest duration that at least this share of all durations does not exceed; zero without any.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Duration {
        let rank = (self.len() * u64::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += u64::from(*count);
            if seen >= rank {
                return Duration::from_micros(middle(*bucket).min(self.max));
            }
        }
        Duration::ZERO
    }

    /// Appends its encoding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.max);
        let mut before = 0;
        for (bucket, count) in &self.counts {
            put(out, u64::from(*bucket - before));
            put(out, u64::from(*count));
            before = *bucket;
        }
    }

    /// Reads the encoding that is the rest of `input`; `None` if it is malformed.
    pub(crate) fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut sketch = Self {
            max: take(input)?,
            ..Self::default()
        };
        let mut bucket = 0_u16;
        while !input.is_empty() {
            bucket = bucket.checked_add(u16::try_from(take(input)?).ok()?)?;
            let count = u32::try_from(take(input)?).ok()?;
            sketch.count(bucket, count);
        }
        Some(sketch)
    }

    fn count(&mut self, bucket: u16, count: u32) {
        match self.counts.binary_search_by_key(&bucket, |(b, _)| *b) {
            Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(count),
            Err(at) => self.counts.insert(at, (bucket, count)),
        }
    }
}

/// Returns the bucket of a duration: those up to a microsecond share the first one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the logarithm of a u64 is positive and below 1000 buckets; f64 is more exact than a bucket"
)]
fn bucket(micros: u64) -> u16 {
    if micros <= 1 {
        return 0;
    }
    ((micros as f64).ln() / growth().ln()).ceil() as u16
}

/// Returns the number of microseconds that is nearest, by proportion, to all durations of a bucket.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the casts saturate"
)]
fn middle(bucket: u16) -> u64 {
    if bucket == 0 {
        return 1;
    }
    (2.0 * growth().powi(i32::from(bucket)) / (growth() + 1.0)).round() as u64
}

/// Returns the factor between the bounds of a bucket.
fn growth() -> f64 {
    (1.0 + RELATIVE_ERROR) / (1.0 - RELATIVE_ERROR)
}

/// Appends a number, seven bits to a byte, the lowest first.
pub(crate) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Reads a number that [`put`] has written.
pub(crate) fn take(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch_of(micros: &[u64]) -> DurationSketch {
        let mut sketch = DurationSketch::default();
        for took in micros {
            sketch.add(Duration::from_micros(*took));
        }
        sketch
    }

    /// Returns the percentile by its definition.
    fn exact(micros: &[u64], percent: usize) -> u64 {
        let mut sorted = micros.to_vec();
        sorted.sort_unstable();
        sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
    }

    proptest! {
        #[test]
        fn percentiles_are_within_the_stated_error(
            micros in prop::collection::vec(1_u64..100_000_000_000, 1..300),
            percent in 1_u8..=100,
        ) {
            let found = sketch_of(&micros).percentile(percent).as_secs_f64();
            let exact = Duration::from_micros(exact(&micros, percent.into())).as_secs_f64();
            // Half a microsecond is the rounding of the result.
            prop_assert!((found - exact).abs() <= exact * RELATIVE_ERROR + 0.51e-6, "{found} for {exact}");
        }

        #[test]
        fn merging_equals_adding(
            a in prop::collection::vec(0_u64..10_000_000, 0..100),
            b in prop::collection::vec(0_u64..10_000_000, 0..100),
        ) {
            let mut merged = sketch_of(&a);
            merged.merge(&sketch_of(&b));
            prop_assert_eq!(merged, sketch_of(&[a, b].concat()));
        }

        #[test]
        fn an_encoding_is_read_back(micros in prop::collection::vec(any::<u64>(), 0..100)) {
            let sketch = sketch_of(&micros);
            let mut bytes = Vec::new();
            sketch.encode(&mut bytes);
            prop_assert_eq!(DurationSketch::decode(&mut &bytes[..]), Some(sketch));
        }

        #[test]
        fn rubbish_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = DurationSketch::decode(&mut &bytes[..]);
        }
    }

    #[test]
    fn sixty_checks_of_one_platform_take_a_few_bytes() {
        let micros: Vec<_> = (0..60).map(|n| 20_000 + n * 100).collect();
        let mut bytes = Vec::new();
        sketch_of(&micros).encode(&mut bytes);
        assert!(bytes.len() <= 20, "{} bytes", bytes.len());
    }
}
