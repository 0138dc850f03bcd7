//! The commands, their output and their exit codes.

use std::{fs, path::Path};

use crate::harness::{Setup, artifacts, conductor, library, library_suffix, shown};

/// Returns exit code, standard output and standard error, with the test's own folders replaced.
fn run(setup: &Setup, arguments: &[&str]) -> (i32, String, String) {
    finish(setup, setup.command(arguments))
}

fn finish(setup: &Setup, mut command: std::process::Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let clean = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(&shown(setup.folder.path()), "DIR")
            // In JSON.
            .replace(&shown(setup.folder.path()).replace('\\', "\\\\"), "DIR")
            .replace("DIR\\\\", "DIR/")
            .replace("DIR\\", "DIR/")
            .replace(&shown(artifacts()), "BIN")
    };
    (
        output.status.code().unwrap(),
        clean(output.stdout),
        clean(output.stderr),
    )
}

/// Returns the output of `config check` for a file with this text.
fn check(text: &[u8]) -> (i32, String) {
    let setup = Setup::new();
    // The host warns of a folder `plugins` next to a config that does not name it.
    fs::remove_dir_all(setup.plugin_dir()).unwrap();
    let file = setup.path("conductor.toml");
    fs::write(&file, text).unwrap();
    let mut command = conductor(&["config", "check"]);
    command.arg("--config.file").arg(shown(&file));
    let (code, _, errors) = finish(&setup, command);
    (code, errors)
}

#[test]
fn run_once_prints_a_table_and_its_exit_code_says_how_it_went() {
    let good = Setup::new().platform("a", "fault", "{}");
    let (code, table, _) = run(&good, &["run", "--once"]);
    assert_eq!(code, 0, "{table}");
    assert!(
        table.contains("a") && table.contains("healthy") && table.contains("status as configured"),
        "{table}"
    );
    let bad = Setup::new().platform("a", "fault", "{}").platform(
        "b",
        "fault",
        r#"{ status = "unhealthy" }"#,
    );
    let (code, table, _) = run(&bad, &["run", "--once"]);
    assert_eq!(code, 1, "{table}");
    let rows: Vec<_> = table.lines().collect();
    assert!(rows[1].starts_with('b'), "worst first: {table}");
    let (code, text, _) = run(&bad, &["run", "--once", "--output", "json"]);
    assert_eq!(code, 1, "{text}");
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["platforms"].as_array().unwrap().len(), 2, "{text}");
}

