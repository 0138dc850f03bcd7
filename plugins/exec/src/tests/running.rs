//! Surroundings of a command, and the meaning of its result.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use conductor_plugin_api::{FailureKind, Status, testing::TestHost};
use serde_json::{Value, json};

use super::{MINUTE, check, shell};
use crate::{
    ExecProbe,
    command::MAX_STDOUT,
    outcome::EXIT_CODE,
    performance::{SHARE, SHARE_LIMIT, TIME, VALUE},
};

#[test]
fn exit_codes_of_a_nagios_plugin_are_states_and_its_data_are_metrics() {
    for (code, status) in [
        (0, Status::Healthy),
        (1, Status::Degraded),
        (2, Status::Unhealthy),
    ] {
        let script =
            format!("echo 'X {code} - said | load=1.5;2;3 t=20ms p=40%;80;90'; exit {code}");
        let report = shell(&script, json!({})).unwrap();
        assert_eq!(report.status(), status);
        assert_eq!(report.message(), format!("X {code} - said"));
        assert_eq!(report.value(&EXIT_CODE, []), Some(f64::from(code)));
        assert_eq!(report.value(&VALUE, ["load", ""]), Some(1.5));
        assert_eq!(report.value(&TIME, ["t"]), Some(0.02));
        assert_eq!(report.value(&SHARE, ["p"]), Some(0.4));
        assert_eq!(report.value(&SHARE_LIMIT, ["p", "crit"]), Some(0.9));
    }
}

#[test]
fn a_plugin_that_could_not_tell_is_a_failure() {
    for (script, message) in [
        (
            "echo 'DISK UNKNOWN - no such mount'; exit 3",
            "DISK UNKNOWN - no such mount",
        ),
        ("echo 'cannot tell'; exit 3", "UNKNOWN: cannot tell"),
        ("exit 3", "UNKNOWN: no output, exit code 3"),
        (
            "echo usage; exit 64",
            "exit code 64, but a Nagios plugin exits with 0 to 3; for another command, set `format = \"exit-code\"`: usage",
        ),
        ("nosuchcommand", "exit code 127"),
        (
            "echo half; kill -SEGV $$",
            "the command was ended by signal 11 (SIGSEGV): half",
        ),
        (
            "kill -KILL $$",
            "the command was ended by signal 9 (SIGKILL, which",
        ),
        (
            "kill -USR1 $$",
            "the command was ended by signal 10: no output",
        ),
    ] {
        let failure = shell(script, json!({})).unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Error, "{script}");
        assert!(
            failure.message().starts_with(message),
            "{script}: {failure}"
        );
    }
}

#[test]
fn exit_codes_of_another_command_mean_what_the_config_says() {
    let keys = json!({"format": "exit-code", "healthy_codes": [0, 5], "degraded_codes": [1], "failed_codes": [4]});
    for (code, status) in [
        (0, Status::Healthy),
        (5, Status::Healthy),
        (1, Status::Degraded),
        (2, Status::Unhealthy),
        (127, Status::Unhealthy),
    ] {
        let report = shell(
            &format!("echo 'a | b=1'; echo c; exit {code}"),
            keys.clone(),
        )
        .unwrap();
        assert_eq!(report.status(), status, "{code}");
        assert_eq!(report.message(), "a | b=1 (1 more line)");
        assert_eq!(report.value(&VALUE, ["b", ""]), None);
    }
    let failure = shell("echo no database; exit 4", keys).unwrap_err();
    assert_eq!(failure.message(), "exit code 4: no database");
}

#[test]
fn the_message_is_the_first_line_or_the_one_on_standard_error() {
    for (script, message) in [
        (
            "echo first; echo second; echo third",
            "first (2 more lines)",
        ),
        ("echo trouble >&2", "no output; standard error: trouble"),
        ("echo noise >&2; echo OK", "OK"),
        (":", "no output, exit code 0"),
        ("printf 'a\\tb\\033[31m\\377'", "a\tb\u{1b}[31m\u{fffd}"),
    ] {
        let mut config = json!({"command": ["/bin/sh", "-c", script]});
        config["format"] = "nagios".into();
        let host = TestHost::new("here").timeout(MINUTE);
        let mut probe = host.create::<ExecProbe>(&config.to_string()).unwrap();
        assert_eq!(
            host.check(&mut probe).unwrap().message(),
            message,
            "{script}"
        );
    }
}

#[test]
fn no_shell_reads_the_arguments() {
    let arguments = ["$(id)", "; exit 2", "*", "a b", "'q'", ""];
    let mut command = vec!["/usr/bin/printf", "[%s]"];
    command.extend(arguments);
    let host = TestHost::new("here").timeout(MINUTE);
    let report = check(&host, &json!({"command": command})).unwrap();
    let expected: String = arguments.iter().map(|text| format!("[{text}]")).collect();
    assert_eq!(report.message(), expected);
}

