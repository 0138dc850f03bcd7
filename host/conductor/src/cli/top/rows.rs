//! Selection and order of the listed platforms.

use std::cmp::Ordering;

use conductor_types::{PlatformState, views::PlatformView};

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum SortOrder {
    /// Worst first.
    #[default]
    Status,
    /// By name.
    Name,
    /// Slowest check first.
    Duration,
    /// Latest change first.
    Since,
}

impl SortOrder {
    pub(super) const ALL: [(char, Self); 4] = [
        ('1', Self::Status),
        ('2', Self::Name),
        ('3', Self::Duration),
        ('4', Self::Since),
    ];

    /// Returns the next order, wrapping around.
    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|(_, sort)| *sort == self);
        Self::ALL[(at.unwrap_or(0) + 1) % Self::ALL.len()].1
    }

    fn compare(self, a: &PlatformView, b: &PlatformView) -> Ordering {
        let descending = |a: Option<f64>, b: Option<f64>| {
            let value = |x: Option<f64>| x.unwrap_or(f64::NEG_INFINITY);
            value(b).total_cmp(&value(a))
        };
        let first = match self {
            // Platforms under maintenance go last.
            Self::Status => (a.maintenance.is_some() && !is_well(a), a.urgency())
                .cmp(&(b.maintenance.is_some() && !is_well(b), b.urgency())),
            Self::Name => Ordering::Equal,
            Self::Duration => descending(a.last_duration, b.last_duration),
            Self::Since => descending(a.since, b.since),
        };
        first.then_with(|| a.name.cmp(&b.name))
    }
}

/// The filter of the list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PlatformFilter {
    /// Text that a platform's name, plugin, message or label must contain, ignoring case.
    pub(super) text: String,
    /// Only platforms that are unhealthy or whose last check failed.
    pub(super) only_problems: bool,
}

impl PlatformFilter {
    fn takes(&self, platform: &PlatformView, text: &str) -> bool {
        if self.only_problems && !platform.needs_attention() {
            return false;
        }
        let has = |field: &str| field.to_lowercase().contains(text);
        text.is_empty()
            || [&platform.name, &platform.plugin, &platform.message]
                .into_iter()
                .any(|f| has(f))
            || platform
                .labels
                .iter()
                .any(|(k, v)| has(&format!("{k}={v}")))
    }
}

/// Returns the indices of the platforms to list, in order.
pub(super) fn listed(
    platforms: &[PlatformView],
    filter: &PlatformFilter,
    sort: SortOrder,
) -> Vec<usize> {
    let text = filter.text.to_lowercase();
    let mut rows: Vec<_> = (0..platforms.len())
        .filter(|at| filter.takes(&platforms[*at], &text))
        .collect();
    rows.sort_by(|a, b| sort.compare(&platforms[*a], &platforms[*b]));
    rows
}

fn is_well(platform: &PlatformView) -> bool {
    platform.status == PlatformState::Healthy
}
