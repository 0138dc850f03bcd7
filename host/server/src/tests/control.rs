//! Operators' requests: who may send them, and the responses.

use std::path::Path;

use conductor_config::{ConductorConfig, ConfigError};
use conductor_engine::state::maintenance_length;
use conductor_types::{SkipReason, requests::CHECK_RUNNING};

use super::*;

#[test]
fn a_reload_is_answered_with_what_became_of_it() {
    let host = Host::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let mistake = || {
        let text = "[host]\nbogus = 1\n".to_owned();
        ConductorConfig::parse(text, "conductor.toml", Path::new("/")).unwrap_err()
    };
    let server = host.serve_with(ServerLimits::default(), move |state| {
        state.control = Some(reloading(move || {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => Ok(()),
                1 => Err(mistake()),
                _ => panic!("asked to panic"),
            }
        }));
    });
    let post = || server.ask(&post("localhost", ""));
    let answer = post();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = post();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with(&format!("{}\n", mistake().to_plain())),
        "{answer}"
    );
    for _ in 0..2 {
        let answer = post();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains("see the host's log"), "{answer}");
    }
    let answer = server.get("/-/reload");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: POST"), "{answer}");
    assert!(answer.contains("use POST"), "{answer}");
    assert_eq!(calls.load(Ordering::SeqCst), 4, "a GET reloads nothing");
}

#[test]
fn a_reload_that_is_not_enabled_is_refused_with_the_flag_that_enables_it() {
    let server = Host::default().serve(ServerLimits::default());
    let answer = server.ask(&post("localhost", ""));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("--web.enable-lifecycle"), "{answer}");
    assert!(server.get("/-/reload").starts_with("HTTP/1.1 405 "));
}

#[test]
fn a_page_of_another_origin_cannot_reload() {
    let host = Host::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let server = host.serve_with(ServerLimits::default(), move |state| {
        state.control = Some(reloading(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }));
    });
    let refused = [
        "origin: http://evil.example\r\n",
        "origin: http://localhost:3000\r\n",
        "origin: http://localhost:9750.evil.example\r\n",
        "origin: null\r\n",
        "origin: \u{ff}\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
        "sec-fetch-site: same-origin\r\norigin: http://evil.example\r\n",
    ];
    for headers in refused {
        let answer = server.ask(&post("localhost:9750", headers));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{headers}: {answer}");
        assert!(answer.contains("another site"), "{headers}: {answer}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    let allowed = [
        "",
        "origin: http://localhost:9750\r\n",
        "origin: https://LocalHost:9750\r\nsec-fetch-site: same-origin\r\n",
        "sec-fetch-site: none\r\n",
    ];
    for headers in allowed {
        let answer = server.ask(&post("localhost:9750", headers));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{headers}: {answer}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), allowed.len());
}

#[test]
fn reloads_run_one_at_a_time_and_hold_up_nothing_else() {
    let host = Host::default();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate, seen) = (host.gate.clone(), most.clone());
    let server = host.serve_with(
        ServerLimits {
            turn_time: PATIENCE,
            request_time: 2 * PATIENCE,
            ..ServerLimits::default()
        },
        move |state| {
            state.control = Some(reloading(move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                seen.fetch_max(now, Ordering::SeqCst);
                gate.pass();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }));
        },
    );
    let held = host.hold_statuses();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let answer = server.ask(&post("localhost", ""));
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            });
        }
        held.wait_for_one();
        assert!(server.get("/-/healthy").starts_with("HTTP/1.1 200 "));
        held.release();
    });
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

/// Returns a reload request with further headers.
fn post(host: &str, headers: &str) -> String {
    format!("POST /-/reload HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n")
}

