//! Tests of reading a configuration, except for its messages.

mod files;
mod heartbeat;
mod includes;
mod maintenance;
mod mistakes;
mod notify;
mod plugin_schemas;
mod properties;
mod secrets;
mod templates;

use std::{path::Path, time::Duration};

use conductor_plugin_api::manifest::Need;
use conductor_runtime::schema::CompiledSchema;
use conductor_sandbox::WorkerLimits;
use conductor_types::{Isolation, Priority};
use serde_json::Value;

use super::*;

/// Returns the smallest complete file: `more` and one platform.
fn with_platform(more: &str) -> String {
    format!("{more}\n[platform.disk]\nplugin = \"disk\"\n")
}

fn parse(text: &str) -> Result<ConductorConfig, ConfigError> {
    ConductorConfig::parse(
        text.to_owned(),
        "conductor.toml",
        Path::new("/etc/conductor"),
    )
}

fn read(text: &str) -> ConductorConfig {
    parse(text).unwrap_or_else(|error| panic!("{}", error.to_plain()))
}

/// Validates a platform's config against a plugin's schema, as a worker does for the host.
fn judged(
    config: &ConductorConfig,
    platform: &PlatformConfig,
    schema: Value,
) -> Result<(), ConfigError> {
    let schema = CompiledSchema::new(schema).unwrap();
    let violations = schema.violations(&platform.config, &config.subject(platform));
    match violations.is_empty() {
        true => Ok(()),
        false => Err(config.mistakes(violations)),
    }
}

#[test]
fn the_default_file_parses_to_the_defaults() {
    let config =
        ConductorConfig::parse(default_text().to_owned(), "conductor.toml", Path::new("")).unwrap();
    assert_eq!(config.host, HostConfig::default());
    assert_eq!(config.breaker, BreakerConfig::default());
    assert_eq!(config.resources, ResourcesConfig::default());
    assert_eq!(config.metrics, MetricsConfig::default());
    assert_eq!(config.history, HistoryConfig::default());
    assert_eq!(config.trust, TrustConfig::default());
    assert!(config.plugins.is_empty());
    let watched: Vec<(&str, &str)> = config
        .platforms
        .iter()
        .map(|platform| (platform.name.as_str(), platform.plugin.as_str()))
        .collect();
    assert_eq!(
        watched,
        [
            ("disk", "disk"),
            ("self-http", "http"),
            ("self-port", "tcp")
        ]
    );
}

#[test]
fn a_file_without_the_common_tables_means_the_same_as_the_default_file() {
    let config =
        ConductorConfig::parse(with_platform(""), "conductor.toml", Path::new("")).unwrap();
    assert_eq!(config.host, HostConfig::default());
    assert_eq!(config.breaker, BreakerConfig::default());
    assert_eq!(config.resources, ResourcesConfig::default());
    assert_eq!(config.metrics, MetricsConfig::default());
    assert_eq!(config.history, HistoryConfig::default());
    assert_eq!(config.trust, TrustConfig::default());
}

#[test]
fn the_default_file_names_every_key_of_the_common_tables() {
    for section in [
        "host",
        "breaker",
        "resources",
        "metrics",
        "history",
        "trust",
    ] {
        for key in section_schema(section)["properties"]
            .as_object()
            .unwrap()
            .keys()
        {
            let line = |line: &str| {
                line.trim_start_matches("# ")
                    .starts_with(&format!("{key} = "))
            };
            assert!(default_text().lines().any(line), "[{section}] {key}");
        }
    }
}

#[test]
fn the_defaults_that_the_schema_states_are_the_defaults() {
    let mut text = String::new();
    for section in [
        "host",
        "breaker",
        "resources",
        "metrics",
        "history",
        "trust",
    ] {
        text.push_str(&format!("[{section}]\n"));
        for (key, schema) in section_schema(section)["properties"].as_object().unwrap() {
            if let Some(default) = schema.get("default") {
                text.push_str(&format!("{key} = {default}\n"));
            }
        }
    }
    let config =
        ConductorConfig::parse(with_platform(&text), "conductor.toml", Path::new("")).unwrap();
    assert!(text.contains("stagger"), "the schema states defaults");
    assert_eq!(config.host, HostConfig::default());
    assert_eq!(config.breaker, BreakerConfig::default());
    assert_eq!(config.resources, ResourcesConfig::default());
    assert_eq!(config.metrics, MetricsConfig::default());
    assert_eq!(config.history, HistoryConfig::default());
    assert_eq!(config.trust, TrustConfig::default());
}

