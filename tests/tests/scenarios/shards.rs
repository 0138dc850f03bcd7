//! Several hosts share the platforms of one config.

use std::{collections::BTreeMap, fs};

use crate::harness::{Host, Setup};

const PLATFORMS: usize = 24;

fn setup() -> Setup {
    let names = (0..PLATFORMS).map(|number| format!("shop-{number}"));
    names.fold(Setup::new(), |setup, name| {
        setup.platform(&name, "fault", "{}")
    })
}

/// Starts shard `index` of `total`.
fn shard(index: usize, total: usize) -> Host {
    let (index, total) = (index.to_string(), total.to_string());
    setup().start_with(&["--shard.index", &index, "--shard.total", &total])
}

fn names(host: &Host) -> Vec<String> {
    let status = host.status();
    let platforms = status["platforms"].as_array().unwrap();
    let name = |platform: &serde_json::Value| platform["name"].as_str().unwrap().to_owned();
    platforms.iter().map(name).collect()
}

#[test]
fn each_platform_is_checked_by_exactly_one_of_the_hosts() {
    let hosts = [0, 1, 2].map(|index| shard(index, 3));
    let mut owners = BTreeMap::<_, Vec<_>>::new();
    for (index, host) in hosts.iter().enumerate() {
        for name in names(host) {
            host.wait("a check", |m| m.checks(&name, "healthy") >= 1.0);
            owners.entry(name).or_default().push(index);
        }
        let index = index.to_string();
        let metrics = host.metrics();
        let info = [("index", &*index), ("total", "3")];
        assert_eq!(metrics.sum("conductor_shard_info", &info), 1.0);
        assert_eq!(metrics.sum("conductor_shards", &[]), 3.0);
        assert_eq!(host.status()["host"]["shard"]["total"], 3);
    }
    assert_eq!(owners.len(), PLATFORMS, "{owners:?}");
    assert!(owners.values().all(|of| of.len() == 1), "{owners:?}");
    assert!(hosts.iter().all(|host| !names(host).is_empty()));

    let whole = setup().start();
    assert_eq!(names(&whole).len(), PLATFORMS);
    assert!(!whole.metrics().has("conductor_shard_info", &[]));
    assert!(whole.status()["host"]["shard"].is_null());
}

#[test]
fn a_reload_moves_a_host_to_another_share_and_keeps_what_both_have() {
    let host = setup().with("[shard]\nindex = 0\ntotal = 2\n").start();
    let before = names(&host);
    let kept = names(&shard(0, 4));
    // Those of 0 of 4 are among those of 0 of 2: a remainder of 0 by 4 is one by 2.
    assert!(kept.iter().all(|name| before.contains(name)) && !kept.is_empty());
    let counted = host
        .wait("checks", |m| m.checks(&kept[0], "healthy") >= 2.0)
        .checks(&kept[0], "healthy");
    let file = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("total = 2", "total = 4")).unwrap();
    host.reload();
    host.wait("the share", |m| m.sum("conductor_shards", &[]) == 4.0);
    assert_eq!(names(&host), kept);
    assert!(host.metrics().checks(&kept[0], "healthy") >= counted);
}

#[test]
fn the_schedule_of_a_share_is_printed_and_a_share_that_does_not_exist_is_refused() {
    let setup = setup();
    let print = |index: &str| {
        let options = ["schedule", "--shard.index", index, "--shard.total", "3"];
        setup.command(&options).output().unwrap()
    };
    let printed = [0, 1, 2].map(|index| {
        let output = print(&index.to_string());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    for number in 0..PLATFORMS {
        let name = format!(" shop-{number} ");
        let owners = printed.iter().filter(|text| text.contains(&name)).count();
        assert_eq!(owners, 1, "{name}: {printed:?}");
    }
    let refused = print("3");
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("there is no shard 3 of 3"), "{text}");
}
