//! Templates, and the targets of `/probe`.

use std::{collections::BTreeMap, fs};

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
    fs::write(folder.path().join("token"), "open-sesame").unwrap();
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
      help: there are {{target}}, {{url}} and {{name}}; declare others in `params`, with a default, or in `required`
    "#);
    assert_snapshot!(mistakes("[template.a]\nplugin = \"tcp\"\ntimeout = \"30s\""), @r#"
    conductor.toml:3:11: template.a.timeout is 30s, out of range
      help: choose from 1ms to 25s
    "#);
    assert_snapshot!(mistakes("[template.a]\nplugn = \"tcp\""), @r"
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

/// A template that is based on another, and platforms of it.
const SHOPS: &str = r#"
[template.base]
interval = "30s"
labels = { group = "shops", by = "{{name}}" }
breaker = { failure_threshold = 5 }

[template.shop]
template = "base"
plugin = "http"
timeout = "4s"
params = { path = "/health", status = 200 }
required = ["scheme"]
url = "{{scheme}}://{{target}}/"
description = "The shop {{name}}"
config = { url = "{{scheme}}://{{target}}{{path}}", expect_status = ["{{status}}"], headers = { a = "1", b = "2" } }

[platform.north]
template = "shop"
target = "north.example"
params = { scheme = "https" }

[platform.south]
template = "shop"
target = "south.example"
params = { scheme = "http", path = "/{{name}}", status = 204 }
interval = "1m"
labels = { group = "south" }
config = { headers = { b = "{{own}}" } }
"#;

#[test]
fn a_platform_has_the_settings_of_its_template_and_overrides_them_key_by_key() {
    let config = parse(SHOPS).unwrap();
    let [north, south] = &*config.platforms else {
        panic!("{:?}", config.platforms)
    };
    assert_eq!(
        (
            &*north.plugin,
            north.interval.as_secs(),
            north.timeout.as_secs()
        ),
        ("http", 30, 4)
    );
    assert_eq!(north.breaker.failure_threshold, 5);
    assert_eq!(
        north.config,
        json!({
            "url": "https://north.example/health",
            "expect_status": [200],
            "headers": { "a": "1", "b": "2" },
        })
    );
    assert_eq!(north.labels["by"], "north");
    assert_eq!(north.url.as_deref(), Some("https://north.example/"));
    assert_eq!(north.description.as_deref(), Some("The shop north"));
    assert_eq!(south.interval.as_secs(), 60);
    assert_eq!(
        south.config,
        // Parameters are filled into the texts of templates alone, and once.
        json!({
            "url": "http://south.example/{{name}}",
            "expect_status": [204],
            "headers": { "a": "1", "b": "{{own}}" },
        })
    );
    assert_eq!(south.labels["group"], "south");
    assert!(config.templates.is_empty(), "each needs a parameter");
}

#[test]
fn a_platform_made_from_a_template_equals_one_that_is_written() {
    let text = SHOPS
        .replace("required = [\"scheme\"]", "")
        .replace("params = { path", "params = { scheme = \"https\", path");
    let config = parse(&text).unwrap();
    let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
    let made = from_template::TemplatedPlatform {
        name: "north",
        template: "shop",
        target: "north.example",
        labels: &labels,
        origin: "targets.json, group 1",
    };
    let platform = config.platform_from_template(&made).unwrap();
    let mut written = config.platforms[0].clone();
    written.labels.extend(labels.clone());
    written.location = platform.location.clone();
    assert_eq!(platform, written);
    assert_eq!(platform.location.line, 7, "that of the template");

    let mut running = config.clone();
    running.platforms = vec![PlatformConfig {
        name: "found".to_owned(),
        ..platform
    }];
    let violation = SchemaViolation {
        path: spans::path(&["platform", "found", "config", "url"]),
        at_key: false,
        message: "no URL".to_owned(),
        help: None,
    };
    let error = running.mistakes(vec![violation]).to_plain();
    assert_eq!(
        error, "conductor.toml:15:18: no URL",
        "the line of the template"
    );

    for (name, template, expected) in [
        ("a b", "shop", "\"a b\" is no name of a platform"),
        ("north", "shpo", "there is no template \"shpo\""),
    ] {
        let made = from_template::TemplatedPlatform {
            name,
            template,
            ..made
        };
        let error = config.platform_from_template(&made).unwrap_err().to_plain();
        assert!(
            error.contains(expected) && error.contains("targets.json, group 1"),
            "{error}"
        );
    }
}

#[test]
fn the_secrets_of_platforms_of_one_template_are_known() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("north.token"), "secret-of-north").unwrap();
    let text = "[template.shop]\nplugin = \"http\"\nconfig = { url = \"{{url}}\", bearer = { file = \"{{name}}.token\" } }\n[platform.north]\ntemplate = \"shop\"\ntarget = \"north.example\"\n";
    let text = text
        .replace(
            "[template.shop]",
            "[template.shop]\nrequired = [\"unused\"]",
        )
        .replace("target =", "params = { unused = 1 }\ntarget =");
    let config = ConductorConfig::parse(text, "conductor.toml", folder.path()).unwrap();
    let platform = &config.platforms[0];
    assert_eq!(platform.config["bearer"], "secret-of-north");
    assert!(
        platform
            .secrets
            .texts()
            .any(|text| text == "secret-of-north")
    );
    assert!(!format!("{platform:?}").contains("secret-of-north"));
}