#[test]
fn a_platform_is_checked_and_its_breaker_told_what_to_do() {
    let server = Host::default().serve_with(ServerLimits::default(), |state| {
        state.control = Some(reloading(|| Ok(())));
    });
    let to = |path: &str| {
        server.ask(&format!(
            "POST /api/v1/platforms/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        ))
    };
    for (path, status, text) in [
        ("shop/check", 202, "Started a check of shop."),
        ("busy/check", 409, "holds its breaker open"),
        ("running/check", 409, CHECK_RUNNING),
        ("nobody/check", 404, "No platform is named nobody"),
        ("leaving/check", 503, "The host is shutting down"),
        (
            "shop/breaker/open",
            200,
            "shop: anonymous operator holds the breaker open",
        ),
        ("shop/breaker/reset", 200, "reset the breaker"),
        ("nobody/breaker/open", 404, "No platform is named nobody"),
        ("shop/breaker/explode", 404, "open, close, release or reset"),
        ("%1b[31m/check", 404, "No platform is named \\u{1b}[31m"),
    ] {
        let answer = to(path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text),
            "{path}: {answer}"
        );
    }
    for path in ["shop/check", "shop/breaker/open"] {
        let answer = server.get(&format!("/api/v1/platforms/{path}"));
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }
}

#[test]
fn maintenance_is_started_and_ended_by_what_the_body_says() {
    let server = Host::default().serve_with(ServerLimits::default(), |state| {
        state.control = Some(reloading(|| Ok(())));
    });
    let to = |path: &str, body: &str, headers: &str| {
        server.ask(&format!(
            "POST /api/v1/maintenance{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    for (path, body, status, text) in [
        ("", r#"{"platforms":["shop"],"for":"2h"}"#, 200, "started"),
        (
            "",
            r#"{"platforms":["shop"],"for":"2h","checks":"pause"}"#,
            200,
            "started",
        ),
        (
            "",
            r#"{"platforms":["nobody"],"for":"2h"}"#,
            404,
            "No platform is named nobody",
        ),
        (
            "",
            r#"{"platforms":["shop"],"for":"2"}"#,
            400,
            "expected a number and a unit, such as 30s",
        ),
        (
            "",
            r#"{"platforms":["shop"],"for":"2000000000y"}"#,
            400,
            "expected a number and a unit, such as 30s",
        ),
        (
            "",
            r#"{"platforms":["shop"],"for":"2y"}"#,
            400,
            "out of range",
        ),
        (
            "",
            r#"{"platforms":["shop"],"for":"2h","until":"x"}"#,
            400,
            "unknown field `until`",
        ),
        (
            "",
            r#"{"platforms":["shop"],"for":"2h","checks":"stop"}"#,
            400,
            "unknown variant `stop`",
        ),
        ("", "for=2h", 400, "the body must be JSON like {"),
        ("/end", r#"{"platforms":["shop"]}"#, 200, "ended"),
        (
            "/end",
            r#"{"platforms":["weekly"]}"#,
            409,
            "change it there",
        ),
        (
            "/end",
            r#"{"platforms":["\u001b"]}"#,
            404,
            "a maintenance of \\u{1b}",
        ),
    ] {
        let answer = to(path, body, "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(text),
            "{path} {body}: {answer}"
        );
    }
    let body = r#"{"platforms":["shop"],"for":"2h"}"#;
    let answer = to("", body, "origin: http://evil.example\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let answer = to("", &" ".repeat(70_000), "");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let chunk = format!("11170\r\n{}\r\n0\r\n\r\n", " ".repeat(0x11170));
    let answer = server.ask(&format!(
        "POST /api/v1/maintenance HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    ));
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = server.get("/api/v1/maintenance/end");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = server.get("/api/v1/maintenance");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("[]"),
        "{answer}"
    );
}

#[test]
fn a_browser_is_sent_back_to_the_page_or_shown_why_not() {
    let server = Host::default().serve_with(ServerLimits::default(), |state| {
        state.control = Some(reloading(|| Ok(())));
    });
    let to = |path: &str| {
        server.ask(&format!(
            "POST /api/v1/platforms/{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\naccept: text/html,*/*\r\n\r\n"
        ))
    };
    for (path, back) in [
        ("shop/check", "/platforms/shop?done=check"),
        ("shop/breaker/open", "/platforms/shop?done=open"),
    ] {
        let answer = to(path);
        assert!(answer.starts_with("HTTP/1.1 303 "), "{answer}");
        assert!(
            answer.contains(&format!("location: {back}\r\n")),
            "{answer}"
        );
        assert!(server.get(back).contains("<p class=\"note\">"));
    }
    for (path, status, text) in [
        ("busy/check", 409, "holds its breaker open"),
        ("nobody/check", 404, "No platform is named nobody"),
    ] {
        let answer = to(path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(
            answer.contains("text/html") && answer.contains(text),
            "{answer}"
        );
        let name = path.split_once('/').unwrap().0;
        let back = format!("<a id=\"back\" href=\"/platforms/{name}\">Back to the platform</a>");
        assert!(answer.contains(&back), "{answer}");
    }
}

/// A host that reloads with this function and has a platform `shop`, and `busy`, whose breaker is open; it is stopping
/// if `leaving` is requested.
pub(super) fn reloading(
    reload: impl Fn() -> Result<(), ConfigError> + Send + Sync + 'static,
) -> Arc<dyn HostControl> {
    struct Fake<F>(F);
    impl<F: Fn() -> Result<(), ConfigError> + Send + Sync> HostControl for Fake<F> {
        fn reload(&self, _: &ActionOrigin) -> Result<Vec<String>, ConfigError> {
            (self.0)().map(|()| Vec::new())
        }

        fn check_now(&self, platform: &str, _: &ActionOrigin) -> CheckNow {
            match platform {
                "shop" => CheckNow::Begun,
                "busy" => CheckNow::Skipped(SkipReason::BreakerOpen),
                "running" => CheckNow::Skipped(SkipReason::Overlap),
                "leaving" => CheckNow::Leaving,
                _ => CheckNow::Unknown,
            }
        }

        fn order_breaker(&self, platform: &str, _: BreakerOrder, _: &ActionOrigin) -> bool {
            platform == "shop"
        }

        fn start_maintenance(
            &self,
            order: &MaintenanceOrder,
            _: &ActionOrigin,
        ) -> Result<String, OrderError> {
            maintenance_length(&order.length)
                .map_err(|error| OrderError::Invalid(error.to_string()))?;
            match &*order.platforms[0] {
                "shop" => Ok("started".to_owned()),
                other => Err(OrderError::NoSuchPlatform(other.to_owned())),
            }
        }

        fn end_maintenance(
            &self,
            end: &MaintenanceEnd,
            _: &ActionOrigin,
        ) -> Result<String, OrderError> {
            match &*end.platforms[0] {
                "shop" => Ok("ended".to_owned()),
                "weekly" => Err(OrderError::OfConfig("weekly".to_owned())),
                other => Err(OrderError::NoSuchWindow(other.to_owned())),
            }
        }
    }
    Arc::new(Fake(reload))
}
