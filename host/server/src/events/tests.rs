//! The events for clients that know different parts of the state.

use conductor_types::views::StatusView;

use super::table::ChangeTracker;

#[test]
fn a_new_program_is_told_everything_and_then_what_changed() {
    let mut table = ChangeTracker::default();
    table.look(status(10.0, &[("shop", "healthy"), ("mail", "healthy")]));
    let first = text(&table.since(None));
    assert_eq!(
        events(&first),
        ["reset {}", "host ", "platform shop", "platform mail"]
    );
    assert!(first.starts_with("retry: 2000\n\n"), "{first}");
    assert!(first.ends_with("\nid: 10000-1\n\n"), "{first}");

    table.look(status(11.0, &[("shop", "healthy"), ("mail", "unknown")]));
    let news = text(&table.news());
    assert_eq!(events(&news), ["platform mail"]);
    assert!(news.ends_with("\nid: 10000-2\n\n"), "{news}");

    table.look(status(12.0, &[("mail", "unknown")]));
    assert_eq!(events(&text(&table.news())), ["removed shop"]);
    table.look(status(13.0, &[("mail", "unknown")]));
    assert_eq!(text(&table.news()), "", "only the time has changed");
}

#[test]
fn a_program_that_comes_back_is_told_what_it_missed() {
    let mut table = ChangeTracker::default();
    table.look(status(10.0, &[("shop", "healthy"), ("mail", "healthy")]));
    table.look(status(11.0, &[("shop", "unknown"), ("mail", "healthy")]));
    table.look(status(12.0, &[("shop", "unknown")]));
    let told = |table: &mut ChangeTracker, last| events(&text(&table.since(Some(last))));
    assert_eq!(
        told(&mut table, "10000-1"),
        ["removed mail", "platform shop"]
    );
    assert_eq!(told(&mut table, "10000-2"), ["removed mail"]);
    assert_eq!(told(&mut table, "10000-3"), [""; 0]);
    for strange in ["9999-1", "10000-4", "10000-", "x", ""] {
        assert_eq!(
            told(&mut table, strange),
            ["reset {}", "host ", "platform shop"]
        );
    }
}

#[test]
fn one_that_was_away_for_too_many_removals_begins_anew() {
    let mut table = ChangeTracker::default();
    let names: Vec<String> = (0..1500).map(|n| format!("p{n}")).collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), "healthy"))
        .collect();
    table.look(status(10.0, &all));
    table.look(status(11.0, &all[1400..]));
    let told = text(&table.since(Some("10000-1")));
    assert!(told.contains("event: reset"), "it cannot be told of 1400");
    assert_eq!(events(&text(&table.since(Some("10000-2")))), [""; 0]);
}

#[test]
fn a_page_is_told_which_rows_changed_and_not_what_is_in_them() {
    let mut table = ChangeTracker::default();
    table.look(status(10.0, &[("shop", "healthy"), ("mail", "degraded")]));
    let all = text(&table.all_for_page());
    assert!(
        all.contains("event: all\ndata: [\"5shop\",\"2mail\"]\n\n"),
        "{all}"
    );
    assert!(all.contains("event: host\n"), "{all}");
    table.look(status(11.0, &[("shop", "unknown"), ("mail", "degraded")]));
    let news = text(&table.news_for_page());
    assert!(
        news.starts_with("event: changed\ndata: [\"0shop\"]\n\n"),
        "{news}"
    );
    assert!(news.contains("1 unknown, 1 degraded"), "{news}");
    table.look(status(12.0, &[("shop", "unknown")]));
    let news = text(&table.news_for_page());
    assert!(
        news.starts_with("event: changed\ndata: [\"-mail\"]\n\n"),
        "{news}"
    );
}

fn status(now: f64, platforms: &[(&str, &str)]) -> StatusView {
    let platforms = platforms.iter().map(|(name, status)| {
        serde_json::json!({
            "name": name, "plugin": "http", "status": status, "message": "", "age": now,
            "error_type": (*status == "unknown").then_some("error"),
            "interval": 5.0, "timeout": 4.0, "priority": "normal",
            "breaker": { "state": "closed", "forced": false }, "labels": {}, "measurements": {},
        })
    });
    let platforms: Vec<_> = platforms.collect();
    let status = serde_json::json!({
        "host": { "version": "1.2.3", "started": 1.0, "now": now, "ready": true, "mode": "normal", "checks_in_flight": 0 },
        "platforms": platforms, "plugins": [], "refused": [],
    });
    serde_json::from_value(status).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Returns each event with the name in its data.
fn events(text: &str) -> Vec<String> {
    let events = text.split("event: ").skip(1).map(|event| {
        let (kind, rest) = event.split_once("\ndata: ").unwrap();
        let data = rest.lines().next().unwrap();
        let json: serde_json::Value = serde_json::from_str(data).unwrap();
        let what = json["name"].as_str().unwrap_or("");
        format!("{kind} {}", if kind == "reset" { data } else { what })
    });
    events.collect()
}
