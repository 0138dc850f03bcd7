//! A server on loopback that follows OpenAI's API, streamed, and servers that misbehave.

use std::{
    io::Write,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use conductor_net::testing::{self, BadServer, SeenRequest};
use conductor_plugin_api::{
    FailureKind, Status,
    testing::{TestHost, assert_legal},
};
use serde_json::{Value, json};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

const KEY: &str = "sk-very-secret";

fn check_within(timeout: Duration, config: &Value) -> Result<Report, Failure> {
    let host = TestHost::new("llama").timeout(timeout);
    let mut probe = host.create_async::<LlmProbe>(&config.to_string()).unwrap();
    let result = host.check_async(&mut probe);
    let log = format!("{:?} {result:?}", host.log());
    assert!(!log.contains(KEY) && !log.contains("my prompt"), "{log}");
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

/// Starts a server whose completions `complete` writes; returns its base URL.
fn serving(complete: impl Fn(&SeenRequest, &mut dyn Write) + Send + Sync + 'static) -> String {
    let address = testing::serve(move |request, stream| match request.line() {
        _ if request.header("authorization") != Some("Bearer sk-very-secret") => {
            let error = json!({"error": {"message": format!("Incorrect API key: {KEY}"), "code": "invalid_api_key"}});
            stream.write_all(&testing::json(401, &error)).unwrap();
        }
        "GET /v1/models" => {
            let models = json!({"object": "list", "data": [
                {"id": "llama", "object": "model", "owned_by": "vllm", "max_model_len": 8192},
                {"id": "qwen", "object": "model", "meta": {"n_ctx_train": 32768}},
                {"id": "gpt", "object": "model", "owned_by": "openai"},
            ]});
            stream.write_all(&testing::json(200, &models)).unwrap();
        }
        "POST /v1/chat/completions" => complete(request, stream),
        line => panic!("{line}"),
    });
    format!("http://{address}/v1")
}

fn begin(stream: &mut dyn Write) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
}

fn send(stream: &mut dyn Write, event: &Value) {
    stream
        .write_all(format!("data: {event}\n\n").as_bytes())
        .unwrap();
    stream.flush().unwrap();
}

/// Returns a part of a completion as vLLM sends it.
fn part(delta: &Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "llama",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}], "usage": null,
    })
}

/// Sends a completion of these texts.
fn complete(stream: &mut dyn Write, texts: &[&str], finish_reason: &str) {
    begin(stream);
    stream.write_all(b": comment\n\n").unwrap();
    send(
        stream,
        &part(&json!({"role": "assistant", "content": ""}), None),
    );
    for text in texts {
        send(stream, &part(&json!({"content": text}), None));
    }
    send(stream, &part(&json!({}), Some(finish_reason)));
    stream.write_all(b"data: [DONE]\n\n").unwrap();
}

fn config(url: &str, keys: &Value) -> Value {
    let mut config = json!({"url": url, "api_key": KEY});
    config
        .as_object_mut()
        .unwrap()
        .extend(keys.as_object().unwrap().clone());
    config
}

#[test]
fn the_models_and_their_context_are_judged() {
    let url = serving(|_, _| panic!("no completion is asked for"));
    let ask = |keys: Value| check_within(MINUTE, &config(&url, &keys));
    let report = ask(json!({})).unwrap();
    assert_report(&report, Status::Healthy, "3 models");
    assert_eq!(report.value(&MODELS, []), Some(3.0));
    let report = ask(json!({"models": ["llama", "qwen"], "min_context": 8192})).unwrap();
    assert_report(&report, Status::Healthy, "3 models");
    assert_eq!(report.value(&CONTEXT, ["llama"]), Some(8192.0));
    assert_eq!(report.value(&CONTEXT, ["qwen"]), Some(32768.0));
    let report = ask(json!({"models": ["llama"], "min_context": 16384})).unwrap();
    assert_report(
        &report,
        Status::Unhealthy,
        "llama has a context of 8192 tokens, expected at least 16384",
    );
    let report = ask(json!({"models": ["mistral"]})).unwrap();
    assert_report(
        &report,
        Status::Unhealthy,
        "the server does not have the model mistral, but 3: llama, qwen, gpt",
    );
    let failure = ask(json!({"models": ["gpt"], "min_context": 1})).unwrap_err();
    assert!(
        failure
            .message()
            .contains("does not report the context length of gpt"),
        "{failure}"
    );
}

