//! The configs in the documentation.

use std::fs;

use super::pages::{self, Page};
use crate::{bundled, harness::Setup};

#[test]
fn every_config_in_the_documentation_passes_config_check() {
    let mut count = 0;
    for page in pages::all() {
        for block in configs(&page) {
            check(&page.path, &block);
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} were found");
}

#[test]
fn every_config_that_packages_ship_passes_config_check() {
    let whole = ["debian/conductor.toml", "image/conductor.toml"];
    for file in whole {
        check(file, &packaged(file));
    }
    let inside = [
        ("helm/conductor/values.yaml", "config: |"),
        ("ansible/playbook.yml", "conductor_config: |"),
    ];
    for (file, key) in inside {
        check(file, &block_of(&packaged(file), key));
    }
}

#[test]
fn packages_have_the_version_of_the_host() {
    let command = conductor::cli::command();
    let version = command.get_version().unwrap();
    let chart = packaged("helm/conductor/Chart.yaml");
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {version}");
        assert!(chart.contains(&line), "{key} of the chart is not {version}");
    }
    let manifests = packaged("kubernetes/conductor.yaml");
    let image = format!("image: \"conductor:{version}\"");
    assert!(manifests.contains(&image), "there is no {image}");
    let package = format!("conductor_{version}-1_");
    let playbook = packaged("ansible/playbook.yml");
    assert!(playbook.contains(&package), "there is no {package}");
}

/// Returns a file of `packaging`.
fn packaged(file: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");
    fs::read_to_string(format!("{folder}/{file}")).unwrap()
}

/// Returns the text of a YAML key that is a block: its indented lines.
fn block_of(yaml: &str, key: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != key);
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines.next().unwrap());
    let block = lines.take_while(|line| line.trim().is_empty() || indent(line) > own);
    block.map(|line| format!("{}\n", line.trim())).collect()
}

/// Returns the blocks of a page that are `conductor.toml` or a part of it.
fn configs(page: &Page) -> Vec<String> {
    let mut blocks = page.blocks("toml");
    let is_manifest =
        |block: &str| block.contains("crate-type") || block.contains("[dependencies]");
    blocks.retain(|block| !is_manifest(block));
    blocks
}

/// Validates a config, with what it leaves out and the files that it names.
fn check(page: &str, block: &str) {
    // The plugin of the guide is not built here; another one takes its path.
    let mut text = block
        .replace("\"my-db\"", "\"disk\"")
        .replace("/usr/lib/conductor/plugins", "plugins")
        .replace("/etc/conductor/orders.password", "shop.token")
        .replace("/etc/conductor/mail.password", "shop.token")
        .replace("/etc/conductor/backup.token", "shop.token")
        .replace(", max_age = \"100y\"", "");
    if !block.contains("[platform") {
        text.push_str("\n[platform.db-1]\nplugin = \"fault\"\n");
    }
    if !block.contains("[host]") {
        text.push_str("\n[host]\nplugin_dirs = [\"plugins\"]\nstate_dir = \"state\"\n");
    }
    let used = bundled::ids();
    let used = used.iter().filter(|id| {
        text.contains(&format!("\"{id}\"")) || text.contains(&format!("[plugin.{id}"))
    });
    let setup = used.fold(Setup::without_plugins(), |setup, id| setup.bundled(id));
    fs::write(setup.path("shop.token"), "the-token-of-the-shop").unwrap();
    let file = setup.path("page.toml");
    fs::write(&file, &text).unwrap();
    let output = crate::harness::conductor(&["config", "check"])
        .arg(&file)
        .env("SHOP_KEY", "key")
        .env("DISCORD_WEBHOOK", "https://discord.example/api/webhooks/7")
        .env("MATRIX_TOKEN", "token")
        .env("XDG_STATE_HOME", setup.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{page}: {said}\n{text}");
}