#[test]
fn mistakes_in_templates_of_platforms_name_platform_template_and_cure() {
    let with = |rest: &str| {
        let template = "[template.shop]\nplugin = \"http\"\nrequired = [\"port\"]\ninterval = \"5s\"\ntimeout = \"9s\"\nconfig = { url = \"http://{{target}}:{{port}}\" }\n";
        wrong(&format!("{template}{rest}"))
    };
    assert_snapshot!(with("[platform.a]\ntemplate = \"shop\"\ntarget = \"x\"\nparams = { port = 1 }"), @r#"
    conductor.toml:5:11: platform.a.timeout is 9s, above the interval of 5s
      help: a check must end before the next one starts: lower the timeout or raise the interval
    "#);
    assert_snapshot!(with("[platform.a]\ntemplate = \"shop\"\ntimeout = \"1s\""), @r#"
    conductor.toml:8:1: platform.a: its template "shop" needs the parameter `port`
      help: add params = { port = … }
    conductor.toml:8:1: platform.a: its template "shop" needs a target
      help: add target = "…"
    "#);
    assert_snapshot!(with("[platform.a]\ntemplate = \"shpo\"\ntarget = \"x\""), @r#"
    conductor.toml:8:1: platform.a: there is no template "shpo"
      help: did you mean "shop"?
    "#);
    assert_snapshot!(with("[platform.a]\ntemplate = \"shop\"\ntarget = \"x\"\ntimeout = \"1s\"\nparams = { prot = 1, port = 2 }"), @r#"
    conductor.toml:11:12: platform.a.params: template "shop" has no parameter `prot`
      help: there are {{target}}, {{url}}, {{name}} and {{port}}
    "#);
    assert_snapshot!(with("[platform.a]\nplugin = \"tcp\"\ntarget = \"x\""), @r#"
    conductor.toml:9:1: platform.a.target: the platform has no template to fill it into
      help: add template = "NAME", or remove the key
    "#);
    assert_snapshot!(wrong("[template.a]\ntemplate = \"b\"\n[template.b]\ntemplate = \"a\"\n[platform.x]\ntemplate = \"a\""), @r#"
    conductor.toml:2:12: template.a.template: a template cannot be based on itself (b → a → b)
      help: remove one of these links
    conductor.toml:4:12: template.b.template: a template cannot be based on itself (a → b → a)
      help: remove one of these links
    "#);
    assert_snapshot!(wrong("[template.a]\ntemplate = \"c\"\nplugin = \"tcp\"\n[platform.x]\ntemplate = \"a\""), @r#"
    conductor.toml:2:12: template.a.template: there is no template "c"
      help: did you mean "a"?
    "#);
    assert_snapshot!(wrong("[template.a]\ninterval = \"5s\"\n[platform.x]\ntemplate = \"a\""), @r#"
    conductor.toml:4:1: platform.x lacks the key `plugin`, and so does its template "a"
      help: add it to one of them
    "#);
    assert_snapshot!(platform_url("shop.example"), @r#"
    conductor.toml:3:7: platform.x.url is "shop.example", not a link to a page
      help: write it as in "https://shop.example/"; what the plugin checks goes into `config`
    "#);
}

fn wrong(text: &str) -> String {
    match parse(text) {
        Ok(_) => "no mistake".to_owned(),
        Err(error) => error.to_plain(),
    }
}

fn platform_url(url: &str) -> String {
    wrong(&format!("[platform.x]\nplugin = \"tcp\"\nurl = \"{url}\""))
}
