//! Mistakes in a file's text, each pinned with its whole message.

use insta::assert_snapshot;
use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

fn mistakes(text: &str) -> String {
    match parse(text) {
        Ok(_) => "no mistake".to_owned(),
        Err(error) => error.to_plain(),
    }
}

fn host(lines: &str) -> String {
    mistakes(&with_platform(&format!("[host]\n{lines}")))
}

fn platform(lines: &str) -> String {
    mistakes(&format!("[platform.discord]\nplugin = \"http\"\n{lines}\n"))
}

#[test]
fn an_unknown_key_names_the_nearest() {
    assert_snapshot!(host("intervall = \"5s\""), @r"
    conductor.toml:2:1: host has no key `intervall`
      help: did you mean `interval`?
    ");
    assert_snapshot!(platform("timout = \"1s\""), @r"
    conductor.toml:3:1: platform.discord has no key `timout`
      help: did you mean `timeout`?
    ");
    assert_snapshot!(platform("breaker = { treshold = 1, reset_timout = \"1s\" }"), @r"
    conductor.toml:3:13: platform.discord.breaker has no key `treshold`
      help: its keys are `failure_threshold`, `max_reset_timeout`, `reset_timeout`
    conductor.toml:3:27: platform.discord.breaker has no key `reset_timout`
      help: did you mean `reset_timeout`?
    ");
    assert_snapshot!(mistakes("[plugin.http]\nisolate = true\n[platform.a]\nplugin = \"http\""), @r"
    conductor.toml:2:1: plugin.http has no key `isolate`
      help: did you mean `isolation`?
    ");
}

#[test]
fn numbers_of_results_and_retry_intervals_out_of_range_are_refused() {
    assert_snapshot!(host("unhealthy_after = 0\nhealthy_after = 1001"), @r"
    conductor.toml:2:19: host.unhealthy_after must be a whole number from 1 to 1000, not the number 0
    conductor.toml:3:17: host.healthy_after must be a whole number from 1 to 1000, not the number 1001
    ");
    assert_snapshot!(platform("unhealthy_after = 2.5\nhealthy_after = -1"), @r"
    conductor.toml:3:19: platform.discord.unhealthy_after must be a whole number from 1 to 1000, not the number 2.5
    conductor.toml:4:17: platform.discord.healthy_after must be a whole number from 1 to 1000, not the number -1
    ");
    assert_snapshot!(host("retry_interval = \"6s\""), @r"
    conductor.toml:2:18: host.retry_interval is 6s, above the interval of 5s
      help: lower it, or raise interval
    ");
    assert_snapshot!(platform("unhealthy_after = 2\nretry_interval = \"1ms\""), @r"
    conductor.toml:4:18: platform.discord.retry_interval is 1ms, below the tick of 10ms
      help: raise it, or lower host.tick
    ");
    assert_snapshot!(platform("unhealthy_afer = 2"), @r"
    conductor.toml:3:1: platform.discord has no key `unhealthy_afer`
      help: did you mean `unhealthy_after`?
    ");
}

#[test]
fn an_unknown_table_names_the_nearest() {
    assert_snapshot!(mistakes(&with_platform("[hots]\ninterval = \"5s\"")), @r"
    conductor.toml:1:2: the file has no table `hots`
      help: did you mean `host`?
    ");
    assert_snapshot!(mistakes("[platforms.disk]\nplugin = \"disk\""), @r"
    conductor.toml:1:2: the file has no table `platforms`
      help: did you mean `platform`?
    ");
    assert_snapshot!(mistakes(&with_platform("[weather]")), @r"
    conductor.toml:1:2: the file has no table `weather`
      help: its tables are `breaker`, `discovery`, `history`, `host`, `include`, `maintenance`, `metrics`, `notify`, `platform`, `plugin`, `probe`, `resources`, `shard`, `template`, `trust`
    ");
}

#[test]
fn a_plugins_key_in_the_platform_itself_is_told_where_it_belongs() {
    assert_snapshot!(platform("address = \"discord.com:443\""), @r"
    conductor.toml:3:1: platform.discord has no key `address`
      help: what the plugin reads goes into `config = { … }`; a platform's own keys are `breaker`, `config`, `description`, `healthy_after`, `heartbeat`, `interval`, `labels`, `params`, `plugin`, `priority`, `retry_interval`, `target`, `template`, `timeout`, `unhealthy_after`, `url`
    ");
}

#[test]
fn a_wrong_type() {
    assert_snapshot!(host("call_threads = \"many\""), @r#"conductor.toml:2:16: host.call_threads must be a whole number, not the string "many""#);
    assert_snapshot!(host("plugin_dirs = \"plugins\""), @r#"conductor.toml:2:15: host.plugin_dirs must be a list, not the string "plugins""#);
    assert_snapshot!(host("plugin_dirs = [\"plugins\", 7]"), @"conductor.toml:2:27: host.plugin_dirs[1] must be a string, not the number 7");
    assert_snapshot!(platform("config = \"https://discord.com\""), @r#"conductor.toml:3:10: platform.discord.config must be a table, not the string "https://discord.com""#);
    assert_snapshot!(platform("labels = { team = 7 }"), @"conductor.toml:3:19: platform.discord.labels.team must be a string, not the number 7");
    assert_snapshot!(mistakes(&with_platform("host = 5")), @"conductor.toml:1:8: host must be a table, not the number 5");
    assert_snapshot!(mistakes("[[platform]]\nname = \"a\""), @r"
    conductor.toml:1:1: platform must be a table, not a list
      help: write [platform.name], once for each name
    ");
}

#[test]
fn bad_settings_of_the_metrics() {
    let metrics = |lines: &str| mistakes(&with_platform(&format!("[metrics]\n{lines}")));
    assert_snapshot!(metrics("series = \"all\""), @r#"conductor.toml:2:10: metrics.series must be one of "lean", "full", not the string "all""#);
    assert_snapshot!(metrics("platform_labels = [\"team\", \"plugin\", \"team\"]"), @r#"
    conductor.toml:2:28: metrics.platform_labels[1] is "plugin", a label that the host's own series have
      help: rename the label of the platforms
    conductor.toml:2:38: metrics.platform_labels[2] repeats "team"
      help: name each label once
    "#);
    assert_snapshot!(metrics("platform_labels = [\"on-call\"]"), @r#"
    conductor.toml:2:20: metrics.platform_labels[0] is "on-call", not the name of a label
      help: labels have letters, digits and `_`, not a digit or `__` first
    "#);
    assert_snapshot!(metrics("buckets = []"), @r#"
    conductor.toml:2:11: metrics.buckets has 0 bounds
      help: list 1 to 30
    "#);
    assert_snapshot!(metrics("buckets = [\"0s\", \"1s\", \"100ms\", \"1s\", \"2s\", \"2s\"]"), @r#"
    conductor.toml:2:12: metrics.buckets[0] is 0s, out of range
      help: choose from 1us to 1year
    conductor.toml:2:24: metrics.buckets[2] is 100ms, not above the bound before it, which is 1s
      help: list the bounds in ascending order
    conductor.toml:2:33: metrics.buckets[3] is 1s, not above the bound before it, which is 1s
      help: list the bounds in ascending order
    conductor.toml:2:45: metrics.buckets[5] is 2s, not above the bound before it, which is 2s
      help: list the bounds in ascending order
    "#);
    let many: Vec<_> = (1..=31).map(|n| format!("\"{n}s\"")).collect();
    assert_snapshot!(metrics(&format!("buckets = [{}]", many.join(", "))), @r#"
    conductor.toml:2:11: metrics.buckets has 31 bounds
      help: list 1 to 30
    "#);
    let most = format!("buckets = [{}]", many[..30].join(", "));
    assert_eq!(metrics(&most), "no mistake");
}

#[test]
fn a_bad_duration() {
    assert_snapshot!(host("interval = \"5 parsecs\""), @r#"
    conductor.toml:2:12: host.interval: "5 parsecs" is not a duration
      help: write it like "5s", "500ms" or "1m 30s"
    "#);
    assert_snapshot!(host("interval = 5"), @r#"
    conductor.toml:2:12: host.interval must be a duration, not the number 5
      help: write it as text with a unit, like "5s"
    "#);
    assert_snapshot!(host("interval = 0.5"), @r#"
    conductor.toml:2:12: host.interval must be a duration, not the number 0.5
      help: write it as text with a unit, like "0.5s"
    "#);
    assert_snapshot!(host("interval = true"), @r#"
    conductor.toml:2:12: host.interval must be a duration, not true
      help: write it like "5s", "500ms" or "1m 30s"
    "#);
    assert_snapshot!(host("interval = \"\""), @r#"
    conductor.toml:2:12: host.interval: "" is not a duration
      help: write it like "5s", "500ms" or "1m 30s"
    "#);
    assert_snapshot!(host("interval = \"0.5ns\""), @r#"
    conductor.toml:2:12: host.interval: "0.5ns" is not a duration
      help: write it like "5s", "500ms" or "1m 30s"
    "#);
    assert_snapshot!(host("interval = \"18446744073709551615s 1000ms\""), @r#"
    conductor.toml:2:12: host.interval: "18446744073709551615s 1000ms" is not a duration
      help: write it like "5s", "500ms" or "1m 30s"
    "#);
    assert_snapshot!(host("interval = \"0s\""), @r"
    conductor.toml:2:12: host.interval is 0s, out of range
      help: choose from 1ms to 1year
    ");
    assert_snapshot!(host("interval = \"10y\""), @r"
    conductor.toml:2:12: host.interval is 10years, out of range
      help: choose from 1ms to 1year
    ");
    assert_snapshot!(host("tick = \"2s\"\ninterval = \"1h\""), @r"
    conductor.toml:2:8: host.tick is 2s, out of range
      help: choose from 1ms to 1s
    ");
}

#[test]
fn a_timeout_above_the_interval() {
    assert_snapshot!(host("interval = \"3s\"\ntimeout = \"4s\""), @r"
    conductor.toml:3:11: host.timeout is 4s, above the interval of 3s
      help: a check must end before the next one starts: lower the timeout or raise the interval
    ");
    assert_snapshot!(platform("timeout = \"6s\""), @r"
    conductor.toml:3:11: platform.discord.timeout is 6s, above the interval of 5s
      help: a check must end before the next one starts: lower the timeout or raise the interval
    ");
    assert_snapshot!(platform("interval = \"3s\"\ntimeout = \"4s\""), @r"
    conductor.toml:4:11: platform.discord.timeout is 4s, above the interval of 3s
      help: a check must end before the next one starts: lower the timeout or raise the interval
    ");
}

#[test]
fn times_that_do_not_fit_together() {
    assert_snapshot!(host("stagger = \"6s\""), @r"
    conductor.toml:2:11: host.stagger is 6s, above the interval of 5s
      help: lower it, or raise interval
    ");
    assert_snapshot!(host("tick = \"20ms\"\nstagger = \"10ms\""), @r"
    conductor.toml:3:11: host.stagger is 10ms, below the tick of 20ms
      help: raise it, or lower host.tick
    ");
    assert_snapshot!(platform("interval = \"5ms\""), @r"
    conductor.toml:3:12: platform.discord.interval is 5ms, below the tick of 10ms
      help: raise it, or lower host.tick
    ");
    assert_snapshot!(mistakes(&with_platform("[breaker]\nreset_timeout = \"1h\"\nmax_reset_timeout = \"10m\"")), @r"
    conductor.toml:2:17: breaker.reset_timeout is 1h, above the max_reset_timeout of 10m
      help: lower it, or raise max_reset_timeout
    ");
    assert_snapshot!(mistakes(&with_platform("[resources]\ninterval = \"100ms\"")), @r"
    conductor.toml:2:12: resources.interval is 100ms, out of range
      help: choose from 200ms to 1year
    ");
}

#[test]
fn numbers_out_of_range() {
    assert_snapshot!(host("call_threads = 0"), @"conductor.toml:2:16: host.call_threads must be a whole number from 1 to 4096, not the number 0");
    assert_snapshot!(host("call_threads = 4097"), @"conductor.toml:2:16: host.call_threads must be a whole number from 1 to 4096, not the number 4097");
    assert_snapshot!(host("call_threads = -1"), @"conductor.toml:2:16: host.call_threads must be a whole number from 1 to 4096, not the number -1");
    assert_snapshot!(host("call_threads = 1.5"), @"conductor.toml:2:16: host.call_threads must be a whole number from 1 to 4096, not the number 1.5");
    assert_snapshot!(host("call_threads = 2\nstuck_limit = 3"), @r"
    conductor.toml:3:15: host.stuck_limit is 3, above the call_threads of 2
      help: it could never be reached: lower it, or raise call_threads
    ");
    assert_snapshot!(host("call_threads = 99999999999999999999"), @"conductor.toml:2:16: 99999999999999999999 does not fit: whole numbers go from -9223372036854775808 to 9223372036854775807");
    assert_snapshot!(mistakes(&with_platform("[breaker]\nfailure_threshold = 0")), @"conductor.toml:2:21: breaker.failure_threshold must be a whole number from 1 to 1000000, not the number 0");
    assert_snapshot!(mistakes(&with_platform("[resources]\ndegraded_above = 101")), @"conductor.toml:2:18: resources.degraded_above must be a number from 2 to 100, not the number 101");
    assert_snapshot!(mistakes(&with_platform("[resources]\ndegraded_above = 70\nrecover_below = 70")), @r"
    conductor.toml:3:17: resources.recover_below is 70, but must be below degraded_above, which is 70
      help: leave a gap of a few percent, so that the mode does not flap
    ");
    assert_snapshot!(mistakes(&with_platform("[resources]\ndegraded_above = 90\ncritical_above = 85")), @r"
    conductor.toml:3:18: resources.critical_above is 85, below degraded_above, which is 90
      help: raise it, or lower degraded_above
    ");
    assert_snapshot!(host("plugin_dirs = []"), @"conductor.toml:2:15: host.plugin_dirs: [] has less than 1 item");
}

#[test]
fn limits_that_are_none() {
    assert_snapshot!(host("limits = { memory = \"5 elephants\" }"), @r#"
    conductor.toml:2:21: host.limits.memory must be a size, not the string "5 elephants"
      help: write a whole number and a unit, like "512MiB" or "2GB"
    "#);
    assert_snapshot!(host("limits = { memory = 512 }"), @r#"
    conductor.toml:2:21: host.limits.memory must be a size, not the number 512
      help: write a whole number and a unit, like "512MiB" or "2GB"
    "#);
    assert_snapshot!(host("limits = { memory = \"1MiB\" }"), @r#"
    conductor.toml:2:21: host.limits.memory is 1MiB, out of range
      help: choose from 32MiB to 1TiB
    "#);
    assert_snapshot!(host("limits = { open_file = 7 }"), @r#"
    conductor.toml:2:12: host.limits has no key `open_file`
      help: did you mean `open_files`?
    "#);
    assert_snapshot!(host("limits = { open_files = 7 }"), @"conductor.toml:2:25: host.limits.open_files must be a whole number from 32 to 1000000, not the number 7");
}

#[test]
fn what_cannot_be_allowed() {
    let allow = |list: &str| mistakes(&with_platform(&format!("[plugin.http]\nallow = {list}")));
    assert_snapshot!(allow("[\"network\", \"netwrok\"]"), @r#"
    conductor.toml:2:21: plugin.http.allow[1]: "netwrok" is not a permission
      help: did you mean "network"?
    "#);
    assert_snapshot!(allow("[\"read ca.pem\", \"write /x\"]"), @r#"
    conductor.toml:2:10: plugin.http.allow[0]: "read ca.pem" is not a permission
      help: a need is `network`, `unix-sockets`, `read PATH` or `run PATH`, with an absolute path without `.`, `..` and `//`
    conductor.toml:2:25: plugin.http.allow[1]: "write /x" is not a permission
      help: a need is `network`, `unix-sockets`, `read PATH` or `run PATH`, with an absolute path without `.`, `..` and `//`
    "#);
    assert_snapshot!(allow("\"network\""), @r#"conductor.toml:2:9: plugin.http.allow must be a list, not the string "network""#);
}

#[test]
fn numbers_that_json_does_not_have() {
    assert_snapshot!(platform("config = { limit = nan }"), @"conductor.toml:3:20: nan cannot be passed to a plugin: JSON has no such number");
    assert_snapshot!(platform("config = { limit = [-inf] }"), @"conductor.toml:3:21: -inf cannot be passed to a plugin: JSON has no such number");
}

#[test]
fn a_choice_that_is_not_one() {
    assert_snapshot!(host("isolation = \"inprocess\""), @r#"
    conductor.toml:2:13: host.isolation must be one of "process", "in-process", not the string "inprocess"
      help: did you mean "in-process"?
    "#);
    assert_snapshot!(platform("priority = \"urgent\""), @r#"conductor.toml:3:12: platform.discord.priority must be one of "critical", "normal", "low", not the string "urgent""#);
}

#[test]
fn names_that_cannot_be() {
    assert_snapshot!(mistakes("[platform.\"my api\"]\nplugin = \"http\""), @r#"
    conductor.toml:1:11: "my api" cannot be a name in platform
      help: names are 1 to 64 letters, digits, `_`, `-` and `.`, and not `.` or `..`
    "#);
    for name in [".", ".."] {
        let said = mistakes(&format!("[platform.\"{name}\"]\nplugin = \"http\""));
        assert!(said.contains("and not `.` or `..`"), "{said}");
    }
    assert_snapshot!(mistakes(&format!("[platform.{}]\nplugin = \"http\"", "x".repeat(65))), @r#"
    conductor.toml:1:11: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" cannot be a name in platform
      help: names are 1 to 64 letters, digits, `_`, `-` and `.`, and not `.` or `..`
    "#);
    assert_snapshot!(platform("labels = { \"1st\" = \"a\" }"), @r#"
    conductor.toml:3:12: "1st" cannot be a name in platform.discord.labels
      help: names are letters, digits and `_`, not a digit or `__` first, and not `platform` or `plugin`
    "#);
    assert_snapshot!(platform("labels = { __name = \"a\", platform = \"b\" }"), @r#"
    conductor.toml:3:12: "__name" cannot be a name in platform.discord.labels
      help: names are letters, digits and `_`, not a digit or `__` first, and not `platform` or `plugin`
    conductor.toml:3:26: "platform" cannot be a name in platform.discord.labels
      help: names are letters, digits and `_`, not a digit or `__` first, and not `platform` or `plugin`
    "#);
}

#[test]
fn a_duplicate_platform_names_both_places() {
    assert_snapshot!(mistakes("[platform.disk]\nplugin = \"disk\"\nconfig = { path = \"/\" }\n\n[platform.web]\nplugin = \"http\"\n\n[platform.disk]\nplugin = \"disk\"\nconfig = { path = \"/home\" }\n"), @r"
    conductor.toml:8:11: platform.disk is given twice
      first: conductor.toml:1:11
      help: give each platform a name of its own
    ");
    assert_snapshot!(mistakes("[platform]\nweb = { plugin = \"http\" }\nweb = { plugin = \"tcp\" }"), @r"
    conductor.toml:3:1: platform.web is given twice
      first: conductor.toml:2:1
      help: give each platform a name of its own
    ");
    assert_snapshot!(mistakes("[platform.\"a.b\"]\nplugin = \"disk\"\n[platform.'a.b']\nplugin = \"disk\""), @r#"
    conductor.toml:3:11: platform."a.b" is given twice
      first: conductor.toml:1:11
      help: give each platform a name of its own
    "#);
}

#[test]
fn a_duplicate_key_names_both_places() {
    assert_snapshot!(host("interval = \"5s\"\nstagger = \"1s\"\ninterval = \"6s\""), @r"
    conductor.toml:4:1: host.interval is given twice
      first: conductor.toml:2:1
      help: keep one of the two
    ");
    assert_snapshot!(platform("config = { url = \"a\", url = \"b\" }"), @r"
    conductor.toml:3:23: platform.discord.config.url is given twice
      first: conductor.toml:3:12
      help: keep one of the two
    ");
    assert_snapshot!(mistakes(&with_platform("[host]\n[host]\ntick = \"1ms\"")), @r"
    conductor.toml:2:2: host is given twice
      first: conductor.toml:1:2
      help: keep one of the two
    ");
}

#[test]
fn text_that_is_not_toml() {
    assert_snapshot!(mistakes("[host\ninterval = \"5s\""), @"conductor.toml:1:6: not TOML: unclosed table, expected `]`");
    assert_snapshot!(mistakes("interval: 5s"), @"conductor.toml:1:11: not TOML: key with no value, expected `=`");
    assert_snapshot!(mistakes("[host]\ninterval = 5s"), @"conductor.toml:2:12: not TOML: string values must be quoted, expected literal string");
    assert_snapshot!(mistakes("[host]\ninterval = \"5s\n[breaker]"), @r#"conductor.toml:2:15: not TOML: invalid basic string, expected `"`"#);
    assert_snapshot!(mistakes(&format!("x = {}", "[".repeat(1000))), @"conductor.toml:1:85: not TOML: cannot recurse further; max recursion depth met");
}

#[test]
fn no_platform() {
    assert_snapshot!(mistakes(""), @r#"
    conductor.toml:1:1: the config has no platform
      help: add one, for example [platform.disk] with plugin = "disk"
    "#);
    assert_snapshot!(mistakes("[host]\ninterval = \"5s\"\n"), @r#"
    conductor.toml:2:1: the config has no platform
      help: add one, for example [platform.disk] with plugin = "disk"
    "#);
    assert_snapshot!(mistakes("[platform]\n"), @r#"
    conductor.toml:1:1: the config has no platform
      help: add one, for example [platform.disk] with plugin = "disk"
    "#);
    assert_snapshot!(mistakes("[hots]\n"), @r"
    conductor.toml:1:2: the file has no table `hots`
      help: did you mean `host`?
    ");
}

#[test]
fn a_platform_without_a_plugin() {
    assert_snapshot!(mistakes("[platform.disk]\nconfig = { path = \"/\" }"), @"conductor.toml:1:1: platform.disk lacks the key `plugin`");
    assert_snapshot!(mistakes("[platform.disk]\nplugin = \"\""), @r#"conductor.toml:2:10: platform.disk.plugin: "" does not match "^[a-z][a-z0-9-]*$""#);
}

#[test]
fn an_unknown_plugin_is_named_with_its_platform() {
    let config = read(
        "[plugin.htp]\n[platform.a]\nplugin = \"htpp\"\n[platform.b]\nplugin = \"disk\"\n[platform.c]\nplugin = \"snmp\"\n",
    );
    let none = |_: &str| None;
    let error = config
        .check_plugins(&["disk", "http", "tcp"], none)
        .unwrap_err();
    assert_snapshot!(error.to_plain(), @r#"
    conductor.toml:1:9: plugin.htp: there is no plugin "htp"
      help: did you mean "http"?
    conductor.toml:3:10: platform.a: there is no plugin "htpp"
      help: did you mean "http"?
    conductor.toml:7:10: platform.c: there is no plugin "snmp"
      help: the plugins found are `disk`, `http`, `tcp`
    "#);
    assert_snapshot!(config.check_plugins(&[], none).unwrap_err().to_plain(), @r#"
    conductor.toml:1:9: plugin.htp: there is no plugin "htp"
      help: no plugin was found in host.plugin_dirs
    conductor.toml:3:10: platform.a: there is no plugin "htpp"
      help: no plugin was found in host.plugin_dirs
    conductor.toml:5:10: platform.b: there is no plugin "disk"
      help: no plugin was found in host.plugin_dirs
    conductor.toml:7:10: platform.c: there is no plugin "snmp"
      help: no plugin was found in host.plugin_dirs
    "#);
    assert!(
        config
            .check_plugins(&["disk", "htpp", "snmp", "htp"], none)
            .is_ok()
    );
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    assert_snapshot!(
        mistakes(
            "[platform.z]\nplugin = \"http\"\ntimeout = \"9s\"\n\n[platform.b]\nplugin = \"http\"\ntimout = \"1s\"\ninterval = 5\n\n[platform.a]\nplugin = \"http\"\nbreaker = { reset_timeout = \"2y\" }\n"
        ),
        @r#"
        conductor.toml:3:11: platform.z.timeout is 9s, above the interval of 5s
          help: a check must end before the next one starts: lower the timeout or raise the interval
        conductor.toml:7:1: platform.b has no key `timout`
          help: did you mean `timeout`?
        conductor.toml:8:12: platform.b.interval must be a duration, not the number 5
          help: write it as text with a unit, like "5s"
        conductor.toml:12:29: platform.a.breaker.reset_timeout is 2years, out of range
          help: choose from 1ms to 1year
        "#
    );
}

#[test]
fn no_mistake_hides_those_that_do_not_depend_on_it() {
    let late = "[platform.late]\nplugin = \"http\"\ntimeout = \"9s\"\n";
    let expected = "platform.late.timeout is 9s, above the interval of 5s";
    for (first, mistake) in [
        ("[trust]\nkeys = 1\n", "trust has no key `keys`"),
        (
            "[host]\nplugin_dirs = 1\n",
            "host.plugin_dirs must be a list",
        ),
        (
            "[platform.\"a b\"]\nplugin = \"http\"\n",
            "\"a b\" cannot be a name",
        ),
        (
            "[platform.a]\nplugin = \"http\"\nplugin = \"tcp\"\n",
            "platform.a.plugin is given twice",
        ),
        (
            "[platform.a]\nplugin = \"http\"\nconfig = { k = nan }\n",
            "nan cannot be passed to a plugin",
        ),
        (
            "[host]\ncall_threads = 99999999999999999999\n",
            "99999999999999999999 does not fit",
        ),
    ] {
        let said = mistakes(&format!("{first}{late}"));
        assert!(said.contains(mistake) && said.contains(expected), "{said}");
        let count = said
            .lines()
            .filter(|line| line.starts_with("conductor.toml:"));
        assert_eq!(count.count(), 2, "{said}");
    }
    let said = mistakes(&format!(
        "[platform.\"a b\"]\ntimeout = \"9s\"\nplugin = \"http\"\n{late}"
    ));
    assert!(said.contains("platform.\"a b\".timeout is 9s"), "{said}");
}

#[test]
fn one_bad_key_is_not_blamed_on_others() {
    assert_snapshot!(mistakes("[host]\ninterval = \"0s\"\n[platform.a]\nplugin = \"http\"\ntimeout = \"1s\"\n"), @r"
    conductor.toml:2:12: host.interval is 0s, out of range
      help: choose from 1ms to 1year
    ");
}

#[test]
fn an_interval_that_is_not_known_is_not_blamed_on_what_it_bounds() {
    for interval in ["interval = 10", "intervall = \"10s\""] {
        let said = mistakes(&format!(
            "[host]\n{interval}\ntimeout = \"8s\"\nstagger = \"6s\"\n[platform.a]\nplugin = \"http\"\ntimeout = \"9s\"\n[platform.b]\nplugin = \"http\"\ninterval = \"2s\"\ntimeout = \"3s\"\n"
        ));
        let places = said
            .lines()
            .filter_map(|line| line.strip_prefix("conductor.toml:"));
        let lines: Vec<_> = places.filter_map(|place| place.split(':').next()).collect();
        assert_eq!(lines, ["2", "11"], "{said}");
    }
}

#[test]
fn hundreds_of_mistakes_are_cut_short() {
    let platforms: String = (0..200)
        .map(|i| format!("[platform.p{i}]\nplugn = \"http\"\n"))
        .collect();
    let error = parse(&platforms).unwrap_err();
    assert_eq!(error.to_string(), "conductor.toml has 400 mistakes");
    let plain = error.to_plain();
    assert_eq!(
        plain.lines().last(),
        Some("conductor.toml: and 300 more mistakes")
    );
    assert_eq!(
        plain
            .lines()
            .filter(|line| line.starts_with("conductor.toml:"))
            .count(),
        101
    );
}

#[test]
fn control_characters_from_the_file_do_not_reach_the_message() {
    let plain = host("isolation = \"\\u001b[2J\"\n\"a\\u0007\" = 1");
    assert!(
        plain.chars().all(|c| c == '\n' || !c.is_control()),
        "{plain:?}"
    );
    assert_snapshot!(plain, @r#"
    conductor.toml:2:13: host.isolation must be one of "process", "in-process", not the string "\u{1b}[2J"
    conductor.toml:3:1: host has no key `"a\u{7}"`
      help: its keys are `call_threads`, `healthy_after`, `interval`, `isolation`, `limits`, `metrics_log_after`, `plugin_dirs`, `resume`, `retry_interval`, `shutdown_grace`, `stagger`, `state_dir`, `stuck_limit`, `tick`, `timeout`, `unhealthy_after`
    "#);
}

fn shown(error: &ConfigError) -> String {
    let mut shown = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::none())
        .with_width(100)
        .render_report(&mut shown, error)
        .unwrap();
    shown
}

#[test]
fn the_lines_concerned_are_shown() {
    let one = parse("[platform.discord]\nplugin = \"http\"\ntimout = \"1s\"\n").unwrap_err();
    assert_snapshot!(shown(&one), @r#"
     x platform.discord has no key `timout`
      ,-[conductor.toml:3:1]
    2 | plugin = "http"
    3 | timout = "1s"
      : ^^^|^^
      :    `-- here
      `----
     help: did you mean `timeout`?
    "#);
    let twice =
        parse("[platform.a]\nplugin = \"http\"\n[platform.a]\nplugin = \"tcp\"").unwrap_err();
    assert_snapshot!(shown(&twice), @r#"
     x platform.a is given twice
      ,-[conductor.toml:1:11]
    1 | [platform.a]
      :           |
      :           `-- first here
    2 | plugin = "http"
    3 | [platform.a]
      :           |
      :           `-- here
    4 | plugin = "tcp"
      `----
     help: give each platform a name of its own
    "#);
    let two = parse("[host]\nstager = \"1s\"\ntick = 10\n").unwrap_err();
    assert_snapshot!(shown(&two), @r#"
      x conductor.toml has 2 mistakes

    Error: 
      x host has no key `stager`
       ,-[conductor.toml:2:1]
     1 | [host]
     2 | stager = "1s"
       : ^^^|^^
       :    `-- here
     3 | tick = 10
       `----
      help: did you mean `stagger`?

    Error: 
      x host.tick must be a duration, not the number 10
       ,-[conductor.toml:3:8]
     2 | stager = "1s"
     3 | tick = 10
       :        ^|
       :         `-- here
       `----
      help: write it as text with a unit, like "10s"
    "#);
    let none = parse("[host]\n").unwrap_err();
    assert_snapshot!(shown(&none), @r#"
     x the config has no platform
      ,-[conductor.toml:1:1]
    1 | [host]
      : ^^^|^^
      :    `-- here
      `----
     help: add one, for example [platform.disk] with plugin = "disk"
    "#);
}

#[test]
fn a_windows_path_in_double_quotes_is_told_how_to_be_written() {
    assert_snapshot!(host(r#"state_dir = "C:\Users\conductor""#), @r#"
    conductor.toml:2:18: not TOML: too few unicode value digits, expected unicode hexadecimal value
      help: write texts with backslashes in single quotes, or double each backslash: 'C:\Users\conductor' or "C:\\Users\\conductor"
    "#);
    assert_snapshot!(host(r#"state_dir = "D:\Games""#), @r#"
    conductor.toml:2:17: not TOML: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`
      help: write texts with backslashes in single quotes, or double each backslash: 'D:\Games' or "D:\\Games"
    "#);
    assert_snapshot!(host(r#"state_dir = "C:\it's""#), @r#"
    conductor.toml:2:17: not TOML: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`
      help: write texts with backslashes in single quotes, or double each backslash
    "#);
    assert_snapshot!(host(r#"state_dir = "\u12""#), @r#"
    conductor.toml:2:18: not TOML: too few unicode value digits, expected unicode hexadecimal value
      help: write texts with backslashes in single quotes, or double each backslash: '\u12' or "\\u12"
    "#);
}

#[cfg(windows)]
#[test]
fn a_windows_path_with_an_escape_by_mistake_is_refused() {
    for text in [
        r#"state_dir = "C:\new""#,
        r#"plugin_dirs = ["plugins\new"]"#,
        r#"state_dir = "\\server\new""#,
    ] {
        let found = host(text);
        assert!(
            found.contains("contains a control character"),
            "{text}: {found}"
        );
        assert!(found.contains("single quotes"), "{text}: {found}");
    }
    let found = platform(r#"config = { path = "C:\temp" }"#);
    assert!(found.contains(r"'C:\temp'"), "{found}");
    assert_eq!(host(r"state_dir = 'C:\new'"), "no mistake");
}

#[test]
fn the_lines_shown_carry_no_control_characters() {
    let error = parse("[host]\ninterval = \"\u{1b}[2J\u{9b}\"\n").unwrap_err();
    assert_snapshot!(shown(&error), @r#"
     x not TOML: invalid basic string, expected non-double-quote visible characters, `\`
      ,-[conductor.toml:2:13]
    1 | [host]
    2 | interval = "?[2J??"
      :             |
      :             `-- here
      `----
    "#);
}

#[test]
fn the_line_that_is_not_utf8_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conductor.toml");
    std::fs::write(&path, b"# Gr\xfc\xdfe aus K\xf6ln\n").unwrap();
    let error = ConductorConfig::read(&path).unwrap_err();
    assert_snapshot!(shown(&error).replace(&format!("{}/", folder.path().display()), ""), @r"
     x byte 0xfc, at offset 4, is not UTF-8
      ,-[conductor.toml:1:5]
    1 | # Gr��e aus K�ln
      :     |
      :     `-- here
      `----
     help: save the file as UTF-8
    ");
}

#[test]
fn a_key_that_is_none() {
    let trust = |lines: &str| mistakes(&with_platform(&format!("[trust]\n{lines}")));
    assert_snapshot!(trust("minisign_keys = [\"RWabc\"]\nrequire_signature = true"), @r#"
    conductor.toml:2:17: trust.minisign_keys[0]: "RWabc" is not a minisign key, and cannot be read as a file: No such file or directory (os error 2)
      help: write the line of the .pub file that begins with RW, or the name of that file; `minisign -G` creates a key pair
    "#);
    assert_snapshot!(trust("minisign_keys = [\"/\"]"), @r#"
    conductor.toml:2:17: trust.minisign_keys[0]: "/" is not a minisign key, and cannot be read as a file: it is a folder, not a file
      help: write the line of the .pub file that begins with RW, or the name of that file; `minisign -G` creates a key pair
    "#);
    assert_snapshot!(trust("minisign_keys = \"RWabc\""), @r#"conductor.toml:2:17: trust.minisign_keys must be a list, not the string "RWabc""#);
    assert_snapshot!(trust("minisign_key = []"), @r#"
    conductor.toml:2:1: trust has no key `minisign_key`
      help: did you mean `minisign_keys`?
    "#);
    assert_snapshot!(trust("require_signature = true"), @r#"
    conductor.toml:2:21: trust.require_signature is true, but minisign_keys is empty: every library would be refused
      help: add the public key that your libraries are signed with to minisign_keys
    "#);
}

#[test]
fn what_a_plugin_finds_in_a_config_is_placed_at_the_key_that_it_names() {
    let text = "[platform.a]\nplugin = \"http\"\nconfig = { url = \"x\", expect_status = [1] }\n[platform.b]\nplugin = \"http\"\n";
    let config = read(text);
    let place = |nth: usize, message: &str| {
        let error = config.mistake_of_config(&config.platforms[nth], message, "help");
        error.to_plain().split(": ").next().unwrap().to_owned()
    };
    assert_eq!(place(0, "no route"), "conductor.toml:3:1");
    assert_eq!(place(0, "key `url`: wrong"), "conductor.toml:3:12");
    assert_eq!(place(0, "key `headers.x`: wrong"), "conductor.toml:3:1");
    assert_eq!(place(1, "key `url`: wrong"), "conductor.toml:4:11");
}
