//! A picture of a platform's name and state, for other sites' pages.

use askama::Template;
use conductor_types::views::PlatformView;

use super::row::{STALE, rank};

/// Two boxes: the name, and the state on its colour.
#[derive(Template)]
#[template(path = "badge.svg", escape = "html")]
pub(super) struct StatusBadge<'a> {
    name: &'a str,
    word: String,
    colour: &'static str,
    name_width: usize,
    word_width: usize,
}

impl<'a> StatusBadge<'a> {
    pub(super) fn of(view: &'a PlatformView) -> Self {
        let rank = rank(view);
        let word = if rank == STALE {
            format!("{}, stale", view.status)
        } else if view.is_paused() {
            format!("{}, paused", view.status)
        } else {
            view.status.to_string()
        };
        Self {
            name: &view.name,
            colour: COLOURS[usize::from(rank)],
            name_width: width(&view.name),
            word_width: width(&word),
            word,
        }
    }
}

/// Returns the width of the text. The picture makes the browser fit the text in, whatever its font.
fn width(text: &str) -> usize {
    text.chars().count() * 7
}

/// By rank; white text is readable on each.
const COLOURS: [&str; 6] = [
    "#b3261e", "#b3261e", "#8a5a00", "#6a5a8c", "#5b6470", "#1f6f43",
];
