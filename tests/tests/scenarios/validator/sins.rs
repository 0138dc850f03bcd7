//! A plugin for each test of the validator that fails it, with what the test says; written in C, where that can be.

use std::{fs, path::Path};

use super::validate;
use crate::c_plugins::source::{
    Language, ON_A_THREAD, beginning, checking, compile, creating, has, reporting,
};

/// A plugin, the test that it fails or is warned by, and words of the finding and of the cure.
struct Sin {
    source: String,
    language: Language,
    test: &'static str,
    status: &'static str,
    config: Option<&'static str>,
    level: u8,
    words: &'static [&'static str],
}

impl Sin {
    fn new(source: impl Into<String>, test: &'static str, words: &'static [&'static str]) -> Self {
        Self {
            source: source.into(),
            language: Language::C,
            test,
            status: "failed",
            config: None,
            level: 3,
            words,
        }
    }

    fn with(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    fn given(self, config: &'static str) -> Self {
        let config = Some(config);
        Self { config, ..self }
    }

    #[track_caller]
    fn is_found(&self, folder: &Path) {
        let library = folder.join("sinner.so");
        assert!(compile(&self.source, self.language, &library));
        let id = format!("^{}$", self.test);
        let found = validate(&library, self.config, self.level, &id);
        let test = &found.0["files"][0]["tests"][0];
        assert_eq!(test["status"], self.status, "{}: {test}", self.test);
        let said = format!("{}; {}", test["found"], test["cure"]);
        for word in self.words {
            assert!(said.contains(word), "{}: {word}: {said}", self.test);
        }
    }
}

/// The schema of what `checking` writes, with another one in its place.
fn with_schema(source: &str, schema: &str) -> String {
    let escaped = schema.replace('"', "\\\"");
    source.replace("\"{}\", create", &format!("\"{escaped}\", create"))
}

fn fine() -> String {
    reporting("0", "fine")
}

/// Code that runs as the library is loaded.
fn at_load(body: &str) -> String {
    format!(
        "#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n{}\n__attribute__((constructor)) static void at_load(void) {{ {body} }}\n",
        fine()
    )
}

/// Code beside the checks, which comes before them.
fn beside(code: &str, source: &str) -> String {
    format!(
        "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\n#include <sys/socket.h>\n#include <netinet/in.h>\n#include <stdlib.h>\n{code}\n{source}"
    )
}

#[test]
fn every_test_of_a_file_and_of_loading_it_can_fail() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for sin in [
        Sin::new(
            format!("int exported;\n{}", fine()),
            "file/exports",
            &["exported", "-fvisibility=hidden"],
        )
        .with("warning"),
        Sin::new(
            fine().replace("\"1.0.0\"", "\"one\""),
            "file/manifest",
            &["no semantic version"],
        ),
        Sin::new(
            fine().replace(
                "CONDUCTOR_PLUGIN(",
                "#undef CONDUCTOR_API_MAJOR\n#define CONDUCTOR_API_MAJOR 9\nCONDUCTOR_PLUGIN(",
            ),
            "file/api-version",
            &["conductor_plugin.h of API 1.x"],
        ),
        Sin::new(at_load("abort();"), "load/opens", &["SIGABRT"]).with("crashed"),
        Sin::new(
            fine().replace("create, check,", "create, NULL,"),
            "load/manifest",
            &["`check`", "is NULL"],
        ),
        Sin::new(
            at_load("if (write(3, \"this is the socket of a worker\", 30)) {}"),
            "load/worker",
            &["a host does not load it"],
        ),
        Sin::new(at_load("sleep(1);"), "load/quick", &["takes 1"]).with("warning"),
        Sin::new(
            at_load("signal(SIGINT, SIG_IGN);"),
            "load/constructor-quiet",
            &["which signals are ignored"],
        ),
        Sin::new(
            at_load("printf(\"hello\");"),
            "load/constructor-quiet",
            &["hello", "conductor_log"],
        ),
        Sin::new(
            with_schema(&fine(), "{\"type\": 7}"),
            "load/schema",
            &["not valid"],
        ),
        Sin::new(
            with_schema(&fine(), "{\"properties\": {\"url\": {}}}"),
            "load/schema",
            &[
                "`url` has no description",
                "\\\"description\\\" in the schema",
            ],
        )
        .with("warning"),
    ] {
        sin.is_found(folder.path());
    }
}

#[test]
fn every_test_of_configs_and_checks_can_fail() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let url = r#"{"type": "object", "required": ["url"], "properties": {"url": {"type": "string", "description": "u", "examples": ["a"]}}}"#;
    let refusing = |said: &str| {
        let body = format!(
            "if (!conductor_config_string(call, \"url\", NULL)) {{ conductor_fail(call, {said}); return NULL; }} return malloc(1);"
        );
        with_schema(&creating(&body), url)
    };
    let crash_without = with_schema(
        &creating("if (!conductor_config_string(call, \"url\", NULL)) abort(); return malloc(1);"),
        url,
    );
    for sin in [
        Sin::new(creating("return NULL;"), "config/creates", &["does not say why", "call conductor_fail"]),
        Sin::new(creating("conductor_fail(call, 2, \"no\"); return NULL;"), "config/creates", &["create refuses"]),
        Sin::new(refusing("2, \"something is missing\""), "config/empty", &["without the name of its key", "CONDUCTOR_FAILURE_CONFIG"]),
        Sin::new(refusing("0, \"url is missing\""), "config/empty", &["not as a mistake of the config"]).with("warning"),
        Sin::new(crash_without.clone(), "config/garbage", &["SIGABRT"]).with("crashed"),
        Sin::new(crash_without, "config/huge", &["SIGABRT"]).with("crashed"),
        Sin::new(
            creating("if (strlen(config) > 150) abort(); return malloc(1);"),
            "config/deep",
            &["100 levels deep"],
        )
        .with("crashed"),
        Sin::new(checking(""), "check/ends", &["without a report", "conductor_report or conductor_fail"]),
        Sin::new(checking("abort();"), "check/ends", &["SIGABRT"]).with("crashed"),
        Sin::new(reporting("9", "?"), "check/report-legal", &["status 9"]),
        Sin::new(checking("conductor_fail(call, 0, \"\");"), "check/report-legal", &["a failure without a message"]),
        Sin::new(checking("conductor_fail(call, 77, \"x\");"), "check/report-legal", &["a kind that the header does not have"]),
        Sin::new(checking("conductor_fail(call, 0, \"two\\nlines\");"), "check/report-legal", &["in a message"]),
        Sin::new(
            checking("char name[9]; for (int i = 0; i < 65; i++) { name[0] = 'm'; name[1] = (char)('0' + i / 10); name[2] = (char)('0' + i % 10); name[3] = 0; conductor_measure(call, name, i); } conductor_report(call, 0, \"fine\");"),
            "check/report-legal",
            &["65 measurements, of which 64 are kept", "at most 64"],
        ),
        Sin::new(
            checking("static int n; if (n++ < 1) conductor_report(call, 0, \"fine\"); else conductor_fail(call, 0, \"spent\");"),
            "check/repeatable",
            &["failed after 1 went well"],
        ),
        Sin::new(beside("", &checking("printf(\"hello\"); conductor_report(call, 0, \"fine\");")), "check/quiet", &["hello", "conductor_log"]),
        Sin::new(beside("", &checking("if (chdir(\"/\")) {} conductor_report(call, 0, \"fine\");")), "check/leaves-process", &["working directory"]),
        Sin::new(
            beside("static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;", &checking("pthread_mutex_lock(&one); usleep(700000); pthread_mutex_unlock(&one); conductor_report(call, 0, \"fine\");")).replace("#define _GNU_SOURCE", "#define _GNU_SOURCE\n#include <pthread.h>"),
            "threads/concurrent",
            &["share no lock"],
        ),
        Sin::new(checking("sleep(6); conductor_report(call, 0, \"fine\");").replace("#include <stdlib.h>", "#include <stdlib.h>\n#include <unistd.h>"), "time/deadline", &["not back after", "conductor_remaining_ns"]),
        Sin::new(checking("sleep(8); conductor_report(call, 0, \"fine\");").replace("#include <stdlib.h>", "#include <stdlib.h>\n#include <unistd.h>"), "time/cancel", &["given up at 200 ms", "conductor_is_cancelled"]),
        Sin::new(
            beginning("", ""),
            "time/deadline",
            &["not back after"],
        ),
        Sin::new(
            beginning(&format!("conductor_complete(call); {ON_A_THREAD}"), ""),
            "check/ends",
            &["without a report"],
        ),
        Sin::new(
            creating("void *leak = malloc(65536); memset(leak, 1, 65536); return malloc(1);"),
            "leaks/churn",
            &["KiB of memory"],
        ),
    ] {
        sin.is_found(folder.path());
    }
}

