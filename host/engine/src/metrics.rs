//! Every metric of the host, in one place.
//!
//! [`FAMILIES`] is the list: name, HELP text, kind and labels of each. Labels with a closed set of
//! values are enums. The scheduler, the guard and the resource monitor keep handles
//! ([`PlatformMetrics`], [`PluginMetrics`]) and count through them with a few relaxed atomic
//! operations, without a lock or an allocation. Whoever shows metrics takes a [`Snapshot`] and walks
//! [`FAMILIES`] over it: the Prometheus rendering (`prometheus`, a cargo feature) and the log ([`log`]).
//!
//! Moments are kept by the host's clock and dated when they are shown. The clock is read once for each [`Snapshot`]; nothing
//! else here reads it.
use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use conductor_types::{DegradedMode, Resource, Tracked};

mod families;
mod histogram;
mod labels;
pub mod log;
#[cfg(feature = "prometheus")]
pub mod openmetrics;
mod platform;
mod plugin;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg(test)]
mod tests;

use conductor_core::clock::{Clock, WallClock};
pub use families::{FAMILIES, Family, Kind, Sample, Samples, Snapshot, Value};
use histogram::Histogram;
pub use platform::{Outcome, PlatformInfo, PlatformMetrics};
pub use plugin::{PluginInfo, PluginMetrics};

/// The host's metrics; clones share the same series.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

impl Metrics {
    /// Metrics without a platform or plugin, by a clock of their own.
    #[must_use]
    pub fn new() -> Self {
        Self::by(Clock::start())
    }

    /// Metrics without a platform or plugin; the moments they are given are those of `clock`.
    #[must_use]
    pub fn by(clock: Clock) -> Self {
        Self {
            shared: Arc::new(Shared::new(clock)),
        }
    }

    /// Dates moments of the host's clock.
    #[must_use]
    pub fn wall(&self) -> &WallClock {
        &self.shared.wall
    }

    /// The series of one platform checked by one plugin, registered with zero counts at the first call.
    ///
    /// A later call with the same pair returns the same series, so counters survive a reload; and a platform that was
    /// removed and comes back goes on counting, if it is among the last [`RETIRED`] that were removed.
    #[must_use]
    pub fn platform(&self, platform: &str, plugin: &str) -> Arc<PlatformMetrics> {
        let mut series = self.shared.write();
        let plugin = series.plugin(plugin).name.clone();
        let platform: Arc<str> = platform.into();
        let key = (platform.clone(), plugin.clone());
        if let Some(known) = series.platforms.get(&key) {
            return Arc::clone(known);
        }
        let known = series.retired.take(&key);
        // A call that was under way at the removal may have reported since.
        known.iter().for_each(|known| known.clear_gauges());
        let new = known.unwrap_or_else(|| Arc::new(PlatformMetrics::new(platform, plugin)));
        series.platforms.insert(key, Arc::clone(&new));
        self.track_series(&series);
        new
    }

    /// Takes a platform's series out of what is shown; handles that are still held count into nothing.
    pub fn remove_platform(&self, platform: &str, plugin: &str) {
        let key = (platform.into(), plugin.into());
        let mut series = self.shared.write();
        if let Some(removed) = series.platforms.remove(&key) {
            removed.clear_gauges();
            series.retired.keep(key, removed);
        }
        self.track_series(&series);
    }

    /// Sets how many things of a kind the host keeps.
    pub fn track(&self, kind: Tracked, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.shared.tracked[kind as usize].store(count, Ordering::Relaxed);
    }

    fn track_series(&self, series: &Series) {
        self.track(Tracked::Series, series.platforms.len());
        self.track(Tracked::RetiredSeries, series.retired.by_key.len());
        self.track(Tracked::PluginSeries, series.plugins.len());
        let retired = series.retired_plugins.by_key.len();
        self.track(Tracked::RetiredPluginSeries, retired);
    }

    /// The series of one plugin, registered with zero counts at the first call; one that was removed and comes back goes
    /// on counting, as a platform does.
    #[must_use]
    pub fn plugin(&self, id: &str) -> Arc<PluginMetrics> {
        let mut series = self.shared.write();
        let plugin = series.plugin(id).clone();
        self.track_series(&series);
        plugin
    }

    /// Takes a plugin's own series out of what is shown; its platforms' series stay.
    pub fn remove_plugin(&self, id: &str) {
        let mut series = self.shared.write();
        if let Some((id, removed)) = series.plugins.remove_entry(id) {
            removed.clear_gauges();
            series.retired_plugins.keep(id, removed);
        }
        self.track_series(&series);
    }

    /// Counts one start that came `late` after its slot.
    pub fn lateness(&self, late: Duration) {
        self.shared.lateness.record(late);
    }

    /// The starts so far, by how late they were: each bucket's bound in seconds with the count at or below it, then the
    /// count of all.
    pub fn lateness_counts(&self) -> (Vec<(f64, u64)>, u64) {
        let (buckets, _, all) = self.shared.lateness.read();
        (buckets, all)
    }

