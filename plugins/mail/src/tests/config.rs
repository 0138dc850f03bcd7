//! Keys that cannot work.

use super::*;

#[track_caller]
fn refusal(config: &Value) -> String {
    let created = TestHost::new("mail").create_async_unchecked::<MailProbe>(&config.to_string());
    let failure = created.err().expect("the config is accepted");
    assert_eq!(failure.kind(), FailureKind::Config);
    failure.message().to_owned()
}

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    let clear_login = json!({"username": "a", "password": "b"});
    let order = |key: &str, low: Value, high: Value| {
        with(
            login(),
            json!({key: {"degraded_above": high, "unhealthy_above": low}}),
        )
    };
    for (protocol, keys, message) in [
        (
            "smtp",
            json!({"address": "http://a"}),
            "key `address`: \"http://a\" has a scheme",
        ),
        (
            "smtp",
            clear_login,
            "key `password`: it would be sent in clear",
        ),
        (
            "smtp",
            json!({"allow_clear_login": true}),
            "key `allow_clear_login`: it has no effect",
        ),
        (
            "smtp",
            json!({"username": "a"}),
            "key `username`: there is no password",
        ),
        (
            "smtp",
            json!({"password": "a"}),
            "key `password`: there is no user",
        ),
        ("smtp", json!({"tls": {}}), "key `tls`: it has no effect"),
        (
            "smtp",
            json!({"sender": "a@b"}),
            "key `sender`: there is no recipient",
        ),
        (
            "smtp",
            json!({"recipient": "a@b> NOTIFY=NEVER"}),
            "key `recipient`: it has a space",
        ),
        (
            "smtp",
            json!({"hello": "a\r\nQUIT"}),
            "key `hello`: it has a space",
        ),
        (
            "smtp",
            json!({"folder": "a"}),
            "key `folder`: it does not apply to SMTP",
        ),
        (
            "smtp",
            json!({"messages": {"degraded_above": 1}}),
            "key `messages`: it does not apply to SMTP",
        ),
        (
            "pop3",
            json!({"age": {"unhealthy_above": "1d"}}),
            "key `age`: it does not apply to POP3",
        ),
        (
            "imap",
            json!({"recipient": "a@b"}),
            "key `recipient`: it does not apply to IMAP",
        ),
        (
            "imap",
            json!({"folder": "a"}),
            "key `username`: a mailbox can be examined",
        ),
        (
            "imap",
            json!({"folder": "Entwürfe"}),
            "key `folder`: it has characters outside of ASCII",
        ),
        (
            "imap",
            json!({"capabilities": ["IDLE", " "]}),
            "key `capabilities[1]`: not a capability",
        ),
        (
            "imap",
            order("messages", json!(1), json!(2)),
            "key `messages`: `degraded_above` (2) is above",
        ),
        (
            "imap",
            order("age", json!("1h"), json!("1d")),
            "key `age`: `degraded_above` (1day) is above",
        ),
        (
            "imap",
            json!({"degraded_after": "2s", "unhealthy_after": "1s"}),
            "key `degraded_after`: 2s for `total` is above",
        ),
    ] {
        let config = json!({"protocol": protocol, "address": "a", "encryption": "none"});
        let found = refusal(&with(config, keys));
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn a_password_of_two_lines_is_refused_and_not_shown() {
    let two = json!({"protocol": "pop3", "address": "a", "username": "a", "password": "sesame\r\nDELE 1"});
    let found = refusal(&two);
    assert!(
        found.contains("key `password`: it is empty or has control characters"),
        "{found}"
    );
    assert!(!found.contains("sesame"), "{found}");
}
