//! The screen: a head with the host's state, the list or one platform, and a line of available keys.

use conductor_types::StateUrgency;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::state::{InputMode, TopState};

mod detail;
mod help;
mod list;
mod words;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState) {
    let area = frame.area();
    // In a tiny terminal the platforms have priority.
    let head_rows = if area.height >= 8 {
        2
    } else {
        u16::from(area.height >= 3)
    };
    let foot_rows = u16::from(area.height >= 2);
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(head_rows),
        Constraint::Fill(1),
        Constraint::Length(foot_rows),
    ])
    .areas(area);
    head(frame, state, top);
    match (&state.prompt, state.in_detail) {
        (InputMode::Help, _) => help::draw(frame, middle),
        (_, true) => detail::draw(frame, state, middle),
        (_, false) => list::draw(frame, state, middle),
    }
    foot(frame, state, bottom);
}

fn head(frame: &mut Frame<'_>, state: &TopState, area: Rect) {
    let mut lines = Vec::new();
    if let Some(gone) = &state.gone {
        let (ago, since) = words::gone(state, gone);
        let style = emphasis(state, Color::Red).add_modifier(Modifier::REVERSED);
        let kept = if state.seen.is_some() {
            ", STALE below"
        } else {
            ""
        };
        let text = format!(" NO ANSWER since {since} ({ago}){kept} ");
        lines.push(Line::from(vec![
            Span::styled(text, style),
            Span::raw(format!(" {}", gone.why)),
        ]));
    }
    lines.push(counts(state));
    lines.push(Line::from(words::machine(state)));
    frame.render_widget(Paragraph::new(lines), area);
}

/// Counts the platforms by state.
fn counts(state: &TopState) -> Line<'static> {
    let platforms = state.platforms();
    let mut spans = vec![Span::styled(
        format!("{} total", platforms.len()),
        Style::new().add_modifier(Modifier::BOLD),
    )];
    for urgency in StateUrgency::ALL {
        let many = platforms.iter().filter(|p| p.urgency() == urgency).count();
        if many > 0 {
            spans.push(Span::raw("  "));
            let text = format!("{} {many} {}", words::mark(urgency), urgency.label());
            spans.push(Span::styled(text, style_of(state, urgency)));
        }
    }
    let working = platforms.iter().filter(|p| p.maintenance.is_some()).count();
    if working > 0 {
        spans.push(Span::raw(format!("  {working} in maintenance")));
    }
    Line::from(spans)
}

fn foot(frame: &mut Frame<'_>, state: &TopState, area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let line = match &state.prompt {
        InputMode::Filter { .. } => Line::from(vec![
            Span::styled(format!("/{}", state.filter.text), bold),
            Span::raw("▏  Enter apply  Esc cancel"),
        ]),
        InputMode::Breaker { platform } => Line::styled(
            format!(
                "Breaker of {platform}: o hold open, c hold closed, r release, t reset, Esc cancel"
            ),
            bold,
        ),
        InputMode::Confirm(order) => Line::styled(format!("{} y/n", order.question()), bold),
        InputMode::Help => Line::raw("any key back"),
        InputMode::None => match state.notice() {
            Some(notice) => Line::styled(notice.to_owned(), bold),
            None if state.in_detail => {
                Line::raw("Esc list  ↑↓ others  c check now  b breaker  ? help  q quit")
            }
            None => Line::raw(list_keys(state)),
        },
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn list_keys(state: &TopState) -> String {
    let mut text = String::new();
    if !state.filter.text.is_empty() {
        text.push_str(&format!("[/{}] ", state.filter.text));
    }
    if state.filter.only_problems {
        text.push_str("[only problems] ");
    }
    if !text.is_empty() {
        text.push_str("Esc show all  ");
    }
    text + "q quit  ? help  ⏎ detail  / filter  f problems  c check  b breaker  1-4 sort"
}

fn style_of(state: &TopState, urgency: StateUrgency) -> Style {
    match urgency {
        StateUrgency::CheckFailed => emphasis(state, Color::Magenta),
        StateUrgency::Unhealthy => emphasis(state, Color::Red),
        StateUrgency::Degraded => plain(state, Color::Yellow),
        StateUrgency::NotChecked => plain(state, Color::Cyan),
        StateUrgency::Healthy => plain(state, Color::Green),
    }
}

fn emphasis(state: &TopState, colour: Color) -> Style {
    plain(state, colour).add_modifier(Modifier::BOLD)
}

fn plain(state: &TopState, colour: Color) -> Style {
    if state.colour {
        Style::new().fg(colour)
    } else {
        Style::new()
    }
}
