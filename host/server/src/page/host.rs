//! The state of the host itself, so that problems of the host are not mistaken for problems of platforms.

use askama::Template;
use conductor_types::views::{PlatformView, PluginView, StatusView};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::{
    query::StateFilter,
    row::rank,
    times::{DisplayTime, date, span},
};

/// The top of each page: the host's problems and its state.
#[derive(Template)]
#[template(path = "host.html")]
pub(super) struct HostPart {
    troubles: Vec<HostProblem>,
    version: String,
    started: DisplayTime,
    facts: Vec<(&'static str, String)>,
    plugins: Vec<PluginRow>,
}

/// A problem of the host.
struct HostProblem {
    /// `bad` or `odd`.
    class: &'static str,
    what: String,
    text: String,
}

struct PluginRow {
    id: String,
    state: String,
    version: String,
    runs: String,
    generation: String,
    uses: String,
    stuck: u64,
}

impl HostPart {
    /// Builds it from a status, with or without the platforms.
    pub(super) fn of(status: &StatusView) -> Self {
        let host = &status.host;
        let percent = |value: Option<f64>| value.map(|value| format!("{value:.0} %"));
        let facts = [
            ("CPU", percent(host.cpu_percent)),
            ("memory", percent(host.memory_percent)),
            ("disk", percent(host.disk_percent)),
            ("lateness", host.lateness_p99.map(lateness)),
            ("under way", Some(host.checks_in_flight.to_string())),
        ];
        let facts = facts.into_iter();
        Self {
            troubles: troubles(status),
            version: host.version.clone(),
            started: DisplayTime::new(host.started, host.now),
            facts: facts.filter_map(|(what, v)| Some((what, v?))).collect(),
            plugins: status.plugins.iter().map(PluginRow::of).collect(),
        }
    }
}

impl PluginRow {
    fn of(plugin: &PluginView) -> Self {
        let memory = plugin
            .memory_bytes
            .map(|bytes| format!("{} MiB", bytes >> 20));
        let cpu = plugin
            .cpu_seconds
            .map(|cpu| format!("{} of CPU", span(cpu)));
        let uses: Vec<_> = [memory, cpu].into_iter().flatten().collect();
        let pid = plugin.pid.map(|pid| format!(" {pid}"));
        let isolation = plugin.isolation.clone().unwrap_or_default();
        Self {
            id: plugin.id.clone(),
            state: plugin.state.clone(),
            version: plugin.version.clone().unwrap_or_default(),
            runs: isolation + &pid.unwrap_or_default(),
            generation: plugin
                .generation
                .map_or_else(String::new, |g| g.to_string()),
            uses: uses.join(", "),
            stuck: plugin.stuck_calls,
        }
    }
}

/// Returns the host's problems, in the order in which they explain others.
fn troubles(status: &StatusView) -> Vec<HostProblem> {
    let (bad, odd) = ("bad", "odd");
    let host = &status.host;
    let mut troubles = Vec::new();
    let mut say = |class, what: &str, text: String| {
        let what = what.to_owned();
        troubles.push(HostProblem { class, what, text });
    };
    if !host.ready {
        let text = "The host is starting or shutting down: platforms are not checked.".to_owned();
        say(odd, "not ready", text);
    }
    for failed in &host.failed_reloads {
        let text = failed.describe(&date(failed.at));
        say(bad, "reload failed", text);
    }
    if host.mode != "normal" {
        let why = host.mode_reason.as_deref().unwrap_or_default();
        say(bad, &host.mode, why.to_owned());
    }
    if let Some(late) = host.lateness_p99.filter(|late| *late > LATE) {
        let text = format!(
            "Checks start late: {}. Timeouts may be caused by this machine instead of the platforms.",
            lateness(late)
        );
        say(bad, "late", text);
    }
    for plugin in &status.plugins {
        let what = format!("plugin {}", plugin.id);
        if let Some(error) = &plugin.error {
            say(bad, &what, format!("is not loaded: {error}"));
        }
        if plugin.quarantined {
            let text = format!(
                "is saturated: {} of its calls are stuck, so it gets no further calls",
                plugin.stuck_calls
            );
            say(bad, &what, text);
        } else if plugin.stuck_calls > 0 {
            say(
                odd,
                &what,
                format!("has {} stuck calls", plugin.stuck_calls),
            );
        }
        if let Some(why) = &plugin.held_in_worker {
            say(
                odd,
                &what,
                format!("runs in a worker although the config says in-process: {why}"),
            );
        }
        if let Some(note) = &plugin.note {
            say(odd, &what, note.clone());
        }
    }
    for refused in &status.refused {
        say(odd, "library refused", refused.reason.clone());
    }
    troubles
}

fn lateness(seconds: f64) -> String {
    let most = if seconds < 5.0 {
        format!("within {:.0} ms", seconds * 1000.0)
    } else {
        "5 s or more".to_owned()
    };
    format!("99 % of starts {most} of their slot")
}

/// The number of platforms in each state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct StateCounts {
    by_rank: [usize; 6],
}

impl StateCounts {
    pub(super) fn of<'a>(platforms: impl IntoIterator<Item = &'a PlatformView>) -> Self {
        let mut counts = Self::default();
        for platform in platforms {
            counts.by_rank[usize::from(rank(platform))] += 1;
        }
        counts
    }

    /// Returns the number of platforms that a filter shows.
    pub(super) fn shown(&self, show: StateFilter) -> usize {
        let ranks = (0_u8..).zip(self.by_rank);
        let shown = ranks.filter(|(rank, _)| *rank <= show.last_rank());
        shown.map(|(_, count)| count).sum()
    }

    /// Returns the counts in words, worst first.
    pub(super) fn words(&self) -> String {
        let names = [
            "unknown",
            "unhealthy",
            "degraded",
            "stale",
            "not checked",
            "healthy",
        ];
        let counts = names.into_iter().zip(self.by_rank);
        let words: Vec<_> = counts
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        if words.is_empty() {
            "no platforms".to_owned()
        } else {
            words.join(", ")
        }
    }
}

/// An update for the page's script when the host's part of the page has changed.
pub(crate) struct HostNews {
    /// The time by the host's clock, from which the page continues.
    now: f64,
    html: String,
    counts: StateCounts,
}

impl HostNews {
    pub(crate) fn of(status: &StatusView) -> Self {
        Self {
            now: status.host.now,
            // A template of strings cannot fail; without it the page keeps its text.
            html: HostPart::of(status).render().unwrap_or_default(),
            counts: StateCounts::of(&status.platforms),
        }
    }

    /// Returns it without the time, which changes with each poll.
    pub(crate) fn undated(self) -> Self {
        Self { now: 0.0, ..self }
    }
}

impl Serialize for HostNews {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut news = serializer.serialize_struct("HostNews", 4)?;
        let shown = StateFilter::ALL.map(|show| self.counts.shown(show));
        news.serialize_field("now", &self.now)?;
        news.serialize_field("html", &self.html)?;
        news.serialize_field("counts", &shown)?;
        news.serialize_field("words", &self.counts.words())?;
        news.end()
    }
}

/// The lateness in seconds from which the host reports it: a machine that is not overloaded stays far below.
const LATE: f64 = 0.1;