fn section_schema(section: &str) -> Value {
    let schema = json_schema();
    let reference = schema["properties"][section]["$ref"]
        .as_str()
        .unwrap()
        .to_owned();
    schema
        .pointer(reference.trim_start_matches('#'))
        .unwrap()
        .clone()
}

#[test]
fn every_key_of_the_schema_says_what_it_is_for() {
    let schema = json_schema();
    let tables = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .chain([&schema]);
    let mut keys = 0;
    for table in tables {
        for (key, schema) in table["properties"].as_object().into_iter().flatten() {
            assert!(schema["description"].is_string(), "{key}: {schema}");
            keys += 1;
        }
    }
    assert!(keys > 30, "{keys}");
    assert!(schema["$defs"]["Duration"]["pattern"].is_string());
}

#[test]
fn the_builtin_config_finds_its_plugins_beside_the_binary() {
    let config = ConductorConfig::builtin(Path::new("/opt/conductor/bin"));
    let folders = default_folders(Path::new("/opt/conductor/bin"));
    assert_eq!(config.host.plugin_dirs, folders);
    assert_eq!(folders[0], Path::new("/opt/conductor/bin"));
    assert!(config.host.plugin_dirs_are_default);
    assert_eq!(config.platforms.len(), 3);
}

#[test]
fn folders_are_relative_to_the_file() {
    let config = read(&with_platform(
        "[host]\nplugin_dirs = [\"plugins\", \"/usr/lib/conductor\"]\nstate_dir = \"../state\"",
    ));
    let folders = [
        Path::new("/etc/conductor/plugins"),
        Path::new("/usr/lib/conductor"),
    ];
    assert_eq!(config.host.plugin_dirs, folders);
    assert_eq!(
        config.host.state_dir.as_deref(),
        Some(Path::new("/etc/conductor/../state"))
    );
}

#[test]
fn a_platform_has_what_it_says_and_else_what_the_host_says() {
    let config = read(
        r#"
[host]
interval = "20s"
timeout = "8s"
[breaker]
failure_threshold = 5
[platform.plain]
plugin = "http"
[platform.special]
plugin = "http"
interval = "1m 30s"
timeout = "30s"
priority = "critical"
breaker = { reset_timeout = "1s" }
labels = { team = "chat" }
config = { url = "https://example.org", since = 2026-01-02, sizes = [1, 2.0, 2.5] }
"#,
    );
    let [plain, special] = config.platforms.as_slice() else {
        panic!("two platforms")
    };
    assert_eq!(
        (plain.interval, plain.timeout),
        (Duration::from_secs(20), Duration::from_secs(8))
    );
    assert_eq!(
        (plain.priority, plain.breaker),
        (Priority::Normal, config.breaker)
    );
    assert_eq!(plain.config, serde_json::json!({}));
    assert_eq!(plain.location.to_string(), "conductor.toml:7:11");

    assert_eq!(special.interval, Duration::from_secs(90));
    assert_eq!(special.timeout, Duration::from_secs(30));
    assert_eq!(special.priority, Priority::Critical);
    assert_eq!(special.breaker.failure_threshold, 5);
    assert_eq!(special.breaker.reset_timeout, Duration::from_secs(1));
    assert_eq!(special.labels["team"], "chat");
    let expected = serde_json::json!({
        "url": "https://example.org", "since": "2026-01-02", "sizes": [1, 2, 2.5],
    });
    assert_eq!(special.config, expected);
}

