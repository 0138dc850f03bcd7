//! `conductor plugin new`, from nothing to a healthy check, and `plugin diff` on the result.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use crate::bundled::ALL_BUT_THE_SOAK;
#[cfg(unix)]
use crate::c_plugins::source::{self, Language};
use crate::harness::{Host, Setup, artifacts, conductor, literal, workspace};

#[test]
fn a_new_plugin_in_rust_is_tested_built_and_run_and_its_next_version_compared() {
    let setup = Setup::without_plugins().host(UNHURRIED);
    let crate_folder = new(&setup, "my-db", &["--lang", "rust"]);
    let old = build(&crate_folder, "my_db", "0.1.0");
    examine(&old);
    keeps_to_its_readme(&crate_folder, &old);
    shows_durations_and_sizes(&old);
    setup.install(&old);

    // Another key, another metric, and at first too small a step.
    let source = crate_folder.join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    let text = text
        .replace(
            "struct Config {",
            "struct Config {\n    #[serde(default)]\n    _more: bool,",
        )
        .replace("} = &self.config", "    ..\n        } = &self.config")
        .replace("from_secs(3600)", "from_secs(7200)")
        .replace("Metric::gauge(\"size\"", "Metric::gauge(\"length\"");
    fs::write(&source, text).unwrap();
    let small = cargo(&crate_folder, "my_db", &["build"], "0.1.1");
    let config = r#"{ "path": "/proc/self/status" }"#;
    let (code, found) = diff(&old, &small, &["--config", config]);
    assert_eq!(code, 1, "{found}");
    for line in [
        "metric length_bytes added minor",
        "metric size_bytes removed major",
        "config key `_more` added, optional minor",
        "config key `max_age`: default \"1h\" → \"2h\" major",
        "make it 0.2.0 at least",
    ] {
        assert!(words(&found).contains(line), "{line}:\n{found}");
    }
    let (code, found) = diff(&old, &old, &["--output", "json"]);
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!((code, &found["needed"]), (0, &"none".into()), "{found}");

    // A field of a log line that cannot be shown, on a host that shows it.
    let text = fs::read_to_string(&source).unwrap();
    let text = text.replace(
        "let size = file.len();",
        "let size = file.len();\n        conductor_plugin_api::tracing::trace!(size = size / (size - size), \"seen\");",
    );
    fs::write(&source, text).unwrap();
    let logging = cargo(&crate_folder, "my_db", &["build"], "0.2.0");
    let mut command = conductor(&["plugin", "validate", "--test", "check/"]);
    let output = command.arg(&logging).output().unwrap();
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(
        found.contains("FAILED   check/any-log-level") && found.contains("divide by zero"),
        "{found}"
    );
    assert!(found.contains(" 1 failed,"), "{found}");

    let host = setup
        .platform("a", "my-db", "{ path = \"/proc/self/status\" }")
        .platform("b", "my-db", "{ path = \"/nowhere/at-all\" }")
        .start();
    host.wait("its reports", |m| {
        m.checks("a", "healthy") >= 1.0 && m.checks("b", "unhealthy") >= 1.0
    });
    replace(&host, "my-db", &small);
}

#[test]
fn a_new_asynchronous_plugin_is_tested_built_and_run() {
    let setup = Setup::without_plugins().host(UNHURRIED);
    let crate_folder = new(&setup, "ports", &["--lang", "rust-async"]);
    let library = build(&crate_folder, "ports", "0.1.0");
    examine(&library);
    keeps_to_its_readme(&crate_folder, &library);
    setup.install(&library);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!("{{ address = \"{}\" }}", server.local_addr().unwrap());
    let host = setup.platform("a", "ports", &config).start();
    host.wait("its report", |m| m.checks("a", "healthy") >= 1.0);
    let newer = cargo(&crate_folder, "ports", &["build"], "0.1.1");
    replace(&host, "ports", &newer);
}

#[cfg(unix)]
#[test]
fn a_new_plugin_in_c_is_tested_made_and_run() {
    made_and_run("in-c", "c", "plugin.c", examine);
}

