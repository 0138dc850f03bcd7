//! Handling of keys.

use conductor_types::requests::BreakerOrder;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    rows::SortOrder,
    state::{InputMode, PlatformOrder, PlatformOrderKind, PollerRequest, TopAction, TopState},
};

/// Handles a key press.
pub(super) fn pressed(state: &mut TopState, key: KeyEvent) -> Option<TopAction> {
    // The terminal passes ctrl-c on as a key; it must quit in every view.
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Some(TopAction::Quit);
    }
    match state.prompt.clone() {
        InputMode::None => in_view(state, key.code),
        InputMode::Filter { before } => in_filter(state, before, key.code),
        InputMode::Breaker { platform } => in_breaker(state, platform, key.code),
        InputMode::Confirm(order) => {
            state.prompt = InputMode::None;
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            yes.then_some(TopAction::Ask(PollerRequest::Do(order)))
        }
        InputMode::Help => {
            state.prompt = InputMode::None;
            None
        }
    }
}

fn in_view(state: &mut TopState, code: KeyCode) -> Option<TopAction> {
    match code {
        KeyCode::Char('q') => return Some(TopAction::Quit),
        KeyCode::Char('?') => state.prompt = InputMode::Help,
        KeyCode::Char('j') | KeyCode::Down => return state.step(1),
        KeyCode::Char('k') | KeyCode::Up => return state.step(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => return state.step(PAGE),
        KeyCode::PageUp => return state.step(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => return state.step(isize::MIN),
        KeyCode::End | KeyCode::Char('G') => return state.step(isize::MAX),
        KeyCode::Enter => return open(state),
        KeyCode::Esc | KeyCode::Backspace => return back(state),
        KeyCode::Char('/') => {
            let before = state.filter.text.clone();
            state.prompt = InputMode::Filter { before };
            return leave_detail(state);
        }
        KeyCode::Char('f') => {
            state.filter.only_problems = !state.filter.only_problems;
            state.list();
        }
        KeyCode::Char('s') => sort(state, state.sort.next()),
        KeyCode::Char('c') => {
            if let Some(platform) = state.selected.clone() {
                let what = PlatformOrderKind::Check;
                state.prompt = InputMode::Confirm(PlatformOrder { platform, what });
            }
        }
        KeyCode::Char('b') => {
            if let Some(platform) = state.selected.clone() {
                state.prompt = InputMode::Breaker { platform };
            }
        }
        KeyCode::Char(digit) => {
            if let Some((_, by)) = SortOrder::ALL.into_iter().find(|(key, _)| *key == digit) {
                sort(state, by);
            }
        }
        _ => {}
    }
    None
}

fn in_filter(state: &mut TopState, before: String, code: KeyCode) -> Option<TopAction> {
    match code {
        KeyCode::Enter => state.prompt = InputMode::None,
        KeyCode::Esc => {
            state.prompt = InputMode::None;
            state.filter.text = before;
        }
        KeyCode::Backspace => {
            state.filter.text.pop();
        }
        KeyCode::Char(letter) if !letter.is_control() => state.filter.text.push(letter),
        KeyCode::Down => return state.step(1),
        KeyCode::Up => return state.step(-1),
        _ => {}
    }
    state.list();
    None
}

fn in_breaker(state: &mut TopState, platform: String, code: KeyCode) -> Option<TopAction> {
    let order = match code {
        KeyCode::Char('o') => BreakerOrder::Open,
        KeyCode::Char('c') => BreakerOrder::Close,
        KeyCode::Char('r') => BreakerOrder::Release,
        KeyCode::Char('t') => BreakerOrder::Reset,
        _ => {
            state.prompt = InputMode::None;
            return None;
        }
    };
    let what = PlatformOrderKind::Breaker(order);
    state.prompt = InputMode::Confirm(PlatformOrder { platform, what });
    None
}

fn sort(state: &mut TopState, by: SortOrder) {
    state.sort = by;
    state.list();
}

/// Shows only the selected platform.
fn open(state: &mut TopState) -> Option<TopAction> {
    let name = state.selected()?.name.clone();
    state.in_detail = true;
    Some(TopAction::Ask(PollerRequest::LookAt(Some(name))))
}

/// Goes one step back: to the list, then to the unfiltered list.
fn back(state: &mut TopState) -> Option<TopAction> {
    if state.in_detail {
        return leave_detail(state);
    }
    state.filter = Default::default();
    state.list();
    None
}

fn leave_detail(state: &mut TopState) -> Option<TopAction> {
    if !std::mem::take(&mut state.in_detail) {
        return None;
    }
    state.detail = None;
    state.list();
    Some(TopAction::Ask(PollerRequest::LookAt(None)))
}

/// In rows: about the height of a small terminal.
const PAGE: isize = 15;
