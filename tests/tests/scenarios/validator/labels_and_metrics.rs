//! Interval, labels, declared metrics and state: what the commands for authors say when a plugin uses them, and misuses them.

use std::{path::Path, process::Output};

use super::sins::{Sin, beside};
use crate::{
    c_plugins::source::{Language, checking, compile, creating, has},
    harness::conductor,
};

/// Declares `sent_bytes_total`, `age` and `used{mount,kind}` in a source from `checking`.
fn declaring(source: &str) -> String {
    const METRICS: &str = r#"[{"name": "sent", "kind": "counter", "unit": "bytes", "help": "Sent."},
        {"name": "age", "kind": "gauge", "help": "Age."},
        {"name": "used", "kind": "gauge", "help": "Used.", "labels": ["mount", "kind"]}]"#;
    let escaped = METRICS.replace('"', "\\\"").replace('\n', " ");
    let declared = format!("destroy, NULL, NULL, \"{escaped}\");");
    beside("", &source.replace("destroy, NULL, NULL);", &declared))
}

/// Returns a plugin whose checks do this and report.
fn setting(body: &str) -> String {
    declaring(&checking(&format!(
        "char text[512]; const char *one[] = {{text, NULL}}, *two[] = {{\"/\", text, NULL}}; int nth;
         (void)one, (void)two, (void)nth; snprintf(text, sizeof text, \"ext4\");
         {body} conductor_report(call, 0, \"fine\");"
    )))
}

#[test]
fn the_validator_names_a_value_that_a_host_drops_with_the_rule_and_the_cure() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let legal = |body: &str, words| Sin::new(setting(body), "check/report-legal", words);
    let repeated =
        |body: &str, words| Sin::new(setting(body), "check/repeatable", words).with("warning");
    for sin in [
        legal(
            "conductor_set(call, \"sent\", NULL, 1); conductor_set(call, \"age\", NULL, 2); conductor_set(call, \"used\", two, 3);",
            &[],
        )
        .with("passed"),
        legal(
            "conductor_set(call, \"size\", NULL, 1);",
            &["metric \\\"size\\\"", "does not declare this metric", "add it to `metrics`"],
        ),
        legal(
            "conductor_set(call, \"used\", one, 1);",
            &["metric \\\"used\\\"", "1 label values", "{mount, kind}", "one value for each, in this order"],
        ),
        legal(
            "conductor_set(call, \"age\", one, 1);",
            &["metric \\\"age\\\"", "1 label values", "{}"],
        ),
        // A label that the platform does not have ends the list.
        legal(
            "two[1] = conductor_label(call, \"kind\", NULL); conductor_set(call, \"used\", two, 1);",
            &["metric \\\"used\\\"", "1 label values"],
        ),
        legal(
            "conductor_set(call, \"age\", NULL, 1e308 * 10);",
            &["metric \\\"age\\\"", "not finite", "leave it out"],
        ),
        legal(
            "conductor_set(call, \"sent\", NULL, -2);",
            &["-2 for the counter sent_bytes_total", "declare it as a gauge"],
        ),
        legal(
            "for (nth = 0; nth < 300; nth++) { snprintf(text, sizeof text, \"%d\", nth); conductor_set(call, \"used\", two, 1); }",
            &["300 series", "256 are kept", "from a small set"],
        ),
        legal(
            "memset(text, 'a', 300); text[300] = 0; conductor_set(call, \"used\", two, 1);",
            &["300 bytes, of which 256 are kept, in a label of \\\"used\\\""],
        ),
        legal(
            "static char state[65537]; conductor_store_state(call, state, sizeof state);",
            &["more than 65536 bytes, which is not stored"],
        ),
        repeated(
            "static int left = 9; conductor_set(call, \"sent\", NULL, left--);",
            &["check 2", "8 for the counter sent_bytes_total after 9", "declare it as a gauge"],
        ),
        repeated(
            "static int checks; snprintf(text, sizeof text, \"%d\", checks++); conductor_set(call, \"used\", two, 1);",
            &["used{mount=", "in some reports and not in others"],
        ),
        Sin::new(
            setting("conductor_set(call, \"restarts\", NULL, 1);")
                .replace("\\\"sent\\\"", "\\\"restarts\\\"")
                .replace(" \\\"unit\\\": \\\"bytes\\\",", "")
                .replace("\"sinner\"", "\"worker\""),
            "load/metrics",
            &["`restarts` is not exported", "conductor_worker_restarts_total", "another name"],
        ),
        Sin::new(
            setting("").replace("\\\"age\\\"", "\\\"the-age\\\""),
            "load/manifest",
            &["its declared metric \\\"the-age\\\" is not allowed", "letters, digits and `_`"],
        ),
    ] {
        sin.is_found(folder.path());
    }
}

#[test]
fn the_validator_names_a_plugin_that_cannot_do_without_interval_and_labels() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let any = |body: &str, words| {
        let source = beside(
            "",
            &checking(&format!("{body} conductor_report(call, 0, \"fine\");")),
        );
        Sin::new(source, "check/any-platform", words)
    };
    for sin in [
        any("if (!strlen(conductor_label(call, \"team\", \"\"))) {}", &[]).with("passed"),
        any(
            "if (conductor_interval_ns(call) < 2000000) abort();",
            &["a platform without an interval", "SIGABRT"],
        )
        .with("crashed"),
        any(
            "if (conductor_interval_ns(call) == 1000000) abort();",
            &["with an interval of 1 ms"],
        )
        .with("crashed"),
        any(
            "if (conductor_interval_ns(call) > 86400000000000) { conductor_fail(call, CONDUCTOR_FAILURE_PANIC, \"overflow\"); return; }",
            &[
                "a platform with an interval of a year ends in a panic: overflow",
                "conductor_interval_ns(call) may be 0",
            ],
        ),
        any(
            "if (!conductor_label(call, \"team\", NULL)) abort();",
            &["a platform without labels"],
        )
        .with("crashed")
        .on(&["--label", "team=ops"]),
        any(
            "if (!*conductor_label(call, \"team\", \"x\")) abort();",
            &["whose labels are empty"],
        )
        .with("crashed")
        .on(&["--label", "team=ops"]),
        any(
            "if (strlen(conductor_label(call, \"team\", \"\")) > 500) abort();",
            &["whose labels have 1024 bytes"],
        )
        .with("crashed")
        .on(&["--label", "team=ops"]),
        // It refuses platforms without its label, which is right.
        Sin::new(
            creating("if (!conductor_label(call, \"team\", NULL)) { conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, \"label `team`: it is missing\"); return NULL; } return malloc(1);"),
            "check/any-platform",
            &[],
        )
        .with("passed")
        .on(&["--label", "team=ops"]),
    ] {
        sin.is_found(folder.path());
    }
}