#[test]
fn a_completion_of_one_token_is_asked_for_and_timed() {
    let seen = Arc::new(Mutex::new(Value::Null));
    let record = seen.clone();
    let url = serving(move |request, stream| {
        *record.lock().unwrap() = serde_json::from_str(&request.body).unwrap();
        complete(stream, &["ok"], "length");
    });
    let report = check(&config(
        &url,
        &json!({"models": ["llama"], "completion": {}}),
    ));
    assert_report(&report, Status::Healthy, "3 models, first token after ");
    assert_eq!(report.value(&COMPLETION_TOKENS, []), Some(1.0));
    assert_eq!(report.value(&TOKENS_PER_SECOND, []), None);
    assert!(report.value(&FIRST_TOKEN, []).is_some());
    let seen = seen.lock().unwrap();
    let expected = json!({
        "model": "llama", "messages": [{"role": "user", "content": "Reply with the word ok."}], "stream": true, "max_tokens": 1,
    });
    assert_eq!(*seen, expected);
}

#[test]
fn the_time_to_the_first_token_and_the_speed_are_limited() {
    let (resume, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let url = serving(move |request, stream| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["max_completion_tokens"], 16);
        assert_eq!(body["stream_options"], json!({"include_usage": true}));
        begin(stream);
        // Longer than the limit of the first token, and then of the others.
        let pause = || {
            wait.lock()
                .unwrap()
                .recv_timeout(Duration::from_millis(60))
                .is_ok()
        };
        pause();
        send(stream, &part(&json!({"reasoning_content": "hm"}), None));
        pause();
        send(stream, &part(&json!({"content": "ok"}), Some("stop")));
        send(
            stream,
            &json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9}}),
        );
        stream.write_all(b"data: [DONE]\n\n").unwrap();
    });
    let keys = json!({
        "completion": {"model": "llama", "max_tokens": 16, "limit_key": "max_completion_tokens"},
        "tokens_per_second": {"degraded_below": 1000}, "unhealthy_after": {"first_token": "50ms"},
    });
    let report = check(&config(&url, &keys));
    drop(resume);
    assert_report(&report, Status::Unhealthy, "first_token took ");
    assert_report(
        &report,
        Status::Unhealthy,
        "tokens per second (`tokens_per_second.degraded_below` is 1000)",
    );
    assert_eq!(report.value(&COMPLETION_TOKENS, []), Some(9.0));
    assert!(report.value(&FIRST_TOKEN, []).unwrap() >= 0.05);
    // Eight tokens in at least 60 ms.
    let speed = report.value(&TOKENS_PER_SECOND, []).unwrap();
    assert!(speed <= 8.0 / 0.06, "{speed}");
}

#[test]
fn json_mode_must_give_a_json_object() {
    let url = serving(|request, stream| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["response_format"], json!({"type": "json_object"}));
        match body["model"].as_str().unwrap() {
            "good" => complete(stream, &["{\"ok\"", ": true}"], "stop"),
            "cut" => complete(stream, &["{\"ok\""], "length"),
            _ => complete(stream, &["Sure! ", "{}"], "stop"),
        }
    });
    let ask = |model: &str| {
        check(&config(
            &url,
            &json!({"completion": {"model": model, "json": true, "prompt": "my prompt"}}),
        ))
    };
    assert_report(&ask("good"), Status::Healthy, "first token after");
    assert_report(
        &ask("chatty"),
        Status::Unhealthy,
        "chatty does not respond with a JSON object in JSON mode",
    );
    assert_report(
        &ask("cut"),
        Status::Unhealthy,
        "JSON mode; raise `completion.max_tokens`",
    );
}

