//! The series of metrics that plugins declare: `conductor_<plugin>_<name>`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use conductor_plugin_api::metric::{self, MetricDeclaration};
use conductor_runtime::{DeclaredMetrics, SetValues};

use super::{
    FAMILIES, MetricKind, PluginMetrics, Sample, SampleSink, SampleValue, SeriesSnapshot,
    label_text::push_labels_without,
};

/// The declared series of one platform.
#[derive(Default)]
pub(super) struct DeclaredSeries {
    /// The plugin's declarations.
    of: Arc<DeclaredMetrics>,
    series: Vec<OneSeries>,
}

/// Labels the platform has used for a metric, and the value: NaN if the last report lacked it.
struct OneSeries {
    metric: u16,
    labels: Vec<String>,
    value: f64,
}

impl DeclaredSeries {
    /// Replaces the values by those of a report; returns the number of values that were dropped, because they are
    /// beyond the first [`MAX_DECLARED_SERIES`] series that the platform has ever used.
    pub(super) fn replace(&mut self, set: &SetValues) -> u64 {
        for old in &mut self.series {
            old.value = f64::NAN;
        }
        let Some(of) = &set.of else {
            return 0;
        };
        if !Arc::ptr_eq(of, &self.of) {
            // Indexes have another meaning, unless a new version of the plugin declares the same.
            if of.as_slice() != self.of.as_slice() {
                self.series.clear();
            }
            self.of = Arc::clone(of);
        }
        let mut dropped = 0;
        for (nth, value) in set.kept.iter().enumerate() {
            let is_same =
                |known: &OneSeries| known.metric == value.metric && known.labels == value.labels;
            // A probe mostly sets the same series in the same order.
            let expected = self.series.get(nth).is_some_and(is_same).then_some(nth);
            let known = expected.or_else(|| self.series.iter().position(is_same));
            match known {
                Some(known) => self.series[known].value = value.value,
                None if self.series.len() < MAX_DECLARED_SERIES => self.series.push(OneSeries {
                    metric: value.metric,
                    labels: value.labels.clone(),
                    value: value.value,
                }),
                None => dropped += 1,
            }
        }
        dropped
    }

    /// Removes all series.
    pub(super) fn clear(&mut self) {
        self.series.clear();
    }

    /// Returns declaration, labels and value of each series of the last report.
    pub(super) fn current(&self) -> impl Iterator<Item = (&MetricDeclaration, &[String], f64)> {
        let current = self.series.iter().filter(|series| !series.value.is_nan());
        current.filter_map(|series| {
            let declaration = self.of.as_slice().get(usize::from(series.metric))?;
            Some((declaration, series.labels.as_slice(), series.value))
        })
    }

    /// Returns labels and value of each series of the last report that belong to a family.
    fn of_family(&self, source: &FamilySource) -> impl Iterator<Item = (&[String], f64)> {
        let metric = match Arc::ptr_eq(&self.of, &source.of) {
            true => Some(source.metric),
            // The last report is of an earlier generation.
            false => {
                let mut declared = self.of.as_slice().iter();
                let same = declared.position(|one| Some(one) == source.declaration());
                same.and_then(|index| u16::try_from(index).ok())
            }
        };
        let series = self.series.iter();
        series
            .filter(move |series| Some(series.metric) == metric && !series.value.is_nan())
            .map(|series| (series.labels.as_slice(), series.value))
    }
}

/// One family of declared metrics.
pub struct DeclaredFamily {
    /// The family's name.
    pub name: String,
    /// The unit of its values; empty for none.
    pub unit: String,
    /// The HELP text.
    pub help: String,
    /// The kind of its values.
    pub kind: MetricKind,
    /// The plugins that declare it; mostly one.
    sources: Vec<FamilySource>,
}

/// A metric of a plugin.
struct FamilySource {
    plugin: Arc<str>,
    of: Arc<DeclaredMetrics>,
    metric: u16,
}

