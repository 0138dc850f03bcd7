//! Secrets in platforms' configs: looked up, passed on, and never shown.

use std::fs;

use insta::assert_snapshot;
use serde_json::json;

use super::*;

/// A variable that every test run has, because setting one would be unsafe.
const VARIABLE: &str = "CARGO_MANIFEST_DIR";

fn secret() -> String {
    std::env::var(VARIABLE).unwrap()
}

/// Reads a config in `folder`, with one platform that has this `config`.
fn read_in(folder: &Path, config: &str) -> Result<ConductorConfig, ConfigError> {
    let text = format!("[platform.web]\nplugin = \"http\"\nconfig = {config}\n");
    ConductorConfig::parse(text, "conductor.toml", folder)
}

fn here(config: &str) -> ConductorConfig {
    read_in(Path::new(""), config).unwrap_or_else(|error| panic!("{}", error.to_plain()))
}

fn refused(config: &str) -> String {
    read_in(Path::new(""), config).unwrap_err().to_plain()
}

/// Writes a file that only its owner can read.
fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let file = folder.join(name);
    fs::write(&file, bytes).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn variables_and_files_stand_for_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "token", b"  s3cret \r\n\n");
    let config = read_in(
        folder.path(),
        &format!(
            r#"{{ url = "https://x/${{{VARIABLE}}}/y?${{{VARIABLE}}}", headers = {{ authorization = {{ file = "token" }} }}, list = [{{ file = "token" }}], plain = "$5 $${{A}} {{}}" }}"#
        ),
    )
    .unwrap();
    let secret = secret();
    let expected = json!({
        "url": format!("https://x/{secret}/y?{secret}"),
        "headers": { "authorization": "  s3cret " },
        "list": ["  s3cret "],
        "plain": "$5 ${A} {}",
    });
    assert_eq!(config.platforms[0].config, expected);
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.platforms[0].secrets.files.len(), 2);
}

