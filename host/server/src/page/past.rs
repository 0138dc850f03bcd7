//! The past on a platform's page: uptime, states over time, durations of checks, and incidents.

use std::fmt::Write as _;

use conductor_types::{
    PlatformState,
    views::{
        DurationBucketView, DurationView, HistoryRange, IncidentView, PlatformHistoryView,
        SpanView, UptimeView,
    },
};

use super::{
    query::escaped,
    times::{date, span, took},
};
use crate::past::PastError;

/// The past of one platform over a range.
pub(super) struct PastPart {
    pub(super) ranges: Vec<RangeLink>,
    pub(super) found: Result<PastCharts, String>,
}

/// A link to the same page over another range.
pub(super) struct RangeLink {
    pub(super) label: &'static str,
    pub(super) address: String,
    pub(super) current: bool,
}

/// The charts and tables of the past.
pub(super) struct PastCharts {
    pub(super) uptime: Vec<UptimeTile>,
    pub(super) spans: Vec<TimelineBar>,
    pub(super) durations: Option<DurationChart>,
    pub(super) incidents: Vec<IncidentRow>,
    /// Start, middle and end of the range.
    pub(super) dates: [String; 3],
}

/// Uptime over one window.
pub(super) struct UptimeTile {
    pub(super) window: String,
    pub(super) percent: String,
    /// Time that the percentage is of, if it is not the whole window.
    pub(super) known: Option<String>,
}

/// A time of one state, in thousandths of the range.
pub(super) struct TimelineBar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) class: &'static str,
    pub(super) words: String,
}

/// Lines of the median and the 95th percentile in a field of 1000 by 100.
pub(super) struct DurationChart {
    pub(super) p50: String,
    pub(super) p95: String,
    /// Longest, half of it, and zero.
    pub(super) axis: [String; 3],
    pub(super) bars: Vec<DurationBar>,
    pub(super) words: String,
}

/// One bucket of time, described when a pointer rests on it.
pub(super) struct DurationBar {
    pub(super) x: String,
    pub(super) width: String,
    pub(super) y: String,
    pub(super) height: String,
    pub(super) words: String,
}

/// An incident.
pub(super) struct IncidentRow {
    pub(super) start: String,
    pub(super) end: Option<String>,
    pub(super) lasted: String,
    pub(super) word: String,
    pub(super) rank: u8,
    pub(super) group: Option<String>,
    pub(super) message: String,
    pub(super) maintenance: bool,
}

