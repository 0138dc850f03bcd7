//! For each test of the validator, a plugin that fails it, with the test's message; written in C if possible.

use std::{fs, path::Path};

use serde_json::Value;

use super::{validate, validate_with};
use crate::{
    c_plugins::source::{
        Language, ON_A_THREAD, beginning, checking, compile, creating, exporting, has, reporting,
    },
    harness::conductor,
};

/// A plugin, the test that it fails or is warned by, and words of the finding and of the cure.
pub(super) struct Sin {
    source: String,
    language: Language,
    test: &'static str,
    status: &'static str,
    config: Option<&'static str>,
    options: &'static [&'static str],
    level: u8,
    words: &'static [&'static str],
}

impl Sin {
    pub(super) fn new(
        source: impl Into<String>,
        test: &'static str,
        words: &'static [&'static str],
    ) -> Self {
        Self {
            source: source.into(),
            language: Language::C,
            test,
            status: "failed",
            config: None,
            options: &[],
            level: 3,
            words,
        }
    }

    pub(super) fn with(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    /// Sets more options of the command.
    pub(super) fn on(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    fn given(self, config: &'static str) -> Self {
        let config = Some(config);
        Self { config, ..self }
    }

    #[track_caller]
    pub(super) fn is_found(&self, folder: &Path) {
        let library = folder.join("sinner.so");
        assert!(compile(&self.source, self.language, &library));
        let id = format!("^{}$", self.test);
        let found = validate_with(&library, self.config, self.level, &id, self.options);
        let test = &found.0["files"][0]["tests"][0];
        assert_eq!(test["status"], self.status, "{}: {test}", self.test);
        let said = format!("{}; {}", test["found"], test["cure"]);
        for word in self.words {
            assert!(said.contains(word), "{}: {word}: {said}", self.test);
        }
    }
}

/// Replaces the schema in the source from `checking`.
fn with_schema(source: &str, schema: &str) -> String {
    let escaped = schema.replace('"', "\\\"");
    source.replace("\"{}\", create", &format!("\"{escaped}\", create"))
}

fn fine() -> String {
    reporting("0", "fine")
}

/// Returns code that runs when the library is loaded.
fn at_load(body: &str) -> String {
    format!(
        "#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\n{}\n__attribute__((constructor)) static void at_load(void) {{ {body} }}\n",
        fine()
    )
}

/// Adds code before the checks.
pub(super) fn beside(code: &str, source: &str) -> String {
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
            exporting("16, 0"),
            "load/layout",
            &["has 16 bytes", "rebuild it with the conductor_plugin.h"],
        ),
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
            at_load("signal(SIGUSR2, SIG_IGN);"),
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
        Sin::new(
            beside("", &checking("char state[16]; if (conductor_state(call, state, sizeof state) > 0) abort(); conductor_report(call, 0, \"fine\");")),
            "check/any-state",
            &["a state of other bytes"],
        )
        .with("crashed"),
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
fn every_test_of_generations_and_threads_can_fail() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tls = "static __thread char storage[3500] __attribute__((tls_model(\"initial-exec\")));";
    let other_schema = fine().replace("\"{}\", create", "schema, create").replace(
        "CONDUCTOR_PLUGIN(",
        "static char schema[] = \"{\\\"title\\\": \\\"1\\\"}\";
__attribute__((constructor)) static void count(void)
{ if (getenv(\"SINNER_IS_LOADED\")) schema[11] = '2'; else setenv(\"SINNER_IS_LOADED\", \"1\", 1); }
CONDUCTOR_PLUGIN(",
    );
    // Written in the thread that creates a probe.
    let bound = "static __thread int is_at_home;";
    let at_home = |source: String| {
        beside(bound, &source).replace("return malloc(1);", "is_at_home = 1; return malloc(1);")
    };
    let fine_at_home = "if (is_at_home) conductor_report(call, 0, \"fine\"); else ";
    for sin in [
        Sin::new(
            beside(tls, &checking("storage[7]++; conductor_report(call, 0, \"fine\");")),
            "load/two-copies",
            &["does not load beside the first", "-ftls-model=global-dynamic"],
        ),
        Sin::new(
            format!("#define _GNU_SOURCE\n{other_schema}"),
            "load/two-copies",
            &["different things of themselves", "depend on nothing but the source"],
        ),
        Sin::new(
            at_home(checking("conductor_report(call, 0, \"fine\");")).replace(
                "is_at_home = 1; return malloc(1);",
                "static int calls; if (calls++ > 1 && !is_at_home) { conductor_fail(call, 0, \"lost\"); return NULL; } is_at_home = 1; return malloc(1);",
            ),
            "threads/any",
            &["no probe can be created on another thread", "thread-locals"],
        ),
        Sin::new(
            at_home(checking(&format!("{fine_at_home} conductor_fail(call, 0, \"lost\");"))),
            "threads/any",
            &["a check on another thread than before failed: lost", "thread-locals"],
        ),
        Sin::new(
            at_home(fine()).replace(
                "\"destroyed\");",
                "\"destroyed\"); if (!is_at_home) conductor_fail(call, CONDUCTOR_FAILURE_PANIC, \"lost\");",
            ),
            "threads/any",
            &["a drop on another thread than before failed", "thread-locals"],
        ),
        Sin::new(
            beside("static int dropped;", &checking("if (dropped > 5) conductor_fail(call, 0, \"gone\"); else conductor_report(call, 0, \"fine\");"))
                .replace("\"destroyed\");", "\"destroyed\"); dropped++;"),
            "threads/drop-while-checking",
            &["after probes were dropped during checks, a new one fails: gone", "share nothing"],
        ),
        Sin::new(USES_A_PROBE_TOO_LONG, "threads/drop-while-checking", &["SIGSEGV"]).with("crashed"),
    ] {
        sin.is_found(folder.path());
    }
}

#[test]
fn every_test_of_strain_can_fail() {
    if !has(Language::C) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let strained = |code: &str, body: &str, test: &'static str, words: &'static [&'static str]| {
        let source = beside(code, &checking(body)).replace(
            "#include <fcntl.h>",
            "#include <errno.h>\n#include <fcntl.h>",
        );
        Sin {
            level: 4,
            ..Sin::new(source, test, words)
        }
    };
    let report = "conductor_report(call, 0, \"fine\");";
    for sin in [
        strained(
            "",
            &format!(
                "void *block; while (!(block = malloc(16 << 20))) usleep(1000); free(block); {report}"
            ),
            "stress/low-memory",
            &[
                "with 8 MiB of memory left a check is not back",
                "call conductor_fail",
            ],
        ),
        strained(
            "",
            &format!("void *block = malloc(16 << 20); if (!block) abort(); free(block); {report}"),
            "stress/low-memory",
            &["SIGABRT", "check what malloc returns"],
        )
        .with("warning"),
        strained(
            "",
            &format!(
                "int file; while ((file = open(\"/dev/null\", O_RDONLY)) < 0) usleep(1000); close(file); {report}"
            ),
            "stress/no-descriptors",
            &[
                "without a free descriptor a check is not back",
                "do not try again in a loop",
            ],
        ),
        strained(
            "static int broken;",
            &format!(
                "int file = open(\"/dev/null\", O_RDONLY); broken |= file < 0; close(file); if (broken) conductor_fail(call, 0, \"broken\"); else {report}"
            ),
            "stress/no-descriptors",
            &[
                "once there are descriptors again, the check fails: broken",
                "leave nothing behind",
            ],
        ),
        strained(
            "",
            &format!("if (usleep(50000)) conductor_fail(call, 0, strerror(errno)); else {report}"),
            "stress/signals",
            &[
                "while signals come in, a check fails that went well without",
                "EINTR",
            ],
        ),
        strained(
            "static int running;",
            &format!(
                "if (__sync_add_and_fetch(&running, 1) > 8) conductor_fail(call, CONDUCTOR_FAILURE_PANIC, \"too many\"); else {report} usleep(2000); __sync_sub_and_fetch(&running, 1);"
            ),
            "stress/in-flight",
            &[
                "checks at once ends in a panic: too many",
                "share nothing between probes",
            ],
        ),
        strained(
            "",
            &format!(
                "if (conductor_host->api_minor > CONDUCTOR_API_MINOR) conductor_fail(call, 0, \"unknown host\"); else {report}"
            ),
            "stress/newer-host",
            &[
                "with a host of the next minor version a check fails: unknown host",
                "accept every minor version",
            ],
        ),
        strained(
            "",
            &format!(
                "char *leak = malloc(16 << 10); if (leak) memset(leak, 1, 16 << 10); usleep(5000); {report}"
            ),
            "stress/soak",
            &[
                "KiB of memory within",
                "let go in each check of what it took",
            ],
        ),
    ] {
        sin.is_found(folder.path());
    }
}

/// An asynchronous plugin whose threads read a probe after its check is over, when it may be destroyed.
const USES_A_PROBE_TOO_LONG: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include "conductor_plugin.h"
struct work { int ***probe; const conductor_call_t *call; };
static void pause_ms(int ms) { struct timespec pause = {0, ms * 1000000}; nanosleep(&pause, NULL); }
static void *create(const conductor_call_t *call, const char *config)
{ (void)call, (void)config; int ***probe = malloc(sizeof *probe); *probe = malloc(sizeof **probe); **probe = malloc(sizeof ***probe); return probe; }
static void *later(void *argument)
{
    struct work work = *(struct work *)argument;
    free(argument);
    pause_ms(20);
    conductor_report(work.call, CONDUCTOR_STATUS_HEALTHY, "fine");
    conductor_complete(work.call);
    pause_ms(50);
    ***work.probe = 1;
    return NULL;
}
static void begin(void *probe, const conductor_call_t *call)
{
    struct work *work = malloc(sizeof *work);
    pthread_t thread;
    *work = (struct work){probe, call};
    if (pthread_create(&thread, NULL, later, work) == 0) pthread_detach(thread);
}
static void destroy(void *probe, const conductor_call_t *call) { (void)call; **(int ***)probe = NULL; }
CONDUCTOR_PLUGIN("sinner", "1.0.0", "Sinner", "", "{}", create, NULL, destroy, begin, NULL);
"#;

/// A test that no plugin here fails may be unable to fail.
#[test]
fn every_test_of_the_catalogue_is_failed_by_a_plugin_here() {
    let output = conductor(&["plugin", "validate", "--list", "--output", "json"])
        .output()
        .unwrap();
    let tests: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sources = [
        include_str!("sins.rs"),
        include_str!("labels_and_metrics.rs"),
        include_str!("../plugin_new.rs"),
        include_str!("../validator.rs"),
        include_str!("../snapshots/scenarios__validator__what_each_sin_fails.snap"),
    ];
    let is_failed = |id: &str| {
        let quoted = format!("\"{id}\"");
        let told = format!("FAILED   {id}");
        let [tests @ .., snapshot] = sources;
        tests
            .iter()
            .any(|test| test.contains(&quoted) || test.contains(&told))
            || snapshot.contains(id)
    };
    let ids = tests.as_array().unwrap().iter();
    let ids = ids.map(|test| test["id"].as_str().unwrap());
    // For information only.
    let ids = ids.filter(|id| *id != "file/compiler");
    let never: Vec<_> = ids.filter(|id| !is_failed(id)).collect();
    assert_eq!(never, [""; 0]);
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
    let finds_where = |effect: &str, source: String, found: &str, cure: &str| {
        let library = folder.path().join("sinner.so");
        assert!(compile(&source, Language::C, &library));
        let found_here = validate(&library, None, 3, "^sandbox/needs$");
        let test = &found_here.0["files"][0]["tests"][0];
        assert_eq!(test["status"], "failed", "{test}");
        let (said, what) = (
            test["found"].as_str().unwrap(),
            test["cure"].as_str().unwrap(),
        );
        assert!(said.contains(effect), "{said}");
        assert!(said.ends_with(found), "{found}: {said}");
        assert!(what.contains(cure), "{cure}: {what}");
    };
    let finds = |source: String, found: &str, cure: &str| {
        finds_where("works only without the sandbox", source, found, cure);
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
    // The platform is missing either way: the messages differ, and only one of them comes from the sandbox.
    let connects_to = |address: &str, family: &str| {
        let include = "#include <errno.h>\n#include <netinet/in.h>\n#include <sys/un.h>";
        let body = format!(
            "struct {address}; int fd = socket({family}, SOCK_STREAM, 0);
            if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) conductor_fail(call, 0, strerror(errno));
            else conductor_report(call, 0, \"fine\"); if (fd >= 0) close(fd);"
        );
        beside(include, &checking(&body))
    };
    let absent =
        "sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = \"/run/there-is-no-such-socket\"}";
    let refusing =
        "sockaddr_in to = {.sin_family = AF_INET, .sin_port = 0x100, .sin_addr = {0x0100007f}}";
    let effect = "ends in another way without the sandbox";
    finds_where(
        effect,
        connects_to(absent, "AF_UNIX"),
        "needs: unix-sockets",
        "\"unix-sockets\"",
    );
    finds_where(
        effect,
        connects_to(refusing, "AF_INET"),
        "needs: network",
        "\"network\"",
    );
    // The same at creation.
    let creates =
        connects_to(absent, "AF_UNIX").replace("static void check(", "static void unused(");
    let creates = creates.replace(
        "(void)call, (void)config; return malloc(1);",
        "(void)config; conductor_fail(call, 0, socket(AF_UNIX, SOCK_STREAM, 0) < 0 ? strerror(errno) : \"no such socket\"); return NULL;",
    );
    let creates = creates.replace("create, check,", "create, unused,");
    finds_where(effect, creates, "needs: unix-sockets", "\"unix-sockets\"");
    let library = folder.path().join("sinner.so");
    assert!(compile(&probe(run), Language::C, &library));
    let found = validate(&library, None, 3, "^sandbox/needs$");
    let said = found.0["files"][0]["tests"][0].to_string();
    assert!(said.contains("needs: run /"), "{said}");
    // Declared needs, and actions that the machine forbids to all users, are no findings.
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
