//! `[maintenance.<name>]`: its parsed form, and mistakes in it.

use conductor_types::Checks;
use insta::assert_snapshot;

use super::*;

/// Returns a file with two platforms and a window with these lines.
fn file(lines: &str) -> String {
    format!(
        "[platform.db-1]\nplugin = \"tcp\"\n[platform.shop]\nplugin = \"http\"\n[maintenance.night]\n{lines}\n"
    )
}

fn mistakes(lines: &str) -> String {
    match parse(&file(lines)) {
        Ok(_) => "no mistake".to_owned(),
        Err(error) => error.to_plain(),
    }
}

#[test]
fn windows_are_read_with_their_defaults() {
    let config = read(&file("platforms = [\"*\"]\ndaily = [\"02:00-04:00\"]"));
    let window = &config.maintenance[0];
    assert_eq!(&*window.name, "night");
    assert_eq!((window.checks, &*window.reason), (Checks::GoOn, ""));
    assert_eq!(window.times.describe(), "02:00-04:00 (local)");

    let config = read(&file(
        "labels = { team = \"a\" }\nchecks = \"pause\"\nreason = \"patches\"\nfrom = 2026-12-31T22:00:00+01:00\nuntil = \"2027-01-01T06:00:00Z\"",
    ));
    let window = &config.maintenance[0];
    assert_eq!((window.checks, &*window.reason), (Checks::Pause, "patches"));
    let times = "2026-12-31 21:00 UTC to 2027-01-01 06:00 UTC";
    assert_eq!(window.times.describe(), times);
}

#[test]
fn a_wrong_key_hides_no_other_mistake_of_its_window() {
    let cases = [
        (
            "platform = [\"db-1\"]\ndaily = [\"2-4\"]\ntimezone = \"Nowhere\"",
            vec![
                "no key `platform`",
                "daily[0]: \"2-4\"",
                "unknown time zone \"Nowhere\"",
            ],
        ),
        (
            "platforms = [\"db-2\"]\nfrom = \"soon\"\nuntill = \"2027-01-01T00:00:00Z\"",
            vec!["no platform \"db-2\"", "from: \"soon\"", "no key `untill`"],
        ),
        (
            "platforms = [\"db-2\"]\ndayly = [\"02:00-04:00\"]\nchecks = 5",
            vec!["no platform \"db-2\"", "no key `dayly`", "checks must be"],
        ),
        (
            "lables = { a = \"b\" }\nwhen = \"now\"\nweekly = [\"Sat\"]",
            vec!["no key `lables`", "no key `when`", "weekly[0]: \"Sat\""],
        ),
    ];
    for (lines, expected) in cases {
        let plain = mistakes(lines);
        let found: Vec<_> = plain
            .lines()
            .filter(|line| !line.starts_with("  "))
            .collect();
        assert_eq!(found.len(), expected.len(), "{plain}");
        for mistake in expected {
            assert!(plain.contains(mistake), "{mistake:?} in {plain}");
        }
    }
}

#[test]
fn the_windows_of_the_default_file_can_be_taken_out_of_their_comments() {
    let start = default_text().find("# [maintenance.patching]").unwrap();
    let end = default_text().find("# Monitored platforms").unwrap();
    let lines: Vec<_> = default_text()[start..end]
        .lines()
        .map(|line| line.trim_start_matches(['#', ' ']))
        .collect();
    let config = read(&file(&format!(
        "platforms = [\"*\"]\ndaily = [\"02:00-04:00\"]\n{}",
        lines.join("\n")
    )));
    let names: Vec<_> = config.maintenance.iter().map(|w| &*w.name).collect();
    assert_eq!(names, ["move", "night", "patching"]);
}