#[test]
fn run_once_ends_although_a_call_hangs_and_others_wait_for_its_thread() {
    let setup = Setup::new()
        .with("[plugin.fault]\ncall_threads = 1\nstuck_limit = 1")
        .platform("hangs", "fault", r#"{ check = { fault = "hang" } }"#)
        .platform("waits", "fault", "{}");
    let (code, table, _) = run(&setup, &["run", "--once"]);
    assert_eq!(code, 1, "{table}");
    assert!(
        table.contains("unknown") && table.contains("no answer within "),
        "{table}"
    );
}

#[test]
fn a_reader_that_leaves_does_not_end_the_host() {
    let mut host = Setup::new()
        .platform("shop", "fault", r#"{ status = "flap" }"#)
        .start_deaf();
    host.wait("checks whose log nobody reads", |m| {
        m.checks("shop", "unhealthy") >= 10.0
    });
    assert!(host.stop().success());
}

#[test]
fn status_shows_what_a_running_host_knows() {
    let host = Setup::new().platform("shop", "fault", "{}").start();
    host.wait("a report", |m| m.checks("shop", "healthy") >= 1.0);
    let address = host.address.to_string();
    let output = conductor(&["status", "--web.listen-address", &address])
        .output()
        .unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && table.contains("shop") && table.contains("healthy"),
        "{table}"
    );
    let output = conductor(&[
        "status",
        "--output",
        "json",
        "--web.listen-address",
        &address,
    ])
    .output()
    .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["platforms"][0]["name"], "shop");
    drop(host);
    let output = conductor(&["status", "--web.listen-address", &address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("is `conductor run` running there?")
    );
}

#[test]
fn plugin_list_shows_each_file_loaded_or_refused_and_why() {
    let setup = Setup::new().platform("a", "fault", "{}");
    let broken = format!("broken{}", library_suffix());
    fs::write(setup.plugin_dir().join(&broken), "text").unwrap();
    let (code, table, _) = run(&setup, &["plugin", "list"]);
    assert_eq!(code, 4, "{table}");
    for word in [
        "disk",
        "fault",
        "http",
        "tcp",
        "loaded",
        &*broken,
        "refused",
        "rule format",
    ] {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }
}

#[test]
fn plugin_list_names_the_folders_that_hold_no_plugin() {
    let setup = Setup::without_plugins().platform("a", "fault", "{}");
    let (code, text, _) = run(&setup, &["plugin", "list"]);
    let expected = "There is no plugin library; searched: DIR/plugins";
    assert!(code == 0 && text.starts_with(expected), "{code}: {text}");
}

#[test]
fn once_pinned_only_the_pinned_libraries_are_loaded_and_only_unchanged() {
    let setup = Setup::new().platform("a", "fault", "{}");
    let (code, table, errors) = run(&setup, &["plugin", "pin"]);
    assert_eq!(code, 0, "{table}{errors}");
    assert_eq!(table.matches("added").count(), 4, "{table}");
    assert_eq!(run(&setup, &["plugin", "list"]).0, 0);
    assert_eq!(run(&setup, &["run", "--once"]).0, 0);

    // Bytes after the last section change only the hash.
    let changed = library("conductor_plugin_fault");
    let changed = setup.plugin_dir().join(changed.file_name().unwrap());
    let mut bytes = fs::read(&changed).unwrap();
    bytes.push(0);
    fs::write(&changed, bytes).unwrap();
    let (code, table, _) = run(&setup, &["plugin", "list"]);
    assert_eq!(code, 4, "{table}");
    assert_eq!(table.matches("refused by rule pin").count(), 1, "{table}");
    assert!(table.contains("DIR/plugins.lock pins"), "{table}");
    let (code, once, _) = run(&setup, &["run", "--once"]);
    assert_eq!(code, 1, "{once}");

    let (code, table, _) = run(&setup, &["plugin", "pin"]);
    assert_eq!(code, 0, "{table}");
    assert_eq!(table.matches("unchanged").count(), 3, "{table}");
    assert_eq!(run(&setup, &["run", "--once"]).0, 0);

    let pinned = fs::read(setup.path("plugins.lock")).unwrap();
    fs::rename(setup.plugin_dir(), setup.path("away")).unwrap();
    let (code, _, errors) = run(&setup, &["plugin", "pin"]);
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("DIR/plugins.lock stays as it is"),
        "{errors}"
    );
    assert_eq!(fs::read(setup.path("plugins.lock")).unwrap(), pinned);
    fs::rename(setup.path("away"), setup.plugin_dir()).unwrap();

    fs::write(setup.path("plugins.lock"), "[libraries").unwrap();
    let (code, table, _) = run(&setup, &["plugin", "list"]);
    assert_eq!(code, 4, "{table}");
    assert_eq!(table.matches("nothing is taken").count(), 4, "{table}");
}

