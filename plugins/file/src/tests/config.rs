//! Refused configs: each message names the key, the rule and the cure.

use conductor_plugin_api::{FailureKind, testing::TestHost};
use serde_json::{Value, json};

use crate::FileProbe;

fn refusal(config: &Value) -> String {
    let host = TestHost::new("here");
    let refused = host.create_unchecked::<FileProbe>(&config.to_string());
    let failure = refused
        .err()
        .unwrap_or_else(|| panic!("{config} was accepted"));
    assert_eq!(failure.kind(), FailureKind::Config, "{failure}");
    failure.message().to_owned()
}

#[cfg(unix)]
#[test]
fn a_config_that_cannot_work_is_refused_with_key_rule_and_cure() {
    for (config, expected) in [
        (
            json!({ "path": "" }),
            "key `path`: the path is empty; write",
        ),
        (
            json!({ "path": "log/x" }),
            "key `path`: \"log/x\" is not absolute; write the path from the root",
        ),
        (
            json!({ "path": "/x\0" }),
            "key `path`: \"/x\\0\" contains a NUL, which no path can; remove it",
        ),
        (
            json!({ "path": "/var/../etc/*" }),
            "key `path`: \"/var/../etc/*\" contains `..`, which links make ambiguous; write",
        ),
        (
            json!({ "path": "/var/a**/b" }),
            "key `path`: \"/var/a**/b\" is not a usable pattern; `**` must be a whole name",
        ),
        (
            json!({ "path": "/x", "age": {} }),
            "key `age`: the table has no limit; set one of",
        ),
        (
            json!({ "path": "/x", "size": { "degraded_above": "2MiB", "unhealthy_above": "1MiB" } }),
            "key `size`: `degraded_above` (2MiB) is above `unhealthy_above` (1MiB); lower it",
        ),
        (
            json!({ "path": "/x", "matches": "(" }),
            "key `matches`: not a regular expression; correct it",
        ),
        (
            json!({ "path": "/x", "last_line": { "pattern": "a", "not_matches": "[" } }),
            "key `last_line.not_matches`: not a regular expression; correct it",
        ),
        (
            json!({ "path": "/x", "sha256": "abc" }),
            "key `sha256`: \"abc\" is not a SHA-256 hash; write 64 hex digits",
        ),
        (
            json!({ "path": "/x", "max_read": "1GiB" }),
            "key `max_read`: 1GiB is not between 1 byte and 128MiB, which a worker has the memory for; correct it",
        ),
    ] {
        let said = refusal(&config);
        assert!(said.contains(expected), "{config}: {said}");
    }
}

#[test]
fn every_wrong_key_is_named_at_once() {
    let said = refusal(&json!({
        "path": "x",
        "count": {},
        "oldest_age": {},
        "total_size": {},
        "not_matches": "(",
        "last_line": { "pattern": "(" },
    }));
    for key in [
        "`path`",
        "`count`",
        "`oldest_age`",
        "`total_size`",
        "`not_matches`",
        "`last_line.pattern`",
    ] {
        assert!(said.contains(key), "{key}: {said}");
    }
}