#[test]
fn a_command_gets_its_environment_its_folder_no_input_and_no_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let at = fs::canonicalize(folder.path()).unwrap();
    let keys = json!({"directory": at, "environment": {"TOKEN": "s3cret", "LC_ALL": "C"}});
    let report = shell("cat; pwd", keys.clone()).unwrap();
    assert_eq!(report.message(), at.to_str().unwrap());
    let report = shell(
        "env | cut -d= -f1 | grep -v '^_$' | sort | tr '\\n' ' '",
        keys.clone(),
    )
    .unwrap();
    assert_eq!(report.message(), "CONDUCTOR_EXEC LC_ALL PATH PWD TOKEN");
    let report = shell("echo $TOKEN $LC_ALL", keys).unwrap();
    assert_eq!(report.message(), "s3cret C");
    // A file that this process has open.
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("ls -l /proc/self/fd | grep -c {}", file.path().display());
    let report = shell(&script, json!({"format": "exit-code"})).unwrap();
    assert_eq!(report.message(), "0");
}

#[test]
fn a_hundred_megabytes_of_output_are_read_bounded_and_named() {
    let script = "printf 'OK | a=1 '; head -c 104857600 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero >&2";
    let before = peak_memory();
    let report = shell(script, json!({})).unwrap();
    assert_eq!(report.status(), Status::Healthy);
    let size = 104_857_600 + 9;
    assert_eq!(
        report.message(),
        format!("OK (output truncated: the first {MAX_STDOUT} of {size} bytes were read)")
    );
    assert_eq!(report.value(&VALUE, ["a", ""]), Some(1.0));
    let grown = peak_memory() - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}

fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

#[test]
fn a_command_that_cannot_be_started_is_named_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let orphan = file("orphan", "#!/no/such/interpreter\n", 0o755);
    let text = file("text", "\u{1}\u{2}just text", 0o755);
    let folder = folder.path().to_str().unwrap();
    for (command, message) in [
        (
            "/no/such/check",
            r#""/no/such/check" does not exist; install it, or correct key `command`"#.to_owned(),
        ),
        (
            folder,
            format!("{folder:?} is a folder, not a program; correct key `command`"),
        ),
        (
            &plain,
            format!("{plain:?} is not executable; make it so with `chmod +x {plain}`"),
        ),
        (
            &orphan,
            format!(
                "{orphan:?} exists, but the interpreter in its first line or its loader does not; install that"
            ),
        ),
        (
            &text,
            format!(
                "{text:?} is neither a program of this machine nor a script: its first line must name an interpreter, `#!/bin/sh`"
            ),
        ),
    ] {
        let host = TestHost::new("here").timeout(MINUTE);
        let failure = check(&host, &json!({"command": [command]})).unwrap_err();
        assert_eq!(failure.message(), message);
    }
    let failure = shell(":", json!({"directory": "/no/such/folder"})).unwrap_err();
    assert!(
        failure
            .message()
            .starts_with("key `directory`: \"/no/such/folder\" is not an accessible folder"),
        "{failure}"
    );
}

#[test]
fn each_wrong_key_is_named() {
    let refused = |config: Value| {
        let host = TestHost::new("here");
        let failure = host
            .create_unchecked::<ExecProbe>(&config.to_string())
            .err()
            .unwrap();
        assert_eq!(failure.kind(), FailureKind::Config);
        failure.message().to_owned()
    };
    for (config, message) in [
        (json!({"command": []}), "key `command`: the list is empty"),
        (
            json!({"command": ["check_disk"]}),
            "key `command`: \"check_disk\" is not an absolute path",
        ),
        (
            json!({"command": ["check_disk -w 5"]}),
            "no shell splits them",
        ),
        (json!({"command": ["/bin/x", "a\0"]}), "contains a NUL"),
        (
            json!({"command": ["/bin/x"], "directory": "here"}),
            "key `directory`: \"here\" is not absolute",
        ),
        (
            json!({"command": ["/bin/x"], "environment": {"A=B": "c"}}),
            "\"A=B\" is not the name of a variable",
        ),
        (
            json!({"command": ["/bin/x"], "degraded_codes": [1]}),
            "key `degraded_codes`: Nagios defines the exit codes",
        ),
        (
            json!({"command": ["/bin/x"], "format": "exit-code", "failed_codes": [0]}),
            "keys `healthy_codes` and `failed_codes`: both have 0",
        ),
    ] {
        let said = refused(config);
        assert!(said.contains(message), "{said}");
    }
    let said = refused(json!({"command": [], "directory": "x"}));
    assert!(
        said.contains("`command`") && said.contains("`directory`"),
        "{said}"
    );
}

#[test]
fn a_secret_of_the_environment_is_not_printed() {
    let config = json!({"command": ["/bin/x"], "environment": {"TOKEN": "s3cret"}});
    let config: crate::config::ExecConfig = serde_json::from_value(config).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(Path::new("/bin/sh").exists());
}
