//! Every metric of the host, in one place.
//!
//! [`FAMILIES`] is the list: name, HELP text, kind and labels of each. Labels with a closed set of values are enums.
//! The scheduler, the guard and the resource monitor keep handles ([`PlatformMetrics`], [`PluginMetrics`]) and count
//! through them with a few relaxed atomic operations, without a shared lock or an allocation. A reader takes a
//! [`SeriesSnapshot`] and visits [`FAMILIES`]: the Prometheus rendering (`prometheus`, a cargo feature) and the log
//! ([`log`]).
//!
//! Times are stored by the host's clock and dated when they are shown. The clock is read once for each [`SeriesSnapshot`];
//! nothing else here reads it.
use std::{
    collections::btree_map::Entry,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use conductor_config::MetricsConfig;
use conductor_runtime::DeclaredMetrics;
use conductor_types::{DegradedMode, Resource, Tracked};

mod declared;
mod families;
mod histogram;
mod label_text;
mod labels;
pub mod log;
mod notifications;
#[cfg(feature = "prometheus")]
pub mod openmetrics;
mod platform;
mod plugin;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod registry;
mod sample;
#[cfg(test)]
mod tests;

use conductor_core::{
    clock::{Clock, WallClock},
    shard::Shard,
};
pub use declared::{DeclaredFamily, MAX_DECLARED_SERIES};
pub use families::{FAMILIES, MetricDefinition, MetricKind, SeriesSnapshot};
use histogram::DurationHistogram;
pub use histogram::{BucketBound, BucketBounds, HistogramReading, MAX_BUCKETS};
use notifications::NotificationCounts;
pub use notifications::NotifyOutcome;
pub use platform::{CheckOutcome, PlatformInfo, PlatformMetrics};
pub use plugin::{PluginInfo, PluginMetrics};
pub use registry::RETIRED;
use registry::{RegisteredPlatform, RegisteredSeries};
pub use sample::{Sample, SampleSink, SampleValue};

/// The host's metrics; clones share the same series.
#[derive(Clone)]
pub struct HostMetrics {
    shared: Arc<SharedMetrics>,
}

impl HostMetrics {
    /// Creates metrics without a platform or plugin, with a new clock.
    #[must_use]
    pub fn new() -> Self {
        Self::by(Clock::start())
    }

    /// Creates metrics without a platform or plugin; their times are those of `clock`.
    #[must_use]
    pub fn by(clock: Clock) -> Self {
        Self {
            shared: Arc::new(SharedMetrics::new(clock)),
        }
    }

    /// Returns the converter from times of the host's clock to dates.
    #[must_use]
    pub fn wall(&self) -> &WallClock {
        &self.shared.wall
    }

    /// Returns the series of one platform checked by one plugin, registered with zero counts at the first call.
    ///
    /// A later call with the same pair returns the same series, so counters survive a reload; and a platform that was
    /// removed and returns continues its counters, if it is among the last [`RETIRED`] that were removed.
    #[must_use]
    pub fn platform(&self, platform: &str, plugin: &str) -> Arc<PlatformMetrics> {
        self.registered(platform, plugin, None)
    }

    /// Like [`Self::platform`], and sets the displayed settings of the platform.
    #[must_use]
    pub fn platform_with_info(
        &self,
        platform: &str,
        plugin: &str,
        info: &PlatformInfo,
    ) -> Arc<PlatformMetrics> {
        self.registered(platform, plugin, Some(info))
    }

    /// Returns the series of a target that is checked on request; they are not part of a snapshot.
    #[must_use]
    pub fn unlisted(&self, target: &str, plugin: &str) -> Arc<PlatformMetrics> {
        let mut series = self.shared.lock();
        let plugin = Arc::clone(series.plugin(plugin));
        let bounds = Arc::clone(&series.bounds);
        Arc::new(PlatformMetrics::new(target.into(), plugin, bounds))
    }

    fn registered(
        &self,
        platform: &str,
        plugin: &str,
        info: Option<&PlatformInfo>,
    ) -> Arc<PlatformMetrics> {
        let mut registry = self.shared.lock();
        let series = &mut *registry;
        let plugin = Arc::clone(series.plugin(plugin));
        let platform: Arc<str> = platform.into();
        let key = (platform.clone(), plugin.name.clone());
        let known = match series.platforms.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                let retired = series.retired.take(vacant.key());
                let retired = retired.filter(|retired| retired.is_of(&plugin));
                if let Some(retired) = &retired {
                    // A call that was under way at the removal may have reported since.
                    retired.clear_gauges();
                    retired.duration.set_bounds(&series.bounds);
                }
                let metrics = retired.unwrap_or_else(|| {
                    let bounds = Arc::clone(&series.bounds);
                    Arc::new(PlatformMetrics::new(platform, plugin, bounds))
                });
                let labels = metrics.labels(&PlatformInfo::default(), &[]).into();
                series.listed = None;
                vacant.insert(RegisteredPlatform { metrics, labels })
            }
        };
        if let Some(info) = info {
            known.metrics.set_info(info);
            let labels = known.metrics.labels(info, &series.platform_labels);
            if *known.labels != labels {
                known.labels = labels.into();
                series.listed = None;
            }
        }
        let metrics = Arc::clone(&known.metrics);
        self.track_series(series);
        metrics
    }

    /// Applies `[metrics]` of a config. Returns `true` if the labels that platforms' series have may be others than
    /// before: then call [`Self::platform_with_info`] for each platform.
    ///
    /// Histograms whose buckets change start again at 0.
    #[must_use]
    pub fn configure(&self, config: &MetricsConfig) -> bool {
        let mut registry = self.shared.lock();
        let series = &mut *registry;
        series.detail = config.series;
        let bounds = BucketBounds::new(config.buckets.iter().copied());
        if *series.bounds != bounds {
            series.bounds = Arc::new(bounds);
            for platform in series.platforms.values() {
                platform.metrics.duration.set_bounds(&series.bounds);
            }
        }
        let is_relabelled = series.platform_labels != config.platform_labels;
        series.platform_labels.clone_from(&config.platform_labels);
        is_relabelled
    }

    /// Hides a platform's series; existing handles have no more effect.
    pub fn remove_platform(&self, platform: &str, plugin: &str) {
        let key = (platform.into(), plugin.into());
        let mut series = self.shared.lock();
        if let Some(removed) = series.platforms.remove(&key) {
            removed.metrics.clear_gauges();
            series.retired.keep(key, removed.metrics);
            series.listed = None;
        }
        self.track_series(&series);
    }

    /// Sets the number of objects of a kind that the host keeps.
    pub fn track(&self, kind: Tracked, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.shared.tracked[kind as usize].store(count, Ordering::Relaxed);
    }

    fn track_series(&self, series: &RegisteredSeries) {
        self.track(Tracked::Series, series.platforms.len());
        self.track(Tracked::RetiredSeries, series.retired.by_key.len());
        self.track(Tracked::PluginSeries, series.plugins.len());
        let retired = series.retired_plugins.by_key.len();
        self.track(Tracked::RetiredPluginSeries, retired);
    }

    /// Returns the series of one plugin, registered with zero counts at the first call; a removed one that returns
    /// continues its counters, like a platform.
    #[must_use]
    pub fn plugin(&self, id: &str) -> Arc<PluginMetrics> {
        let mut series = self.shared.lock();
        let plugin = series.plugin(id).clone();
        self.track_series(&series);
        plugin
    }

    /// Sets what a plugin's current generation declares; returns a line for each metric that is not exported.
    pub fn declare(&self, plugin: &PluginMetrics, declared: &Arc<DeclaredMetrics>) -> Vec<String> {
        plugin.set_declared(Arc::clone(declared));
        declared::clashes(plugin, declared)
    }

    /// Hides a plugin's own series; its platforms' series stay.
    pub fn remove_plugin(&self, id: &str) {
        let mut series = self.shared.lock();
        if let Some((id, removed)) = series.plugins.remove_entry(id) {
            removed.clear_gauges();
            series.retired_plugins.keep(id, removed);
        }
        self.track_series(&series);
    }

    /// Records one start, `late` after its slot.
    pub fn lateness(&self, late: Duration) {
        self.shared.lateness.record(late);
    }

    /// Returns the starts so far by lateness: each bucket's bound in seconds with the count at or below it, then the
    /// total count.
    pub fn lateness_counts(&self) -> (Vec<(f64, u64)>, u64) {
        let reading = self.shared.lateness.read();
        let buckets = reading.buckets();
        (
            buckets.map(|(bound, n)| (bound.seconds(), n)).collect(),
            reading.count,
        )
    }

    /// Sets the use of a resource in percent, 0–100.
    ///
    /// The series is absent before the first value, and after one that is not finite.
    pub fn resource(&self, resource: Resource, percent: f64) {
        self.shared.resources[resource as usize].store(percent.to_bits(), Ordering::Relaxed);
    }

    /// Sets the host's degraded mode.
    pub fn degraded_mode(&self, mode: DegradedMode) {
        self.shared
            .degraded_mode
            .store(mode as u8, Ordering::Relaxed);
    }

    /// Sets the share of the platforms that this host checks; `None` if it checks all.
    pub fn set_shard(&self, shard: Option<Shard>) {
        *self
            .shared
            .shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = shard;
    }

    /// Returns the share of the platforms that this host checks.
    #[must_use]
    pub fn shard(&self) -> Option<Shard> {
        *self
            .shared
            .shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the state of the history's file, if the host keeps one.
    pub fn set_history(&self, health: HistoryHealth) {
        *self
            .shared
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(health);
    }

    /// Records that the config was applied at this time of the host's clock, at the start or at a reload.
    pub fn config_loaded(&self, now: Duration) {
        self.shared
            .config_loaded
            .store(platform::nanos(now), Ordering::Relaxed);
        self.shared.config_refused.store(false, Ordering::Relaxed);
    }

    /// Records that a reload changed nothing because the config was refused.
    pub fn config_refused(&self) {
        self.shared.config_refused.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the config was refused when it was last read.
    #[must_use]
    pub fn is_config_refused(&self) -> bool {
        self.shared.config_refused.load(Ordering::Relaxed)
    }

    /// Returns a snapshot of the series; the values themselves are read when [`MetricDefinition::visit`] reaches them.
    #[must_use]
    pub fn snapshot(&self) -> SeriesSnapshot {
        let wall = &self.shared.wall;
        wall.follow();
        self.snapshot_at(wall.clock().now(), wall.origin())
    }

    /// Returns a snapshot at `now` by the host's clock, with the clock's `origin` in seconds since 1970.
    pub fn snapshot_at(&self, now: Duration, origin: f64) -> SeriesSnapshot {
        let mut series = self.shared.lock();
        SeriesSnapshot {
            now,
            origin,
            detail: series.detail,
            shared: self.shared.clone(),
            platforms: series.listed(),
            plugins: series.plugins.values().cloned().collect(),
        }
    }
}

impl Default for HostMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// State of the history's file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HistoryHealth {
    /// Entries that were dropped because the file could not be written for too long.
    pub lost: u64,
    /// `true` while the file cannot be written.
    pub is_failing: bool,
}

