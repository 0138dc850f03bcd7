//! Handling of keys.

use conductor_types::requests::BreakerOrder;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    rows::Sort,
    state::{Ask, Command, Order, Prompt, State, What},
};

/// Handles a key press.
pub(super) fn pressed(state: &mut State, key: KeyEvent) -> Option<Command> {
    // The terminal passes ctrl-c on as a key; it must quit in every view.
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Some(Command::Quit);
    }
    match state.prompt.clone() {
        Prompt::None => in_view(state, key.code),
        Prompt::Filter { before } => in_filter(state, before, key.code),
        Prompt::Breaker { platform } => in_breaker(state, platform, key.code),
        Prompt::Confirm(order) => {
            state.prompt = Prompt::None;
            let yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
            yes.then_some(Command::Ask(Ask::Do(order)))
        }
        Prompt::Help => {
            state.prompt = Prompt::None;
            None
        }
    }
}

fn in_view(state: &mut State, code: KeyCode) -> Option<Command> {
    match code {
        KeyCode::Char('q') => return Some(Command::Quit),
        KeyCode::Char('?') => state.prompt = Prompt::Help,
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
            state.prompt = Prompt::Filter { before };
            return leave_detail(state);
        }
        KeyCode::Char('f') => {
            state.filter.only_problems = !state.filter.only_problems;
            state.list();
        }
        KeyCode::Char('s') => sort(state, state.sort.next()),
        KeyCode::Char('c') => {
            if let Some(platform) = state.selected.clone() {
                let what = What::Check;
                state.prompt = Prompt::Confirm(Order { platform, what });
            }
        }
        KeyCode::Char('b') => {
            if let Some(platform) = state.selected.clone() {
                state.prompt = Prompt::Breaker { platform };
            }
        }
        KeyCode::Char(digit) => {
            if let Some((_, by)) = Sort::ALL.into_iter().find(|(key, _)| *key == digit) {
                sort(state, by);
            }
        }
        _ => {}
    }
    None
}

fn in_filter(state: &mut State, before: String, code: KeyCode) -> Option<Command> {
    match code {
        KeyCode::Enter => state.prompt = Prompt::None,
        KeyCode::Esc => {
            state.prompt = Prompt::None;
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

fn in_breaker(state: &mut State, platform: String, code: KeyCode) -> Option<Command> {
    let order = match code {
        KeyCode::Char('o') => BreakerOrder::Open,
        KeyCode::Char('c') => BreakerOrder::Close,
        KeyCode::Char('r') => BreakerOrder::Release,
        KeyCode::Char('t') => BreakerOrder::Reset,
        _ => {
            state.prompt = Prompt::None;
            return None;
        }
    };
    let what = What::Breaker(order);
    state.prompt = Prompt::Confirm(Order { platform, what });
    None
}

fn sort(state: &mut State, by: Sort) {
    state.sort = by;
    state.list();
}

/// Shows only the selected platform.
fn open(state: &mut State) -> Option<Command> {
    let name = state.selected()?.name.clone();
    state.in_detail = true;
    Some(Command::Ask(Ask::LookAt(Some(name))))
}

/// Goes one step back: to the list, then to the unfiltered list.
fn back(state: &mut State) -> Option<Command> {
    if state.in_detail {
        return leave_detail(state);
    }
    state.filter = Default::default();
    state.list();
    None
}

fn leave_detail(state: &mut State) -> Option<Command> {
    if !std::mem::take(&mut state.in_detail) {
        return None;
    }
    state.detail = None;
    state.list();
    Some(Command::Ask(Ask::LookAt(None)))
}

/// In rows: about the height of a small terminal.
const PAGE: isize = 15;
