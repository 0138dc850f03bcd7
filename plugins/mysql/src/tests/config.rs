//! Configs that cannot work.

use super::*;

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (wrong, message) in [
        (
            json!({"address": "db:x"}),
            "key `address`: \"db:x\" does not end in a port",
        ),
        (json!({"user": ""}), "key `user`: \"\" is not a name"),
        (
            json!({"database": "a\0b"}),
            "key `database`: \"a\\0b\" is not a name",
        ),
        (
            json!({"query": {"sql": " "}}),
            "key `query.sql`: the text is empty",
        ),
        (
            json!({"lag": {"degraded_above": "2s", "unhealthy_above": "1s"}}),
            "key `lag`: `degraded_above` (2s) is above `unhealthy_above` (1s)",
        ),
        (
            json!({"connections": {"unhealthy_above": 101}}),
            "key `connections`: a limit is not a percentage",
        ),
        (
            json!({"degraded_after": "2s", "unhealthy_after": "1s"}),
            "key `degraded_after`: 2s for `total` is above",
        ),
        (
            json!({"tls": {"client_key": "/etc/ssl/our.key"}}),
            "key `tls.client_key`: there is no certificate",
        ),
    ] {
        let config = with(
            &json!({"address": "db.example", "user": "conductor"}),
            wrong,
        );
        let created =
            TestHost::new("shop").create_async_unchecked::<MysqlProbe>(&config.to_string());
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}

#[test]
fn the_password_is_in_no_debug_output() {
    let config = json!({"address": "db.example", "user": "conductor", "password": "correct horse"});
    let parsed: MysqlConfig = serde_json::from_value(config).unwrap();
    assert!(!format!("{parsed:?}").contains("horse"), "{parsed:?}");
}