impl FamilySource {
    fn declaration(&self) -> Option<&MetricDeclaration> {
        self.of.as_slice().get(usize::from(self.metric))
    }
}

impl DeclaredFamily {
    /// Passes the family's samples to `sink`, each read as it is reached. No lock is held for longer than one platform's
    /// samples.
    pub fn visit(&self, snapshot: &SeriesSnapshot, sink: &mut dyn SampleSink) {
        let mut owner = String::new();
        for platform in &*snapshot.platforms {
            let metrics = &platform.metrics;
            let plugin = metrics.plugin_name();
            let Some(source) = self.sources.iter().find(|source| *source.plugin == *plugin) else {
                continue;
            };
            metrics.with_declared(snapshot.now, |series| {
                self.add_samples(source, series, &platform.labels, &mut owner, sink);
            });
            if !sink.goes_on() {
                return;
            }
        }
    }

    fn add_samples(
        &self,
        source: &FamilySource,
        series: &DeclaredSeries,
        platform: &str,
        owner: &mut String,
        sink: &mut dyn SampleSink,
    ) {
        let names = source
            .declaration()
            .map_or(&[][..], |declared| &declared.labels);
        // The plugin is in the family's name, and a label of the metric goes before one of the platform.
        owner.clear();
        push_labels_without(owner, platform, |name| {
            name == "plugin" || names.iter().any(|own| own == name)
        });
        for (values, value) in series.of_family(source) {
            let names = names.iter().map(String::as_str);
            let labels: Vec<_> = names.zip(values.iter().map(String::as_str)).collect();
            sink.add(Sample {
                owner,
                labels: &labels,
                value: SampleValue::Number(value),
            });
        }
    }
}

/// Returns the families of what the plugins declare, by name, except for those that [`clashes`] names.
pub(super) fn families(plugins: &[Arc<PluginMetrics>]) -> Vec<DeclaredFamily> {
    let mut families = BTreeMap::new();
    for plugin in plugins {
        let of = plugin.declared();
        for (metric, declared) in (0..).zip(of.as_slice()) {
            let source = FamilySource {
                plugin: Arc::clone(&plugin.name),
                of: Arc::clone(&of),
                metric,
            };
            let name = declared.family(&plugin.name);
            match families.entry(name) {
                Entry::Vacant(free) if !is_of_host(free.key()) => {
                    let name = free.key().clone();
                    free.insert(DeclaredFamily {
                        name,
                        unit: declared.unit.clone(),
                        help: declared.help.clone(),
                        kind: kind(declared.kind),
                        sources: vec![source],
                    });
                }
                // Of the same kind: only the name of a counter can end in `_total`.
                Entry::Occupied(mut known) => known.get_mut().sources.push(source),
                Entry::Vacant(_) => {}
            }
        }
    }
    families.into_values().collect()
}

/// Returns a line for each family that a plugin declares and that is not exported, because the host has one of this name.
pub(super) fn clashes(plugin: &PluginMetrics, declared: &DeclaredMetrics) -> Vec<String> {
    let declared = declared.as_slice().iter();
    let names = declared.map(|declared| (&declared.name, declared.family(&plugin.name)));
    let clashes = names.filter(|(_, family)| is_of_host(family));
    clashes
        .map(|(name, family)| {
            format!(
                "its metric `{name}` is not exported: {family} is a metric of the host; rename it"
            )
        })
        .collect()
}

fn is_of_host(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.name == name)
}

/// Returns the kind of a declared metric as the host's own families name it.
pub(super) fn kind(kind: metric::MetricKind) -> MetricKind {
    match kind {
        metric::MetricKind::Gauge => MetricKind::Gauge,
        metric::MetricKind::Counter => MetricKind::Counter,
    }
}

/// Maximum number of declared series of a platform.
pub const MAX_DECLARED_SERIES: usize = 256;

#[cfg(test)]
mod tests;