#[cfg(unix)]
#[test]
fn a_new_plugin_in_cpp_is_tested_made_and_run() {
    if source::has(Language::Cpp) {
        made_and_run("in-cpp", "cpp", "plugin.cpp", examine);
    }
}

#[cfg(unix)]
#[test]
fn a_new_plugin_in_go_is_tested_made_and_run() {
    if Command::new("go").arg("version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has Go");
        eprintln!("skipped: there is no `go` on this machine");
        return;
    }
    made_and_run("in-go", "go", "plugin.c", |library| {
        let mut command = conductor(&["plugin", "inspect"]);
        command.arg(library);
        let shown = succeed(command);
        assert!(shown.contains("Checks the age of a file."), "{shown}");
    });
}

#[cfg(unix)]
#[test]
fn a_new_plugin_in_zig_is_tested_made_and_run() {
    // Debian has no Zig compiler, so CI need not have one.
    if Command::new("zig").arg("version").output().is_err() {
        eprintln!("skipped: there is no `zig` on this machine (`pip install ziglang` has one)");
        return;
    }
    made_and_run("in-zig", "zig", "plugin.zig", examine);
}

/// Tests, makes and runs a new plugin that has a Makefile, and replaces it by its next version.
#[cfg(unix)]
fn made_and_run(id: &str, language: &str, source: &str, examine: impl Fn(&Path)) {
    let setup = Setup::without_plugins().host(UNHURRIED);
    let folder = new(&setup, id, &["--lang", language]);
    let make = |target: &[&str]| {
        let mut make = Command::new("make");
        make.current_dir(&folder)
            .env("CFLAGS", "-Wall -Wextra -Werror")
            .env("CXXFLAGS", "-Wall -Wextra -Werror")
            .args(target);
        succeed(make)
    };
    let tested = make(&["test"]);
    assert!(
        tested.contains("all tests passed") || tested.contains("ok"),
        "{tested}"
    );
    make(&[]);
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let library = folder.join(format!("{prefix}{id}{suffix}"));
    examine(&library);
    keeps_to_its_readme(&folder, &library);
    setup.install(&library);
    let config = "{ path = \"/proc/self/status\" }";
    let host = setup.platform("a", id, config).start();
    let metrics = host.wait("its report", |m| m.checks("a", "healthy") >= 1.0);
    let size = format!("conductor_{}_size_bytes", id.replace('-', "_"));
    assert!(metrics.has(&size, &[("platform", "a")]), "{metrics:?}");
    let source = folder.join(source);
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("\"0.1.0\"", "\"0.1.1\"")).unwrap();
    make(&[]);
    replace(&host, id, &library);
}

/// Creates a plugin with `conductor plugin new`, and returns its folder.
fn new(setup: &Setup, id: &str, arguments: &[&str]) -> PathBuf {
    let mut command = conductor(&["plugin", "new", id, "--dir"]);
    command.arg(setup.folder.path()).args(arguments);
    let steps = succeed(command);
    assert_eq!(steps.matches("\n  ").count(), 4, "{steps}");
    let folder = setup.path(id);
    assert!(folder.join(".gitignore").exists());
    folder
}