/// State shared by all clones of [`HostMetrics`].
struct SharedMetrics {
    wall: WallClock,
    series: Mutex<RegisteredSeries>,
    lateness: DurationHistogram,
    /// One per [`Resource`], as the bits of an `f64`; absent if not finite.
    resources: [AtomicU64; Resource::ALL.len()],
    degraded_mode: AtomicU8,
    /// One per [`Tracked`].
    tracked: [AtomicU64; Tracked::ALL.len()],
    /// The time at which the current config was read, in nanoseconds of the host's clock; 0 before the first.
    config_loaded: AtomicU64,
    /// `true` if a later config was refused.
    config_refused: AtomicBool,
    /// The share of the platforms that this host checks.
    shard: Mutex<Option<Shard>>,
    /// The state of the history's file, if the host keeps one.
    history: Mutex<Option<HistoryHealth>>,
    notifications: NotificationCounts,
}

impl SharedMetrics {
    fn new(clock: Clock) -> Self {
        Self {
            wall: WallClock::new(clock),
            series: Mutex::default(),
            lateness: DurationHistogram::new(BucketBounds::from_millis(&LATENESS_BOUNDS_MS)),
            resources: [const { AtomicU64::new(f64::NAN.to_bits()) }; Resource::ALL.len()],
            degraded_mode: AtomicU8::new(DegradedMode::Normal as u8),
            tracked: [const { AtomicU64::new(0) }; Tracked::ALL.len()],
            config_loaded: AtomicU64::new(0),
            config_refused: AtomicBool::new(false),
            shard: Mutex::default(),
            history: Mutex::default(),
            notifications: NotificationCounts::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, RegisteredSeries> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finest around the tick of 10 ms, which determines the lateness on a healthy host: at most a tick and 1 ms.
const LATENESS_BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 11, 20, 50, 100, 500, 5000];
