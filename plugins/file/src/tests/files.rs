//! Number, age and size of files, missing files and odd ones.

use std::{fs, time::Duration};

use conductor_plugin_api::{Report, Status};
use serde_json::{Value, json};

use super::{check, write};
use crate::{AGE, FILES, SIZE, TOTAL_SIZE};

const HOUR: Duration = Duration::from_secs(3600);

fn with(path: &std::path::Path, keys: &Value) -> Report {
    let mut config = json!({ "path": path });
    let more = keys.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    check(&config).unwrap_or_else(|failure| panic!("{config}: {failure}"))
}

#[test]
fn a_file_is_measured_and_judged_by_its_limits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup [1].tar");
    write(&path, &[0; 2048], 2 * HOUR);
    let report = with(&path, &json!({}));
    assert_eq!(report.status(), Status::Healthy);
    assert_eq!(report.message(), "2.0 KiB, modified 2 h 0 min ago");
    assert_eq!(report.value(&FILES, []), Some(1.0));
    assert_eq!(report.value(&SIZE, ["largest"]), Some(2048.0));
    assert!(report.value(&AGE, ["newest"]).unwrap() >= 7200.0);
    let shown = path.display();
    for (keys, status, said) in [
        (
            json!({ "age": { "degraded_above": "1h" } }),
            Status::Degraded,
            format!("{shown} was modified 2 h 0 min ago (`age.degraded_above` is 1h)"),
        ),
        (
            json!({ "age": { "unhealthy_above": "119m" } }),
            Status::Unhealthy,
            format!("{shown} was modified 2 h 0 min ago (`age.unhealthy_above` is 1h 59m)"),
        ),
        (
            json!({ "oldest_age": { "unhealthy_below": "3h" } }),
            Status::Unhealthy,
            format!("{shown} was modified 2 h 0 min ago (`oldest_age.unhealthy_below` is 3h)"),
        ),
        (
            json!({ "size": { "unhealthy_below": "3KiB" } }),
            Status::Unhealthy,
            format!("{shown} has 2.0 KiB (`size.unhealthy_below` is 3KiB)"),
        ),
        (
            json!({ "size": { "degraded_above": "1KiB" } }),
            Status::Degraded,
            format!("{shown} has 2.0 KiB (`size.degraded_above` is 1KiB)"),
        ),
        (
            json!({ "total_size": { "degraded_above": "1KiB" } }),
            Status::Degraded,
            "2.0 KiB in all files (`total_size.degraded_above` is 1KiB)".to_owned(),
        ),
        (
            json!({ "count": { "unhealthy_above": 0 } }),
            Status::Unhealthy,
            format!("{shown} exists (`count.unhealthy_above` is 0)"),
        ),
    ] {
        let report = with(&path, &keys);
        assert_eq!((report.status(), report.message()), (status, said.as_str()));
    }
}

#[test]
fn an_empty_file_is_below_a_size_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup.tar");
    write(&path, &[], HOUR);
    let report = with(&path, &json!({ "size": { "unhealthy_below": "1kB" } }));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    assert!(report.message().contains("has 0 B"), "{report:?}");
}

#[cfg(unix)]
#[test]
fn links_to_one_file_do_not_add_to_the_total_size() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write(&at("disk.img"), &[0; 2000], HOUR);
    write(&at("other.img"), &[0; 100], HOUR);
    fs::hard_link(at("disk.img"), at("hard.img")).unwrap();
    for name in ["a.img", "b.img"] {
        std::os::unix::fs::symlink("disk.img", at(name)).unwrap();
    }
    let report = with(
        &at("*.img"),
        &json!({ "total_size": { "unhealthy_above": "3kB" } }),
    );
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(report.value(&FILES, []), Some(5.0));
    assert_eq!(report.value(&TOTAL_SIZE, []), Some(2100.0));
}

#[test]
fn a_missing_file_is_unhealthy_unless_it_must_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/lock");
    let report = with(
        &path,
        &json!({ "age": { "degraded_above": "1h" }, "matches": "x" }),
    );
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        format!(
            "{} does not exist (`count.unhealthy_below` is 1)",
            path.display()
        )
    );
    assert_eq!(report.value(&FILES, []), Some(0.0));
    let report = with(&path, &json!({ "count": { "unhealthy_above": 0 } }));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
}

