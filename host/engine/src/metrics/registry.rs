//! The registered platforms and plugins, and those that were removed.
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use conductor_config::{MetricsConfig, SeriesDetail};

use super::{BucketBounds, PlatformMetrics, PluginMetrics};

/// The registered series, in display order, and the settings that they share.
pub(super) struct RegisteredSeries {
    pub(super) detail: SeriesDetail,
    pub(super) platform_labels: Vec<String>,
    /// The buckets of the durations of checks.
    pub(super) bounds: Arc<BucketBounds>,
    pub(super) platforms: BTreeMap<SeriesKey, RegisteredPlatform>,
    /// All platforms, as snapshots share them; `None` after a change.
    pub(super) listed: Option<Arc<[RegisteredPlatform]>>,
    pub(super) plugins: BTreeMap<Arc<str>, Arc<PluginMetrics>>,
    pub(super) retired: RetiredMetrics<SeriesKey, PlatformMetrics>,
    pub(super) retired_plugins: RetiredMetrics<Arc<str>, PluginMetrics>,
}

/// The series of a platform, and their common labels, rendered.
///
/// The labels are here rather than in the series so that a scrape reads them without a lock: a lock per platform and
/// family would keep the processor from loading the next platforms ahead.
#[derive(Clone)]
pub(super) struct RegisteredPlatform {
    pub(super) metrics: Arc<PlatformMetrics>,
    pub(super) labels: Arc<str>,
}

/// A platform and its plugin.
pub(super) type SeriesKey = (Arc<str>, Arc<str>);

/// The series of removed platforms or plugins, the last [`RETIRED`] of them: a counter that restarted at 0 would have
/// decreased.
pub(super) struct RetiredMetrics<K, V> {
    pub(super) by_key: HashMap<K, (u64, Arc<V>)>,
    /// Keys by the order of their removal.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V> Default for RetiredMetrics<K, V> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V> RetiredMetrics<K, V> {
    pub(super) fn keep(&mut self, key: K, series: Arc<V>) {
        self.next += 1;
        self.order.insert(self.next, key.clone());
        self.by_key.insert(key, (self.next, series));
        while self.by_key.len() > RETIRED {
            let Some((_, oldest)) = self.order.pop_first() else {
                return;
            };
            self.by_key.remove(&oldest);
        }
    }

    pub(super) fn take(&mut self, key: &K) -> Option<Arc<V>> {
        let (number, series) = self.by_key.remove(key)?;
        self.order.remove(&number);
        Some(series)
    }
}

/// The number of removed platforms, and of removed plugins, whose counters are kept: some hundred kilobytes.
pub const RETIRED: usize = 1000;

impl Default for RegisteredSeries {
    fn default() -> Self {
        let config = MetricsConfig::default();
        Self {
            detail: config.series,
            platform_labels: config.platform_labels,
            bounds: Arc::new(BucketBounds::new(config.buckets)),
            platforms: BTreeMap::new(),
            listed: None,
            plugins: BTreeMap::new(),
            retired: RetiredMetrics::default(),
            retired_plugins: RetiredMetrics::default(),
        }
    }
}

impl RegisteredSeries {
    /// Returns all platforms, in order.
    pub(super) fn listed(&mut self) -> Arc<[RegisteredPlatform]> {
        let platforms = &self.platforms;
        let list = || platforms.values().cloned().collect();
        Arc::clone(self.listed.get_or_insert_with(list))
    }

    pub(super) fn plugin(&mut self, id: &str) -> &Arc<PluginMetrics> {
        let id: Arc<str> = id.into();
        let retired = &mut self.retired_plugins;
        self.plugins.entry(id.clone()).or_insert_with(|| {
            let known = retired.take(&id);
            known.unwrap_or_else(|| Arc::new(PluginMetrics::new(id)))
        })
    }
}
