//! Keys that cannot work.

use super::*;

#[test]
fn wrong_keys_are_named_with_the_rule_and_the_cure() {
    for (keys, message) in [
        (
            json!({"address": "ssh://a"}),
            "key `address`: \"ssh://a\" has a scheme",
        ),
        (
            json!({"host_keys": ["MD5:00:11"]}),
            "key `host_keys[0]`: not a fingerprint; write it as",
        ),
        (
            json!({"banner": "("}),
            "key `banner`: \"(\" is not a regular expression: ",
        ),
        (
            json!({"forbidden_algorithms": ["a,b"]}),
            "key `forbidden_algorithms[0]`: \"a,b\" is not",
        ),
        (
            json!({"required_algorithms": ["a", "*-*"]}),
            "key `required_algorithms[1]`: \"*-*\" is",
        ),
        (
            json!({"degraded_after": "2s", "unhealthy_after": "1s"}),
            "key `degraded_after`: 2s",
        ),
    ] {
        let config = with(json!({"address": "a"}), keys).to_string();
        let created = TestHost::new("bastion").create_async_unchecked::<SshProbe>(&config);
        let failure = created.err().expect("the config is accepted");
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
