//! A config is judged identically wherever it is read: `config check`, `run`, `run --once` and both ways to reload.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
};

use crate::harness::{Host, Setup, conductor};

/// Returns exit code, output and errors of a command with this config.
fn run(config: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = conductor(arguments)
        .arg("--config.file")
        .arg(config)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Returns status code and body of a POST request.
pub(crate) fn post(host: &Host, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(host.address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap();
    (code.parse().unwrap(), body.to_owned())
}

/// Changes the text of the config.
fn write(host: &Host, text: &str) {
    fs::write(host.setup.path("conductor.toml"), text).unwrap();
}

/// Returns files with mistakes of all kinds, and the message for each mistake wherever the file is read.
fn mistaken() -> Vec<(&'static str, Setup, Vec<&'static str>)> {
    let good = || Setup::new().platform("good", "fault", "{}");
    vec![
        (
            "an unknown plugin",
            good()
                .platform("a", "flaut", "{}")
                .platform("b", "nope", "{}"),
            vec![
                "there is no plugin \"flaut\"",
                "there is no plugin \"nope\"",
            ],
        ),
        (
            "keys that plugins do not know",
            good().platform("a", "fault", "{ chekc = 1 }").platform(
                "b",
                "disk",
                "{ path = \"/\", degraded_abov = 80 }",
            ),
            vec![
                "platform.a.config has no key `chekc`",
                "platform.b.config has no key `degraded_abov`",
            ],
        ),
        (
            "a create that fails, and one that panics",
            good()
                .platform("a", "fault", r#"{ create = { fault = "error" } }"#)
                .platform("b", "fault", r#"{ create = { fault = "panic" } }"#),
            vec!["injected error", "injected panic"],
        ),
        (
            "unknown keys next to what the probe's own create refuses",
            good().platform(
                "a",
                "fault",
                r#"{ chekc = 1, create = { fault = "error" } }"#,
            ),
            vec!["platform.a.config has no key `chekc`", "injected error"],
        ),
        (
            "everything at once",
            good()
                .platform("a", "nope", "{}")
                .platform("b", "fault", "{ chekc = 1 }")
                .platform("c", "fault", r#"{ create = { fault = "error" } }"#),
            vec![
                "there is no plugin \"nope\"",
                "platform.b.config has no key `chekc`",
                "injected error",
            ],
        ),
    ]
}

#[test]
fn a_file_with_mistakes_is_judged_the_same_wherever_it_is_read() {
    for (what, setup, expected) in mistaken() {
        let file = setup.write();
        let text = fs::read_to_string(&file).unwrap();

        let (code, _, check) = run(&file, &["config", "check"]);
        assert_eq!(code, 3, "{what}: {check}");
        let (code, out, errors) = run(&file, &["run", "--once"]);
        assert_eq!(code, 1, "{what}: {out}{errors}");
        let once = format!("{out}{errors}");

        let host = setup.start_with(&["--web.enable-lifecycle"]);
        host.wait("its good platform", |m| m.checks("good", "healthy") >= 3.0);
        for part in &expected {
            assert!(
                check.contains(part),
                "{what}: config check: {part}: {check}"
            );
            assert!(once.contains(part), "{what}: run --once: {part}: {once}");
            host.wait_for_log(part);
        }
        drop(host);

        let host = Setup::new()
            .platform("good", "fault", "{}")
            .start_with(&["--web.enable-lifecycle"]);
        host.wait("its platform", |m| m.checks("good", "healthy") >= 1.0);
        write(&host, &text);
        let (code, body) = post(&host, "/-/reload");
        assert_eq!(code, 400, "{what}: {body}");
        assert_eq!(
            places(&body),
            places(&check),
            "{what}: a reload says what config check says"
        );
        host.reload();
        for part in &expected {
            assert!(body.contains(part), "{what}: {part}: {body}");
            host.wait_for_log(part);
        }
    }
}

/// Returns the lines without the folder, which differs.
fn places(text: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once("conductor.toml:") {
        Some((_, rest)) => rest.to_owned(),
        None => line.to_owned(),
    };
    let is_same = |line: &&str| !line.is_empty() && !line.contains("searched for plugins");
    text.lines().filter(is_same).map(line).collect()
}

#[test]
fn a_reload_with_a_mistake_changes_nothing() {
    let setup =
        Setup::new()
            .platform("stays", "fault", "{}")
            .platform("root", "disk", "{ path = \"/\" }");
    let before = fs::read_to_string(setup.write()).unwrap();
    let host = setup.start_with(&["--web.enable-lifecycle"]);
    host.wait("checks", |m| {
        // However full the disk of this machine is.
        let root = m.sum("health_check_total", &[("platform", "root")]);
        m.checks("stays", "healthy") >= 3.0 && root >= 1.0
    });
    let running = |host: &Host| {
        let plugins = host.status()["plugins"].clone();
        let of = |plugin: &serde_json::Value| {
            (
                plugin["id"].clone(),
                plugin["generation"].clone(),
                plugin["pid"].clone(),
            )
        };
        plugins
            .as_array()
            .unwrap()
            .iter()
            .map(of)
            .collect::<Vec<_>>()
    };
    let plugins = running(&host);
    let successful = |host: &Host| {
        host.metrics()
            .sum("conductor_config_last_reload_successful", &[])
    };
    let added =
        "[plugin.fault]\nlimits = { memory = \"300MiB\" }\n[platform.new]\nplugin = \"fault\"\n";
    for mistake in [
        "[platform.bad]\nplugin = \"nope\"\n",
        "[platform.bad]\nplugin = \"fault\"\nconfig = { chekc = 1 }\n",
        "[platform.bad]\nplugin = \"fault\"\nconfig = { create = { fault = \"error\" } }\n",
        "[platform.bad]\nplugin = \"fault\"\nconfig = { create = { fault = \"abort\" } }\n",
        "[platform.bad]\nplugin = \"fault\"\nintervall = \"1s\"\n",
        "[plugin.nope]\nisolation = \"process\"\n",
    ] {
        write(&host, &format!("{before}{added}{mistake}"));
        let (code, body) = post(&host, "/-/reload");
        assert_eq!(code, 400, "{mistake}: {body}");
        assert_eq!(successful(&host), 0.0, "{mistake}");
        assert_eq!(running(&host), plugins, "{mistake}");
        assert!(
            !host.get("/metrics").1.contains("platform=\"new\""),
            "{mistake}"
        );
        let (checked, begun) = (host.metrics().checks("stays", "healthy"), "checks go on");
        host.wait(begun, |m| m.checks("stays", "healthy") > checked);
    }
    write(&host, &format!("{before}{added}"));
    let (code, body) = post(&host, "/-/reload");
    assert_eq!(code, 200, "{body}");
    assert_eq!(successful(&host), 1.0);
    let after = host.wait("the new platform", |m| m.checks("new", "healthy") >= 1.0);
    assert_eq!(after.failed_in_time("stays"), 0.0);
}

#[test]
fn mistakes_of_shape_and_of_plugins_are_told_together() {
    let mut setup = Setup::new()
        .with("[hots]\n[platform.a]\nplugin = \"fault\"\nintervall = \"1s\"")
        .with("[platform.d]\nplugin = \"fault\"\ntimout = \"1s\"\nconfig = { chekc = 2 }")
        .with("[platform.\"e e\"]\nplugin = \"fault\"\nconfig = { chekc = 3, create = { fault = \"error\" } }")
        .platform("b", "fault", "{ chekc = 1 }")
        .platform("f", "fault", r#"{ chekc = 4, count_file = { file = "none" } }"#)
        .platform("c", "nope", "{}");
    setup.resources = "interval = 5\n".to_owned();
    let file = setup.write();
    for arguments in [
        &["config", "check"][..],
        &["run", "--once"],
        &["run", "--web.listen-address", "127.0.0.1:0"],
    ] {
        let (code, _, said) = run(&file, arguments);
        assert_eq!(code, 3, "{said}");
        for part in [
            "the file has no table `hots`",
            "resources.interval must be a duration",
            "platform.a has no key `intervall`",
            "platform.b.config has no key `chekc`",
            "platform.d has no key `timout`",
            "platform.d.config has no key `chekc`",
            "\"e e\" cannot be a name",
            "platform.\"e e\".config has no key `chekc`",
            "platform.\"e e\": plugin fault cannot create its probe",
            "platform.f.config has no key `chekc`",
            "cannot be read: ",
            "(os error 2)",
            "there is no plugin \"nope\"",
        ] {
            assert!(said.contains(part), "{arguments:?}: {part}: {said}");
        }
        assert!(!said.contains("config.count_file must"), "{said}");
    }
}

#[test]
fn a_create_that_fails_is_reported_at_start_with_its_place_and_stops_no_other() {
    let setup = Setup::new().platform("good", "fault", "{}").platform(
        "bad",
        "fault",
        r#"{ create = { fault = "error" } }"#,
    );
    let file = setup.write();
    let text = fs::read_to_string(&file).unwrap();
    let before = text.split("[platform.bad]").next().unwrap();
    // Of its `config`, two lines below the name.
    let line = before.lines().count() + 3;
    let expected = "platform.bad: plugin fault cannot create its probe: ";
    let place = format!("conductor.toml:{line}:1");
    for arguments in [&["config", "check"][..], &["run", "--once"]] {
        let (_, _, said) = run(&file, arguments);
        let lines = || said.lines().filter(|line| line.contains(expected));
        assert!(
            lines().any(|line| line.contains(&place)),
            "{arguments:?}: {expected}{place}: {said}"
        );
    }
    let host = setup.start();
    host.wait_for_log(expected);
    host.wait_for_log(&place);
    host.wait("the other", |m| m.checks("good", "healthy") >= 1.0);
}

#[test]
fn a_library_that_was_refused_is_named_where_its_plugin_is_missing() {
    let setup = Setup::new().platform("a", "fault", "{}");
    let file = setup.write();
    fs::write(setup.path("plugins.lock"), "[libraries]\n").unwrap();
    let expected = [
        "platform.a: the library of plugin \"fault\" is refused: ",
        "rule pin: ",
        "plugins.lock does not name it",
        "conductor plugin pin",
    ];
    let (code, _, said) = run(&file, &["config", "check"]);
    assert_eq!(code, 4, "{said}");
    let (_, out, errors) = run(&file, &["run", "--once"]);
    let host = setup.start();
    host.wait_for_log("platform.a: the library of plugin");
    for (place, said) in [
        ("config check", said),
        ("run --once", out + &errors),
        ("run", host.log()),
    ] {
        for part in expected {
            assert!(said.contains(part), "{place}: {part}: {said}");
        }
        assert!(!said.contains("there is no plugin"), "{place}: {said}");
        let mut lines = said.lines();
        let line = lines.find(|line| line.contains(expected[0])).unwrap();
        assert!(line.contains("conductor_plugin_fault."), "{place}: {line}");
    }
}