#[test]
fn who_and_when_have_to_be_said() {
    assert_snapshot!(mistakes(""), @r#"
    conductor.toml:5:14: maintenance.night selects no platform
      help: add platforms = ["…"] or labels = { … }; platforms = ["*"] selects all
    conductor.toml:5:14: maintenance.night has no time
      help: add from and until, or weekly = ["Sat 02:00-04:00"], or daily = ["02:00-04:00"]
    "#);
    assert_snapshot!(mistakes("platforms = [\"shop\"]\nfrom = 2026-12-31T22:00:00Z"), @r"
    conductor.toml:7:8: maintenance.night has `from` without `until`
      help: add until
    ");
    assert_snapshot!(mistakes("platforms = [\"shop\"]\nuntil = 2026-12-31T22:00:00Z"), @r"
    conductor.toml:7:9: maintenance.night has `until` without `from`
      help: add from
    ");
    assert_snapshot!(mistakes("platforms = [\"shop\"]\ndaily = [\"02:00-04:00\"]\nuntil = 2026-12-31T22:00:00Z"), @r"
    conductor.toml:7:9: maintenance.night.daily cannot be combined with from and until: a window is single or recurring
      help: split it into two windows
    ");
}

#[test]
fn slips_in_names_are_told_before_somebody_is_woken_up() {
    assert_snapshot!(mistakes("platforms = [\"shop\", \"db1\", \"nothing-like-it\", \"none-*\"]\ndaily = [\"02:00-04:00\"]"), @r#"
    conductor.toml:6:13: maintenance.night.platforms[1]: the config has no platform "db1"
      help: did you mean "db-1"?
    conductor.toml:6:13: maintenance.night.platforms[2]: the config has no platform "nothing-like-it"
      help: use a name from this config, or a pattern such as "db-*"
    "#);
    assert_snapshot!(mistakes("platform = [\"shop\"]\ndaily = [\"02:00-04:00\"]"), @r"
    conductor.toml:6:1: maintenance.night has no key `platform`
      help: did you mean `platforms`?
    ");
    assert_snapshot!(mistakes("platforms = [\"shop\"]\ndaily = [\"02:00-04:00\"]\ntimezone = \"Europe/Berln\""), @r#"
    conductor.toml:8:12: maintenance.night.timezone: unknown time zone "Europe/Berln"
      help: did you mean "Europe/Berlin"?
    "#);
    assert_snapshot!(mistakes("platforms = [\"shop\"]\ndaily = [\"02:00-04:00\"]\ntimezone = \"Atlantis\""), @r#"
    conductor.toml:8:12: maintenance.night.timezone: unknown time zone "Atlantis"
      help: write an IANA name such as "Europe/Berlin", or "UTC" or "local"
    "#);
    assert_snapshot!(mistakes("platforms = [\"shop\"]\ndaily = [\"02:00-04:00\"]\nchecks = \"paused\""), @r#"
    conductor.toml:8:10: maintenance.night.checks must be one of "go-on", "pause", not the string "paused"
      help: did you mean "pause"?
    "#);
}

#[test]
fn times_that_are_none() {
    assert_snapshot!(mistakes("platforms = [\"shop\"]\nweekly = [\"Sta 02:00-04:00\", \"02:00-04:00\", \"Sat 02:00-25:00\"]\ndaily = [\"2-4\"]"), @r#"
    conductor.toml:7:10: maintenance.night.weekly[0]: "Sta 02:00-04:00": "Sta" is not a day of the week: write Mon, Tue, Wed, Thu, Fri, Sat, Sun
      help: write it like "Sat 02:00-04:00"
    conductor.toml:7:10: maintenance.night.weekly[1]: "02:00-04:00": it lacks a day or a time
      help: write it like "Sat 02:00-04:00"
    conductor.toml:7:10: maintenance.night.weekly[2]: "Sat 02:00-25:00": "25:00" is not a time of day
      help: write it like "Sat 02:00-04:00"
    conductor.toml:8:9: maintenance.night.daily[0]: "2-4": "2" is not a time of day
      help: write it like "02:00-04:00"
    "#);
    assert_snapshot!(mistakes("platforms = [\"shop\"]\nfrom = 2026-12-31T22:00:00\nuntil = \"tomorrow\""), @r#"
    conductor.toml:7:8: maintenance.night.from: "2026-12-31T22:00:00" is not a date and time with an offset from UTC
      help: write it like 2026-12-31T22:00:00+01:00, or with Z for UTC
    conductor.toml:8:9: maintenance.night.until: "tomorrow" is not a date and time with an offset from UTC
      help: write it like 2026-12-31T22:00:00+01:00, or with Z for UTC
    "#);
    assert_snapshot!(mistakes("platforms = [\"shop\"]\nfrom = 2026-12-31T22:00:00Z\nuntil = 2026-12-31T22:00:00Z\ntimezone = \"UTC\""), @r"
    conductor.toml:8:9: maintenance.night.until is 2026-12-31T22:00:00Z, not after from
      help: a window must end after it begins
    conductor.toml:9:12: maintenance.night.timezone applies to daily and weekly only: from and until contain their offset
      help: remove it
    ");
    assert_snapshot!(mistakes("platforms = [\"shop\"]\ndaily = \"02:00-04:00\""), @r#"
    conductor.toml:7:9: maintenance.night.daily must be a list, not the string "02:00-04:00"
    "#);
}

#[test]
fn a_platform_with_a_mistake_is_no_unknown_one() {
    let text = file("platforms = [\"shop\"]\ndaily = [\"02:00-04:00\"]").replace("\"http\"", "3");
    assert_snapshot!(parse(&text).unwrap_err().to_plain(), @r"
    conductor.toml:4:10: platform.shop.plugin must be a string, not the number 3
    ");
}

#[test]
fn a_selector_that_matches_no_platform_is_a_warning_with_its_place() {
    let warnings = |lines: &str| {
        let text = file(lines).replace("\"http\"", "\"http\"\nlabels = { team = \"web\" }");
        read(&text).warnings.join("\n")
    };
    let daily = "daily = [\"02:00-04:00\"]";
    assert_snapshot!(warnings(&format!("platforms = [\"db-*\", \"web-*\", \"s???\"]\n{daily}")), @r#"maintenance.night.platforms[1]: no platform matches "web-*" (conductor.toml:7:13)"#);
    assert_snapshot!(warnings(&format!("labels = {{ team = \"chat\" }}\n{daily}")), @r#"maintenance.night.labels: no platform has team = "chat" (conductor.toml:7:10)"#);
    assert_snapshot!(warnings(&format!("platforms = [\"db-1\", \"*\"]\nlabels = {{ team = \"web\" }}\n{daily}")), @r#"maintenance.night.platforms[0]: no platform matches "db-1" and has team = "web" (conductor.toml:7:13)"#);
    assert_snapshot!(warnings(&format!("platforms = [\"*\"]\n{daily}\n[plugin.disk]\n[plugin.tcp]")), @"plugin.disk: no platform uses this plugin, so the table has no effect (conductor.toml:9:9)");
    assert_eq!(warnings(&format!("platforms = [\"*\"]\n{daily}")), "");
}
