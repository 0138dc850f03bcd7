//! A server on loopback that follows Discord's published API and that of its status page, and servers that misbehave.

use std::{sync::Arc, time::Duration};

use conductor_net::testing::{self, BadServer, SeenRequest};
use conductor_plugin_api::{
    FailureKind,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

const TOKEN: &str = "MTk4.very-secret.token";

fn check_within(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("bot").timeout(timeout);
    let mut probe = host
        .create_async::<DiscordProbe>(&config.to_string())
        .unwrap();
    let result = host.check_async(&mut probe);
    let log = format!("{:?} {result:?}", host.log());
    assert!(!log.contains("very-secret"), "{log}");
    if let Ok(report) = &result {
        assert_legal(report);
    }
    result
}

fn check(config: &Value) -> Report {
    check_within(MINUTE, config).unwrap()
}

#[track_caller]
fn assert_report(report: &Report, status: Status, message: &str) {
    assert_eq!(report.status(), status, "{report:?}");
    assert!(report.message().contains(message), "{}", report.message());
}

/// Starts a server whose responses to some paths are other ones; returns its URL.
fn serving(changed: Vec<(&'static str, u16, Value)>) -> String {
    let changed = Arc::new(changed);
    let address = testing::serve(move |request, stream| {
        let _ = stream.write_all(&respond(request, &changed));
    });
    format!("http://{address}")
}

fn respond(request: &SeenRequest, changed: &[(&'static str, u16, Value)]) -> Vec<u8> {
    let agent = request.header("user-agent").unwrap();
    assert!(agent.starts_with("DiscordBot (https://"), "{agent}");
    let path = request.line().strip_prefix("GET ").unwrap();
    if let Some((_, status, body)) = changed.iter().find(|(other, ..)| *other == path) {
        return with_limit(testing::json(*status, body), 0);
    }
    if path.starts_with("/status") {
        assert_eq!(
            request.header("authorization"),
            None,
            "the token is for the API alone"
        );
        return testing::json(
            200,
            &json!({"page": {"id": "srhpyqt94yxb"}, "incidents": []}),
        );
    }
    if path == "/api/gateway" {
        return with_limit(
            testing::json(200, &json!({"url": "wss://gateway.discord.gg"})),
            9,
        );
    }
    if request.header("authorization") != Some(&format!("Bot {TOKEN}")) {
        return testing::json(401, &json!({"message": "401: Unauthorized", "code": 0}));
    }
    match path {
        "/api/users/@me" => with_limit(
            testing::json(
                200,
                &json!({
                    "id": "80351110224678912", "username": "Nelly", "discriminator": "1337", "bot": true,
                }),
            ),
            4,
        ),
        "/api/gateway/bot" => with_limit(
            testing::json(
                200,
                &json!({
                    "url": "wss://gateway.discord.gg", "shards": 9,
                    "session_start_limit": {"total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 1},
                }),
            ),
            1,
        ),
        "/api/guilds/1" | "/api/channels/3" => with_limit(
            testing::json(
                200,
                &json!({"id": path.rsplit('/').next(), "name": "general"}),
            ),
            3,
        ),
        "/api/guilds/2" => with_limit(testing::json(200, &json!({"id": "2"})), 2),
        "/api/channels/4" => {
            testing::json(403, &json!({"message": "Missing Access", "code": 50001}))
        }
        _ => testing::json(404, &json!({"message": "Unknown Guild", "code": 10004})),
    }
}

/// Adds the headers of a rate limit to a response.
fn with_limit(response: Vec<u8>, remaining: u32) -> Vec<u8> {
    let response = String::from_utf8(response).unwrap();
    let headers = format!(
        "\r\nX-RateLimit-Limit: 10\r\nX-RateLimit-Remaining: {remaining}\r\nX-RateLimit-Bucket: abcd1234\r\n\r\n"
    );
    response.replacen("\r\n\r\n", &headers, 1).into_bytes()
}

/// Returns a config of a bot at this server.
fn bot(url: &str, keys: &Value) -> Value {
    let mut config = json!({"url": format!("{url}/api"), "token": TOKEN});
    config
        .as_object_mut()
        .unwrap()
        .extend(keys.as_object().unwrap().clone());
    config
}

#[test]
fn without_a_token_the_gateway_is_asked_for() {
    let url = serving(Vec::new());
    let report = check(&json!({"url": format!("{url}/api")}));
    assert_report(&report, Status::Healthy, "the gateway has a URL");
    assert_eq!(report.value(&RATE_LIMIT, ["gateway"]), Some(9.0));
    assert_eq!(report.value(&SHARDS, []), None);
    let url = serving(vec![(
        "/api/gateway",
        200,
        json!({"url": "http://gateway"}),
    )]);
    let report = check(&json!({"url": format!("{url}/api")}));
    assert_report(&report, Status::Unhealthy, "expected one with wss://");
}

#[test]
fn a_bot_is_identified_and_its_sessions_guilds_and_channels_are_judged() {
    let url = serving(Vec::new());
    let keys = json!({
        "bot_id": "80351110224678912", "guilds": ["1", "2"], "channels": ["3"], "session_starts": {"degraded_below": 100},
    });
    let report = check(&bot(&url, &keys));
    assert_report(
        &report,
        Status::Healthy,
        "the bot Nelly (80351110224678912), 2 guilds and 1 channels are visible",
    );
    assert_eq!(report.value(&SHARDS, []), Some(9.0));
    assert_eq!(report.value(&SESSION_STARTS, []), Some(999.0));
    assert_eq!(report.value(&RATE_LIMIT, ["user"]), Some(4.0));
    assert_eq!(report.value(&RATE_LIMIT, ["guild"]), Some(2.0));
    let keys = json!({"bot_id": "5", "guilds": ["6"], "channels": ["4"], "session_starts": {"degraded_below": 1000}});
    let report = check(&bot(&url, &keys));
    for text in [
        "the token is of the bot Nelly (80351110224678912), expected the bot 5",
        "the bot cannot see /guilds/6: Unknown Guild (code 10004)",
        "the bot cannot see /channels/4: Missing Access (code 50001)",
        "the bot may start 999 more sessions (`session_starts.degraded_below` is 1000)",
    ] {
        assert_report(&report, Status::Unhealthy, text);
    }
}

#[test]
fn a_token_that_is_refused_is_named_and_not_repeated() {
    let url = serving(Vec::new());
    let report = check(&json!({"url": format!("{url}/api"), "token": "other"}));
    assert_report(
        &report,
        Status::Unhealthy,
        "GET /users/@me: 401 Unauthorized",
    );
    assert_report(
        &report,
        Status::Unhealthy,
        "Discord refuses the token; correct `token`",
    );
}

#[test]
fn a_rate_limit_degrades_and_an_error_of_the_api_does_not_hide() {
    let limited =
        json!({"message": "You are being rate limited.", "retry_after": 64.57, "global": true});
    let url = serving(vec![("/api/gateway/bot", 429, limited)]);
    let report = check(&bot(&url, &json!({})));
    assert_report(
        &report,
        Status::Degraded,
        "Discord limits all requests of the bot (429 Too Many Requests) for 64.6 s",
    );
    assert_eq!(report.value(&RATE_LIMIT, ["gateway"]), Some(0.0));
    let url = serving(vec![(
        "/api/users/@me",
        500,
        json!({"message": "500: Internal Server Error", "code": 0}),
    )]);
    let report = check(&bot(&url, &json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        "GET /users/@me: 500 Internal Server Error",
    );
    let url = serving(vec![("/api/guilds/1", 200, json!({"id": "7"}))]);
    let report = check(&bot(&url, &json!({"guilds": ["1"]})));
    assert_report(
        &report,
        Status::Unhealthy,
        "Discord responds with another guild than 1",
    );
}

#[test]
fn incidents_on_the_status_page_count_by_their_impact() {
    const PATH: &str = "/status/incidents/unresolved.json";
    let ask = |status: u16, page: Value| {
        let url = serving(vec![(PATH, status, page)]);
        check(&bot(&url, &json!({"status_url": format!("{url}/status")})))
    };
    let incident = |impact: &str| json!({"incidents": [{"name": "API errors", "status": "investigating", "impact": impact, "shortlink": "x"}]});
    let report = ask(200, incident("minor"));
    assert_report(
        &report,
        Status::Degraded,
        "the status page reports a minor incident, investigating: API errors",
    );
    assert_eq!(report.value(&INCIDENTS, []), Some(1.0));
    assert_report(
        &ask(200, incident("major")),
        Status::Unhealthy,
        "a major incident",
    );
    let report = ask(200, json!({"incidents": []}));
    assert_report(
        &report,
        Status::Healthy,
        "the bot Nelly (80351110224678912), 0 incidents",
    );
    let report = ask(503, json!("no"));
    assert_report(
        &report,
        Status::Degraded,
        "the status page cannot be read: GET /incidents/unresolved.json: 503",
    );
    assert_eq!(report.value(&SHARDS, []), Some(9.0));
}

#[test]
fn servers_that_misbehave_are_unhealthy_within_limits_of_time_and_size() {
    for bad in BadServer::all() {
        let limit = match bad.is_slow {
            true => Duration::from_millis(300),
            false => MINUTE,
        };
        for config in [
            json!({"url": bad.url}),
            json!({"url": bad.url, "token": TOKEN}),
        ] {
            let report = check_within(limit, &config);
            let report = report.unwrap_or_else(|failure| panic!("{}: {failure}", bad.name));
            assert_report(&report, Status::Unhealthy, bad.message);
        }
    }
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (config, message) in [
        (json!({"url": "discord.com"}), "key `url`: "),
        (
            json!({"status_url": "discordstatus.com"}),
            "key `status_url`: ",
        ),
        (
            json!({"guilds": ["1"]}),
            "key `guilds`: only a bot sees this; set `token`",
        ),
        (
            json!({"token": "x", "guilds": ["../users"]}),
            "key `guilds[0]`: \"../users\" is not an id",
        ),
        (
            json!({"token": "x", "bot_id": ""}),
            "key `bot_id`: \"\" is not an id",
        ),
        (
            json!({"token": "x", "channels": vec!["1"; 51]}),
            "key `channels`: the list has 51 ids",
        ),
        (
            json!({"token": "Bot secret"}),
            "key `token`: the token begins with the name of a scheme",
        ),
        (
            json!({"token": "se\ncret"}),
            "key `token`: the token has characters",
        ),
        (
            json!({"token": "x", "session_starts": {}}),
            "key `session_starts`: the table has no limit",
        ),
    ] {
        let created =
            TestHost::new("bot").create_async_unchecked::<DiscordProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
        assert!(!failure.message().contains("secret"), "{failure}");
    }
}
