//! Configs of several files.

use std::fs;

use insta::assert_snapshot;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Writes the files into a folder; the first one is the main file.
fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn read(folder: &TempDir) -> Result<ConductorConfig, ConfigError> {
    ConductorConfig::read(&folder.path().join("conductor.toml"))
}

/// Returns the message about files, without their folder.
fn refused(files: &[(&str, &str)]) -> String {
    let folder = folder_of(files);
    let error = read(&folder).unwrap_err();
    let records = serde_json::to_string(&error.mistakes()).unwrap();
    assert!(!records.is_empty());
    error
        .to_plain()
        .replace(&format!("{}/", folder.path().display()), "")
}

fn names(config: &ConductorConfig) -> Vec<&str> {
    let platforms = config.platforms.iter();
    platforms.map(|platform| platform.name.as_str()).collect()
}

const DISK: &str = "plugin = \"disk\"\n";

#[test]
fn files_folders_and_patterns_are_read_once_each_in_the_order_of_their_paths() {
    let one = |name: &str| format!("[platform.{name}]\n{DISK}");
    let (a, b, c, d) = (one("a"), one("b"), one("c"), one("d"));
    for include in [
        r#"["conductor.d/*.toml", "extra/", "one.toml"]"#,
        r#"["one.toml", "extra", "conductor.d/a.toml", "conductor.d/[ab].toml"]"#,
        r#"["*.toml", "extra/d.toml", "conductor.d/", "conductor.d/?.toml"]"#,
    ] {
        let main = format!("include = {include}\n[platform.main]\n{DISK}");
        let folder = folder_of(&[
            ("conductor.toml", &main),
            ("conductor.d/b.toml", &b),
            ("conductor.d/a.toml", &a),
            ("conductor.d/.hidden.toml", "not TOML"),
            ("conductor.d/readme.md", "not TOML"),
            ("extra/d.toml", &d),
            ("one.toml", &c),
        ]);
        let config = read(&folder).unwrap();
        assert_eq!(names(&config), ["main", "a", "b", "d", "c"], "{include}");
        assert_eq!(config.warnings, [""; 0]);
        for file in [
            "conductor.toml",
            "conductor.d/a.toml",
            "extra/d.toml",
            "one.toml",
        ] {
            assert!(
                config.hidden().contains(&folder.path().join(file)),
                "{file}"
            );
        }
        let lock_file = folder.path().join("plugins.lock");
        assert_eq!(config.lock_file, Some(lock_file));
        let again = ConfigReadResult::again(&config, &OwnAddress::default());
        assert_eq!(again.into_result().unwrap().platforms, config.platforms);
    }
}

