//! A plugin author's crate, outside the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Setup, artifacts, is_windows, library_name, literal, workspace};

#[test]
fn the_readmes_fifteen_lines_are_a_plugin_that_a_running_host_checks() {
    let source = readme_block("rust", "export_plugin!");
    let lines = source
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count();
    assert!(
        lines <= 15,
        "the README promises fifteen lines, these are {lines}"
    );
    let manifest = readme_block("toml", "crate-type");
    let example = workspace().join("examples/plugins/rust");
    let read = |file: &str| fs::read_to_string(example.join(file)).unwrap();
    assert!(
        read("src/lib.rs").ends_with(&source),
        "the example in examples/ is the README's"
    );
    assert_eq!(
        read("Cargo.toml").replace("../../../plugin-api", API_PATH),
        manifest
    );
    let folder = tempfile::tempdir().unwrap();
    let library = build(
        folder.path(),
        "file_size",
        &manifest,
        &source,
        &workspace().join("plugin-api"),
        None,
    );

    let setup = Setup::without_plugins();
    setup.install(&library);
    fs::write(setup.path("backup.tar"), "12345").unwrap();
    let config = format!("{{ path = {} }}", literal(&setup.path("backup.tar")));
    let host = setup
        .platform("backup", "file-size", &config)
        .platform("missing", "file-size", "{ path = \"/nowhere\" }")
        .start();
    host.wait("its report", |m| m.checks("backup", "healthy") >= 1.0);
    host.wait_for_log("healthy: 5 bytes");
    host.wait("a failure", |m| m.failures("missing", "error") >= 1.0);
    host.wait_for_log("check failed: error: ");
    host.wait_for_log("(os error 2)");
}

#[test]
fn a_plugin_whose_config_is_the_unit_type_is_hosted() {
    let source = r#"
        use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin};
        struct Always;
        impl Probe for Always {
            type Config = ();
            fn create((): (), _: &Context<'_>) -> Result<Self, Failure> { Ok(Self) }
            fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> { Ok(Report::healthy("always")) }
        }
        export_plugin! { id: "always", probe: Always }
    "#;
    let manifest = format!(
        "[package]\nname = \"always\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [dependencies]\nconductor-plugin-api = {{ path = \"{API_PATH}\" }}\n[workspace]\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let api = workspace().join("plugin-api");
    let library = build(folder.path(), "always", &manifest, source, &api, None);
    let setup = Setup::without_plugins();
    setup.install(&library);
    let host = setup
        .with("[platform.none]\nplugin = \"always\"")
        .platform("empty", "always", "{}")
        .start();
    host.wait("their reports", |m| {
        m.checks("none", "healthy") >= 1.0 && m.checks("empty", "healthy") >= 1.0
    });
}

/// Builds a plugin without config whose copy of the API was changed by `change`, with the id `id`.
///
/// The copy is patched in by its path, so only the layout check sees another package.
pub(crate) fn build_variant(folder: &Path, id: &str, change: impl Fn(String) -> String) -> PathBuf {
    let api = folder.join("plugin-api");
    copy(&workspace().join("plugin-api"), &api);
    let workspace_manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    // It inherits its package keys from the workspace, so it needs a workspace.
    let is_copied = |line: &&str| {
        let is_of_this_workspace = line.starts_with("default-members = ")
            || line.starts_with("conductor") && line.contains("path = ");
        !is_of_this_workspace || line.starts_with("conductor-plugin-api = ")
    };
    let lines = workspace_manifest.lines().filter(is_copied);
    let shared: String = lines
        .map(|line| match line.starts_with("members = ") {
            true => "members = [\"plugin-api\", \"plugin\"]\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    fs::write(folder.join("Cargo.toml"), shared).unwrap();
    for file in [
        "src/abi.rs",
        "src/export.rs",
        "src/testing.rs",
        "Cargo.toml",
    ] {
        let text = fs::read_to_string(api.join(file)).unwrap();
        fs::write(api.join(file), change(text)).unwrap();
    }
    let source = format!(
        r#"
        use conductor_plugin_api::{{Context, Failure, Probe, Report, export_plugin, schemars}};
        #[derive(serde::Deserialize, schemars::JsonSchema)]
        struct Always {{}}
        impl Probe for Always {{
            type Config = Self;
            fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {{ Ok(config) }}
            fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {{ Ok(Report::healthy("always")) }}
        }}
        export_plugin! {{ id: "{id}", probe: Always }}
        "#
    );
    let manifest = format!(
        "[package]\nname = \"{id}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [dependencies]\nconductor-plugin-api = {{ path = \"{API_PATH}\" }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n"
    );
    build(
        &folder.join("plugin"),
        &id.replace('-', "_"),
        &manifest,
        &source,
        &api,
        None,
    )
}

/// Builds an author's crate in `folder`, whose manifest names the API as the README does, against the one at `api`.
///
/// `cargo` is another toolchain's, or `None` for this one.
pub(crate) fn build(
    folder: &Path,
    name: &str,
    manifest: &str,
    source: &str,
    api: &Path,
    cargo: Option<&str>,
) -> PathBuf {
    assert!(manifest.contains(API_PATH), "{manifest}");
    fs::create_dir_all(folder.join("src")).unwrap();
    let mut manifest = manifest.replace(API_PATH, &api.display().to_string());
    // A temporary folder may be inside this workspace.
    let has_workspace = manifest.contains("[workspace]")
        || folder
            .parent()
            .is_some_and(|above| above.join("Cargo.toml").exists());
    if !has_workspace {
        manifest.push_str("[workspace]\n");
    }
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), source).unwrap();
    // The versions the host was built with, so that nothing is resolved again; a member uses its workspace's.
    let root = match folder.parent() {
        Some(parent) if parent.join("Cargo.toml").exists() => parent,
        _ => folder,
    };
    fs::copy(workspace().join("Cargo.lock"), root.join("Cargo.lock")).unwrap();
    // One target folder for all of them, to compile abi_stable only once.
    let target = artifacts()
        .parent()
        .unwrap()
        .join("outside")
        .join(if cargo.is_some() { "other" } else { "same" });
    let mut command = Command::new(cargo.unwrap_or(env!("CARGO")));
    command
        .args(["build", "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_TARGET_DIR");
    let mut built_in = target.join("debug");
    if is_windows() {
        let triple = "x86_64-pc-windows-gnu";
        command.args(["--target", triple]);
        built_in = target.join(triple).join("debug");
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = library_name(name);
    let built = root.join(&file);
    // The target folder is shared, and the next variant may have the same name.
    fs::copy(built_in.join(&file), &built).unwrap();
    built
}

/// Returns the first block of the README in this language that contains `word`.
fn readme_block(language: &str, word: &str) -> String {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    readme
        .split(&format!("```{language}\n"))
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|block| block.contains(word))
        .unwrap_or_else(|| panic!("the README has no {language} block with {word}"))
        .to_owned()
}

/// The API's path in the README.
pub(crate) const API_PATH: &str = "../conductor/plugin-api";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}