#[test]
fn platforms_come_in_the_order_of_the_file() {
    let config = read(
        "[platform]\nzebra = { plugin = \"http\" }\nape.plugin = \"tcp\"\n[platform.\"m.1\".config]\n[platform.\"m.1\"]\nplugin = \"disk\"\n",
    );
    let names: Vec<&str> = config
        .platforms
        .iter()
        .map(|platform| platform.name.as_str())
        .collect();
    assert_eq!(names, ["zebra", "ape", "m.1"]);
}

#[test]
fn a_default_gives_way_to_what_was_written() {
    let config = read(
        "[host]\ninterval = \"200ms\"\ncall_threads = 4\n[breaker]\nreset_timeout = \"1h\"\n[resources]\ndegraded_above = 50\n\
         [platform.fast]\nplugin = \"tcp\"\ninterval = \"50ms\"\n[plugin.tcp]\ncall_threads = 2\n",
    );
    assert_eq!(config.host.timeout, Duration::from_millis(200));
    assert_eq!(config.host.stagger, Duration::from_millis(200));
    assert_eq!(config.host.stuck_limit, 4);
    assert_eq!(config.plugin("tcp").stuck_limit, 2);
    assert_eq!(config.breaker.max_reset_timeout, Duration::from_secs(3600));
    assert_eq!(config.platforms[0].timeout, Duration::from_millis(50));
    assert!(config.resources.recover_below < config.resources.degraded_above);

    let config = read(&with_platform("[host]\ninterval = \"5ms\""));
    assert_eq!(config.host.tick, Duration::from_millis(5));
    assert_eq!(
        config.resources.interval,
        Duration::from_millis(200),
        "the CPU cannot be read more often"
    );
    let config = read(&with_platform("[host]\nstagger = \"2ms\""));
    assert_eq!(config.host.tick, Duration::from_millis(2));
    let config = read(&with_platform("[host]\ntick = \"1s\""));
    assert_eq!(config.host.stagger, Duration::from_secs(1));
    let config = read(&with_platform("[resources]\ncritical_above = 60"));
    assert_eq!(config.resources.degraded_above, 60.0);
    let config = read(&with_platform("[breaker]\nmax_reset_timeout = \"10s\""));
    assert_eq!(config.breaker.reset_timeout, Duration::from_secs(10));
}

#[test]
fn a_platform_confirms_states_as_it_says_and_else_as_the_host_says() {
    let config = read(
        "[host]\nunhealthy_after = 3\nhealthy_after = 2\nretry_interval = \"2s\"\n\
         [platform.a]\nplugin = \"tcp\"\n\
         [platform.b]\nplugin = \"tcp\"\nunhealthy_after = 5\nretry_interval = \"0s\"\n\
         [platform.c]\nplugin = \"tcp\"\ninterval = \"1s\"\nhealthy_after = 1\n",
    );
    let shown = config.platforms.iter().map(|platform| {
        let ConfirmationConfig {
            rules,
            retry_interval,
        } = platform.confirmation;
        let rules = (rules.unhealthy_after.get(), rules.healthy_after.get());
        (rules, retry_interval.map(|retry| retry.as_secs()))
    });
    let shown: Vec<_> = shown.collect();
    assert_eq!(
        shown,
        [((3, 2), Some(2)), ((5, 2), None), ((3, 1), Some(1))]
    );
    assert_eq!(
        read(&with_platform("")).host.confirmation,
        ConfirmationConfig::default()
    );
}

#[test]
fn a_retry_interval_without_effect_is_warned_of() {
    let of = |lines| read(&format!("[platform.a]\nplugin = \"tcp\"\n{lines}")).warnings;
    let warned = of("retry_interval = \"1s\"");
    assert_eq!(
        warned,
        [
            "platform.a.retry_interval has no effect, as one result confirms a state: set unhealthy_after or healthy_after to more than 1 (conductor.toml:3:18)"
        ]
    );
    assert_eq!(of("retry_interval = \"1s\"\nhealthy_after = 2"), [""; 0]);
}