    /// Sets how much of a resource is in use, in percent, 0–100.
    ///
    /// The series is absent before the first reading, and again after one that is not finite.
    pub fn resource(&self, resource: Resource, percent: f64) {
        self.shared.resources[resource as usize].store(percent.to_bits(), Ordering::Relaxed);
    }

    /// Sets the host's degraded mode.
    pub fn degraded_mode(&self, mode: DegradedMode) {
        self.shared
            .degraded_mode
            .store(mode as u8, Ordering::Relaxed);
    }

    /// The config was read and applied, at the start or later, at this time of the host's clock.
    pub fn config_loaded(&self, now: Duration) {
        self.shared
            .config_loaded
            .store(platform::nanos(now), Ordering::Relaxed);
        self.shared.config_refused.store(false, Ordering::Relaxed);
    }

    /// A reload was asked for and changed nothing, as the config was refused.
    pub fn config_refused(&self) {
        self.shared.config_refused.store(true, Ordering::Relaxed);
    }

    /// Whether the config was refused when it was last read.
    #[must_use]
    pub fn is_config_refused(&self) -> bool {
        self.shared.config_refused.load(Ordering::Relaxed)
    }

    /// What there is to show now; the values themselves are read when [`Family::samples`] comes to them.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let wall = &self.shared.wall;
        wall.follow();
        self.snapshot_at(wall.clock().now(), wall.origin())
    }

    /// The same as if it were `now` by the host's clock, whose origin was so many seconds after 1970.
    pub fn snapshot_at(&self, now: Duration, origin: f64) -> Snapshot {
        let series = self.shared.read();
        Snapshot {
            now,
            origin,
            shared: self.shared.clone(),
            platforms: series.platforms.values().cloned().collect(),
            plugins: series.plugins.values().cloned().collect(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What all clones of [`Metrics`] share.
struct Shared {
    wall: WallClock,
    series: RwLock<Series>,
    lateness: Histogram,
    /// One per [`Resource`], as the bits of an `f64`; not finite is absent.
    resources: [AtomicU64; Resource::ALL.len()],
    degraded_mode: AtomicU8,
    /// One per [`Tracked`].
    tracked: [AtomicU64; Tracked::ALL.len()],
    /// When the config in force was read, in nanoseconds of the host's clock; 0 before the first.
    config_loaded: AtomicU64,
    /// Whether a later one was refused.
    config_refused: AtomicBool,
}

/// The registered series, in the order they are shown.
#[derive(Default)]
struct Series {
    platforms: BTreeMap<(Arc<str>, Arc<str>), Arc<PlatformMetrics>>,
    plugins: BTreeMap<Arc<str>, Arc<PluginMetrics>>,
    retired: Retired<SeriesKey, PlatformMetrics>,
    retired_plugins: Retired<Arc<str>, PluginMetrics>,
}

/// A platform and its plugin.
type SeriesKey = (Arc<str>, Arc<str>);

/// The series of removed platforms or plugins, the last [`RETIRED`] of them: a counter that began at 0 again would have
/// decreased.
struct Retired<K, V> {
    by_key: HashMap<K, (u64, Arc<V>)>,
    /// Keys by the order of their removal.
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V> Default for Retired<K, V> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Clone + Eq + Hash, V> Retired<K, V> {
    fn keep(&mut self, key: K, series: Arc<V>) {
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

    fn take(&mut self, key: &K) -> Option<Arc<V>> {
        let (number, series) = self.by_key.remove(key)?;
        self.order.remove(&number);
        Some(series)
    }
}

/// How many removed platforms, and removed plugins, keep their counters: some hundred kilobytes.
pub const RETIRED: usize = 1000;

impl Series {
    fn plugin(&mut self, id: &str) -> &Arc<PluginMetrics> {
        let id: Arc<str> = id.into();
        let retired = &mut self.retired_plugins;
        self.plugins.entry(id.clone()).or_insert_with(|| {
            let known = retired.take(&id);
            known.unwrap_or_else(|| Arc::new(PluginMetrics::new(id)))
        })
    }
}

impl Shared {
    fn new(clock: Clock) -> Self {
        Self {
            wall: WallClock::new(clock),
            series: RwLock::default(),
            lateness: Histogram::new(&LATENESS_BOUNDS),
            resources: [const { AtomicU64::new(f64::NAN.to_bits()) }; Resource::ALL.len()],
            degraded_mode: AtomicU8::new(DegradedMode::Normal as u8),
            tracked: [const { AtomicU64::new(0) }; Tracked::ALL.len()],
            config_loaded: AtomicU64::new(0),
            config_refused: AtomicBool::new(false),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Series> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Series> {
        self.series.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finest around the tick of 10 ms, which is what lateness is made of on a healthy host.
const LATENESS_BOUNDS: histogram::Bounds =
    histogram::bounds_in_ms([1, 2, 5, 10, 20, 50, 100, 500, 5000]);
