//! Templates, and the targets of `/probe`.

use insta::assert_snapshot;
use serde_json::json;

use super::*;

#[test]
fn a_template_makes_a_config_of_a_target() {
    let text = "[template.site]\nplugin = \"http\"\ntimeout = \"2s\"\nconfig = { url = \"{{url}}\", headers = { x-target = \"{{target}}\" }, expect_status = [200] }\n";
    let config = parse(text).unwrap();
    let site = &config.templates["site"];
    assert_eq!((&*site.plugin, site.timeout.as_secs()), ("http", 2));
    assert_eq!(
        site.config_for("a.example"),
        json!({ "url": "http://a.example", "headers": { "x-target": "a.example" }, "expect_status": [200] })
    );
    assert!(config.platforms.is_empty());
    assert_eq!(
        config.plugins_in_use().into_iter().collect::<Vec<_>>(),
        ["http"]
    );
}

#[test]
fn the_secrets_of_a_template_are_known_and_its_file_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "open-sesame").unwrap();
    let text = "[template.site]\nplugin = \"http\"\nconfig = { url = \"{{url}}\", bearer = { file = \"token\" } }\n";
    let config = ConductorConfig::parse(text.to_owned(), "conductor.toml", folder.path()).unwrap();
    let filled = config.templates["site"].config_for("a");
    assert_eq!(filled["bearer"], "open-sesame");
    let secrets: Vec<_> = config
        .secrets()
        .flat_map(|secrets| secrets.texts())
        .collect();
    assert_eq!(secrets, ["open-sesame"]);
    assert!(config.hidden().contains(&folder.path().join("token")));
    assert!(!format!("{config:?}").contains("open-sesame"));
}

#[test]
fn mistakes_in_templates_and_targets_name_the_cure() {
    let mistakes = |text: &str| parse(text).unwrap_err().to_plain();
    assert_snapshot!(mistakes("[template.a]\nplugin = \"tcp\"\nconfig = { address = \"{{host}}:80\" }"), @r#"
    conductor.toml:3:22: template.a.config.address: there is no parameter {{host}}
      help: there are {{target}} and {{url}}
    "#);
    assert_snapshot!(mistakes("[template.a]\nplugin = \"tcp\"\ntimeout = \"30s\""), @r#"
    conductor.toml:3:11: template.a.timeout is 30s, out of range
      help: choose from 1ms to 25s
    "#);
    assert_snapshot!(mistakes("[template.a]\nplugn = \"tcp\""), @r"
    conductor.toml:1:1: template.a lacks the key `plugin`
    conductor.toml:2:1: template.a has no key `plugn`
      help: did you mean `plugin`?
    ");
    assert_snapshot!(mistakes("[template.a]\nplugin = \"tcp\"\n[probe]\ntargets = [\"*.example.com\", \"10.0.0.0/33\"]"), @r#"
    conductor.toml:4:29: probe.targets[1] is "10.0.0.0/33", not a host or a network
      help: write a name such as "*.example.com", an address, or a network such as "10.0.0.0/8"
    "#);
}

#[test]
fn a_template_without_a_parameter_is_warned_of() {
    let config = parse("[template.a]\nplugin = \"tcp\"\nconfig = { address = \"b:80\" }").unwrap();
    assert_snapshot!(config.warnings.join("\n"), @"template.a: no text in its config contains {{target}} or {{url}}, so every target gets the same check (conductor.toml:1:11)");
}