/// Formats and lints the crate, runs its tests, builds it, and returns a copy of its library.
fn build(folder: &Path, name: &str, version: &str) -> PathBuf {
    // The versions the host was built with, so that nothing is resolved again.
    fs::copy(workspace().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let mut format = Command::new(env!("CARGO"));
    format.args(["fmt", "--check"]).current_dir(folder);
    succeed(format);
    let lints = ["clippy", "--all-targets", "--", "-D", "warnings"];
    cargo(folder, name, &lints, version);
    cargo(folder, name, &["test"], version);
    cargo(folder, name, &["build"], version)
}

fn cargo(folder: &Path, name: &str, arguments: &[&str], version: &str) -> PathBuf {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let versioned = text.lines().map(|line| match line.starts_with("version") {
        true => format!("version = \"{version}\"\n"),
        false => format!("{line}\n"),
    });
    fs::write(&manifest, versioned.collect::<String>()).unwrap();
    // One target folder with the other authors' crates, to compile abi_stable only once.
    let target = artifacts().parent().unwrap().join("outside/same");
    let mut command = Command::new(env!("CARGO"));
    let (verb, rest) = arguments.split_first().unwrap();
    command
        .arg(verb)
        .arg("--target-dir")
        .arg(&target)
        .args(rest);
    command
        .current_dir(folder)
        .env_remove("RUSTC")
        .env_remove("CARGO_TARGET_DIR");
    succeed(command);
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let file = format!("{prefix}conductor_plugin_{name}{suffix}");
    let copy = folder.join(version).join(&file);
    if arguments == ["build"] {
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(target.join("debug").join(&file), &copy).unwrap();
    }
    copy
}

/// Asserts that it is correct, and passes the validator without warnings, except for the time that a busy machine takes to
/// load it.
fn examine(library: &Path) {
    let mut command = conductor(&["plugin", "inspect"]);
    command.arg(library);
    succeed(command);
    let mut command = conductor(&["plugin", "validate", "--strictness", "4"]);
    command.args(["--test", ALL_BUT_THE_SOAK]).arg(library);
    let found = succeed(command);
    assert!(found.contains(" 0 failed, 0 skipped, 0 crashed"), "{found}");
    let mut warnings = found.lines().filter(|line| line.starts_with("WARNING"));
    assert!(
        warnings.all(|line| line.contains(" load/quick ")),
        "{found}"
    );
}

/// Asserts that a host takes the config of the README, and that its command makes a check.
fn keeps_to_its_readme(folder: &Path, library: &Path) {
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let platform = text.split("```toml\n").nth(1).unwrap();
    let platform = platform.split("```").next().unwrap();
    let plugins = tempfile::tempdir().unwrap();
    fs::copy(library, plugins.path().join(library.file_name().unwrap())).unwrap();
    let file = plugins.path().join("conductor.toml");
    let place = literal(plugins.path());
    fs::write(
        &file,
        format!("[host]\nplugin_dirs = [{place}]\n{platform}"),
    )
    .unwrap();
    let mut command = conductor(&["config", "check", "--config.file"]);
    command.arg(&file);
    succeed(command);

    let line = text
        .lines()
        .find(|line| line.starts_with("conductor plugin run "));
    let config = line.unwrap().split('\'').nth(1).unwrap();
    let mut command = conductor(&["plugin", "run", "--config", config]);
    let output = command.arg(library).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // The port that the README names may be closed.
    assert!(
        said.contains("check 1") && said.contains("healthy"),
        "{config}: {said}"
    );
}

/// Asserts that operators see which keys of the template's config are durations and sizes.
fn shows_durations_and_sizes(library: &Path) {
    let mut command = conductor(&["plugin", "schema"]);
    command.arg(library).env("COLUMNS", "200");
    let keys = words(&succeed(command));
    for key in ["max_age duration \"1h\"", "min_size size"] {
        assert!(keys.contains(key), "{key}: {keys}");
    }
}

/// Replaces the running version, and waits until the new one has taken over.
fn replace(host: &Host, id: &str, library: &Path) {
    let checked = host.metrics().checks("a", "healthy");
    host.setup.install(library);
    let restarts = [("plugin", id), ("reason", "replace")];
    host.wait("the next version", |m| {
        m.sum("conductor_worker_restarts_total", &restarts) >= 1.0
            && m.checks("a", "healthy") > checked
    });
    let plugins = host.status()["plugins"].clone();
    assert_eq!(plugins[0]["version"], "0.1.1", "{plugins}");
}

/// Returns exit code and output of `plugin diff`.
fn diff(old: &Path, new: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = conductor(&["plugin", "diff"]);
    let output = command.arg(old).arg(new).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{errors}");
    (output.status.code().unwrap(), text)
}

/// Returns the text with single spaces.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the command, and returns its standard output.
#[track_caller]
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A new library that is slow because of CPU starvation is not accepted, and compilers run next to these tests.
const UNHURRIED: &str = "interval = \"1s\"\nstagger = \"50ms\"\ntimeout = \"1s\"";
