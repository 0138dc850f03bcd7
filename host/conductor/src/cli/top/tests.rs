//! Effects of events on the state, and the rendered frames.

use std::{fmt::Write as _, time::Duration};

use conductor_types::{requests::BreakerOrder, views::FailedReloadView};
use insta::assert_snapshot;
use jiff::tz::TimeZone;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use serde_json::{Value, json};

use super::{
    rows::SortOrder,
    state::{
        InputMode, PlatformOrder, PlatformOrderKind, PollerRequest, TopAction, TopEvent, TopState,
    },
    view,
};

/// Returns the status of a host with these platforms, given by name, status and other relevant fields.
fn host(platforms: &[(&str, &str, Value)]) -> TopEvent {
    let platforms: Vec<_> = platforms
        .iter()
        .map(|(name, status, more)| platform(name, status, more))
        .collect();
    let status = json!({
        "host": {
            "version": "0.1.0", "started": 0.0, "now": NOW, "mode": "normal", "mode_reason": null,
            "cpu_percent": 12.4, "memory_percent": 40.0, "disk_percent": null, "checks_in_flight": 0
        },
        "platforms": platforms, "plugins": [], "refused": []
    });
    TopEvent::Status(Box::new(serde_json::from_value(status).unwrap()))
}

fn platform(name: &str, status: &str, more: &Value) -> Value {
    let mut view = json!({
        "name": name, "plugin": "http", "generation": 1, "status": status, "message": "200 OK",
        "error_type": null, "since": NOW - 90.0, "last_check": NOW - 1.0, "last_duration": 0.012, "age": 1.0,
        "stale": false, "next_check": NOW + 4.0, "interval": 5.0, "timeout": 4.0, "priority": "normal",
        "breaker": { "state": "closed", "retry_at": null, "forced": false },
        "maintenance": null, "labels": {}, "measurements": {}
    });
    for (key, value) in more.as_object().unwrap() {
        view[key] = value.clone();
    }
    view
}

/// A host with one platform of each kind.
fn mixed() -> TopEvent {
    host(&[
        (
            "api.eu",
            "healthy",
            json!({ "labels": { "team": "web" }, "last_duration": 0.25 }),
        ),
        (
            "db-1",
            "unknown",
            json!({
                "message": "connection refused", "error_type": "error", "plugin": "tcp", "since": NOW - 7200.0,
                "breaker": { "state": "open", "retry_at": NOW + 21.0, "forced": false }
            }),
        ),
        (
            "db-2",
            "unknown",
            json!({
                "message": "connection refused", "error_type": "error", "since": NOW - 30.0,
                "maintenance": { "name": "patching", "reason": "patches", "until": NOW + 600.0, "checks": "pause" }
            }),
        ),
        (
            "cache",
            "degraded",
            json!({ "message": "slow", "since": NOW - 200_000.0 }),
        ),
        (
            "shop",
            "unhealthy",
            json!({
                "message": "503 Service Unavailable",
                "breaker": { "state": "open", "retry_at": null, "forced": true }
            }),
        ),
        (
            "gateway",
            "healthy",
            json!({ "stale": true, "age": 65.0, "last_check": NOW - 65.0 }),
        ),
        (
            "new",
            "unknown",
            json!({
                "message": "not checked yet", "since": null, "last_check": null, "last_duration": null, "age": null
            }),
        ),
    ])
}

fn state() -> TopState {
    TopState::new("http://127.0.0.1:9750".to_owned(), TimeZone::UTC, true)
}

/// Returns the state after these events, one second apart.
fn after(events: impl IntoIterator<Item = TopEvent>) -> TopState {
    let mut state = state();
    for event in events {
        state.now += Duration::from_secs(1);
        state.update(event);
    }
    state
}