#[test]
fn a_plugin_has_what_it_says_and_else_what_the_host_says() {
    let config = read(&with_platform(
        "[host]\nstuck_limit = 5\n[plugin.http]\nisolation = \"in-process\"\n",
    ));
    let http = PluginConfig {
        isolation: Isolation::InProcess,
        call_threads: 64,
        stuck_limit: 5,
        limits: WorkerLimits::default(),
        allow: None,
        no_udp: false,
    };
    assert_eq!(config.plugin("http"), http);
    assert_eq!(config.plugin("disk").isolation, Isolation::Process);
    assert_eq!(config.plugin("disk").stuck_limit, 5);
}

#[test]
fn limits_are_the_plugins_then_the_hosts_then_the_defaults() {
    let config = read(&with_platform(
        "[host]\nlimits = { memory = \"1GB\", core_dumps = true }\n\
         [plugin.http]\nlimits = { open_files = 99, core_dumps = false }\n",
    ));
    let host = WorkerLimits {
        memory: 1_000_000_000,
        core_dumps: true,
        ..WorkerLimits::default()
    };
    assert_eq!(config.plugin("disk").limits, host);
    let http = WorkerLimits {
        open_files: 99,
        core_dumps: false,
        ..host
    };
    assert_eq!(config.plugin("http").limits, http);
}

#[test]
fn the_default_limits_give_way_to_many_threads() {
    let threads = "[host]\ncall_threads = 500\n[plugin.http]\ncall_threads = 1000\n";
    let config = read(&with_platform(threads));
    assert_eq!(config.plugin("disk").limits.processes, 564);
    let http = config.plugin("http").limits;
    assert_eq!((http.processes, http.open_files), (1064, 4000));
    assert_eq!(http.memory, (256 << 20) + 1000 * (2 << 20));
    let written =
        "[host]\nlimits = { processes = 9, memory = \"64MiB\" }\n[plugin.http]\nstuck_limit = 2\n";
    let http = read(&with_platform(written)).plugin("http").limits;
    assert_eq!(
        (http.processes, http.memory),
        (9, 64 << 20),
        "what is written stays"
    );
}

#[test]
fn what_is_allowed_is_read_and_its_absence_is_not_an_empty_list() {
    let config = read(&with_platform(
        "[plugin.http]\nallow = [\"network\", \"read /etc/x.pem\"]\n[plugin.tcp]\nallow = []\n",
    ));
    let read = Need::Read("/etc/x.pem".to_owned());
    assert_eq!(config.plugin("http").allow, Some(vec![Need::Network, read]));
    assert_eq!(config.plugin("tcp").allow, Some(Vec::new()));
    assert_eq!(config.plugin("disk").allow, None);
}

#[test]
fn udp_is_closed_by_a_word_among_what_is_allowed() {
    let config = read(&with_platform(
        "[plugin.http]\nallow = [\"network\", \"no-udp\"]\n[plugin.tcp]\nallow = []\n",
    ));
    let http = config.plugin("http");
    assert_eq!((http.allow, http.no_udp), (Some(vec![Need::Network]), true));
    assert!(!config.plugin("tcp").no_udp, "an empty list leaves it open");
    assert!(!config.plugin("disk").no_udp);
}

#[test]
fn locate_finds_the_value_or_its_nearest_parent() {
    let config = read(
        "[platform.web]\nplugin = \"http\"\n[platform.web.config]\nurl = \"x\"\nheaders = [\n  { name = \"a\" },\n  { \"x/y\" = 1 },\n]\n",
    );
    let locate = |pointer: &str| config.locate("web", pointer).to_string();
    assert_eq!(locate("/url"), "conductor.toml:4:7");
    assert_eq!(locate("/headers/1/x~1y"), "conductor.toml:7:13");
    assert_eq!(locate("/headers/7/name"), "conductor.toml:5:11");
    assert_eq!(locate("/nowhere"), "conductor.toml:3:1");
    assert_eq!(locate(""), "conductor.toml:3:1");
    assert_eq!(config.locate("nobody", "/url").line, 1);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_change_nothing() {
    let text = format!(
        "\u{feff}{}",
        with_platform("[host]\r\ninterval = \"6s\"\r\n")
    );
    assert_eq!(read(&text).host.interval, Duration::from_secs(6));
}
