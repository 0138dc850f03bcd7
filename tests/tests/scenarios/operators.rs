//! Orders of operators on the command line while a host runs.

use std::{fs, net::SocketAddr};

use crate::harness::{Host, Setup, conductor};

/// Returns exit code, standard output and standard error of a command to this host.
fn ask(address: SocketAddr, arguments: &[&str]) -> (i32, String, String) {
    let mut command = conductor(arguments);
    let output = command
        .arg("--address")
        .arg(format!("http://{address}"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Returns the output of a command that must succeed.
#[track_caller]
fn tell(host: &Host, arguments: &[&str]) -> String {
    let (code, said, error) = ask(host.address, arguments);
    assert_eq!(code, 0, "{arguments:?}: {said}{error}");
    said
}

fn start(setup: Setup) -> Host {
    setup.start_with(&["--web.enable-lifecycle"])
}

/// Returns the platform in the host's JSON.
fn view(host: &Host, name: &str) -> serde_json::Value {
    let status = host.status();
    let mut platforms = status["platforms"].as_array().unwrap().iter();
    platforms.find(|p| p["name"] == name).unwrap().clone()
}

/// Changes the platform's config and reloads it.
fn reload(host: &Host, from: &str, to: &str) {
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from));
    fs::write(&file, text.replace(from, to)).unwrap();
    host.reload();
    host.wait_for_log("config reloaded");
}

#[test]
fn a_breaker_held_open_stays_so_through_a_reload_and_is_tried_when_it_is_released() {
    let host = start(Setup::new().platform("shop", "fault", r#"{ status = "healthy" }"#));
    host.wait("a report", |m| m.checks("shop", "healthy") >= 1.0);
    let said = tell(&host, &["breaker", "open", "shop"]);
    assert!(
        said.contains("shop: anonymous operator holds the breaker open"),
        "{said}"
    );
    host.wait("skipped checks", |m| {
        m.breaker("shop") == 1.0 && m.skipped("shop", "breaker_open") >= 3.0
    });
    let breaker = &view(&host, "shop")["breaker"];
    assert_eq!(
        (&breaker["state"], &breaker["forced"]),
        (&"open".into(), &true.into())
    );
    let table = tell(&host, &["status"]);
    assert!(table.contains("open, held"), "{table}");
    let (code, _, error) = ask(host.address, &["check", "shop"]);
    assert!(
        code == 1 && error.contains("holds its breaker open"),
        "{error}"
    );

    reload(&host, "\"healthy\"", "\"degraded\"");
    let before = host.metrics().skipped("shop", "breaker_open");
    let metrics = host.wait("it is held on", |m| {
        m.skipped("shop", "breaker_open") >= before + 3.0
    });
    assert_eq!(metrics.checks("shop", "degraded"), 0.0);
    assert_eq!(view(&host, "shop")["breaker"]["forced"], true);

    let said = tell(&host, &["breaker", "release", "shop"]);
    assert!(said.contains("released"), "{said}");
    host.wait("a trial that closes it", |m| {
        m.breaker("shop") == 0.0 && m.checks("shop", "degraded") >= 1.0
    });
    assert_eq!(view(&host, "shop")["breaker"]["forced"], false);
}

#[test]
fn a_reset_lets_checks_go_on_at_once_and_one_held_closed_never_opens() {
    let breaker = "[breaker]\nreset_timeout = \"10m\"\nmax_reset_timeout = \"10m\"";
    let failing = r#"{ check = { fault = "error" } }"#;
    let host = start(Setup::new().with(breaker).platform("db", "fault", failing));
    let metrics = host.wait("an open breaker", |m| m.breaker("db") == 1.0);
    assert_eq!(metrics.failures("db", "error"), 3.0);
    tell(&host, &["breaker", "reset", "db"]);
    host.wait("three more failures", |m| {
        m.failures("db", "error") == 6.0 && m.breaker("db") == 1.0
    });
    tell(&host, &["breaker", "close", "db"]);
    let metrics = host.wait("many more", |m| m.failures("db", "error") >= 15.0);
    assert_eq!(metrics.breaker("db"), 0.0);
    assert!(status_with_problem(&host).contains("closed, held"));
}

/// Returns the table of a host with a platform whose checks fail.
fn status_with_problem(host: &Host) -> String {
    let (code, table, error) = ask(host.address, &["status"]);
    assert_eq!(code, 1, "{table}{error}");
    table
}

#[test]
fn an_order_for_several_is_followed_for_those_there_are() {
    let host = start(Setup::new().platform("shop", "fault", "{}"));
    let (code, said, error) = ask(host.address, &["breaker", "open", "nobody", "shop"]);
    assert_eq!(code, 1);
    assert!(error.contains("No platform is named nobody"), "{error}");
    assert!(said.contains("shop: anonymous operator holds"), "{said}");
}

#[test]
fn what_cannot_be_ordered_is_told_with_the_cure() {
    let setup = Setup::new().platform("shop", "fault", "{}");
    let host = setup.start_with_these(&[]);
    let orders: [&[&str]; 4] = [
        &["breaker", "open", "shop"],
        &["check", "shop"],
        &["maintenance", "start", "shop", "--for", "2h"],
        &["maintenance", "end", "shop"],
    ];
    for order in orders {
        let (code, _, error) = ask(host.address, order);
        assert!(
            code == 1 && error.contains("--web.enable-lifecycle"),
            "{order:?}: {error}"
        );
    }
    let address = host.address;
    drop(host);
    for order in orders {
        let (code, _, error) = ask(address, order);
        let names = error.contains(&address.to_string()) && error.contains("--address");
        assert!(code == 5 && names, "{order:?}: {error}");
    }
}

#[test]
fn a_check_that_is_asked_for_is_waited_for() {
    let slow = |status| {
        format!(r#"{{ status = "{status}", check = {{ fault = "sleep", millis = 300 }} }}"#)
    };
    let host = start(
        Setup::new()
            .host("interval = \"10m\"\nstagger = \"1m\"\ntimeout = \"10s\"")
            .platform("good", "fault", &slow("healthy"))
            .platform("bad", "fault", &slow("unhealthy")),
    );
    host.wait_for_log("loaded version");
    let table = tell(&host, &["check", "good"]);
    assert!(
        table.contains("good") && table.contains("healthy"),
        "{table}"
    );
    let (code, table, _) = ask(host.address, &["check", "good", "bad"]);
    assert_eq!(code, 1, "{table}");
    assert!(table.contains("unhealthy"), "{table}");
}

#[test]
fn status_is_narrowed_by_name_label_and_problems() {
    let host = start(
        Setup::new()
            .platform("db-1", "fault", "{}")
            .with("labels = { team = \"a\" }")
            .platform("db-2", "fault", r#"{ status = "unhealthy" }"#)
            .with("labels = { team = \"b\" }"),
    );
    host.wait("reports", |m| {
        m.checks("db-1", "healthy") >= 1.0 && m.checks("db-2", "unhealthy") >= 1.0
    });
    for (arguments, code, shown) in [
        (&["db-*"][..], 1, &["db-1", "db-2"][..]),
        (&["db-1"], 0, &["db-1"]),
        (&["d?-1", "--label", "team=a"], 0, &["db-1"]),
        (&["--label", "team=b"], 1, &["db-2"]),
        (&["--problems"], 1, &["db-2"]),
        (&["--failing"], 1, &["db-2"]),
        (&["--problems", "--label", "team=a"], 0, &[]),
    ] {
        let mut command = vec!["status", "--output", "json"];
        command.extend(arguments);
        let (found, json, error) = ask(host.address, &command);
        assert_eq!(found, code, "{arguments:?}: {json}{error}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let platforms = json["platforms"].as_array().unwrap();
        let names: Vec<_> = platforms
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, shown, "{arguments:?}");
        assert_eq!(json["plugins"][0]["id"], "fault", "the rest stays");
    }
    assert_eq!(
        tell(&host, &["status", "--problems", "--label", "team=a"]),
        "No platform is unhealthy, and no check failed.\n"
    );
    let (code, _, error) = ask(host.address, &["status", "shop"]);
    assert!(
        code == 1 && error.contains("no platform matches \"shop\""),
        "{error}"
    );
    let (code, json, error) = ask(host.address, &["status", "db-1", "shop", "--output=json"]);
    assert!(
        code == 1 && json.contains("db-1") && error.contains("shop"),
        "{json}{error}"
    );
}

#[test]
fn a_host_that_does_not_answer_is_told_apart_from_a_bad_platform() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for command in [
        &["status"][..],
        &["check", "shop"],
        &["check", "--label", "team=a"],
        &["breaker", "open", "shop"],
        &["maintenance", "list"],
        &["maintenance", "start", "shop", "--for", "1h"],
    ] {
        let (code, _, error) = ask(nowhere, command);
        assert!(
            code == 5 && error.contains("cannot reach the host at"),
            "{command:?}: {code} {error}"
        );
    }
}

#[test]
fn a_command_line_that_cannot_work_ends_with_2() {
    let commands: [&[&str]; 6] = [
        &["status"],
        &["top"],
        &["check", "shop"],
        &["breaker", "open", "shop"],
        &["maintenance", "list"],
        &["plugin", "list"],
    ];
    for command in commands {
        for (flags, expected) in [
            (["--user", "x"], "--password-file"),
            (["--address", "ftp://127.0.0.1"], "neither http nor https"),
        ] {
            // `top` needs a terminal, which it finds out later.
            let output = conductor(command).args(flags).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
            assert!(error.contains(expected), "{command:?}: {error}");
        }
    }
}

/// Starts a host that requires a password; returns it with the options of a command that has one.
fn start_for_alice(setup: Setup) -> (Host, [String; 4]) {
    let hash = bcrypt::hash("wonder", 4).unwrap();
    let users = format!("basic_auth_users:\n  alice: {hash}\n");
    fs::write(setup.path("web.yml"), users).unwrap();
    fs::write(setup.path("password"), "wonder").unwrap();
    let web = setup.path("web.yml").display().to_string();
    let password = setup.path("password").display().to_string();
    let host = setup.start_with(&["--web.enable-lifecycle", "--web.config.file", &web]);
    host.wait_for_log("loaded version");
    let options = ["--user", "alice", "--password-file", &password];
    (host, options.map(str::to_owned))
}

#[test]
fn plugin_list_says_why_a_running_host_is_not_asked() {
    let (host, options) = start_for_alice(Setup::new().platform("shop", "fault", "{}"));
    let address = host.address.to_string();
    let list = |more: &[String]| {
        let mut command = host
            .setup
            .command(&["plugin", "list", "--address", &address]);
        let output = command.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    };
    let (table, note) = list(&[]);
    assert!(
        table.contains("fault") && !table.contains(" process "),
        "{table}"
    );
    assert!(
        note.contains("note: ") && note.contains("give --user and --password-file"),
        "{note}"
    );
    let (table, note) = list(&options);
    assert!(table.contains(" process "), "{table}");
    assert!(!note.contains("note: "), "{note}");
}

#[test]
fn a_window_names_the_user_who_started_it() {
    let (host, options) = start_for_alice(Setup::new().platform("shop", "fault", "{}"));
    let tell = |arguments: &[&str]| {
        let options = options.iter().map(String::as_str);
        let command: Vec<_> = arguments.iter().copied().chain(options).collect();
        tell(&host, &command)
    };
    tell(&["maintenance", "start", "shop", "--for", "1h"]);
    host.wait_for_log("operator alice started maintenance of shop for 1h");
    let list = tell(&["maintenance", "list"]);
    assert!(
        list.contains("alice") && !list.contains("operator"),
        "{list}"
    );
    let status = tell(&["status"]);
    assert!(status.contains(" by alice] "), "{status}");
    let json = tell(&["maintenance", "list", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json[0]["origin"], &json[0]["by"]),
        (&"operator".into(), &"alice".into())
    );
}

#[test]
fn every_command_selects_platforms_by_wildcards_and_labels_and_prints_json() {
    let host = start(
        Setup::new()
            .platform("db-1", "fault", "{}")
            .with("labels = { team = \"a\" }")
            .platform("db-2", "fault", "{}")
            .with("labels = { team = \"b\" }")
            .platform("shop", "fault", "{}")
            .with("labels = { team = \"b\" }"),
    );
    host.wait("reports", |m| m.sum("health_check_total", &[]) >= 3.0);
    let names = |json: &str, key: &str| -> Vec<String> {
        let found: serde_json::Value = serde_json::from_str(json).unwrap();
        let found = found.as_array().unwrap().iter();
        found.map(|p| p[key].as_str().unwrap().to_owned()).collect()
    };
    let checked = tell(&host, &["check", "db-*", "--output", "json"]);
    assert_eq!(names(&checked, "name"), ["db-1", "db-2"]);
    let checked = tell(&host, &["check", "--label", "team=b", "--output", "json"]);
    assert_eq!(names(&checked, "name"), ["db-2", "shop"]);

    let held = [
        "breaker", "open", "db-?", "--label", "team=b", "--output", "json",
    ];
    assert_eq!(names(&tell(&host, &held), "platform"), ["db-2"]);
    assert_eq!(view(&host, "db-2")["breaker"]["forced"], true);
    assert_eq!(view(&host, "shop")["breaker"]["forced"], false);
    let (code, _, error) = ask(host.address, &["breaker", "open", "shop", "web-*"]);
    assert!(
        code == 1 && error.contains("no platform matches \"web-*\""),
        "{error}"
    );
    assert_eq!(
        view(&host, "shop")["breaker"]["forced"],
        true,
        "one mistake does not stop the others"
    );

    let start = [
        "maintenance",
        "start",
        "--label",
        "team=b",
        "--for",
        "2h",
        "--output",
        "json",
    ];
    assert_eq!(names(&tell(&host, &start), "name"), ["team=b"]);
    assert_eq!(view(&host, "shop")["maintenance"]["name"], "team=b");
    assert!(view(&host, "db-1")["maintenance"].is_null());
    tell(&host, &["maintenance", "start", "db-1", "--for", "2h"]);
    let end = [
        "maintenance",
        "end",
        "--label",
        "team=b",
        "--output",
        "json",
    ];
    assert_eq!(names(&tell(&host, &end), "name"), ["db-1"]);
    tell(&host, &["maintenance", "end", "db-*"]);
    assert_eq!(
        tell(&host, &["maintenance", "list", "--output", "json"]).trim(),
        "[]"
    );

    for command in [
        &["check"][..],
        &["breaker", "open"],
        &["maintenance", "end"],
    ] {
        let (code, _, error) = ask(host.address, command);
        assert!(
            code == 2 && error.contains("--label"),
            "{command:?}: {error}"
        );
    }
}

#[test]
fn a_shell_completes_the_names_of_a_running_host_s_platforms() {
    let host = start(
        Setup::new()
            .platform("db-1", "fault", "{}")
            .platform("shop", "fault", "{}"),
    );
    let complete = |words: &[&str]| {
        let mut command = conductor(&[]);
        command
            .env("CONDUCTOR_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_IFS", "\n")
            .env("CONDUCTOR_ADDRESS", host.address.to_string())
            .arg("--")
            .args(words);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let offered = complete(&["conductor", "breaker", "open", "d"]);
    assert!(
        offered.lines().any(|line| line.starts_with("db-1")),
        "{offered}"
    );
    assert!(!offered.contains("shop"), "{offered}");
    assert!(complete(&["conductor", "brea"]).contains("breaker"));
}

#[test]
fn maintenance_of_the_config_is_shown_alarms_nobody_and_pauses_checks_where_it_says_so() {
    let window = |name: &str, more: &str| {
        format!(
            "[maintenance.{name}]\nplatforms = [\"{name}\"]\ndaily = [\"00:00-24:00\"]\nreason = \"patches\"\n{more}"
        )
    };
    let host = start(
        Setup::new()
            .platform("goes-on", "fault", r#"{ status = "unhealthy" }"#)
            .platform("paused", "fault", "{}")
            .platform("other", "fault", "{}")
            .with(&window("goes-on", ""))
            .with(&window("paused", "checks = \"pause\"")),
    );
    let metrics = host.wait("checks and skips", |m| {
        m.checks("goes-on", "unhealthy") >= 3.0
            && m.checks("other", "healthy") >= 3.0
            && m.skipped("paused", "maintenance") >= 3.0
    });
    let in_force =
        |platform| metrics.sum("conductor_platform_maintenance", &[("platform", platform)]);
    assert_eq!(
        (in_force("goes-on"), in_force("paused"), in_force("other")),
        (1.0, 1.0, 0.0)
    );
    let others = metrics.skipped("paused", "maintenance") + metrics.skipped("paused", "missed");
    assert_eq!(
        metrics.due("paused"),
        others,
        "every check that was due is counted once"
    );
    assert_eq!(metrics.skipped("goes-on", "maintenance"), 0.0);
    assert_eq!(view(&host, "goes-on")["maintenance"]["name"], "goes-on");
    assert_eq!(view(&host, "goes-on")["status"], "unhealthy");
    assert_eq!(view(&host, "other")["maintenance"], serde_json::Value::Null);
    let table = tell(&host, &["status"]);
    assert!(
        table.contains("[maintenance until") && table.contains(": patches]"),
        "{table}"
    );
    let (code, _, error) = ask(host.address, &["maintenance", "end", "paused"]);
    assert!(code == 1 && error.contains("change it there"), "{error}");

    // A check ordered by an operator is made.
    let table = tell(&host, &["check", "paused"]);
    assert!(table.contains("healthy"), "{table}");

    reload(
        &host,
        "daily = [\"00:00-24:00\"]",
        "from = 2020-01-01T00:00:00Z\nuntil = 2020-01-02T00:00:00Z",
    );
    host.wait("checks again", |m| {
        m.checks("paused", "healthy") >= 3.0 && m.sum("conductor_platform_maintenance", &[]) == 0.0
    });
}

#[test]
fn maintenance_that_an_operator_starts_lives_through_a_reload_and_ends_by_command_or_by_itself() {
    let host = start(
        Setup::new()
            .platform("db-1", "fault", r#"{ status = "healthy" }"#)
            .platform("shop", "fault", "{}"),
    );
    let start = [
        "maintenance",
        "start",
        "db-*",
        "--for",
        "2h",
        "--pause",
        "--reason",
        "disks",
    ];
    let said = tell(&host, &start);
    assert!(said.contains("Maintenance of db-* for 2h"), "{said}");
    host.wait("skips", |m| m.skipped("db-1", "maintenance") >= 3.0);
    reload(&host, "\"healthy\"", "\"degraded\"");
    let before = host.metrics();
    let metrics = host.wait("skips after it too", |m| {
        m.skipped("db-1", "maintenance") >= before.skipped("db-1", "maintenance") + 3.0
    });
    assert_eq!(metrics.checks("db-1", "degraded"), 0.0);
    assert_eq!(metrics.skipped("shop", "maintenance"), 0.0);
    let list = tell(&host, &["maintenance", "list"]);
    assert!(
        list.contains("in force until") && list.contains("disks"),
        "{list}"
    );
    tell(&host, &["maintenance", "end", "db-*"]);
    host.wait("checks again", |m| m.checks("db-1", "degraded") >= 3.0);
    assert_eq!(
        tell(&host, &["maintenance", "list"]),
        "No maintenance windows.\n"
    );

    tell(
        &host,
        &["maintenance", "start", "shop", "--for", "1s", "--pause"],
    );
    host.wait_for_log("maintenance shop is over");
    let before = host.metrics().checks("shop", "healthy");
    host.wait("checks by themselves", |m| {
        m.checks("shop", "healthy") >= before + 3.0
    });

    for (arguments, why) in [
        (
            &["start", "nobody", "shop", "--for", "2h"][..],
            "No platform is named nobody",
        ),
        (
            &["end", "shop"],
            "No operator has started a maintenance of shop",
        ),
    ] {
        let command: Vec<_> = ["maintenance"].iter().chain(arguments).copied().collect();
        let (code, _, error) = ask(host.address, &command);
        assert!(code == 1 && error.contains(why), "{error}");
    }
    assert!(view(&host, "shop")["maintenance"].is_null(), "all or none");
}

#[test]
fn top_says_what_to_use_where_there_is_no_terminal() {
    let (code, _, error) = ask(SocketAddr::from(([127, 0, 0, 1], 1)), &["top"]);
    assert!(code == 1 && error.contains("`conductor status`"), "{error}");
}