/// A plugin that is no use without a label.
fn of_a_team() -> String {
    let needs_a_team = creating(
        "if (!conductor_label(call, \"team\", NULL)) { conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, \"label `team`: it is missing\"); return NULL; } return malloc(1);",
    );
    let told = "char message[99]; snprintf(message, sizeof message, \"%s, every %.0f s\", conductor_label(call, \"team\", \"\"), conductor_interval_ns(call) / 1e9); conductor_measure(call, conductor_label(call, \"team\", \"\"), 1); conductor_report(call, 0, message);";
    let source = needs_a_team.replace("conductor_report(call, 0, \"fine\");", told);
    format!("#include <stdio.h>\n{source}")
}

fn plugin(command: &[&str], files: &[&Path], options: &[&str]) -> (i32, String) {
    let mut program = conductor(&["plugin"]);
    let Output {
        status,
        stdout,
        stderr,
    } = program
        .args(command)
        .args(files)
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), said)
}

#[test]
fn validate_run_and_diff_give_a_probe_the_interval_and_labels_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("team.so");
    if !compile(&of_a_team(), Language::C, &library) {
        return;
    }
    let ops = ["--label", "team=ops", "--interval", "30s"];
    let file = [library.as_path()];

    let (code, said) = plugin(&["validate"], &file, &ops);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Healthy: ops, every 30 s"), "{said}");
    let (code, said) = plugin(&["validate", "--test", "config/creates"], &file, &[]);
    assert!(
        code == 1 && said.contains("label `team`: it is missing"),
        "{said}"
    );

    let (code, said) = plugin(&["run"], &file, &ops);
    assert!(code == 0 && said.contains("ops, every 30 s"), "{said}");

    let diff = |label: &str| {
        let pair = [library.as_path(), library.as_path()];
        plugin(&["diff", "--config", "{}"], &pair, &["--label", label])
    };
    let (code, said) = diff("team=ops");
    assert!(code == 0 && said.contains("nothing changed"), "{said}");
    let (code, said) = diff("other=ops");
    assert!(
        code == 1 && said.contains("label `team`: it is missing"),
        "{said}"
    );

    for (label, rule) in [
        ("team", "NAME=VALUE"),
        ("2=x", "no label of this name"),
        ("plugin=x", "not `platform` or `plugin`"),
    ] {
        for command in ["run", "validate"] {
            let (code, said) = plugin(&[command], &file, &["--label", label]);
            assert!(
                code == 2 && said.contains(rule),
                "{command} {label}: {said}"
            );
        }
    }
}

#[test]
fn plugin_run_names_values_of_declared_metrics_that_a_host_drops() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("sinner.so");
    let run = |body: &str, checks: &str| {
        assert!(compile(&setting(body), Language::C, &library));
        let options = ["--repeat", checks, "--interval", "1ms"];
        plugin(&["run"], &[library.as_path()], &options).1
    };
    let said = run("conductor_set(call, \"used\", one, 1);", "1");
    for words in [
        "1 values of declared metrics that are dropped",
        "the value of metric `used` is dropped",
        "the labels {mount, kind} are declared: give one value for each",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Each check has another label.
    let said = run(
        "static int checks; snprintf(text, sizeof text, \"%d\", checks++); conductor_set(call, \"used\", two, 1);",
        "258",
    );
    assert!(
        said.contains("the series used{mount=\"/\",kind=\"256\"}, which is dropped"),
        "{said}"
    );
    let said = run(
        "static int left = 9; conductor_set(call, \"sent\", NULL, left--);",
        "2",
    );
    assert!(
        said.contains("8 for the counter sent_bytes_total after 9"),
        "{said}"
    );
}