impl PastPart {
    pub(super) fn new(
        platform: &str,
        range: HistoryRange,
        found: Result<Option<PlatformHistoryView>, PastError>,
    ) -> Self {
        let ranges = HistoryRange::ALL.into_iter().map(|other| RangeLink {
            label: other.label(),
            address: format!("/platforms/{}?range={other}", escaped(platform)),
            current: other == range,
        });
        let found = match found {
            Ok(Some(view)) => Ok(PastCharts::new(&view)),
            Ok(None) => Err("nothing is recorded of this platform yet".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        Self {
            ranges: ranges.collect(),
            found,
        }
    }
}

impl PastCharts {
    fn new(view: &PlatformHistoryView) -> Self {
        let place = |at: f64| {
            let length = (view.to - view.from).max(1.0);
            ((at - view.from) / length * WIDTH).clamp(0.0, WIDTH)
        };
        let bars = view.timeline.spans.iter();
        Self {
            uptime: view.uptime.iter().map(UptimeTile::new).collect(),
            spans: bars.map(|span| TimelineBar::new(span, place)).collect(),
            durations: DurationChart::new(&view.durations, place),
            incidents: view.incidents.iter().map(IncidentRow::new).collect(),
            dates: [view.from, f64::midpoint(view.from, view.to), view.to].map(date),
        }
    }
}

impl UptimeTile {
    fn new(view: &UptimeView) -> Self {
        let window = view.window.parse::<HistoryRange>();
        let is_part = window.is_ok_and(|range| view.known < range.length().as_secs_f64() * 0.99);
        Self {
            window: view.window.clone(),
            percent: view.up.map_or_else(|| "no data".to_owned(), percent),
            known: (view.up.is_some() && is_part).then(|| span(view.known)),
        }
    }
}

/// Formats a share as a percentage, rounded down: 100 % is never shown for less.
fn percent(share: f64) -> String {
    // An exact decimal such as 0.9999 may be represented by a little less.
    let hundredths = (share * 10_000.0 + 1e-6).floor();
    format!("{} %", hundredths / 100.0)
}

impl TimelineBar {
    fn new(span_view: &SpanView, place: impl Fn(f64) -> f64) -> Self {
        let (class, word) = match span_view.state {
            None => ("t-none", "no data".to_owned()),
            Some(PlatformState::Unknown) => ("t-bad", "checks failed".to_owned()),
            Some(state @ PlatformState::Unhealthy) => ("t-bad", state.to_string()),
            Some(state @ PlatformState::Degraded) => ("t-deg", state.to_string()),
            Some(state @ PlatformState::Healthy) => ("t-good", state.to_string()),
        };
        let class = if span_view.maintenance {
            "t-off"
        } else {
            class
        };
        let (x, end) = (place(span_view.from), place(span_view.to));
        let lasted = span((span_view.to - span_view.from).max(0.0));
        let mut words = format!("{}: {word} for {lasted}", date(span_view.from));
        if span_view.maintenance {
            words.push_str(", in maintenance");
        }
        if !span_view.message.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(words, ": {}", span_view.message);
        }
        Self {
            x: format!("{x:.1}"),
            // A short outage stays visible.
            width: format!("{:.1}", (end - x).max(1.0)),
            class,
            words,
        }
    }
}

impl DurationChart {
    fn new(view: &DurationView, place: impl Fn(f64) -> f64) -> Option<Self> {
        let longest = view.buckets.iter().map(|b| b.max).fold(0.0, f64::max);
        let longest = longest.max(0.001);
        let height = |seconds: f64| HEIGHT - (seconds / longest * HEIGHT).clamp(0.0, HEIGHT);
        let line = |value: fn(&DurationBucketView) -> f64| {
            let mut path = String::new();
            let mut last_end = f64::NEG_INFINITY;
            for bucket in &view.buckets {
                // A gap in the data is a gap in the line.
                let order = if bucket.at > last_end { 'M' } else { 'L' };
                let (x, end) = (place(bucket.at), place(bucket.at + view.step));
                let y = height(value(bucket));
                let _ = write!(path, "{order}{x:.1} {y:.1}H{end:.1}");
                last_end = bucket.at + view.step * 1.5;
            }
            path
        };
        let bars = view.buckets.iter().map(|bucket| {
            let (x, end) = (place(bucket.at), place(bucket.at + view.step));
            let y = height(bucket.max);
            DurationBar {
                x: format!("{x:.1}"),
                width: format!("{:.1}", (end - x).max(0.5)),
                y: format!("{y:.1}"),
                height: format!("{:.1}", HEIGHT - y),
                words: format!(
                    "{}: median {}, 95 % within {}, longest {}, {} checks",
                    date(bucket.at),
                    took(bucket.p50),
                    took(bucket.p95),
                    took(bucket.max),
                    bucket.checks
                ),
            }
        });
        let last = view.buckets.last()?;
        Some(Self {
            p50: line(|bucket| bucket.p50),
            p95: line(|bucket| bucket.p95),
            axis: [longest, longest / 2.0, 0.0].map(took),
            bars: bars.collect(),
            words: format!(
                "Durations of checks: lately median {}, 95 % within {}; longest {}",
                took(last.p50),
                took(last.p95),
                took(longest)
            ),
        })
    }
}

impl IncidentRow {
    fn new(view: &IncidentView) -> Self {
        Self {
            start: date(view.start),
            end: view.end.map(date),
            lasted: span(view.duration.max(0.0)),
            word: match view.state {
                PlatformState::Unknown => "checks failed".to_owned(),
                state => state.to_string(),
            },
            rank: u8::from(view.state != PlatformState::Unknown),
            group: view.group.clone(),
            message: view.message.clone(),
            maintenance: view.maintenance,
        }
    }
}

/// Width and height of the charts, in their own units: a browser stretches them.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_never_better_than_the_truth() {
        let shares = [1.0, 0.999_999, 0.9999, 0.5, 0.0].map(percent);
        assert_eq!(shares, ["100 %", "99.99 %", "99.99 %", "50 %", "0 %"]);
    }

    #[test]
    fn a_short_outage_is_visible_and_a_gap_is_no_line() {
        let bar = |from, to, state| {
            let span = SpanView {
                from,
                to,
                state,
                maintenance: false,
                message: "refused".to_owned(),
            };
            TimelineBar::new(&span, |at| at / 86.4)
        };
        let short = bar(43_200.0, 43_201.0, Some(PlatformState::Unhealthy));
        assert_eq!((&*short.x, &*short.width), ("500.0", "1.0"));
        assert_eq!(short.class, "t-bad");
        assert_eq!(
            short.words,
            "1970-01-01T12:00:00Z: unhealthy for 1 s: refused"
        );
        assert_eq!(bar(0.0, 60.0, None).class, "t-none");

        let bucket = |at, max| DurationBucketView {
            at,
            checks: 5,
            p50: max / 4.0,
            p95: max / 2.0,
            max,
        };
        let view = DurationView {
            step: 10.0,
            buckets: vec![bucket(0.0, 0.2), bucket(10.0, 0.4), bucket(50.0, 0.4)],
        };
        let chart = DurationChart::new(&view, |at| at).unwrap();
        assert_eq!(chart.p50, "M0.0 87.5H10.0L10.0 75.0H20.0M50.0 75.0H60.0");
        assert_eq!(chart.axis, ["400 ms", "200 ms", "0 ms"]);
        let empty = DurationView {
            step: 10.0,
            buckets: Vec::new(),
        };
        assert!(DurationChart::new(&empty, |at| at).is_none());
    }
}