#[test]
fn a_config_with_a_key_called_file_is_no_secret() {
    let config = here(r#"{ file = "/var/backups/x" }"#);
    assert_eq!(
        config.platforms[0].config,
        json!({ "file": "/var/backups/x" })
    );
    let config = here(r#"{ log = { file = "x", mode = "append" }, n = { file = 5 } }"#);
    let expected = json!({ "log": { "file": "x", "mode": "append" }, "n": { "file": 5 } });
    assert_eq!(config.platforms[0].config, expected);
}

#[test]
fn what_is_missing_has_its_line_and_cure() {
    assert_snapshot!(refused("{ url = \"${NO_SUCH_VARIABLE}\", a = [1, { file = \"no/such/file\" }] }"), @r#"
    conductor.toml:3:18: platform.web.config.url: the environment's variable NO_SUCH_VARIABLE is not set
      help: set NO_SUCH_VARIABLE for the host before it starts (with systemd: EnvironmentFile=), or use { file = "…" }
    conductor.toml:3:49: platform.web.config.a[1]: the file no/such/file cannot be read: No such file or directory (os error 2)
      help: paths are relative to the folder of the config
    "#);
    assert_snapshot!(refused("{ url = \"${not a name}\", a = \"${\", b = \"${}\", c = \"${9}\" }"), @r#"
    conductor.toml:3:18: platform.web.config.url: a `${` that names no variable of the environment
      help: write ${NAME}, of letters, digits and `_`, or ${self.url} or ${self.address} for this host itself; where the text itself is meant, write $${
    conductor.toml:3:39: platform.web.config.a: a `${` that names no variable of the environment
      help: write ${NAME}, of letters, digits and `_`, or ${self.url} or ${self.address} for this host itself; where the text itself is meant, write $${
    conductor.toml:3:49: platform.web.config.b: a `${` that names no variable of the environment
      help: write ${NAME}, of letters, digits and `_`, or ${self.url} or ${self.address} for this host itself; where the text itself is meant, write $${
    conductor.toml:3:60: platform.web.config.c: a `${` that names no variable of the environment
      help: write ${NAME}, of letters, digits and `_`, or ${self.url} or ${self.address} for this host itself; where the text itself is meant, write $${
    "#);
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "empty", b"\n");
    put(folder.path(), "binary", b"\xff\xfe");
    put(folder.path(), "huge", &[b'x'; 70_000]);
    let error = read_in(
        folder.path(),
        r#"{ a = { file = "empty" }, b = { file = "binary" }, c = { file = "huge" }, d = { file = "." } }"#,
    );
    let shown = error.unwrap_err().to_plain();
    assert_snapshot!(shown.replace(&format!("{}/", folder.path().display()), ""), @r#"
    conductor.toml:3:16: platform.web.config.a: the file empty is empty
      help: write the secret into it
    conductor.toml:3:40: platform.web.config.b: the file binary cannot be read: it is UTF-16: save it as UTF-8
      help: a secret is text
    conductor.toml:3:65: platform.web.config.c: the file huge cannot be read: it is larger than 65536 bytes
      help: name the file that holds the secret
    conductor.toml:3:88: platform.web.config.d: the file . cannot be read: it is a folder, not a file
      help: name the file that holds the secret
    "#);
}

#[test]
fn what_editors_add_to_a_secret_is_no_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    for (at, bytes) in [&b"s3cret\r\n"[..], b"\xef\xbb\xbfs3cret\r\n", b"s3cret\n"]
        .into_iter()
        .enumerate()
    {
        put(folder.path(), &at.to_string(), bytes);
        let config = read_in(folder.path(), &format!("{{ a = {{ file = \"{at}\" }} }}")).unwrap();
        assert_eq!(config.platforms[0].config["a"], "s3cret", "{bytes:?}");
    }
    put(folder.path(), "mark", b"\xef\xbb\xbf\r\n");
    let empty = read_in(folder.path(), r#"{ a = { file = "mark" } }"#).unwrap_err();
    assert!(empty.to_plain().contains("is empty"));
}

#[test]
#[cfg(unix)]
fn a_secret_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "token", b"s3cret");
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path().join("token"), open).unwrap();
    let config = read_in(folder.path(), r#"{ token = { file = "token" } }"#).unwrap();
    let warnings = config.warnings.join("\n");
    assert_snapshot!(warnings.replace(&format!("{}/", folder.path().display()), ""), @"platform.web.config.token: secret is readable by all users: run `chmod o-r token` (conductor.toml:3:20)");
}

#[test]
fn a_secret_is_held_against_the_schema_and_never_shown() {
    let schema = json!({
        "type": "object",
        "properties": {
            "pattern": { "type": "string", "pattern": "^https?://" },
            "number": { "type": "integer" },
            "choice": { "enum": ["get", "head"] },
            "forms": { "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^[1-5]xx$" }] },
            "short": { "type": "string", "maxLength": 3 },
            "constant": { "const": "x" },
            "list": { "type": "array", "uniqueItems": true, "maxItems": 1, "contains": { "const": 1 } },
            "table": { "type": "object", "maxProperties": 0 },
            "inner": { "type": "object", "properties": { "a": { "type": "string" } }, "additionalProperties": false },
            "whole": { "not": { "type": "object" } },
        },
    });
    let value = format!("\"${{{VARIABLE}}}\"");
    let config = here(&format!(
        "{{ pattern = {value}, number = {value}, choice = {value}, forms = {value}, short = {value}, constant = {value}, list = [{value}, {value}], table = {{ a = {value} }}, inner = {{ b = {value} }}, whole = {{ a = {{ b = [{value}] }} }} }}"
    ));
    let platform = &config.platforms[0];
    let error = judged(&config, platform, schema).unwrap_err();
    let shown = error.to_plain();
    // Even a part of it must not appear.
    assert!(!shown.contains(&secret()[..6]), "{shown}");
    assert_snapshot!(shown, @r#"
    conductor.toml:3:22: platform.web.config.pattern: (a secret) does not match "^https?://"
    conductor.toml:3:56: platform.web.config.number must be a whole number, not (a secret)
    conductor.toml:3:90: platform.web.config.choice must be one of "get", "head", not (a secret)
    conductor.toml:3:123: platform.web.config.forms: (a secret) does not match "^[1-5]xx$"
    conductor.toml:3:156: platform.web.config.short: (a secret) is longer than 3 characters
    conductor.toml:3:192: platform.web.config.constant: "x" was expected
    conductor.toml:3:224: platform.web.config.list: (a secret) has more than 1 item
    conductor.toml:3:224: platform.web.config.list: (a secret) has non-unique elements
    conductor.toml:3:224: platform.web.config.list: None of (a secret) are valid under the given schema
    conductor.toml:3:284: platform.web.config.table: (a secret) has more than 0 properties
    conductor.toml:3:327: platform.web.config.inner has no key `b`
      help: did you mean `a`?
    conductor.toml:3:366: platform.web.config.whole: {"type":"object"} is not allowed for (a secret)
    "#);
    let debug = format!("{platform:?} {:?} {error:?}", platform.secrets);
    assert!(!debug.contains(&secret()[..6]), "{debug}");
    // These paths contain the running test, and so does the folder that is the secret.
    let mut config = config;
    config.host.plugin_dirs.clear();
    let debug = format!("{config:?}");
    assert!(!debug.contains(&secret()[..6]), "{debug}");
}

#[test]
fn a_secret_that_changed_is_another_config() {
    let folder = tempfile::tempdir().unwrap();
    let config = || {
        let config = read_in(folder.path(), r#"{ token = { file = "token" } }"#);
        config.unwrap().platforms.remove(0)
    };
    put(folder.path(), "token", b"one");
    let before = config();
    assert_eq!(config(), before);
    put(folder.path(), "token", b"two");
    assert_ne!(config(), before);
}

#[test]
fn the_schema_of_the_file_lets_a_table_stand_for_a_text() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "url", b"https://example.org");
    let config = read_in(folder.path(), r#"{ url = { file = "url" } }"#).unwrap();
    let schema = json!({ "properties": { "url": { "type": "string", "pattern": "^https" } } });
    judged(&config, &config.platforms[0], schema).unwrap();
}