#[test]
fn completions_that_end_early_or_badly_are_unhealthy() {
    let url = serving(|request, stream| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        match body["model"].as_str().unwrap() {
            "cut-off" => {
                begin(stream);
                send(stream, &part(&json!({"content": "o"}), None));
            }
            "error" => {
                begin(stream);
                send(
                    stream,
                    &json!({"error": {"message": format!("no memory for my prompt with {KEY}")}}),
                );
            }
            "garbage" => {
                begin(stream);
                stream.write_all(b"data: {oops\n\n").unwrap();
            }
            "empty" => complete(stream, &[], "stop"),
            "hidden" => complete(stream, &[], "length"),
            "whole" => {
                let whole = json!({"object": "chat.completion", "choices": [{"message": {"content": "ok"}}]});
                stream.write_all(&testing::json(200, &whole)).unwrap();
            }
            "busy" => stream
                .write_all(&testing::json(
                    429,
                    &json!({"error": {"message": "slow down"}}),
                ))
                .unwrap(),
            "quota" => {
                let error = json!({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}});
                stream.write_all(&testing::json(429, &error)).unwrap();
            }
            "loading" => stream
                .write_all(&testing::json(
                    503,
                    &json!({"error": {"message": "Loading model"}}),
                ))
                .unwrap(),
            _ => {
                let error = json!({"detail": "Not Found"});
                stream.write_all(&testing::json(404, &error)).unwrap();
            }
        }
    });
    for (model, status, message) in [
        (
            "cut-off",
            Status::Unhealthy,
            "the completion ended after 1 parts without a reason",
        ),
        (
            "error",
            Status::Unhealthy,
            "an error within the completion: no memory for (hidden) with (hidden)",
        ),
        (
            "garbage",
            Status::Unhealthy,
            "part 1 of the completion is not as the API documents it",
        ),
        ("empty", Status::Degraded, "the completion is empty"),
        ("hidden", Status::Healthy, "first token after"),
        ("whole", Status::Unhealthy, "not a stream of events"),
        (
            "busy",
            Status::Degraded,
            "the server limits requests (429 Too Many Requests)",
        ),
        (
            "quota",
            Status::Unhealthy,
            "429 Too Many Requests, application/json",
        ),
        ("quota", Status::Unhealthy, "You exceeded your quota"),
        ("loading", Status::Unhealthy, "503 Service Unavailable"),
        ("loading", Status::Unhealthy, "Loading model"),
        (
            "other",
            Status::Unhealthy,
            "Not Found; check that `url` is the base URL",
        ),
    ] {
        let keys = json!({"completion": {"model": model, "prompt": "my prompt"}});
        assert_report(&check(&config(&url, &keys)), status, message);
    }
}

#[test]
fn a_wrong_key_is_named_and_not_repeated() {
    let url = serving(|_, _| panic!("no completion is asked for"));
    let report = check(&json!({"url": url, "api_key": "sk-other"}));
    assert_report(&report, Status::Unhealthy, "401 Unauthorized");
    assert_report(
        &report,
        Status::Unhealthy,
        "the server refuses the key; correct `api_key`",
    );
}

#[test]
fn servers_that_misbehave_are_unhealthy_within_limits_of_time_and_size() {
    for bad in BadServer::all() {
        let limit = match bad.is_slow {
            true => Duration::from_millis(300),
            false => MINUTE,
        };
        let report = check_within(limit, &json!({"url": bad.url}));
        let report = report.unwrap_or_else(|failure| panic!("{}: {failure}", bad.name));
        assert_report(&report, Status::Unhealthy, bad.message);
        let keys = json!({"url": bad.url, "completion": {"model": "x"}});
        let report = check_within(limit, &keys);
        let report = report.unwrap_or_else(|failure| panic!("{}: {failure}", bad.name));
        assert_report(&report, Status::Unhealthy, "");
    }
}

#[test]
fn a_stream_that_never_ends_is_cut_off() {
    let url = serving(|_, stream| {
        begin(stream);
        let event = format!("data: {}\n\n", part(&json!({"content": "a"}), None)).repeat(50);
        while stream.write_all(event.as_bytes()).is_ok() {}
    });
    let report = check(&config(&url, &json!({"completion": {"model": "x"}})));
    assert_report(
        &report,
        Status::Unhealthy,
        "the body has more than 1048576 bytes",
    );
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    let url = "http://llama.example/v1";
    for (config, message) in [
        (json!({"url": "llama:8000"}), "key `url`: "),
        (
            json!({"url": url, "completion": {}}),
            "key `completion.model`: no model is named",
        ),
        (
            json!({"url": url, "min_context": 5}),
            "key `min_context`: no model is named",
        ),
        (
            json!({"url": url, "models": ["x"], "completion": {}, "tokens_per_second": {"degraded_below": 5}}),
            "key `tokens_per_second`: one token has no speed",
        ),
        (
            json!({"url": url, "models": ["x"], "completion": {"max_tokens": 5000}}),
            "key `completion.max_tokens`: 5000 is not from 1 to 4096",
        ),
        (
            json!({"url": url, "api_key": "secret\nkey"}),
            "key `api_key`: the key has characters",
        ),
        (
            json!({"url": url, "api_key": "secret", "headers": {"Authorization": "secret"}}),
            "key `api_key`: `headers.authorization` already authenticates",
        ),
    ] {
        let created =
            TestHost::new("llama").create_async_unchecked::<LlmProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
        assert!(!failure.message().contains("secret"), "{failure}");
    }
}
