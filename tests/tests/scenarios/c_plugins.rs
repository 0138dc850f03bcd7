//! Plugins with the C ABI: the examples, and libraries with one fault each.
//!
//! They are compiled here, with the machine's own compilers; without one a test prints a note and passes.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::harness::{
    Host, Metrics, Setup, conductor, is_windows, library_suffix, literal, shown, workspace,
};

mod abi;
mod asynchronous;
mod confinement;
mod sins;
pub(crate) mod source;
mod what_it_knows;

use source::{Language, compile, compile_file};

#[test]
fn the_readmes_line_compiles_the_example() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let line = readme.lines().find(|line| line.starts_with("cc -shared"));
    let line = line.expect("the README says how to compile a plugin in C");
    let here = workspace().display().to_string();
    let setup = Setup::without_plugins();
    let mut line = line.replace("../conductor", &here);
    if is_windows() {
        let line_for_windows = line.replace("libfile_age.so", "file_age.dll");
        line = line_for_windows.replacen("cc", Language::C.compiler(), 1);
    }
    let done = Command::new("sh")
        .args(["-c", &line])
        .current_dir(setup.plugin_dir())
        .status();
    if !source::has(Language::C) {
        return;
    }
    assert!(done.unwrap().success(), "{line}");
    fs::write(setup.path("backup.tar"), "12345").unwrap();
    let config = format!("{{ path = {} }}", literal(&setup.path("backup.tar")));
    let host = setup.platform("backup", "file-age", &config).start();
    host.wait("its report", |m| m.checks("backup", "healthy") >= 1.0);
}

#[test]
fn the_examples_are_checked_in_a_worker_and_inside_the_host() {
    for isolation in ["process", "in-process"] {
        let setup = Setup::without_plugins();
        if !install_examples(&setup) {
            return;
        }
        let (young, old) = (setup.path("young"), setup.path("old"));
        fs::write(&young, "12345").unwrap();
        let file = fs::File::create(&old).unwrap();
        let day = Duration::from_secs(86_400);
        file.set_modified(SystemTime::now() - day).unwrap();
        let path = |path: &Path| format!("{{ path = {} }}", literal(path));
        let host = setup
            .with(&format!(
                "[plugin.file-age]\nisolation = \"{isolation}\"\n[plugin.load-average]\nisolation = \"{isolation}\""
            ))
            .platform("young", "file-age", &path(&young))
            .platform("old", "file-age", &path(&old))
            .platform("missing", "file-age", &path(Path::new("/nowhere")))
            .platform("beyond", "file-age", &path(&young.join("x")))
            .platform("load", "load-average", "{ degraded_above = 100000 }")
            .platform("thrown", "load-average", "{ file = \"/nowhere\" }")
            .platform("typo", "file-age", "{ pth = \"/x\" }")
            .start();
        // Windows does not distinguish a file below a file from one that does not exist.
        let has_one_error_for_both = is_windows();
        let metrics = host.wait("all of them", |m| {
            m.checks("young", "healthy") >= 3.0
                && m.checks("old", "unhealthy") >= 3.0
                && m.checks("missing", "unhealthy") >= 3.0
                && (m.failures("beyond", "error") >= 3.0 || has_one_error_for_both)
                && m.checks("load", "healthy") >= 3.0
                && m.failures("thrown", "error") >= 3.0
                && m.failures("typo", "config") >= 1.0
        });
        if !has_one_error_for_both {
            host.wait_for_log("check failed: error: Not a directory");
        }
        host.wait_for_log("check failed: error: cannot read a number from /nowhere");
        let measured = |platform, name| metrics.sum(name, &[("platform", platform)]);
        assert!(measured("old", "conductor_file_age_age_seconds") >= 86_400.0);
        assert_eq!(measured("young", "conductor_file_age_size_bytes"), 5.0);
        let plugins = host.status()["plugins"].clone();
        for plugin in plugins.as_array().unwrap() {
            assert_eq!(plugin["isolation"], isolation, "{plugins}");
            assert_eq!(plugin["version"], "1.0.0", "{plugins}");
        }
    }
}

