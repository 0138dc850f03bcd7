//! Rules for the values of declared metrics.

use std::collections::{BTreeMap, BTreeSet};

use conductor_engine::metrics::MAX_DECLARED_SERIES;
use conductor_plugin_api::metric::MetricKind;
use conductor_runtime::{DeclaredMetrics, SetValues, series_name};

/// Adds the irregularities in the values of one report: too many series, and counters below zero.
pub(super) fn irregularities(values: &SetValues, found: &mut Vec<String>) {
    let kept = values.kept.iter();
    let series: BTreeSet<_> = kept.map(|set| (set.metric, &set.labels)).collect();
    if series.len() > MAX_DECLARED_SERIES {
        let series = series.len();
        found.push(format!(
            "{series} series of declared metrics, of which {MAX_DECLARED_SERIES} are kept: take the values of labels from a small set"
        ));
    }
    for (name, value) in counters(values) {
        if value < 0.0 {
            found.push(format!(
                "{value} for the counter {name}, which starts at 0 and only grows: declare it as a gauge"
            ));
        }
    }
}

/// The last values of a probe's counters.
#[derive(Default)]
pub(crate) struct CounterValues(BTreeMap<String, f64>);

impl CounterValues {
    /// Returns a line for each counter that is lower than in an earlier report.
    pub(crate) fn look(&mut self, values: &SetValues) -> Vec<String> {
        let fallen = counters(values).filter_map(|(name, value)| {
            let before = self.0.insert(name.clone(), value)?;
            (value < before).then(|| {
                format!(
                    "{value} for the counter {name} after {before}, which only grows until what it counts restarts: declare it as a gauge"
                )
            })
        });
        fallen.collect()
    }
}

/// The series that a platform has had.
#[derive(Default)]
pub(crate) struct SeriesCount(BTreeSet<String>);

impl SeriesCount {
    /// Returns a line if one of a report's series is dropped because of those of earlier reports.
    pub(crate) fn look(&mut self, values: &SetValues) -> Option<String> {
        let (known, mut dropped) = (self.0.len(), None);
        for (name, _) in named(values) {
            if self.0.contains(&name) {
                continue;
            }
            if self.0.len() < MAX_DECLARED_SERIES {
                self.0.insert(name);
            } else {
                dropped = dropped.or(Some(name));
            }
        }
        let name = dropped.filter(|_| known > 0)?;
        Some(format!(
            "the series {name}, which is dropped: a platform has {MAX_DECLARED_SERIES} series of declared metrics in its life, so take the values of labels from a small set"
        ))
    }
}

/// Returns name and value of each counter.
fn counters(values: &SetValues) -> impl Iterator<Item = (String, f64)> {
    let kept = values.kept.iter();
    kept.filter_map(|set| {
        let declared = declarations(values)?.as_slice();
        let metric = declared.get(usize::from(set.metric))?;
        (metric.kind == MetricKind::Counter).then(|| (series_name(metric, &set.labels), set.value))
    })
}

/// Returns name and value of each series.
fn named(values: &SetValues) -> Vec<(String, f64)> {
    declarations(values).map_or_else(Vec::new, |declared| declared.named(values))
}

fn declarations(values: &SetValues) -> Option<&DeclaredMetrics> {
    values.of.as_deref()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use conductor_runtime::DeclaredValue;

    use super::*;

    /// Returns values of the metrics `sent_bytes_total` and `used{mount}`.
    fn values(set: &[(u16, &str, f64)]) -> SetValues {
        let declared = r#"[{"name":"sent","kind":"counter","unit":"bytes","help":"x"},
                           {"name":"used","kind":"gauge","help":"x","labels":["mount"]}]"#;
        let kept = set.iter().map(|&(metric, label, value)| DeclaredValue {
            metric,
            labels: (metric == 1)
                .then(|| label.to_owned())
                .into_iter()
                .collect(),
            value,
        });
        SetValues {
            of: Some(Arc::new(DeclaredMetrics::new(declared).unwrap())),
            kept: kept.collect(),
            dropped: 0,
        }
    }

    fn mounts(numbers: std::ops::Range<usize>) -> SetValues {
        let names: Vec<_> = numbers.map(|nth| nth.to_string()).collect();
        let set: Vec<_> = names.iter().map(|name| (1, &**name, 1.0)).collect();
        values(&set)
    }

    #[test]
    fn too_many_series_and_a_counter_below_zero_are_named() {
        let found = |values: &SetValues| {
            let mut found = Vec::new();
            irregularities(values, &mut found);
            found.join("; ")
        };
        assert_eq!(found(&mounts(0..256)), "");
        assert!(found(&mounts(0..257)).starts_with("257 series"));
        assert_eq!(found(&values(&[(0, "", 0.0), (1, "/", -1.0)])), "");
        let below = found(&values(&[(0, "", -1.0)]));
        assert!(
            below.starts_with("-1 for the counter sent_bytes_total"),
            "{below}"
        );
    }

    #[test]
    fn a_counter_that_falls_is_named_and_a_gauge_is_not() {
        let mut counters = CounterValues::default();
        let mut look = |sent, used| counters.look(&values(&[(0, "", sent), (1, "/", used)]));
        assert_eq!(look(5.0, 5.0), [""; 0]);
        assert_eq!(look(5.0, 4.0), [""; 0]);
        let found = look(3.0, 3.0);
        assert!(
            found.len() == 1 && found[0].contains("sent_bytes_total after 5"),
            "{found:?}"
        );
    }

    #[test]
    fn series_beyond_those_of_a_platforms_life_are_named() {
        let mut series = SeriesCount::default();
        assert_eq!(series.look(&mounts(0..200)), None);
        assert_eq!(series.look(&mounts(56..256)), None);
        let found = series.look(&mounts(255..258)).unwrap();
        assert!(found.contains("used{mount=\"256\"}"), "{found}");
    }
}
