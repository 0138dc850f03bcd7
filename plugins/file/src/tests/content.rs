//! The content of files, and the last line of logs.

use std::{fs, path::Path, time::Duration};

use conductor_plugin_api::{Report, Status};
use serde_json::{Value, json};

use super::{check, write};

fn with(path: &Path, keys: &Value) -> Report {
    let mut config = json!({ "path": path });
    let more = keys.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    check(&config).unwrap_or_else(|failure| panic!("{config}: {failure}"))
}

#[test]
fn the_content_must_match_and_must_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mode");
    fs::write(&path, b"\xff\nmode = primary\nstate = ok\n").unwrap();
    let shown = path.display();
    for (keys, said) in [
        (json!({ "matches": "^mode = primary$" }), None),
        (
            json!({ "matches": "^mode = standby$" }),
            Some(format!("nothing in {shown} matches `matches`")),
        ),
        (json!({ "not_matches": "error" }), None),
        (
            json!({ "not_matches": "pri.*y" }),
            Some(format!(
                "{shown} has \"primary\", which `not_matches` excludes"
            )),
        ),
    ] {
        let report = with(&path, &keys);
        match said {
            None => assert_eq!(report.status(), Status::Healthy, "{report:?}"),
            Some(said) => {
                assert_eq!(report.status(), Status::Unhealthy);
                assert_eq!(report.message(), said);
            }
        }
    }
}

#[test]
fn the_checksum_is_that_of_sha256sum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    fs::write(&path, "abc").unwrap();
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for hash in [ABC.to_owned(), ABC.to_uppercase()] {
        let report = with(&path, &json!({ "sha256": hash }));
        assert_eq!(report.status(), Status::Healthy, "{report:?}");
    }
    fs::write(&path, "abd").unwrap();
    let report = with(&path, &json!({ "sha256": ABC }));
    assert_eq!(report.status(), Status::Unhealthy);
    assert!(
        report.message().contains(&format!("expected {ABC}"))
            && report.message().contains("a52d159f"),
        "{report:?}"
    );
}

#[test]
fn the_last_line_that_matches_decides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.log");
    let line = |rest: Value| {
        let mut keys = json!({ "pattern": "backup (done|failed)" });
        keys.as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        json!({ "last_line": keys })
    };
    let must_not_fail = line(json!({ "not_matches": "failed" }));
    let must_be_done = line(json!({ "matches": "done$" }));
    for (log, status) in [
        (
            "1 backup failed\n2 backup done\n3 sleeping\n",
            Status::Healthy,
        ),
        (
            "1 backup done\n2 backup failed\n3 sleeping\n",
            Status::Unhealthy,
        ),
        ("1 backup failed\r\n2 backup done\r\n", Status::Healthy),
        ("1 backup failed\n2 backup done", Status::Healthy),
        ("3 sleeping\n", Status::Unhealthy),
        ("", Status::Unhealthy),
    ] {
        fs::write(&path, log).unwrap();
        for keys in [&must_not_fail, &must_be_done] {
            let report = with(&path, keys);
            assert_eq!(report.status(), status, "{log:?}: {report:?}");
        }
    }
    fs::write(&path, "1 backup done\n2 backup failed\n").unwrap();
    let report = with(&path, &must_not_fail);
    assert_eq!(
        report.message(),
        format!(
            "the last line of {} does not meet `last_line.not_matches`: \"2 backup failed\"",
            path.display()
        )
    );
    fs::write(&path, "2 backup done\n").unwrap();
    let report = with(&path, &must_not_fail);
    assert!(
        report
            .message()
            .ends_with("; the last line: \"2 backup done\""),
        "{report:?}"
    );
}

#[test]
fn a_log_without_the_line_has_the_state_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.log");
    // The line exists, but before the part that is searched.
    let log = format!("backup done\n{}\n", "x".repeat(2000));
    fs::write(&path, log).unwrap();
    for (missing, status) in [
        (json!(null), Status::Unhealthy),
        (json!("degraded"), Status::Degraded),
        (json!("healthy"), Status::Healthy),
    ] {
        let mut line = json!({ "pattern": "backup done", "within": "1KiB" });
        if !missing.is_null() {
            line["missing"] = missing;
        }
        let report = with(&path, &json!({ "last_line": line }));
        assert_eq!(report.status(), status, "{report:?}");
    }
    let report = with(
        &path,
        &json!({ "last_line": { "pattern": "backup done", "within": "1KiB" } }),
    );
    assert_eq!(
        report.message(),
        format!(
            "no line in the last 1KiB of {} matches `last_line.pattern`",
            path.display()
        )
    );
    // The part begins inside a line, whose rest is not a line.
    let log = format!("backup done\n{}\n", "x".repeat(1018));
    fs::write(&path, log).unwrap();
    let report = with(
        &path,
        &json!({ "last_line": { "pattern": "^done$", "within": "1KiB" } }),
    );
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}

#[test]
fn with_wildcards_the_newest_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write(
        &folder.path().join("b.log"),
        b"failed\n",
        Duration::from_secs(600),
    );
    write(
        &folder.path().join("a.log"),
        b"done\n",
        Duration::from_secs(60),
    );
    let report = with(&folder.path().join("*.log"), &json!({ "matches": "done" }));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}

#[test]
fn a_long_line_is_shortened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.log");
    fs::write(&path, format!("done {}\n", "ä".repeat(100_000))).unwrap();
    let report = with(&path, &json!({ "last_line": { "pattern": "done" } }));
    assert!(report.message().chars().count() < 300, "{report:?}");
}
