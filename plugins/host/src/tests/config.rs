//! Refused configs: each message names the key, the rule and the cure.

use conductor_plugin_api::{FailureKind, testing::TestHost};
use serde_json::{Value, json};

use crate::HostProbe;

fn refusal(config: &Value) -> String {
    let host = TestHost::new("here");
    let refused = host.create_unchecked::<HostProbe>(&config.to_string());
    let failure = refused
        .err()
        .unwrap_or_else(|| panic!("{config} was accepted"));
    assert_eq!(failure.kind(), FailureKind::Config, "{failure}");
    failure.message().to_owned()
}

#[test]
fn a_config_that_cannot_work_is_refused_with_key_rule_and_cure() {
    for (config, expected) in [
        (
            json!({ "load_per_cpu": {} }),
            "key `load_per_cpu`: the table has no limit; set one of",
        ),
        (
            json!({ "uptime": { "degraded_below": "1m", "unhealthy_below": "2m" } }),
            "key `uptime`: `degraded_below` (1m) is below `unhealthy_below` (2m); raise it",
        ),
        (
            json!({ "process": {} }),
            "key `process`: nothing selects the processes; set `name`, `command` or both",
        ),
        (
            json!({ "process": { "name": "/usr/sbin/nginx" } }),
            "key `process.name`: \"/usr/sbin/nginx\" is not the name of a program; write it without its folder",
        ),
        (
            json!({ "process": { "command": "(" } }),
            "key `process.command`: not a regular expression; correct it",
        ),
        (
            json!({ "process": { "name": "x", "count": { "unhealthy_above": 1, "unhealthy_below": 2 } } }),
            "key `process.count`: no value can be both above 2 and below 1; swap the limits",
        ),
        (
            json!({ "process": { "name": "x" }, "clock_synchronized": true }),
            "keys `process` and `clock_synchronized`: a platform is about the machine or about processes; move `process`",
        ),
    ] {
        let said = refusal(&config);
        assert!(said.contains(expected), "{config}: {said}");
    }
}

#[test]
fn every_wrong_key_is_named_at_once() {
    let said = refusal(&json!({
        "load_per_cpu": { "degraded_above": 5, "unhealthy_above": 4 },
        "process": { "name": "", "memory": {} },
    }));
    for key in [
        "`load_per_cpu`",
        "`process.name`",
        "`process.memory`",
        "`process` and",
    ] {
        assert!(said.contains(key), "{key}: {said}");
    }
}
