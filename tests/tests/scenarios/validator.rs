//! The validator: each fixture fails exactly the tests that its fault is about.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    c_plugins::source::{Language, checking, compile},
    harness::{Setup, conductor, library, ordered},
};

mod go;
mod labels_and_metrics;
mod sins;

#[test]
fn each_fixture_fails_the_tests_its_sin_is_about_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixtures = Vec::new();
    fixtures.extend(FILES.map(|(sin, spoil)| Fixture::file(&folder, sin, spoil)));
    fixtures.extend(ORDERS.map(|(order, tests)| Fixture::order(&folder, order, tests)));
    fixtures.extend(CONFIGS.map(|(config, tests)| Fixture::config(config, tests)));
    let (open, told) = (Mutex::new(fixtures), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let Some(fixture) = open.lock().unwrap().pop() else {
                        return;
                    };
                    let line = fixture.line();
                    told.lock().unwrap().push(line);
                }
            });
        }
    });
    let mut told = told.into_inner().unwrap();
    told.sort();
    insta::assert_snapshot!("what_each_sin_fails", told.join("\n"));
}

#[test]
fn a_test_that_fails_makes_the_command_fail_and_says_what_to_do() {
    let fault = library("conductor_plugin_fault");
    let config = r#"{ check = { fault = "nan" } }"#;
    let mut command = conductor(&["plugin", "validate", "--only-failed", "--config", config]);
    let output = command
        .arg(&fault)
        .args(["--test", "check/report-legal"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAILED   check/report-legal"), "{text}");
    assert!(text.contains("the value NaN of \"not_a_number\""), "{text}");
    assert!(
        text.contains("leave out values that are not finite"),
        "{text}"
    );
    assert!(
        text.contains("0 passed, 0 warning, 1 failed, 0 skipped, 0 crashed"),
        "{text}"
    );
}

#[test]
fn a_fuzzed_config_is_told_with_the_seed_that_reproduces_it() {
    let fault = library("conductor_plugin_fault");
    let found = validate(
        &fault,
        Some(r#"{"drop":{"fault":"panic"}}"#),
        4,
        "stress/fuzz",
    );
    let test = &found.0["files"][0]["tests"][0];
    assert_eq!(test["status"], "failed", "{}", found.0);
    assert!(
        test["found"]
            .as_str()
            .unwrap()
            .contains("of seed 1 ends in a panic"),
        "{test}"
    );
    let again = validate(
        &fault,
        Some(r#"{"drop":{"fault":"panic"}}"#),
        4,
        "stress/fuzz",
    );
    assert_eq!(again.0["files"][0]["tests"][0]["found"], test["found"]);
}

#[test]
fn a_probe_is_run_as_a_host_would_and_told_of() {
    let fault = library("conductor_plugin_fault");
    let run = |config: &str, more: &[&str]| {
        let mut command = conductor(&["plugin", "run", "--config", config]);
        let output = command.arg(&fault).args(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, out, _) = run(
        r#"{ status = "degraded" }"#,
        &["--repeat", "2", "--interval", "50ms"],
    );
    assert_eq!((code, out.matches("degraded").count()), (0, 2), "{out}");
    let (code, out, _) = run(r#"{"status":"unhealthy"}"#, &["--output", "json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["status"]), (1, &Value::from("unhealthy")));
    let (code, _, log) = run(
        r#"{ check = { fault = "log" } }"#,
        &["--isolation", "in-process"],
    );
    assert!(code == 0 && log.contains("injected log line"), "{log}");
    let (code, out, _) = run(r#"{ check = { fault = "segfault" } }"#, &[]);
    assert!(code == 1 && out.contains("SIGSEGV"), "{out}");
    let (code, out, _) = run(r#"{ check = { fault = "hang" } }"#, &["--timeout", "200ms"]);
    assert!(
        code == 1 && out.contains("timeout: no answer within 200ms"),
        "{out}"
    );
    let (code, _, said) = run("{ chekc = {} }", &[]);
    assert!(
        code == 3 && said.contains("did you mean `check`?"),
        "{said}"
    );
    let (code, _, said) = run(r#"{ chekc = {}, create = { fault = "error" } }"#, &[]);
    assert!(
        code == 3 && said.contains("no key `chekc`") && said.contains("injected error"),
        "{said}"
    );
    let refused = conductor(&["plugin", "run", "Cargo.toml"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(4));
}

#[test]
fn plugin_run_names_what_a_host_would_drop_of_a_report() {
    let fault = library("conductor_plugin_fault");
    let run = |fault_name: &str| {
        let config = format!("{{ check = {{ fault = \"{fault_name}\" }} }}");
        let mut command = conductor(&["plugin", "run", "--output", "json", "--config", &config]);
        let output = command.arg(&fault).output().unwrap();
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        line["warnings"].to_string()
    };
    for (fault_name, said) in [
        ("nan", "the value NaN of"),
        ("infinity", "the value inf of"),
        ("many-measurements", "of which 64 are kept"),
        ("long-message", "a message of more than 2048 bytes"),
        ("invalid-utf8", "not UTF-8"),
    ] {
        let found = run(fault_name);
        assert!(found.contains(said), "{fault_name}: {found}");
    }
}

#[test]
fn plugin_run_reports_a_drop_that_panics_or_takes_long() {
    let fault = library("conductor_plugin_fault");
    for isolation in ["process", "in-process"] {
        for (config, said) in [
            ("{}", ""),
            (
                "{ drop = { fault = 'panic' } }",
                "dropping the probe failed",
            ),
            (
                "{ drop = { fault = 'sleep', millis = 1300 } }",
                "dropping the probe took 1",
            ),
            (
                "{ drop = { fault = 'hang' } }",
                "dropping the probe was not over after 2 s",
            ),
        ] {
            let mut command = conductor(&["plugin", "run", "--isolation", isolation]);
            let output = command
                .arg(&fault)
                .args(["--config", config])
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(
                text.contains("warning"),
                !said.is_empty(),
                "{isolation} {config}: {text}"
            );
            assert!(text.contains(said), "{isolation} {config}: {text}");
        }
    }
}

#[test]
fn plugin_run_allows_what_the_command_line_or_the_config_allows() {
    let setup = Setup::new();
    let secret = setup.path("read-me");
    fs::write(&secret, "x").unwrap();
    let source = checking(&format!(
        "int file = open(\"{}\", O_RDONLY);
        if (file < 0) conductor_fail(call, 0, \"closed to it\");
        else conductor_report(call, 0, \"open to it\");",
        secret.display()
    ));
    let library = setup.plugin_dir().join("sinner.so");
    if !compile(
        &format!("#include <fcntl.h>\n{source}"),
        Language::C,
        &library,
    ) {
        return;
    }
    let run = |command: &mut std::process::Command| {
        let output = command.arg(&library).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        String::from_utf8(printed).unwrap()
    };
    let read = format!("read {}", secret.display());
    let said = run(&mut conductor(&["plugin", "run"]));
    assert!(said.contains("closed to it"), "{said}");
    let said = run(&mut conductor(&["plugin", "run", "--allow", &read]));
    assert!(said.contains("open to it"), "{said}");
    let setup = setup
        .with(&format!("[plugin.sinner]\nallow = [{read:?}]"))
        .platform("p", "sinner", "{}");
    let said = run(&mut setup.command(&["plugin", "run"]));
    assert!(said.contains("open to it"), "{said}");
    let output = conductor(&["plugin", "run", "--allow", "everything"])
        .arg(&library)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// A faulty library, and the tests to run on it.
struct Fixture {
    sin: String,
    file: PathBuf,
    config: Option<&'static str>,
    level: u8,
    tests: &'static str,
}

impl Fixture {
    fn file(folder: &TempDir, sin: &str, spoil: fn(&Path, Vec<u8>)) -> Self {
        let file = folder.path().join(format!("{}.so", sin.replace(' ', "-")));
        spoil(&file, fs::read(library("conductor_plugin_fault")).unwrap());
        Self {
            sin: format!("file: {sin}"),
            file,
            config: None,
            level: 2,
            tests: "^file|^load/opens",
        }
    }

    fn order(folder: &TempDir, order: &str, tests: &'static str) -> Self {
        let file = folder.path().join(format!("order-{order}.so"));
        fs::write(&file, ordered(order)).unwrap();
        Self {
            sin: format!("order: {order}"),
            file,
            config: None,
            level: 3,
            tests,
        }
    }

    fn config(config: &'static str, tests: &'static str) -> Self {
        Self {
            sin: format!("config: {config}"),
            file: library("conductor_plugin_fault"),
            config: Some(config),
            level: 3,
            tests,
        }
    }

    fn line(&self) -> String {
        let found = validate(&self.file, self.config, self.level, self.tests);
        format!("{:<50} {}", self.sin, found.with(&["failed", "crashed"]))
    }
}

pub(crate) struct Found(pub(crate) Value);

impl Found {
    /// Returns the ids of the tests that ended with these statuses.
    pub(crate) fn with(&self, statuses: &[&str]) -> String {
        let tests = self.0["files"][0]["tests"].as_array().unwrap();
        let ended = tests.iter().filter_map(|test| {
            let status = test["status"].as_str().unwrap();
            let id = test["id"].as_str().unwrap();
            statuses.contains(&status).then(|| match status {
                "crashed" => format!("{id} (crashed)"),
                _ => id.to_owned(),
            })
        });
        ended.collect::<Vec<_>>().join(", ")
    }
}

pub(crate) fn validate(file: &Path, config: Option<&str>, level: u8, tests: &str) -> Found {
    validate_with(file, config, level, tests, &[])
}

/// Runs the validator with more options.
fn validate_with(
    file: &Path,
    config: Option<&str>,
    level: u8,
    tests: &str,
    options: &[&str],
) -> Found {
    let mut command = conductor(&["plugin", "validate", "--output", "json", "--test", tests]);
    command.args(["--strictness", &level.to_string()]).arg(file);
    command.args(options);
    if let Some(config) = config {
        command.args(["--config", config]);
    }
    let output = command.output().unwrap();
    Found(serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{e}: {}", String::from_utf8_lossy(&output.stderr));
    }))
}

fn replaced(mut bytes: Vec<u8>, old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = (0..bytes.len() - old.len())
        .filter(|&at| bytes[at..].starts_with(old))
        .collect();
    assert!(!places.is_empty(), "{}", old.escape_ascii());
    for at in places {
        bytes[at..at + old.len()].copy_from_slice(new);
    }
    bytes
}

/// Sets the header bit by which a library requests an executable stack.
fn executable_stack(file: &Path, mut bytes: Vec<u8>) {
    let number = |at: usize, size: usize| {
        let bytes = bytes[at..at + size].iter().rev();
        bytes.fold(0, |number, &byte| number << 8 | usize::from(byte))
    };
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let headers = (0..count).map(|nth| table + nth * size);
    let stack = headers.into_iter().find(|&at| number(at, 4) == 0x6474_e551);
    bytes[stack.unwrap() + 4] |= 1;
    fs::write(file, bytes).unwrap();
}

type Spoil = (&'static str, fn(&Path, Vec<u8>));

const FILES: [Spoil; 12] = [
    ("as built", |file, bytes| fs::write(file, bytes).unwrap()),
    ("truncated", |file, bytes| {
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("empty", |file, _| fs::write(file, "").unwrap()),
    ("not a library", |file, _| {
        fs::write(file, "#!/bin/sh").unwrap()
    }),
    ("not there", |_, _| {}),
    ("manifest without its mark", |file, bytes| {
        fs::write(file, replaced(bytes, b"CNDCTR\x1a\x01", b"CNDCTR\x1a\x02")).unwrap();
    }),
    ("needs a library that is not there", |file, bytes| {
        fs::write(
            file,
            replaced(bytes, b"\0libgcc_s.so.1\0", b"\0libXcc_s.so.1\0"),
        )
        .unwrap();
    }),
    ("needs a symbol that is not there", |file, bytes| {
        fs::write(file, replaced(bytes, b"\0setlocale\0", b"\0setlocalX\0")).unwrap();
    }),
    ("executable stack", executable_stack),
    ("another architecture", |file, mut bytes| {
        let (x86_64, aarch64) = (62, 183);
        bytes[18] = if bytes[18] == x86_64 { aarch64 } else { x86_64 };
        fs::write(file, bytes).unwrap();
    }),
    ("panics that abort", |file, mut bytes| {
        let mark = b"CNDCTR\x1a\x01";
        let places = (0..bytes.len() - 800).filter(|&at| bytes[at..].starts_with(mark));
        for at in places.collect::<Vec<_>>() {
            bytes[at + 19] = 0;
        }
        fs::write(file, bytes).unwrap();
    }),
    ("writable by all", |file, bytes| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(file, bytes).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o777)).unwrap();
    }),
];

const ORDERS: [(&str, &str); 17] = [
    ("none", "^(load|config|check)/"),
    ("abort", "^load/"),
    ("exit", "^load/"),
    ("hang", "^load/opens"),
    ("segfault", "^load/"),
    ("stdout", "^load/"),
    ("stderr", "^load/"),
    ("thread", "^load/"),
    ("environment", "^load/"),
    ("chdir", "^load/"),
    ("umask", "^load/"),
    ("signals", "^load/"),
    ("descriptor", "^load/"),
    ("locale", "^load/"),
    ("leak-memory", "^(config/creates|leaks/)"),
    ("leak-files", "^(config/creates|leaks/)"),
    ("leak-threads", "^(config/creates|leaks/)"),
];

const CONFIGS: [(&str, &str); 26] = [
    ("{create={fault='panic'}}", REPORTS),
    ("{create={fault='segfault'}}", REPORTS),
    ("{create={fault='hang'}}", "config/creates"),
    ("{drop={fault='panic'}}", REPORTS),
    ("{drop={fault='abort'}}", REPORTS),
    ("{check={fault='panic'}}", REPORTS),
    ("{check={fault='panic-payload'}}", REPORTS),
    ("{check={fault='exit-0'}}", REPORTS),
    ("{check={fault='double-free'}}", REPORTS),
    ("{check={fault='stack-overflow'}}", REPORTS),
    ("{check={fault='kill'}}", REPORTS),
    ("{check={fault='error',after=2}}", REPORTS),
    ("{check={fault='nan'}}", REPORTS),
    ("{check={fault='infinity'}}", REPORTS),
    ("{check={fault='invalid-utf8'}}", REPORTS),
    ("{check={fault='control-characters'}}", REPORTS),
    (
        "{check={fault='long-message'}}",
        "^(config/creates|check/ends|check/report)",
    ),
    ("{check={fault='stdout',limit=1000}}", REPORTS),
    ("{check={fault='stderr',limit=1000}}", REPORTS),
    ("{check={fault='close-fds'}}", REPORTS),
    ("{check={fault='chdir'}}", REPORTS),
    ("{check={fault='environment'}}", REPORTS),
    ("{check={fault='umask'}}", REPORTS),
    ("{check={fault='signal-handlers'}}", REPORTS),
    (
        "{check={fault='hang'}}",
        "^(config/creates|check/ends|time)",
    ),
    (
        "{check={fault='sleep',millis=7000}}",
        "^(config/creates|check/ends|time)",
    ),
];

/// The tests of one probe's calls and their results.
const REPORTS: &str = "^(config/creates|check/)";