fn key(code: KeyCode) -> TopEvent {
    TopEvent::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// Presses the keys of a text; returns the command of the last one.
fn typed(state: &mut TopState, text: &str) -> Option<TopAction> {
    let keys = text.chars().map(|letter| match letter {
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        letter => KeyCode::Char(letter),
    });
    keys.map(|code| state.update(key(code))).last().flatten()
}

fn listed(state: &TopState) -> Vec<&str> {
    let rows = (0..state.rows.len()).filter_map(|at| state.row(at));
    rows.map(|platform| platform.name.as_str()).collect()
}

/// Renders the state in a terminal of this size.
fn drawn(state: &TopState, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for row in buffer.content().chunks(width.into()) {
        let line: String = row.iter().map(|cell| cell.symbol()).collect();
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

fn detail(name: &str) -> TopEvent {
    let mut detail = platform(
        name,
        "unknown",
        &json!({
            "message": "connection refused", "error_type": "error", "plugin": "tcp",
            "breaker": { "state": "open", "retry_at": NOW + 21.0, "forced": false }
        }),
    );
    let past = (0..60).map(|at| {
        json!({
            "ended": NOW - f64::from(at) * 5.0,
            "duration": f64::from(at % 7 + 1) / 100.0,
            "status": if at < 3 { "unknown" } else { "healthy" }
        })
    });
    detail["history"] = past.collect();
    detail["log"] = json!([
        { "at": NOW - 10.0, "level": "error", "text": "check failed: error: connection refused" },
        { "at": NOW - 1.0, "level": "warn", "text": "breaker open for 30s" }
    ]);
    TopEvent::Detail(Box::new(serde_json::from_value(detail).unwrap()))
}

#[test]
fn the_list_shows_the_worst_first() {
    assert_snapshot!(drawn(&after([mixed()]), 80, 24));
    assert_snapshot!(drawn(&after([mixed()]), 140, 12));
}

#[test]
fn a_config_that_was_not_reloaded_is_named_in_the_head() {
    let mut event = mixed();
    let TopEvent::Status(status) = &mut event else {
        panic!("not a status")
    };
    status.host.failed_reloads = vec![FailedReloadView {
        file: "web config".to_owned(),
        at: NOW,
        error: String::new(),
        more_errors: 0,
    }];
    let frame = drawn(&after([event]), 80, 24);
    assert!(
        frame.contains("machine normal  web config not reloaded"),
        "{frame}"
    );
}

#[test]
fn a_filter_narrows_the_list_as_it_is_typed() {
    let mut state = after([mixed()]);
    typed(&mut state, "/DB");
    assert_eq!(listed(&state), ["db-1", "db-2"]);
    assert_snapshot!(drawn(&state, 80, 10));
    typed(&mut state, "-1⏎");
    assert_eq!(
        (listed(&state), &state.prompt),
        (vec!["db-1"], &InputMode::None)
    );
    typed(&mut state, "/zzz⎋");
    assert_eq!(listed(&state), ["db-1"], "Esc brings back what it was");
    typed(&mut state, "⎋");
    assert_eq!(listed(&state).len(), 7);
    typed(&mut state, "/team=web⏎");
    assert_eq!(listed(&state), ["api.eu"]);
    typed(&mut state, "⎋/nothing⏎");
    assert!(
        drawn(&state, 80, 24).contains("no platform matches \"nothing\"; Esc shows all platforms")
    );
}

#[test]
fn f_leaves_what_is_unhealthy_or_failing() {
    let mut state = after([mixed()]);
    typed(&mut state, "f");
    assert_eq!(listed(&state), ["db-1", "shop", "db-2"]);
    typed(&mut state, "f");
    assert_eq!(listed(&state).len(), 7);
}

#[test]
fn the_list_is_sorted_as_asked() {
    let mut state = after([mixed()]);
    assert_eq!(listed(&state)[..3], ["db-1", "shop", "cache"]);
    assert_eq!(
        listed(&state).last(),
        Some(&"db-2"),
        "what people work on is no news"
    );
    typed(&mut state, "2");
    assert_eq!(listed(&state)[..3], ["api.eu", "cache", "db-1"]);
    typed(&mut state, "3");
    assert_eq!((listed(&state)[0], listed(&state)[6]), ("api.eu", "new"));
    typed(&mut state, "4");
    assert_eq!((listed(&state)[0], listed(&state)[6]), ("db-2", "new"));
    typed(&mut state, "s");
    assert_eq!(state.sort, SortOrder::Status, "the first follows the last");
}

#[test]
fn what_is_selected_stays_so_wherever_it_moves_to() {
    let mut state = after([mixed()]);
    typed(&mut state, "jj");
    assert_eq!(state.selected.as_deref(), Some("cache"));
    typed(&mut state, "2");
    assert_eq!(
        (state.selected.as_deref(), state.place()),
        (Some("cache"), Some(1))
    );
    typed(&mut state, "G");
    assert_eq!(state.selected.as_deref(), Some("shop"));
    typed(&mut state, "jjg");
    assert_eq!(state.selected.as_deref(), Some("api.eu"));
    typed(&mut state, "kk");
    assert_eq!(state.place(), Some(0), "there is nothing before the first");
    typed(&mut state, "j");
    state.update(host(&[
        ("api.eu", "healthy", json!({})),
        ("shop", "healthy", json!({})),
    ]));
    assert_eq!(
        state.selected.as_deref(),
        Some("shop"),
        "who takes the place of what is gone"
    );
    state.update(host(&[]));
    assert_eq!(typed(&mut state, "jG⏎cb"), None);
    assert_eq!(state.selected, None);
}

#[test]
fn enter_shows_one_platform_with_its_last_checks_and_lines_of_the_log() {
    let mut state = after([mixed()]);
    let asked = typed(&mut state, "⏎");
    assert_eq!(
        asked,
        Some(TopAction::Ask(PollerRequest::LookAt(Some(
            "db-1".to_owned()
        ))))
    );
    state.update(detail("shop"));
    assert!(state.detail.is_none(), "an answer about another one");
    state.update(detail("db-1"));
    assert_snapshot!(drawn(&state, 80, 24));
    let asked = typed(&mut state, "↓");
    assert_eq!(
        asked,
        Some(TopAction::Ask(PollerRequest::LookAt(Some(
            "shop".to_owned()
        ))))
    );
    assert!(state.detail.is_none(), "the details of another one");
    assert_eq!(
        typed(&mut state, "⎋"),
        Some(TopAction::Ask(PollerRequest::LookAt(None)))
    );
    assert!(!state.in_detail);
    typed(&mut state, "⏎");
    state.update(host(&[("other", "healthy", json!({}))]));
    assert!(drawn(&state, 80, 24).contains("shop has been removed from the config"));
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut state = after([mixed()]);
    let order = |what| {
        let platform = "db-1".to_owned();
        Some(TopAction::Ask(PollerRequest::Do(PlatformOrder {
            platform,
            what,
        })))
    };
    assert_eq!(typed(&mut state, "c"), None);
    assert!(drawn(&state, 80, 24).contains("Check db-1 now? y/n"));
    assert_eq!(typed(&mut state, "n"), None);
    assert_eq!(
        typed(&mut state, "y"),
        None,
        "there is no question any more"
    );
    assert_eq!(typed(&mut state, "cy"), order(PlatformOrderKind::Check));
    for (key, asked) in [
        ('o', BreakerOrder::Open),
        ('c', BreakerOrder::Close),
        ('r', BreakerOrder::Release),
        ('t', BreakerOrder::Reset),
    ] {
        assert_eq!(typed(&mut state, &format!("b{key}")), None);
        assert!(
            drawn(&state, 100, 24).contains("the breaker of db-1"),
            "{key}"
        );
        assert_eq!(
            typed(&mut state, "y"),
            order(PlatformOrderKind::Breaker(asked)),
            "{key}"
        );
    }
    assert_eq!(typed(&mut state, "b⎋"), None);
    assert_eq!(state.prompt, InputMode::None);
    assert_eq!(
        PlatformOrderKind::Breaker(BreakerOrder::Reset).path(),
        "breaker/reset"
    );
}

#[test]
fn a_question_is_about_the_platform_it_was_asked_of() {
    let mut state = after([mixed()]);
    typed(&mut state, "bt");
    // The selected platform disappears meanwhile, and another takes its row.
    state.update(host(&[("shop", "healthy", json!({}))]));
    let Some(TopAction::Ask(PollerRequest::Do(order))) = typed(&mut state, "y") else {
        panic!("no order")
    };
    assert_eq!(order.platform, "db-1");
}

#[test]
fn what_came_of_an_order_is_shown_for_a_while() {
    let mut state = after([mixed()]);
    state.update(TopEvent::Told(
        "db-1: an operator reset the breaker.".to_owned(),
    ));
    assert!(drawn(&state, 80, 24).contains("an operator reset the breaker"));
    state.now += Duration::from_secs(60);
    assert!(!drawn(&state, 80, 24).contains("an operator reset the breaker"));
}

#[test]
fn a_host_that_is_gone_is_said_to_be_and_its_last_word_stays() {
    let refused = || TopEvent::Gone("cannot ask the host: Connection refused".to_owned());
    let mut state = after([refused()]);
    assert!(drawn(&state, 80, 24).contains("NO ANSWER since the start"));
    state = after([mixed(), refused(), refused(), refused()]);
    state.now += Duration::from_secs(10);
    assert_snapshot!(drawn(&state, 80, 12));
    state.update(mixed());
    assert!(!drawn(&state, 80, 24).contains("NO ANSWER"), "it is back");
}

#[test]
fn it_works_in_small_terminals() {
    let mut state = after([mixed()]);
    assert_snapshot!(drawn(&state, 40, 10));
    assert_snapshot!(drawn(&state, 16, 4));
    for prompt in ["", "⏎", "?", "⎋⎋/x", "⎋bo"] {
        typed(&mut state, prompt);
        state.update(detail("db-1"));
        for (width, height) in [
            (1, 1),
            (2, 2),
            (3, 3),
            (80, 1),
            (1, 24),
            (10, 5),
            (300, 100),
        ] {
            drawn(&state, width, height);
        }
    }
}

#[test]
fn help_is_shown_until_any_key() {
    let mut state = after([mixed()]);
    typed(&mut state, "?");
    assert_snapshot!(drawn(&state, 80, 20));
    assert_eq!(typed(&mut state, "q"), None);
    assert_eq!(typed(&mut state, "q"), Some(TopAction::Quit));
}

#[test]
fn ctrl_c_ends_it_whatever_is_shown() {
    for keys in ["", "/", "?", "c", "b", "⏎"] {
        let mut state = after([mixed()]);
        typed(&mut state, keys);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(
            state.update(TopEvent::Key(ctrl_c)),
            Some(TopAction::Quit),
            "{keys}"
        );
    }
}

#[test]
fn what_a_platform_says_cannot_steer_the_terminal() {
    let mut state = after([host(&[(
        "shop",
        "unknown",
        json!({ "message": "\u{1b}[31m\u{7}\nevil" }),
    )])]);
    for keys in ["", "⏎"] {
        typed(&mut state, keys);
        let screen = drawn(&state, 80, 24);
        assert!(!screen.contains(['\u{1b}', '\u{7}']), "{screen:?}");
    }
}

#[test]
fn without_colours_there_are_none() {
    for colour in [true, false] {
        let mut state = after([mixed()]);
        state.colour = colour;
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| view::draw(frame, &state)).unwrap();
        let reset = ratatui::style::Color::Reset;
        let mut cells = terminal.backend().buffer().content().iter();
        assert_eq!(cells.any(|cell| cell.fg != reset), colour);
    }
}

#[test]
fn thousands_of_platforms_are_drawn_by_the_screenful() {
    let names: Vec<_> = (0..2000).map(|at| format!("p{at:04}")).collect();
    let platforms: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "healthy", json!({})))
        .collect();
    let mut state = after([host(&platforms)]);
    typed(&mut state, "G");
    let screen = drawn(&state, 80, 24);
    assert!(
        screen.contains("p1999") && !screen.contains("p1900"),
        "{screen}"
    );
    typed(&mut state, "g");
    assert!(drawn(&state, 80, 24).contains("p0000"));
}

/// 2026-11-24 20:00:00 UTC.
const NOW: f64 = 1_795_550_400.0;