#[test]
fn a_need_that_is_not_declared_is_found_and_named() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("deep/er/secret.conf");
    fs::create_dir_all(secret.parent().unwrap()).unwrap();
    fs::write(&secret, "x").unwrap();
    fs::write(secret.with_file_name("other.conf"), "x").unwrap();
    let outcome = "if (failed) conductor_fail(call, 0, \"it did not work\"); else conductor_report(call, 0, \"fine\");";
    let read = format!("int failed = open(\"{}\", O_RDONLY) < 0;", secret.display());
    let connect = "int fd = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = 0x100, .sin_addr = {0x0100007f}};
        int failed = fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != ECONNREFUSED); close(fd);";
    let unix = "int fd = socket(AF_UNIX, SOCK_STREAM, 0); int failed = fd < 0; close(fd);";
    let run = "int failed = system(\"/bin/true\") != 0;";
    let write = format!("int failed = open(\"{}\", O_WRONLY) < 0;", secret.display());
    let probe = |body: &str| {
        beside(
            "#include <errno.h>",
            &checking(&format!("{body} {outcome}")),
        )
    };
    let finds = |source: String, found: &str, cure: &str| {
        let library = folder.path().join("sinner.so");
        assert!(compile(&source, Language::C, &library));
        let found_here = validate(&library, None, 3, "^sandbox/needs$");
        let test = &found_here.0["files"][0]["tests"][0];
        assert_eq!(test["status"], "failed", "{test}");
        let (said, what) = (
            test["found"].as_str().unwrap(),
            test["cure"].as_str().unwrap(),
        );
        assert!(said.contains("only without the sandbox"), "{said}");
        assert!(said.ends_with(found), "{found}: {said}");
        assert!(what.contains(cure), "{cure}: {what}");
    };
    let path = secret.display();
    finds(
        probe(&read),
        &format!("needs: read {path}"),
        &format!("\"read {path}\""),
    );
    finds(
        probe(connect),
        "needs: network",
        "fourth argument of CONDUCTOR_PLUGIN: \"network\"",
    );
    finds(probe(unix), "needs: unix-sockets", "\"unix-sockets\"");
    finds(probe(&write), "changing the machine", "leave it out");
    let both = format!(
        "{read} if (!failed) {{ int fd = socket(AF_UNIX, SOCK_STREAM, 0); failed = fd < 0; close(fd); }}"
    );
    finds(
        probe(&both),
        &format!("needs: unix-sockets, read {path}"),
        &format!("unix-sockets\\nread {path}"),
    );
    let library = folder.path().join("sinner.so");
    assert!(compile(&probe(run), Language::C, &library));
    let found = validate(&library, None, 3, "^sandbox/needs$");
    let said = found.0["files"][0]["tests"][0].to_string();
    assert!(said.contains("needs: run /"), "{said}");
    // What is declared, and what the machine does not let anybody do, is no finding.
    for source in [
        probe(&read).replace("\"Sinner\", \"\"", &format!("\"Sinner\", \"read {path}\"")),
        checking("conductor_fail(call, 0, \"never\");"),
        checking(
            "static int n; if (n++ % 3 == 2) conductor_report(call, 0, \"fine\"); else conductor_fail(call, 0, \"warming up\");",
        ),
    ] {
        assert!(compile(&source, Language::C, &library));
        let found = validate(&library, None, 3, "^sandbox/needs$");
        assert_eq!(found.with(&["passed"]), "sandbox/needs", "{}", found.0);
    }
}

