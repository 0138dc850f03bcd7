//! The pages as a browser gets them, and their parts.

use crate::past::PastError;
use conductor_types::views::{
    FailedReloadView, PastView, PlatformDetail, PlatformView, PluginDetail, WindowView,
};

use super::{
    badge::StatusBadge,
    detail::PlatformPage,
    list::{ListFragment, ListPage},
    past::PastPart,
    query::PlatformQuery,
    spark::CheckSparkline,
    times::{DisplayTime, span, took},
    *,
};

#[test]
fn a_small_page() {
    let page = ListPage::of(&host(), &PlatformQuery::default())
        .render()
        .unwrap();
    let page = page.replace(PageFrame::new("").assets, "HASH");
    let (_, body) = page.split_once("<header>").unwrap();
    insta::assert_snapshot!(body);
}

#[test]
fn the_page_of_a_platform() {
    let page = detail(&host(), "shop", true, "check");
    let (_, body) = page.split_once("<header>").unwrap();
    insta::assert_snapshot!(body);
}

#[test]
fn what_a_plugin_says_is_text_and_nothing_else() {
    let mut host = host();
    let evil = "<script>alert(1)</script>\"'&";
    for detail in &mut host.platforms {
        evil.clone_into(&mut detail.platform.message);
        evil.clone_into(&mut detail.platform.plugin);
        let label = (evil.to_owned(), evil.to_owned());
        detail.platform.labels.extend([label]);
        detail.platform.measurements.insert(evil.to_owned(), 1.0);
        evil.clone_into(&mut detail.log[0].text);
    }
    let query = [("q", evil), ("group", evil)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let pages = [
        ListPage::of(&host, &PlatformQuery::default())
            .render()
            .unwrap(),
        ListPage::of(&host, &PlatformQuery::of(&query))
            .render()
            .unwrap(),
        detail(&host, "shop", true, evil),
        StatusBadge::of(&PlatformView {
            name: evil.to_owned(),
            ..host.platforms[0].platform.clone()
        })
        .render()
        .unwrap(),
    ];
    for page in pages {
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(!page.contains("alert(1)</script>"), "{page}");
        assert!(!page.contains("\"'&"), "{page}");
    }
}

#[test]
fn worst_come_first_and_a_stale_result_before_a_good_one() {
    assert_eq!(shown(""), ["mail", "shop", "old", "new", "wiki"]);
}

#[test]
fn a_filter_shows_only_what_it_says_and_keeps_the_rest_of_the_address() {
    assert_eq!(shown("show=problems"), ["mail"]);
    assert_eq!(shown("show=troubled"), ["mail", "shop", "old"]);
    assert_eq!(shown("show=nonsense").len(), 5);
    assert_eq!(shown("q=SHOP"), ["shop"], "by name");
    assert_eq!(shown("q=team=chat"), ["mail"], "by label");
    assert_eq!(shown("q=refused"), ["mail"], "by message");
    assert_eq!(shown("show=problems&q=wiki"), [""; 0]);
    let page = list(&host(), "show=problems&q=a%26b&group=team");
    assert!(
        page.contains("href=\"/?show=troubled&#38;q=a%2526b&#38;group=team\""),
        "{page}"
    );
}

#[test]
fn groups_stand_by_their_worst_and_those_without_the_label_last() {
    let page = list(&host(), "group=team");
    let titles: Vec<_> = page
        .split("<h2>")
        .skip(1)
        .map(|rest| rest.split(" <small>").next().unwrap())
        .filter(|title| title.contains("team"))
        .collect();
    assert_eq!(titles, ["team: chat", "team: web", "no team"]);
}

#[test]
fn groups_of_a_long_list_are_closed_unless_something_is_wrong_in_them() {
    let mut host = host();
    let is_open = |host: &Fake, group: &str| {
        let page = list(host, "group=team");
        let (_, rest) = page
            .split_once(&format!("id=\"g-team%3A%20{group}\""))
            .unwrap();
        rest.split_once('>').unwrap().0.contains("open")
    };
    host.platforms[1].platform.status = conductor_types::PlatformState::Healthy;
    assert!(is_open(&host, "web"), "a short list");
    for number in 0..60 {
        let mut more = host.platforms[0].clone();
        more.platform.name = format!("wiki{number}");
        host.platforms.push(more);
    }
    assert!(!is_open(&host, "web") && is_open(&host, "chat"));
    host.platforms[1].platform.status = conductor_types::PlatformState::Unhealthy;
    assert!(is_open(&host, "web"), "a problem");
}

#[test]
fn a_healthy_row_is_one_line_of_few_elements() {
    let mut host = host();
    host.platforms.truncate(1);
    let row = list(&host, "");
    let row = row.split_once("<li class=\"p").unwrap().1;
    let row = row.split_once("</ul></section>").unwrap().0;
    let elements = row.matches('<').count() - row.matches("</").count();
    assert!(elements <= 12, "{elements}: {row}");
    assert!(!row.contains("class=\"f\""), "{row}");
}

#[test]
fn rows_asked_for_by_the_script_pass_the_same_filter() {
    let names = ["mail", "wiki", "nobody"].map(str::to_owned);
    let rows = |query| {
        let rows = ListFragment::of(&host(), &PlatformQuery::of(&parsed(query)), &names);
        ids(&rows.render().unwrap())
    };
    assert_eq!(rows(""), ["mail", "wiki"]);
    assert_eq!(rows("show=problems"), ["mail"]);
}

#[test]
fn a_sick_host_is_not_read_as_sick_platforms() {
    let mut host = host();
    host.status.host.mode = "critical".to_owned();
    host.status.host.mode_reason = Some("memory 95 % in use".to_owned());
    host.status.host.lateness_p99 = Some(0.5);
    host.status.host.ready = false;
    let plugin = &mut host.status.plugins[0];
    plugin.quarantined = true;
    plugin.stuck_calls = 9;
    plugin.note = Some("a new library was not taken".to_owned());
    for page in [list(&host, ""), detail(&host, "wiki", false, "")] {
        for trouble in [
            "Host problems",
            "critical</strong> memory 95 % in use",
            "Checks start late: 99 % of starts within 500 ms",
            "starting or shutting down",
            "saturated: 9 of its calls are stuck",
            "a new library was not taken",
            "bad.so: no manifest",
        ] {
            assert!(page.contains(trouble), "{trouble}: {page}");
        }
    }
    let page = list(&healthy_host(), "");
    assert!(!page.contains("Host problems"), "{page}");
}

#[test]
fn a_failed_reload_is_shown_with_its_time_and_its_first_error() {
    let mut host = healthy_host();
    host.status.host.failed_reloads = vec![FailedReloadView {
        file: "config".to_owned(),
        at: 990.0,
        error: "platform.shop has no key `timout` (conductor.toml:3:1)".to_owned(),
        more_errors: 2,
    }];
    let page = list(&host, "");
    let expected = "the config was not reloaded at 1970-01-01T00:16:30Z, the earlier one stays in force: platform.shop has no key `timout` (conductor.toml:3:1) (and 2 more errors)";
    assert!(page.contains(expected), "{page}");
}

#[test]
fn a_window_names_the_user_who_started_it() {
    let mut host = host();
    let window = host.platforms[2].platform.maintenance.as_mut().unwrap();
    window.by = Some("<alice>".to_owned());
    let page = list(&host, "");
    let expected = "in maintenance by &#60;alice&#62; (new disks), checks paused";
    assert!(page.contains(expected), "{page}");
}

#[test]
fn the_past_of_a_platform_is_drawn_and_its_texts_are_escaped() {
    let view = serde_json::from_value(serde_json::json!({
        "platform": "shop", "from": 0.0, "to": 86400.0,
        "uptime": [
            { "window": "24h", "up": 0.99999, "known": 86400.0 }, { "window": "7d", "up": 0.5, "known": 100_000.0 },
            { "window": "30d", "up": null, "known": 0.0 },
        ],
        "timeline": { "from": 0.0, "to": 86400.0, "spans": [
            { "from": 0.0, "to": 3600.0, "state": null },
            { "from": 3600.0, "to": 43200.0, "state": "healthy" },
            { "from": 43200.0, "to": 43260.0, "state": "unhealthy", "message": "<b>refused" },
            { "from": 43260.0, "to": 86400.0, "state": "healthy", "maintenance": true },
        ] },
        "incidents": [{
            "platform": "shop", "group": "web", "start": 43200.0, "end": 43260.0, "duration": 60.0,
            "state": "unhealthy", "message": "<b>refused",
        }],
        "durations": { "step": 300.0, "buckets": [
            { "at": 3600.0, "checks": 60, "p50": 0.01, "p95": 0.02, "max": 0.04 },
            { "at": 3900.0, "checks": 60, "p50": 0.02, "p95": 0.03, "max": 0.04 },
        ] },
    }));
    let past = PastPart::new("shop", HistoryRange::Day, Ok(Some(view.unwrap())));
    let page = PlatformPage::of(&host(), "shop", false, &[], past)
        .unwrap()
        .render()
        .unwrap();
    assert!(!page.contains("<b>refused"), "{page}");
    let (_, rest) = page.split_once("<section class=\"past\">").unwrap();
    insta::assert_snapshot!(rest.split_once("</section>").unwrap().0);
}

#[test]
fn a_page_without_a_past_says_why() {
    let text = plain(&detail(&host(), "shop", false, ""));
    assert!(text.contains("this host keeps no history"), "{text}");
    let past = PastPart::new("shop", HistoryRange::Day, Ok(None));
    assert_eq!(
        past.found.err().unwrap(),
        "nothing is recorded of this platform yet"
    );
}

#[test]
fn buttons_are_shown_only_where_they_work() {
    let page = detail(&host(), "shop", false, "");
    assert!(!page.contains("<button"), "{page}");
    let page = detail(&host(), "shop", true, "");
    assert!(page.contains("action=\"/api/v1/platforms/shop/check\""));
    assert!(page.contains("/breaker/open\"") && !page.contains("/breaker/release\""));
    let mut host = host();
    host.platforms[1].platform.breaker.forced = true;
    let page = detail(&host, "shop", true, "");
    assert!(page.contains("/breaker/release\"") && page.contains("held by an operator"));
}

#[test]
fn a_row_says_when_the_next_real_check_is_and_not_when_a_slot_comes() {
    let mut host = host();
    let view = &mut host.platforms[2].platform;
    (view.breaker.retry_at, view.next_check) = (Some(1058.0), Some(1060.0));
    view.maintenance = None;
    view.paused = Some("breaker open".to_owned());
    let text = plain(&list(&host, "q=mail"));
    assert!(text.contains("breaker open, trial in 60 s"), "{text}");
    assert!(
        !text.contains("next in") && !text.contains("paused"),
        "{text}"
    );
    let page = detail(&host, "mail", true, "");
    assert!(
        page.contains("Check now, as the breaker&#39;s trial")
            || page.contains("Check now, as the breaker's trial"),
        "{page}"
    );

    let view = &mut host.platforms[2].platform;
    (view.breaker.forced, view.next_check) = (true, None);
    view.paused = Some("breaker held open".to_owned());
    let text = plain(&list(&host, "q=mail"));
    assert!(text.contains("breaker open, held by an operator"), "{text}");
    assert!(text.contains("paused") && !text.contains("trial"), "{text}");
    assert!(
        StatusBadge::of(&host.platforms[2].platform)
            .render()
            .unwrap()
            .contains("unknown, paused")
    );
}

#[test]
fn a_stretched_interval_is_shown_beside_the_configured_one() {
    let mut host = host();
    host.status.host.mode = "degraded".to_owned();
    let page = detail(&host, "wiki", false, "");
    assert!(page.contains("every 5 s, timeout 4 s"), "{page}");
    host.platforms[0].platform.effective_interval = 10.0;
    let page = detail(&host, "wiki", false, "");
    let told = "every 10 s while the machine is degraded (configured: 5 s), timeout 4 s";
    assert!(page.contains(told), "{page}");
}

#[test]
fn measurements_say_which_report_they_are_of() {
    let mut host = host();
    host.platforms[2].platform.last_report = Some(400.0);
    let text = plain(&detail(&host, "mail", false, ""));
    assert!(
        text.contains("Measurements of the last report, 10 min ago"),
        "{text}"
    );
}

/// Returns the text of a page.
fn plain(html: &str) -> String {
    let pieces = html
        .split('<')
        .filter_map(|piece| Some(piece.split_once('>')?.1));
    pieces.collect()
}

#[test]
fn a_spark_shows_the_latest_at_the_right_and_the_bad_ones_apart() {
    let past = |duration, status| PastView {
        ended: 1.0,
        duration,
        status,
    };
    use conductor_types::PlatformState::{Degraded, Healthy, Unknown};
    assert!(CheckSparkline::of(&[]).is_none());
    let latest_first = [
        past(0.004, Unknown),
        past(0.002, Degraded),
        past(0.0, Healthy),
    ];
    let spark = CheckSparkline::of(&latest_first).unwrap();
    assert_eq!(spark.all, "M114 20V18h2V10h2V2h2V20z");
    assert_eq!(spark.degraded, "M116 20V10h2V20z");
    assert_eq!(spark.bad, "M118 20V2h2V20z");
    assert_eq!(
        spark.words,
        "Last 3 checks: 0 ms to 4 ms; 1 bad; 1 degraded"
    );
    let many = vec![past(0.001, Healthy); 100];
    assert_eq!(CheckSparkline::of(&many).unwrap().all, "M0 20V2h120V20z");
}

#[test]
fn times_are_as_exact_as_people_want_them() {
    let texts = [0.3, -5.0, -119.9, -120.0, -7300.0, -200_000.0, 12.0];
    let texts = texts.map(|offset| DisplayTime::new(1e6 + offset, 1e6).text);
    let wanted = [
        "now",
        "5 s ago",
        "119 s ago",
        "2 min ago",
        "2 h ago",
        "2 d ago",
        "in 12 s",
    ];
    assert_eq!(texts, wanted);
    let lengths = [0.0, 0.00034, 0.0123, 0.9, 2.0, 2.54, 61.0].map(took);
    let wanted = ["0 ms", "0.3 ms", "12 ms", "900 ms", "2 s", "2.5 s", "61 s"];
    assert_eq!(lengths, wanted);
    assert_eq!(span(3600.0), "60 min");
}

#[test]
fn a_badge_says_in_words_what_its_colour_says() {
    let host = host();
    let old = &host.platforms[3].platform;
    insta::assert_snapshot!(StatusBadge::of(old).render().unwrap());
}

#[test]
fn the_script_is_small() {
    assert!(JS.len() < 12_000, "{} bytes", JS.len());
}

/// Five platforms, and a host with a few problems.
struct Fake {
    status: StatusView,
    platforms: Vec<PlatformDetail>,
}

impl StatusSource for Fake {
    fn is_ready(&self) -> bool {
        true
    }

    fn status(&self) -> StatusView {
        let views = self.platforms.iter().map(|d| d.platform.clone());
        StatusView {
            platforms: views.collect(),
            ..self.status.clone()
        }
    }

    fn plugins(&self) -> Vec<PluginDetail> {
        Vec::new()
    }

    fn overview(&self) -> StatusView {
        self.status.clone()
    }

    fn maintenance(&self) -> Vec<WindowView> {
        Vec::new()
    }

    fn platform(&self, name: &str) -> Option<PlatformDetail> {
        let mut all = self.platforms.iter();
        all.find(|d| d.platform.name == name).cloned()
    }
}

fn host() -> Fake {
    let platform = |name: &str, status: &str, team: Option<&str>| {
        let labels = team.map(|team| serde_json::json!({ "team": team }));
        serde_json::from_value::<PlatformDetail>(serde_json::json!({
            "name": name, "plugin": "http", "generation": 2, "status": status,
            "message": if name == "mail" { "connection refused" } else { "200 OK" },
            "error_type": (name == "mail").then_some("error"),
            "since": 900.0, "last_check": 995.0, "last_duration": 0.012, "age": 5.0, "stale": name == "old",
            "next_check": if name == "mail" { 1021.0 } else { 1003.0 }, "interval": 5.0, "timeout": 4.0, "priority": "normal",
            "breaker": if name == "mail" {
                serde_json::json!({ "state": "open", "retry_at": 1020.0, "forced": false })
            } else {
                serde_json::json!({ "state": "closed", "retry_at": null, "forced": false })
            },
            "labels": labels.unwrap_or(serde_json::json!({})),
            "maintenance": (name == "mail").then(|| serde_json::json!({
                "name": "patching", "reason": "new disks", "until": 4600.0, "checks": "pause",
            })),
            "measurements": { "latency_seconds": 0.012 },
            "history": [
                { "ended": 995.0, "duration": 0.012, "status": status },
                { "ended": 990.0, "duration": 0.006, "status": "healthy" },
            ],
            "log": [{ "at": 995.0, "level": "info", "text": "as it was" }],
        }))
        .unwrap()
    };
    Fake {
        status: serde_json::from_value(serde_json::json!({
            "host": {
                "version": "1.2.3", "started": 100.0, "now": 1000.0, "ready": true, "mode": "normal",
                "mode_reason": null, "cpu_percent": 12.3, "memory_percent": 45.6, "disk_percent": null,
                "lateness_p99": 0.01, "checks_in_flight": 1,
            },
            "platforms": [],
            "plugins": [{
                "id": "http", "state": "loaded", "error": null, "note": null, "version": "0.1.0",
                "api_version": "1.0.0", "isolation": "process", "generation": 2, "pid": 77,
                "memory_bytes": 7_340_032, "cpu_seconds": 12.0, "sha256": null, "file": null,
                "stuck_calls": 0, "quarantined": false,
            }],
            "refused": [{ "file": "bad.so", "reason": "bad.so: no manifest" }],
        }))
        .unwrap(),
        platforms: vec![
            platform("wiki", "healthy", Some("web")),
            platform("shop", "degraded", Some("web")),
            platform("mail", "unknown", Some("chat")),
            platform("old", "healthy", None),
            not_checked(platform("new", "unknown", None)),
        ],
    }
}

/// Returns the platform as it is before its first check.
fn not_checked(detail: PlatformDetail) -> PlatformDetail {
    PlatformDetail {
        platform: PlatformView {
            message: "not checked yet".to_owned(),
            since: None,
            last_check: None,
            last_duration: None,
            age: None,
            ..detail.platform.clone()
        },
        history: Vec::new(),
        ..detail
    }
}

fn healthy_host() -> Fake {
    let mut host = host();
    host.status.refused.clear();
    host
}

fn list(host: &Fake, query: &str) -> String {
    ListPage::of(host, &PlatformQuery::of(&parsed(query)))
        .render()
        .unwrap()
}

fn detail(host: &Fake, name: &str, may_ask: bool, done: &str) -> String {
    let query = [("done".to_owned(), done.to_owned())];
    let past = PastPart::new(name, HistoryRange::Day, Err(PastError::Disabled));
    let detail = PlatformPage::of(host, name, may_ask, &query, past).unwrap();
    detail.render().unwrap()
}

/// Returns the names of the platforms on a page.
fn shown(query: &str) -> Vec<String> {
    ids(&list(&host(), query))
}

fn ids(html: &str) -> Vec<String> {
    let rows = html.split("id=\"p-").skip(1);
    rows.map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// Parses a query and decodes its escapes.
fn parsed(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter_map(|part| part.split_once('='));
    parts
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