#[test]
fn plugin_inspect_prints_what_is_known_without_running_the_library() {
    let setup = Setup::new();
    let file = setup
        .plugin_dir()
        .join(library("conductor_plugin_disk").file_name().unwrap());
    let output = conductor(&["plugin", "inspect"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for word in ["disk", "MIT OR Apache-2.0", "sha256", "unwind"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
    fs::write(setup.path("x.so"), "text").unwrap();
    let output = conductor(&["plugin", "inspect"])
        .arg(setup.path("x.so"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn schedule_prints_who_starts_when_and_warns_of_what_cannot_fit() {
    let setup = Setup::new()
        .host("interval = \"5s\"\nstagger = \"500ms\"\ntimeout = \"4s\"\ncall_threads = 1\nstuck_limit = 1")
        .platform("a", "fault", "{}")
        .platform("b", "fault", "{}");
    let (code, text, _) = run(&setup, &["schedule"]);
    assert_eq!(code, 0);
    insta::assert_snapshot!(text);
}

#[test]
fn schedule_counts_the_rechecks_of_soft_states() {
    let setup = Setup::new()
        .host("interval = \"5s\"\nstagger = \"500ms\"\ntimeout = \"2s\"\ncall_threads = 1\nstuck_limit = 1")
        .platform("a", "fault", "{}")
        .with("unhealthy_after = 3\nretry_interval = \"1s\"")
        .platform("b", "fault", "{}");
    let (code, text, _) = run(&setup, &["schedule"]);
    assert_eq!(code, 0);
    // Four between two checks five seconds apart; no more than one call at a time.
    assert!(
        text.contains("plus at most 0.8 re-checks a second"),
        "{text}"
    );
    assert!(text.contains("has 1 call threads, but needs 2"), "{text}");
    let (_, json, _) = run(&setup, &["schedule", "--output", "json"]);
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    let retries = summary["starts"].as_array().unwrap().iter();
    let retries: Vec<_> = retries
        .filter_map(|start| {
            Some((
                start["platform"].as_str()?,
                start["retry_interval_seconds"].as_f64(),
            ))
        })
        .collect();
    assert!(
        retries.contains(&("a", Some(1.0))) && retries.contains(&("b", None)),
        "{json}"
    );
    let (_, text, _) = run(&Setup::new().platform("b", "fault", "{}"), &["schedule"]);
    assert!(!text.contains("re-check"), "{text}");
}

#[test]
fn the_resource_monitor_has_an_interval_of_its_own_where_the_config_gives_one() {
    let mut setup = Setup::new().platform("a", "fault", "{}");
    setup.resources.push_str("interval = \"10s\"\n");
    let (code, text, errors) = run(&setup, &["schedule"]);
    assert_eq!(code, 0, "{errors}");
    assert!(text.contains("10 s      (resource monitor)"), "{text}");
}

#[test]
fn config_check_finds_what_only_the_plugins_schema_knows() {
    let good = Setup::new().platform("root", "disk", "{ path = \"/\" }");
    let (code, text, errors) = run(&good, &["config", "check"]);
    assert_eq!(
        (code, text.as_str()),
        (0, "DIR/conductor.toml: ok, 1 platform, 1 plugin\n"),
        "{errors}"
    );
    let bad = Setup::new().platform("root", "disk", "{ degraded_abov = 80, path = \"/\" }");
    let (code, _, errors) = run(&bad, &["config", "check"]);
    assert_eq!(code, 3);
    insta::assert_snapshot!(errors);
}

#[test]
fn config_check_takes_a_file_and_prints_mistakes_as_json() {
    let setup = Setup::new()
        .platform("a", "fault", "{ wrong = 1 }")
        .platform("b", "nope", "{}");
    let file = shown(&setup.write());
    let web = setup.path("web.yml");
    fs::write(&web, "basic_auth_user: {}\n").unwrap();
    let web = shown(&web);
    let mut command = conductor(&["config", "check", &file, "--output", "json"]);
    command.args(["--web.config.file", &web]);
    let (code, text, errors) = finish(&setup, command);
    assert_eq!((code, errors.as_str()), (3, ""), "{text}");
    let mistakes: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let find = |part: &str| {
        let says = |m: &&serde_json::Value| m["message"].as_str().unwrap().contains(part);
        mistakes
            .iter()
            .find(says)
            .unwrap_or_else(|| panic!("{part}: {text}"))
    };
    let wrong = find("has no key `wrong`");
    assert_eq!(wrong["file"], "DIR/conductor.toml");
    assert!(
        wrong["line"].is_u64() && wrong["column"].is_u64(),
        "{wrong}"
    );
    assert!(wrong["help"].is_string(), "{wrong}");
    find("there is no plugin \"nope\"");
    find("searched for plugins: ");
    assert_eq!(find("basic_auth_user")["file"], "DIR/web.yml");

    let good = Setup::new().platform("a", "fault", "{}");
    let (code, text, errors) = run(&good, &["config", "check", "--output", "json"]);
    assert_eq!((code, text.as_str()), (0, "[]\n"), "{errors}");
}

#[test]
fn inspect_takes_the_id_of_a_plugin_as_well_as_a_file() {
    let setup = Setup::new().platform("a", "fault", "{}");
    let (code, text, errors) = run(&setup, &["plugin", "inspect", "fault"]);
    assert!(
        code == 0
            && text
                .lines()
                .any(|line| line.split_whitespace().eq(["plugin", "fault"])),
        "{text}{errors}"
    );
    let (code, text, errors) = run(&setup, &["plugin", "inspect", "nope"]);
    assert_eq!((code, text.as_str()), (4, ""));
    assert!(
        errors.contains("searched: ") && errors.contains("has disk, fault"),
        "{errors}"
    );
}

#[test]
fn config_check_judges_the_address_to_listen_on() {
    let setup = Setup::new().platform("own", "http", "{ url = \"${self.url}\" }");
    for (address, expected) in [
        ("127.0.0.1:99999", 2),
        ("9750", 2),
        (":0", 0),
        ("[::1]:9", 0),
    ] {
        let (code, _, errors) = run(
            &setup,
            &["config", "check", "--web.listen-address", address],
        );
        assert_eq!(code, expected, "{address}: {errors}");
    }
}

#[test]
fn a_config_with_a_mistake_ends_with_3_and_one_clear_message() {
    let of = |text: &str| {
        let (code, message) = check(text.as_bytes());
        assert_eq!(code, 3, "{message}");
        message
    };
    insta::assert_snapshot!(
        "unknown_key",
        of("[platform.a]\nplugin = \"fault\"\ntimout = \"1s\"\n")
    );
    insta::assert_snapshot!(
        "wrong_type",
        of("[host]\nplugin_dirs = \"plugins\"\n[platform.a]\nplugin = \"fault\"\n")
    );
    insta::assert_snapshot!(
        "bad_duration",
        of("[host]\ninterval = \"5 parsecs\"\n[platform.a]\nplugin = \"fault\"\n")
    );
    insta::assert_snapshot!(
        "timeout_above_interval",
        of("[platform.a]\nplugin = \"fault\"\ninterval = \"1s\"\ntimeout = \"2s\"\n")
    );
    insta::assert_snapshot!(
        "duplicate_platform",
        of("[platform.a]\nplugin = \"fault\"\n[platform.a]\nplugin = \"disk\"\n")
    );
    let misspelt = of("[platform.a]\nplugin = \"faul\"\n");
    assert_eq!(
        misspelt.trim_end(),
        "DIR/conductor.toml:2:10: platform.a: there is no plugin \"faul\"\n  help: did you mean \"fault\"?"
    );
    // The folders that were searched depend on the machine.
    let missing = of("[platform.a]\nplugin = \"warehouse\"\n");
    for part in [
        "host.plugin_dirs: searched for plugins: ",
        "DIR/conductor.toml:2:10: platform.a: there is no plugin \"warehouse\"",
    ] {
        assert!(missing.contains(part), "{missing}");
    }
    insta::assert_snapshot!("no_platform", of("[host]\ninterval = \"5s\"\n"));
}

#[test]
fn a_config_that_cannot_be_read_ends_with_3_and_one_clear_message() {
    let missing = |path: &Path| {
        let setup = Setup::new();
        let path = setup.path(path.to_str().unwrap());
        let mut command = conductor(&["run", "--config.file"]);
        command.arg(shown(&path));
        let (code, _, errors) = finish(&setup, command);
        assert_eq!(code, 3, "{errors}");
        errors
    };
    insta::assert_snapshot!("missing_file", missing(Path::new("nowhere.toml")));
    insta::assert_snapshot!("a_folder", missing(Path::new("plugins")));
    let (code, message) = check(&vec![b'#'; 10 << 20]);
    assert_eq!(code, 3);
    insta::assert_snapshot!("ten_megabytes", message);
    let (code, message) = check(b"[host]\ninterval = \"\xff\"\n");
    assert_eq!(code, 3);
    insta::assert_snapshot!("not_utf8", message);
}

#[test]
fn a_log_in_files_has_the_reason_why_a_host_ends() {
    let setup = Setup::new().with("[platform.a]\nplugin = \"fault\"\nintervall = \"1s\"");
    let folder = setup.path("log");
    let mut command = setup.command(&["run", "--once"]);
    command.arg("--log.dir").arg(shown(&folder));
    assert_eq!(finish(&setup, command).0, 3);
    let files: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
    let [file] = files.as_slice() else {
        panic!("{files:?}");
    };
    let name = file.file_name().into_string().unwrap();
    assert!(
        name.starts_with("conductor.2") && name.ends_with(".log"),
        "{name}"
    );
    let log = fs::read_to_string(file.path()).unwrap();
    assert!(
        log.contains("the host ends:") && log.contains("intervall"),
        "{log}"
    );
    // A folder that cannot be one is refused with its name.
    let mut command = setup.command(&["run", "--once"]);
    command
        .arg("--log.dir")
        .arg(shown(&setup.path("conductor.toml")));
    let (code, _, errors) = finish(&setup, command);
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("cannot write the log to DIR/conductor.toml: "),
        "{errors}"
    );
}

#[test]
fn usage_mistakes_end_with_2() {
    assert_eq!(
        conductor(&["run", "--no-such-flag"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        conductor(&["frobnicate"]).output().unwrap().status.code(),
        Some(2)
    );
}

#[test]
fn a_config_file_without_its_option_is_told_the_option() {
    let commands: [&[&str]; 3] = [&["run"], &["schedule"], &["plugin", "list"]];
    for command in commands {
        let output = conductor(command).arg("shop.toml").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
        let tip = "tip: to read the config from it, write `--config.file shop.toml`";
        assert!(error.contains(tip), "{command:?}: {error}");
    }
}

#[test]
fn a_duration_that_is_none_is_told_what_one_looks_like() {
    let commands: [&[&str]; 3] = [
        &["maintenance", "start", "shop", "--for", "abc"],
        &["status", "--watch=abc"],
        &["plugin", "run", "x.so", "--timeout", "abc"],
    ];
    for command in commands {
        let output = conductor(command).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {error}");
        let expected = "expected a number and a unit, such as 30s, 2h or '1h 30m'";
        assert!(
            error.contains("invalid value 'abc'") && error.contains(expected),
            "{command:?}: {error}"
        );
    }
}

#[test]
fn the_default_config_is_printed_and_fits_the_schema_that_is_printed() {
    let default = conductor(&["config", "default"]).output().unwrap();
    assert!(
        String::from_utf8(default.stdout)
            .unwrap()
            .contains("[host]")
    );
    let schema = conductor(&["config", "schema"]).output().unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["properties"]["platform"].is_object());
}
