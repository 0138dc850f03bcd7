//! One platform: all its data, its last checks as bars, and its last log lines.

use std::time::Duration;

use conductor_core::maintenance;
use conductor_types::views::{PastView, PlatformDetail, PlatformView};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Sparkline, SparklineBar, Wrap},
};

use super::{style_of, words};
use crate::cli::top::state::TopState;

pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState, area: Rect) {
    let Some(platform) = state.selected() else {
        let name = state.selected.as_deref().unwrap_or_default();
        let text = format!("{name} has been removed from the config; Esc goes back to the list");
        frame.render_widget(Paragraph::new(text), area);
        return;
    };
    let facts = facts(state, platform);
    let fact_rows = u16::try_from(facts.len()).unwrap_or(u16::MAX);
    let detail = state.detail.as_deref();
    let has_checks = detail.is_some_and(|detail| !detail.history.is_empty());
    let check_rows = if has_checks && area.height >= 12 {
        5
    } else {
        0
    };
    let [top, checks, rest] = Layout::vertical([
        Constraint::Length(fact_rows),
        Constraint::Length(check_rows),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(facts), top);
    if let Some(detail) = detail {
        draw_checks(frame, state, &detail.history, checks);
        draw_log(frame, state, detail, rest);
    }
}

fn facts(state: &TopState, platform: &PlatformView) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let status = format!("{} {}", words::mark(platform.urgency()), platform.status);
    let mut lines = vec![Line::from(vec![
        Span::styled(platform.name.clone(), bold),
        Span::raw("  "),
        Span::styled(status, style_of(state, platform.urgency())),
        Span::raw(format!(" for {}", words::since(state, platform))),
    ])];
    let mut fact = |name: &str, text: String| {
        lines.push(Line::raw(format!("{name:<12}{text}")));
    };
    let kind = platform.error_type.as_ref();
    let kind = kind.map_or_else(String::new, |kind| format!("{kind}: "));
    fact(
        "message",
        format!("{kind}{}", words::message(state, platform)),
    );
    if let Some(window) = &platform.maintenance {
        let until = maintenance::local_time(window.until);
        let by = window.by.as_ref();
        let by = by.map_or_else(String::new, |by| format!(" by {by}"));
        let reason = match window.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let text = format!("{} until {until}{by}{reason}", window.name);
        fact("maintenance", text);
    }
    // The time of the trial itself, not the earliest time at which it is allowed.
    let trial = platform.breaker.retry_at.and(platform.next_check);
    let trial = trial.zip(state.host_time());
    let trial = trial.map_or_else(String::new, |(at, now)| {
        format!(", one trial in {}", words::span(at - now))
    });
    let breaker = words::breaker(&platform.breaker);
    fact("breaker", format!("{breaker}{trial}"));
    let clock =
        |at: Option<f64>| at.map_or_else(|| "never".to_owned(), |at| words::clock(state, at));
    let configured = if platform.effective_interval > platform.interval {
        format!(" (configured: {})", length(platform.interval))
    } else {
        String::new()
    };
    fact(
        "checks",
        format!(
            "last {}, took {}, next {}, every {}{}, at most {}",
            clock(platform.last_check),
            words::took(platform.last_duration),
            clock(platform.next_check),
            length(platform.effective_interval.max(platform.interval)),
            configured,
            length(platform.timeout),
        ),
    );
    let plugin = format!("{}, generation {}", platform.plugin, platform.generation);
    fact(
        "plugin",
        format!("{plugin}, priority {}", platform.priority),
    );
    if !platform.labels.is_empty() {
        let labels = platform.labels.iter().map(|(k, v)| format!("{k}={v}"));
        fact("labels", labels.collect::<Vec<_>>().join(" "));
    }
    if !platform.measurements.is_empty() {
        let measured = platform.measurements.iter();
        let measured: Vec<_> = measured
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        fact("measured", measured.join(" "));
    }
    lines
}

/// Draws a bar for each check, the latest on the right: the height is its duration, the colour its result.
fn draw_checks(frame: &mut Frame<'_>, state: &TopState, history: &[PastView], area: Rect) {
    let [title, bars, marks] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    // As many as fit.
    let shown: Vec<_> = history.iter().take(area.width.into()).rev().collect();
    let longest = shown.iter().map(|past| past.duration).fold(0.0, f64::max);
    let text = format!(
        "last {} checks, the longest took {}",
        shown.len(),
        words::took(Some(longest))
    );
    frame.render_widget(Paragraph::new(text), title);
    let bar = |past: &&PastView| {
        let style = style_of(state, past.urgency());
        SparklineBar::from(micros(past.duration)).style(style)
    };
    frame.render_widget(Sparkline::default().data(shown.iter().map(bar)), bars);
    let marks_line = shown.iter().map(|past| {
        let mark = words::mark(past.urgency()).to_string();
        Span::styled(mark, style_of(state, past.urgency()))
    });
    frame.render_widget(Paragraph::new(Line::from_iter(marks_line)), marks);
}

/// Draws the last log lines that fit.
fn draw_log(frame: &mut Frame<'_>, state: &TopState, detail: &PlatformDetail, area: Rect) {
    let room = usize::from(area.height);
    let hidden = detail.log.len().saturating_sub(room);
    let lines = detail.log.iter().skip(hidden).map(|line| {
        Line::raw(format!(
            "{} {:<5} {}",
            words::clock(state, line.at),
            line.level,
            line.text
        ))
    });
    let log = Paragraph::new(lines.collect::<Vec<_>>()).wrap(Wrap { trim: false });
    frame.render_widget(log, area);
}

/// Formats a duration as in the config.
fn length(seconds: f64) -> String {
    let length = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    humantime::format_duration(length).to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a longer duration is shown as the largest number"
)]
fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}