#[test]
fn wildcards_select_files_and_no_folders() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("a/deep/er")).unwrap();
    fs::create_dir_all(at("b.log")).unwrap();
    for (name, hours) in [
        ("1.log", 3),
        ("2.log", 1),
        (".hidden.log", 9),
        ("a/3.log", 5),
        ("a/deep/er/4.log", 2),
        ("a/deep/other", 20),
    ] {
        write(&at(name), &[0; 1000], hours * HOUR);
    }
    for (pattern, count, newest, oldest) in [
        ("*.log", 2, 1, 3),
        ("?.log", 2, 1, 3),
        ("**/*.log", 4, 1, 5),
        ("a/**/*.log", 2, 2, 5),
        ("*/*.log", 1, 5, 5),
        ("a/**", 3, 2, 20),
        (".*.log", 1, 9, 9),
    ] {
        let report = with(&at(pattern), &json!({}));
        assert_eq!(
            report.value(&FILES, []),
            Some(f64::from(count)),
            "{pattern}"
        );
        let hours = |file| (report.value(&AGE, [file]).unwrap() / 3600.0).floor();
        assert_eq!(
            (hours("newest"), hours("oldest")),
            (f64::from(newest), f64::from(oldest)),
            "{pattern}"
        );
        assert_eq!(
            report.value(&TOTAL_SIZE, []),
            Some(f64::from(count) * 1000.0)
        );
    }
    let report = with(&at("*.log"), &json!({ "count": { "degraded_above": 1 } }));
    assert_eq!(report.status(), Status::Degraded);
    assert_eq!(
        report.message(),
        format!(
            "2 files match {} (`count.degraded_above` is 1)",
            at("*.log").display()
        )
    );
    let report = with(&at("none/*.log"), &json!({}));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
    let report = with(&at("*.log"), &json!({}));
    assert_eq!(
        report.message(),
        format!(
            "2 files, 2.0 KiB, {} was modified 1 h 0 min ago",
            at("2.log").display()
        )
    );
}

/// With wildcards, freshness is that of the newest file, and what waits too long that of the oldest.
#[test]
fn the_newest_and_the_oldest_file_have_limits_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("new"), b"", HOUR);
    write(&folder.path().join("old"), b"", 10 * HOUR);
    let all = folder.path().join("*");
    let report = with(&all, &json!({ "age": { "unhealthy_above": "2h" } }));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    let report = with(&all, &json!({ "oldest_age": { "unhealthy_above": "2h" } }));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");
}

#[test]
fn a_time_in_the_future_is_not_fresh_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    write(&path, b"", Duration::ZERO);
    let report = with(&path, &json!({ "age": { "unhealthy_above": "1h" } }));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    let file = fs::File::options().write(true).open(&path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.set_modified(modified + 3 * HOUR).unwrap();
    let report = with(&path, &json!({ "age": { "unhealthy_above": "1h" } }));
    assert_eq!(report.status(), Status::Unhealthy);
    assert!(
        report
            .message()
            .contains("in the future, so that its age is unknown (`age` has limits)"),
        "{report:?}"
    );
    assert_eq!(report.value(&AGE, ["newest"]), None);
    let report = with(&path, &json!({}));
    assert_eq!(report.status(), Status::Healthy, "no limits: {report:?}");
    file.set_modified(modified + Duration::from_secs(30))
        .unwrap();
    let report = with(&path, &json!({ "age": { "unhealthy_above": "1h" } }));
    assert_eq!(
        report.value(&AGE, ["newest"]),
        Some(0.0),
        "a server's clock"
    );
}

#[test]
fn a_folder_has_an_age_and_no_size() {
    let folder = tempfile::tempdir().unwrap();
    let report = with(
        folder.path(),
        &json!({ "age": { "unhealthy_above": "1h" } }),
    );
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert_eq!(report.value(&SIZE, ["largest"]), None);
    let config = json!({ "path": folder.path(), "size": { "unhealthy_above": "1MiB" } });
    let failure = check(&config).unwrap_err();
    assert!(
        failure.message().starts_with("cannot judge `size`"),
        "{failure}"
    );
}

#[cfg(unix)]
#[test]
fn a_link_without_a_target_is_named_and_not_counted() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("current");
    symlink("/no/such/release", &link).unwrap();
    let report = with(&link, &json!({}));
    assert_eq!(report.status(), Status::Unhealthy);
    assert_eq!(
        report.message(),
        format!(
            "{} is a link to /no/such/release, which does not exist (`count.unhealthy_below` is 1)",
            link.display()
        )
    );
    write(&folder.path().join("file"), b"", HOUR);
    let report = with(&folder.path().join("*"), &json!({}));
    assert_eq!(report.value(&FILES, []), Some(1.0));
    assert!(report.message().contains("/no/such/release"), "{report:?}");

    let circle = folder.path().join("circle");
    symlink(&circle, &circle).unwrap();
    let report = with(&circle, &json!({}));
    assert_eq!(report.status(), Status::Unhealthy, "{report:?}");

    // A link to a file is that file, and one to a folder is not walked by `**`.
    symlink(folder.path().join("file"), folder.path().join("good")).unwrap();
    symlink(folder.path(), folder.path().join("up")).unwrap();
    let report = with(&folder.path().join("**/file"), &json!({}));
    assert_eq!(report.value(&FILES, []), Some(1.0), "{report:?}");
    let report = with(&folder.path().join("good"), &json!({}));
    assert!(report.value(&AGE, ["newest"]).unwrap() >= 3600.0);
    super::set_age(&folder.path().join("file"), 2 * HOUR);
    let report = with(&folder.path().join("good"), &json!({}));
    assert!(report.value(&AGE, ["newest"]).unwrap() >= 7200.0);
}