#[test]
fn a_plugin_that_takes_no_config_is_hosted_with_an_empty_table_or_none() {
    let takes_null = source::creating(
        "if (strcmp(config, \"null\") != 0) { conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, config); return NULL; } return malloc(1);",
    );
    let takes_null =
        takes_null.replace("\"{}\", create", "\"{\\\"type\\\":\\\"null\\\"}\", create");
    for isolation in ["process", "in-process"] {
        let setup = Setup::without_plugins();
        if !compile(
            &takes_null,
            Language::C,
            &setup.plugin_dir().join("sinner.so"),
        ) {
            return;
        }
        let setup = setup.with(&format!("[plugin.sinner]\nisolation = \"{isolation}\""));
        let host = setup
            .with("[platform.none]\nplugin = \"sinner\"")
            .platform("empty", "sinner", "{}")
            .platform("keys", "sinner", "{ pth = 1 }")
            .start();
        host.wait("reports and a refusal", |m| {
            m.checks("none", "healthy") >= 1.0
                && m.checks("empty", "healthy") >= 1.0
                && m.failures("keys", "config") >= 1.0
        });
        host.wait_for_log("platform.keys.config must be empty");
        assert_eq!(host.metrics().checks("none", "failed"), 0.0);
    }
}

#[test]
fn inspect_tells_what_a_c_library_is() {
    let setup = Setup::without_plugins();
    if !install_examples(&setup) {
        return;
    }
    let library = format!("libfile_age{}", library_suffix());
    let output = conductor(&["plugin", "inspect"])
        .arg(shown(&setup.plugin_dir().join(library)))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let facts: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for fact in [
        "door c",
        "panics none",
        "panics none",
        "plugin file-age",
        "version 1.0.0",
        "name Age of a file",
    ] {
        assert!(facts.iter().any(|line| line == fact), "{fact}: {text}");
    }
}

#[test]
fn a_c_library_takes_the_place_of_another_without_a_missed_slot() {
    let setup = Setup::without_plugins();
    let version = |n: u32| source::reporting("0", &format!("this is version {n}"));
    if !compile(&version(1), Language::C, &setup.plugin_dir().join("x.so")) {
        return;
    }
    let host = setup.platform("p", "sinner", "{}").start();
    host.wait_for_log("healthy: this is version 1");
    host.wait("checks", |m| m.checks("p", "healthy") >= 5.0);
    let new = host.setup.path(&format!("new{}", library_suffix()));
    compile(&version(2), Language::C, &new);
    let file = format!("x{}", library_suffix());
    fs::rename(new, host.setup.plugin_dir().join(file)).unwrap();
    let replaced = |m: &Metrics| m.sum("conductor_worker_restarts_total", &[("reason", "replace")]);
    let taken = host.wait("the new one", |m| replaced(m) == 1.0);
    let after = host.wait("checks by it", |m| {
        m.checks("p", "healthy") >= taken.checks("p", "healthy") + 5.0
    });
    let said = host.status().to_string();
    assert!(said.contains("this is version 2"), "{said}");
    assert_eq!(after.failed_in_time("p"), 0.0, "{}", host.log());
}

/// Compiles both examples into the plugin folder; returns `false` if there is no compiler.
fn install_examples(setup: &Setup) -> bool {
    let folder = workspace().join("examples/plugins/c");
    let into = setup.plugin_dir();
    compile_file(
        &folder.join("file_age.c"),
        Language::C,
        &into.join("libfile_age.so"),
    ) && compile_file(
        &folder.join("load_average.cpp"),
        Language::Cpp,
        &into.join("libload_average.so"),
    )
}

/// Starts a host with a plugin of this source, whose id is `sinner`, and a bystander; `None` if there is no compiler.
fn host_with(source: &str, language: Language) -> Option<Host> {
    let setup = Setup::new();
    compile(source, language, &setup.plugin_dir().join("sinner.so")).then(|| {
        setup
            .platform("bystander", "fault", "{}")
            .platform("sinner", "sinner", "{}")
            .start()
    })
}