#[test]
fn a_library_that_needs_something_to_be_loaded_says_what() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("sinner.so");
    let source = at_load("if (system(\"/bin/true\") != 0) abort();");
    assert!(compile(&source, Language::C, &library));
    let found = validate(&library, None, 2, "^load/opens$");
    let said = found.0["files"][0]["tests"][0].to_string();
    assert!(
        said.contains("failed") && said.contains("needs: run /"),
        "{said}"
    );
}

#[test]
fn a_schema_that_a_host_refuses_fails() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("sinner.so");
    let source = fine().replace("\"{}\", create", "schema, create").replace(
        "CONDUCTOR_PLUGIN(",
        "static char schema[10000100] = \"{\\\"description\\\": \\\"\";
__attribute__((constructor)) static void fill(void)
{ size_t at = strlen(schema); memset(schema + at, 'x', 10000000); strcpy(schema + at + 10000000, \"\\\"}\"); }
CONDUCTOR_PLUGIN(",
    );
    assert!(compile(&source, Language::C, &library));
    let found = validate(&library, None, 2, "^load/");
    assert_eq!(
        found.with(&["failed", "crashed"]),
        "load/manifest",
        "{}",
        found.0
    );
    let said = found.0.to_string();
    assert!(
        said.contains("its config schema takes 10000019 bytes") && said.contains("make it shorter"),
        "{said}"
    );
}

#[test]
fn a_cpp_plugin_is_told_to_use_a_version_script() {
    if !has(Language::Cpp) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    Sin {
        language: Language::Cpp,
        ..Sin::new(
            checking("try { std::string s(\"fine\"); std::vector<std::string> all(3, s); conductor_report(call, 0, all.at(1).c_str()); } catch (...) { }")
                .replace("#include <pthread.h>", "#include <pthread.h>\n#include <string>\n#include <vector>"),
            "file/exports",
            &["--version-script", "does not hide"],
        )
        .with("warning")
    }
    .is_found(folder.path());
}

#[test]
fn a_need_of_the_config_is_the_operators_to_allow() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = with_schema(
        &beside(
            "static char path[100];",
            &checking("int failed = open(path, O_RDONLY) < 0; if (failed) conductor_fail(call, 0, \"closed\"); else conductor_report(call, 0, \"fine\");"),
        )
        .replace(
            "(void)call, (void)config; return malloc(1);",
            "(void)config; strncpy(path, conductor_config_string(call, \"path\", \"\"), 99); return malloc(1);",
        ),
        r#"{"properties": {"path": {"type": "string"}}}"#,
    );
    Sin::new(
        source,
        "sandbox/needs",
        &["needs: read /etc/shadow", "allow = ["],
    )
    .with("warning")
    .given(r#"{"path": "/etc/shadow"}"#)
    .is_found(folder.path());
}
