//! A plugin in Go: its runtime starts threads and takes over signal handlers when the library is loaded, which is fine
//! in a worker, but not in a host's own process. CI has a Go compiler.

use std::{fs, path::Path, process::Command};

use super::validate;
use crate::harness::{Setup, conductor, workspace};

/// Builds the example plugin `gopher` into `library`; returns `false` if there is no Go compiler.
fn build(library: &Path, flags: &[&str]) -> bool {
    let found = Command::new("go").arg("version").output().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "Go plugins are part of what CI checks"
    );
    if !found {
        eprintln!("skipped: there is no `go` on this machine");
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "plugin-api/include/conductor_plugin.h",
        "examples/plugins/go/go.mod",
        "examples/plugins/go/plugin.c",
        "examples/plugins/go/plugin.go",
        "examples/plugins/go/exports.map",
    ] {
        let file = workspace().join(file);
        fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let output = Command::new("go")
        .args(["build", "-buildmode=c-shared"])
        .args(flags)
        .arg("-o")
        .arg(library)
        .arg(".")
        .current_dir(folder.path())
        .env("GOFLAGS", "-mod=mod")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

#[test]
fn a_go_plugin_passes_with_warnings_and_is_refused_in_process_alone() {
    let setup = Setup::without_plugins().with("[plugin.gopher]\nisolation = \"in-process\"");
    let library = setup.plugin_dir().join("gopher.so");
    if !build(&library, &[]) {
        return;
    }
    let found = validate(&library, None, 3, ".");
    assert_eq!(
        found.with(&["failed", "crashed", "skipped"]),
        "",
        "{}",
        found.0
    );
    assert_eq!(
        found.with(&["warning"]),
        "file/exports, load/constructor-quiet"
    );
    let said = found.0.to_string();
    assert!(
        said.contains("the Go runtime") && said.contains("in-process"),
        "{said}"
    );
    // The cure named for the exports works.
    let hidden = setup.path("hidden.so");
    let script = "-extldflags=-Wl,--version-script=exports.map";
    build(&hidden, &["-ldflags", script]);
    let found = validate(&hidden, None, 1, "file/exports");
    assert_eq!(found.with(&["passed"]), "file/exports", "{}", found.0);

    let run = |isolation: &str| {
        let mut command = conductor(&["plugin", "run", "--isolation", isolation]);
        command.arg(&library).output().unwrap()
    };
    assert_eq!(run("process").status.code(), Some(0));
    let refused = run("in-process");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("it brings the Go runtime"), "{said}");
    let host = setup.platform("g", "gopher", "{}").start();
    host.wait("its failure", |m| m.failures("g", "load") >= 1.0);
    host.wait_for_log("remove isolation = \"in-process\"");
}