#[test]
fn a_mistake_has_its_own_file_and_line() {
    assert_snapshot!(refused(&[
        ("conductor.toml", "include = [\"d/\"]\n[host]\ninterval = \"5m\"\n[platform.main]\nplugin = 1"),
        ("d/a.toml", "# Ünicode\n\n[platform.a]\nplugin = \"disk\"\ntimeout = \"10m\""),
        ("d/b.toml", "[platform.b]\nplugin = \"disk\"\ninterfal = \"5s\""),
    ]), @r#"
    conductor.toml:5:10: platform.main.plugin must be a string, not the number 1
    d/a.toml:5:11: platform.a.timeout is 10m, above the interval of 5m
      help: a check must end before the next one starts: lower the timeout or raise the interval
    d/b.toml:3:1: platform.b has no key `interfal`
      help: did you mean `interval`?
    "#);
    let shown = refused(&[
        ("conductor.toml", "include = [\"d/\"]\n"),
        ("d/a.toml", "[platform.a]\nplugin = \"disk\""),
        ("d/b.toml", "[platform.b]\nplugin =\n"),
        (
            "d/c.toml",
            "[platform.c]\nplugin = \"disk\"\nplugin = \"exec\"",
        ),
    ]);
    assert!(shown.contains("d/b.toml:2:"), "{shown}");
    assert!(
        shown.contains("d/c.toml:3:1: platform.c.plugin is given twice"),
        "{shown}"
    );
}

#[test]
fn what_two_files_set_is_refused_with_both_places() {
    assert_snapshot!(refused(&[
        ("conductor.toml", "include = [\"d/\"]\n[host]\ninterval = \"5s\"\nlimits.memory = \"1GiB\"\n[platform.shop]\nplugin = \"disk\""),
        ("d/a.toml", "[host]\ntick = \"20ms\"\ninterval = \"6s\"\n[host.limits]\nmemory = \"2GiB\"\n[plugin.disk]\ncall_threads = 3"),
        ("d/b.toml", "[plugin.disk]\nstuck_limit = 3\n\n[platform.shop]\nlabels.a = \"b\"\n[template.t]\nplugin = \"disk\"\n[maintenance.m]\ndaily = [\"02:00-04:00\"]\nplatforms = [\"*\"]"),
        ("d/c.toml", "[template.t]\n[maintenance.m]\n"),
    ]), @r#"
    d/a.toml:3:1: host.interval is given twice
      first: conductor.toml:3:1
      help: keep one of the two
    d/a.toml:5:1: host.limits.memory is given twice
      first: conductor.toml:4:8
      help: keep one of the two
    d/b.toml:1:9: plugin.disk is given twice
      first: d/a.toml:6:9
      help: keep one of the two
    d/b.toml:4:11: platform.shop is given twice
      first: conductor.toml:5:11
      help: give each platform a name of its own
    d/c.toml:1:11: template.t is given twice
      first: d/b.toml:6:11
      help: keep one of the two
    d/c.toml:2:14: maintenance.m is given twice
      first: d/b.toml:8:14
      help: keep one of the two
    "#);
}

#[test]
fn keys_of_the_host_may_be_in_several_files() {
    let folder = folder_of(&[
        (
            "conductor.toml",
            "include = [\"a.toml\"]\n[host]\ninterval = \"10s\"\n",
        ),
        (
            "a.toml",
            "[host]\ntimeout = \"3s\"\n[platform.a]\nplugin = \"disk\"",
        ),
    ]);
    let config = read(&folder).unwrap();
    assert_eq!(config.host.interval.as_secs(), 10);
    assert_eq!(config.host.timeout.as_secs(), 3);
}

#[test]
fn what_cannot_be_included_is_named_at_its_entry() {
    assert_snapshot!(refused(&[
        ("conductor.toml", "include = [\n  \"missing.toml\",\n  \"missing/\",\n  \"conductor.toml\",\n  \"a[.toml\",\n  \"**/*.toml\",\n  \"nested.toml\",\n  \"bytes.toml\",\n]"),
        ("nested.toml", "include = [\"a.toml\"]\n[platform.a]\nplugin = \"disk\""),
        ("bytes.toml", ""),
    ]), @r#"
    conductor.toml:2:3: there is no file missing.toml
      help: paths are relative to the folder of the config file; a pattern such as "conductor.d/*.toml" may match no file
    conductor.toml:3:3: there is no folder missing/
      help: paths are relative to the folder of the config file; a pattern such as "conductor.d/*.toml" may match no file
    conductor.toml:4:3: the file includes itself
      help: remove it from `include`
    conductor.toml:5:3: "a[.toml" is not a pattern: invalid range pattern
      help: `*` matches any characters, `?` one, and `[ab]` one of these
    conductor.toml:6:3: `**` is not allowed in a pattern
      help: name each folder
    nested.toml:1:1: an included file cannot include others
      help: add these files to `include` in the main config file
    "#);
    let shown = refused(&[("conductor.toml", "include = \"a.toml\"")]);
    assert!(
        shown.contains("conductor.toml:1:11: include must be a list"),
        "{shown}"
    );
    let folder = folder_of(&[("conductor.toml", "include = [\"b.toml\"]")]);
    fs::write(folder.path().join("b.toml"), b"\n# Gr\xc3\xbc\xdfe\n").unwrap();
    let error = read(&folder).unwrap_err().to_plain();
    assert!(error.contains("b.toml:2:6: byte 0xdf"), "{error}");
}

#[test]
fn a_pattern_that_matches_nothing_is_a_warning() {
    let folder = folder_of(&[
        (
            "conductor.toml",
            "include = [\"d/*.toml\", \"e/\"]\n[platform.a]\nplugin = \"disk\"",
        ),
        ("e/readme.md", ""),
    ]);
    let warnings = read(&folder).unwrap().warnings;
    assert!(
        warnings[0].contains("\"d/*.toml\" matches no file"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("\"e/\" contains no file"),
        "{warnings:?}"
    );
    assert!(warnings[0].contains("conductor.toml:1:12"), "{warnings:?}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_every_user_can_write_to_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder_of(&[
        ("conductor.toml", "include = [\"d/\"]"),
        ("d/a.toml", "[platform.a]\nplugin = \"disk\""),
    ]);
    assert_eq!(read(&folder).unwrap().warnings, [""; 0]);
    let inside = folder.path().join("d");
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o777)).unwrap();
    let warnings = read(&folder).unwrap().warnings;
    assert!(
        warnings[0].contains("every user can add files"),
        "{warnings:?}"
    );
}

#[test]
fn the_lines_shown_are_those_of_the_file_with_the_mistake() {
    let folder = folder_of(&[
        (
            "conductor.toml",
            "include = [\"a.toml\"]\n[platform.shop]\nplugin = \"disk\"",
        ),
        ("a.toml", "# first line\n[platform.shop]\nplugin = \"disk\""),
    ]);
    let error = read(&folder).unwrap_err();
    let mut shown = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .render_report(&mut shown, &error)
        .unwrap();
    let shown = shown.replace(&format!("{}/", folder.path().display()), "");
    assert!(shown.contains("conductor.toml:2:"), "{shown}");
    assert!(shown.contains("a.toml:2:"), "{shown}");
    assert!(
        shown.contains("first line") && shown.contains("include ="),
        "{shown}"
    );
}

/// Returns everything that the files set, in an order that does not depend on them.
fn meaning(config: &ConductorConfig) -> String {
    let platforms: BTreeMap<_, _> = config
        .platforms
        .iter()
        .map(|platform| {
            let platform = PlatformConfig {
                location: SourceLocation {
                    file: "".into(),
                    line: 0,
                    column: 0,
                },
                ..platform.clone()
            };
            (
                platform.name.clone(),
                format!(
                    "{platform:?} {:?} {:?} {}",
                    platform.interval, platform.labels, platform.config
                ),
            )
        })
        .collect();
    format!("{:?} {platforms:?} {:?}", config.host, config.breaker)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_split_config_means_what_the_whole_one_means_in_any_order(
        homes in proptest::collection::vec(0_usize..4, 2..12),
        order in Just(vec![0, 1, 2]).prop_shuffle(),
    ) {
        let tables: Vec<String> = (0..homes.len())
            .map(|n| format!("[platform.p{n}]\nplugin = \"disk\"\ninterval = \"{}s\"\nlabels.n = \"{n}\"\nconfig.path = \"/{n}\"\n", n + 10))
            .collect();
        let host = ["[host]\ninterval = \"9s\"\n", "[host]\ntimeout = \"2s\"\n", "[breaker]\n"];
        let whole = format!("{}timeout = \"2s\"\n[breaker]\n{}", host[0], tables.concat());
        let whole = ConductorConfig::parse(whole, "conductor.toml", Path::new("")).unwrap();
        let include: Vec<_> = order.iter().map(|n| format!("\"{n}.toml\"")).collect();
        let mut texts = [host[0].to_owned(), host[1].to_owned(), host[2].to_owned(), format!("include = [{}]\n", include.join(", "))];
        for (home, table) in homes.iter().zip(&tables) {
            texts[*home].push_str(table);
        }
        let folder = folder_of(&[("conductor.toml", &texts[3]), ("0.toml", &texts[0]), ("1.toml", &texts[1]), ("2.toml", &texts[2])]);
        let split = read(&folder).unwrap();
        prop_assert_eq!(meaning(&split), meaning(&whole));
        let sorted = texts[3].replace(&include.join(", "), "\"0.toml\", \"1.toml\", \"2.toml\"");
        fs::write(folder.path().join("conductor.toml"), sorted).unwrap();
let in_order = read(&folder).unwrap();
        prop_assert_eq!(names(&in_order), names(&split));
    }
}
