//! The list of platforms. Only visible rows are built, so thousands of platforms cost no more than a screenful.

use conductor_types::views::PlatformView;
use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::{Modifier, Style},
    text::Line,
    widgets::{Cell, Paragraph, Row, Table},
};

use super::{style_of, words};
use crate::cli::top::{rows::SortOrder, state::TopState};

pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState, area: Rect) {
    if state.rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(state)), area);
        return;
    }
    let header_rows = usize::from(area.height >= 3);
    let room = usize::from(area.height).saturating_sub(header_rows);
    let selected = state.place().unwrap_or(0);
    // The selected row stays in the middle, except near the ends.
    let first = selected
        .saturating_sub(room / 2)
        .min(state.rows.len().saturating_sub(room));
    let last = (first + room).min(state.rows.len());
    let columns = VisibleColumns::of(area.width, state, first..last);
    let rows = (first..last).filter_map(|at| {
        let style = if at == selected {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        Some(columns.row(state, state.row(at)?).style(style))
    });
    let table = Table::new(rows, columns.widths()).column_spacing(2);
    let table = if header_rows > 0 {
        table.header(columns.header(state))
    } else {
        table
    };
    frame.render_widget(table, area);
}

/// Returns the reason why the list is empty.
fn nothing(state: &TopState) -> Line<'static> {
    if state.seen.is_none() {
        return Line::raw("");
    }
    let problem = if state.filter.only_problems {
        " with a problem"
    } else {
        ""
    };
    let text = match state.filter.text.as_str() {
        "" => format!("no platform{problem}"),
        text => format!("no platform{problem} matches {text:?}"),
    };
    Line::raw(format!("{text}; Esc shows all platforms"))
}

/// The columns that fit.
struct VisibleColumns {
    name: u16,
    breaker: bool,
    times: bool,
    message: bool,
}

impl VisibleColumns {
    fn of(width: u16, state: &TopState, rows: std::ops::Range<usize>) -> Self {
        let names = rows.filter_map(|at| state.row(at).map(|p| p.name.chars().count()));
        let longest = names.max().unwrap_or(0).max("PLATFORM".len());
        let name = u16::try_from(longest)
            .unwrap_or(u16::MAX)
            .min(32)
            .min((width / 2).max(8));
        Self {
            name,
            breaker: width >= 44 + name.min(12),
            times: width >= 56 + name.min(12),
            message: width >= 30 + name,
        }
    }

    fn widths(&self) -> Vec<Constraint> {
        let mut widths = vec![Constraint::Length(11), Constraint::Length(self.name)];
        if self.breaker {
            widths.push(Constraint::Length(11));
        }
        if self.times {
            widths.extend([Constraint::Length(6), Constraint::Length(6)]);
        }
        if self.message {
            widths.push(Constraint::Fill(1));
        }
        widths
    }

    fn header(&self, state: &TopState) -> Row<'static> {
        let title = |text: &str, sort: Option<SortOrder>| {
            let sorted = sort.is_some_and(|sort| sort == state.sort);
            Cell::from(if sorted {
                format!("{text}▾")
            } else {
                text.to_owned()
            })
        };
        let mut cells = vec![
            title("STATUS", Some(SortOrder::Status)),
            title("PLATFORM", Some(SortOrder::Name)),
        ];
        if self.breaker {
            cells.push(title("BREAKER", None));
        }
        if self.times {
            cells.extend([
                title("TOOK", Some(SortOrder::Duration)),
                title("SINCE", Some(SortOrder::Since)),
            ]);
        }
        if self.message {
            cells.push(title("MESSAGE", None));
        }
        Row::new(cells).style(Style::new().add_modifier(Modifier::BOLD))
    }

    fn row<'a>(&self, state: &TopState, platform: &'a PlatformView) -> Row<'a> {
        let status = format!("{} {}", words::mark(platform.urgency()), platform.status);
        let mut cells = vec![
            Cell::from(status).style(style_of(state, platform.urgency())),
            Cell::from(platform.name.as_str()),
        ];
        if self.breaker {
            cells.push(Cell::from(words::breaker(&platform.breaker)));
        }
        if self.times {
            let right = |text: String| Cell::from(Line::from(text).right_aligned());
            cells.extend([
                right(words::took(platform.last_duration)),
                right(words::since(state, platform)),
            ]);
        }
        if self.message {
            cells.push(Cell::from(words::message(state, platform)));
        }
        Row::new(cells)
    }
}
