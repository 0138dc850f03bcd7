//! The list of platforms, worst first.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use conductor_types::views::PlatformView;

use super::{
    PageFrame, StatusSource, StatusView,
    host::{HostPart, StateCounts},
    query::{PlatformQuery, StateFilter, escaped},
    row::{PlatformRow, key, rank, state_rank},
};

/// The page with the list.
#[derive(Template)]
#[template(path = "list.html")]
pub(super) struct ListPage {
    frame: PageFrame,
    host: HostPart,
    now: f64,
    words: String,
    filters: Vec<FilterLink>,
    groupings: Vec<GroupingLink>,
    group: Option<String>,
    search: String,
    /// The last rank shown.
    last_rank: u8,
    groups: Vec<PlatformGroup>,
    /// The total number of rows, if there are too many.
    cut: Option<usize>,
}

/// A link that filters the platforms.
struct FilterLink {
    name: &'static str,
    address: String,
    current: bool,
    count: usize,
}

/// A link that groups the platforms.
struct GroupingLink {
    name: String,
    address: String,
    current: bool,
}

/// A group of platforms.
struct PlatformGroup {
    /// Empty if the list is not grouped.
    title: String,
    /// Identifies it to the script, which keeps it open or closed.
    id: String,
    words: String,
    /// Rank of the worst state in it.
    rank: u8,
    is_open: bool,
    rows: Vec<PlatformRow>,
}

/// The rows of some platforms, in the element by which the script recognizes a response.
#[derive(Template)]
#[template(
    source = r#"<ul id="main">{% include "rows.html" %}</ul>"#,
    ext = "html"
)]
pub(super) struct ListFragment {
    rows: Vec<PlatformRow>,
}

impl ListPage {
    pub(super) fn of(source: &dyn StatusSource, wanted: &PlatformQuery) -> Self {
        let status = source.status();
        let counts = StateCounts::of(&status.platforms);
        let taken = taken(&status, wanted);
        let cut = (taken.len() > MOST_ROWS).then_some(taken.len());
        let taken_count = taken.len();
        let groups = groups(taken, wanted.group.as_deref());
        let is_long = taken_count > LONG_LIST;
        let mut left = MOST_ROWS;
        let groups = groups.into_iter().map(|(title, members)| {
            let words = StateCounts::of(members.iter().copied()).words();
            let shown = members.iter().take(left);
            let rows: Vec<_> = shown.map(|v| row(source, v, status.host.now)).collect();
            left -= rows.len();
            let ranks = members.iter().map(|view| state_rank(view.urgency()));
            let troubled = members
                .iter()
                .any(|v| rank(v) <= StateFilter::Troubled.last_rank());
            PlatformGroup {
                id: escaped(&title),
                title,
                words,
                rank: ranks.min().unwrap_or(5),
                is_open: troubled || !is_long || !wanted.search.is_empty(),
                rows,
            }
        });
        let groups = groups.filter(|group| !group.rows.is_empty()).collect();
        Self {
            frame: PageFrame::new(&wanted.search),
            host: HostPart::of(&status),
            now: status.host.now,
            words: counts.words(),
            filters: filters(wanted, &counts),
            groupings: groupings(&status, wanted),
            group: wanted.group.clone(),
            search: wanted.search.clone(),
            last_rank: wanted.show.last_rank(),
            groups,
            cut,
        }
    }
}

impl ListFragment {
    /// Returns the matching rows among these platforms.
    pub(super) fn of(source: &dyn StatusSource, wanted: &PlatformQuery, names: &[String]) -> Self {
        let now = source.overview().host.now;
        let found = names.iter().filter_map(|name| source.platform(name));
        let found = found.filter(|d| wanted.takes(&d.platform, rank(&d.platform)));
        let rows = found.map(|d| row_of(&d.platform, &d.history, &d.log, now));
        Self {
            rows: rows.collect(),
        }
    }
}

/// Returns the matching platforms, worst first.
fn taken<'a>(status: &'a StatusView, wanted: &PlatformQuery) -> Vec<&'a PlatformView> {
    let all = status.platforms.iter();
    let mut taken: Vec<_> = all.filter(|view| wanted.takes(view, rank(view))).collect();
    taken.sort_by_cached_key(|view| key(view));
    taken
}

/// Groups platforms by their value of a label, the group with the worst first, those without one last.
fn groups<'a>(
    taken: Vec<&'a PlatformView>,
    label: Option<&str>,
) -> Vec<(String, Vec<&'a PlatformView>)> {
    let Some(label) = label else {
        return vec![(String::new(), taken)];
    };
    let mut groups: BTreeMap<Option<&str>, Vec<&PlatformView>> = BTreeMap::new();
    for view in taken {
        let value = view.labels.get(label).map(String::as_str);
        groups.entry(value).or_default().push(view);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(value, members)| (value.is_none(), members.first().map(|v| rank(v))));
    let titled = groups.into_iter().map(|(value, members)| {
        let title = match value {
            Some(value) => format!("{label}: {value}"),
            None => format!("no {label}"),
        };
        (title, members)
    });
    titled.collect()
}

fn row(source: &dyn StatusSource, view: &PlatformView, now: f64) -> PlatformRow {
    match source.platform(&view.name) {
        Some(detail) => row_of(view, &detail.history, &detail.log, now),
        None => row_of(view, &[], &[], now),
    }
}

/// Returns a row. Only platforms with problems show their log: the others' would be most of the page.
fn row_of(
    view: &PlatformView,
    history: &[conductor_types::views::PastView],
    log: &[conductor_types::views::LineView],
    now: f64,
) -> PlatformRow {
    let lines = if rank(view) <= StateFilter::Troubled.last_rank() {
        &log[log.len().saturating_sub(LINES)..]
    } else {
        &[]
    };
    PlatformRow::new(view, history, lines, now)
}

fn filters(wanted: &PlatformQuery, counts: &StateCounts) -> Vec<FilterLink> {
    let named = |show| match show {
        StateFilter::All => "All",
        StateFilter::Problems => "Problems",
        StateFilter::Troubled => "All but healthy",
    };
    let filters = StateFilter::ALL.into_iter().map(|show| FilterLink {
        name: named(show),
        address: wanted.showing(show),
        current: show == wanted.show,
        count: counts.shown(show),
    });
    filters.collect()
}

/// Returns a grouping for each label that a platform has.
fn groupings(status: &StatusView, wanted: &PlatformQuery) -> Vec<GroupingLink> {
    let labels = status.platforms.iter().flat_map(|view| view.labels.keys());
    let labels: BTreeSet<&String> = labels.collect();
    if labels.is_empty() {
        return Vec::new();
    }
    let nothing = GroupingLink {
        name: "nothing".to_owned(),
        address: wanted.grouped(None),
        current: wanted.group.is_none(),
    };
    let by_label = labels.into_iter().take(MOST_GROUPINGS);
    let by_label = by_label.map(|label| GroupingLink {
        name: label.clone(),
        address: wanted.grouped(Some(label)),
        current: wanted.group.as_ref() == Some(label),
    });
    std::iter::once(nothing).chain(by_label).collect()
}

/// More rows make a page too large for a browser; the rest is found by searching.
const MOST_ROWS: usize = 5000;
/// In a list with more rows, groups without problems are closed at first.
const LONG_LIST: usize = 50;
const MOST_GROUPINGS: usize = 20;
/// The number of log lines in a row.
const LINES: usize = 2;
