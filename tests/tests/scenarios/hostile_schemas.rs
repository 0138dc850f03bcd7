//! Plugins whose config schemas, and configs, exhaust the time and memory of an evaluator, against a host with 512 MiB
//! of address space: it survives, names each of them, serves `/metrics`, and accepts orders throughout.

use std::{
    fmt::Write as _,
    fs, panic,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use crate::{
    c_plugins::source::{Language, compile},
    harness::{Host, PATIENCE, Setup},
    one_judge::post,
};

/// A plugin with a harmful schema.
struct Hostile {
    id: String,
    schema: String,
    /// The config's text after `config =`.
    config: String,
    /// `true` if its platform must be refused; one that can be evaluated may be accepted.
    must_fail: bool,
}

/// Returns `levels` definitions, each of which applies the next one twice; the last is `end`.
fn fan(keyword: &str, levels: usize, end: Value) -> String {
    let mut definitions = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/$defs/a{}", level + 1) });
        definitions.insert(format!("a{level}"), json!({ keyword: [next, next] }));
    }
    definitions.insert(format!("a{levels}"), end);
    json!({ "$ref": "#/$defs/a0", "$defs": definitions }).to_string()
}

/// Returns a table with this value for each of `keys` keys.
fn table(keys: usize, value: impl Fn(usize) -> Value) -> Value {
    (0..keys)
        .map(|n| (format!("k{n}"), value(n)))
        .collect::<Map<_, _>>()
        .into()
}

fn hostile() -> Vec<Hostile> {
    let text = json!({ "type": "string" });
    let chain: Map<_, _> = (0..20_000)
        .map(|n| {
            (
                format!("a{n}"),
                json!({ "$ref": format!("#/$defs/a{}", n + 1) }),
            )
        })
        .chain([("a20000".to_owned(), json!(true))])
        .collect();
    let many_keys: String = (0..50_000).fold(String::new(), |mut keys, n| {
        let _ = write!(keys, "k{n} = 1, ");
        keys
    });
    let refused = [
        ("fan-of-errors", fan("allOf", 26, text.clone()), "{}"),
        ("fan-without-end", fan("allOf", 60, json!({ "type": "object" })), "{}"),
        ("any-without-end", fan("anyOf", 40, text.clone()), "{}"),
        ("one-without-end", fan("oneOf", 40, text.clone()), "{}"),
        (
            "patterns-by-the-thousand",
            json!({ "properties": table(12_000, |n| json!({ "pattern": format!("\\p{{L}}{{100}}{n}") })) }).to_string(),
            "{}",
        ),
        (
            "one-huge-pattern",
            json!({ "properties": { "a": { "pattern": "((\\p{L}{200}){200}){200}" } } }).to_string(),
            "{}",
        ),
        ("deep-list", format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "{}"),
        ("deep-table", format!("{}1{}", "{\"not\":".repeat(50_000), "}".repeat(50_000)), "{}"),
        ("huge-enum", json!({ "enum": (0..90_000).collect::<Vec<_>>() }).to_string(), "{}"),
        ("ten-megabytes", json!({ "description": "x".repeat(10 << 20) }).to_string(), "{}"),
        ("too-many-values", format!("{{\"enum\":[{}0]}}", "0,".repeat(200_000)), "{}"),
        ("remote-reference", json!({ "$ref": "http://127.0.0.1:9/schema" }).to_string(), "{}"),
        ("file-reference", json!({ "$ref": "file:///etc/passwd" }).to_string(), "{}"),
        ("missing-reference", json!({ "$ref": format!("#{}", "/a".repeat(200_000)) }).to_string(), "{}"),
        ("a-list", "[]".to_owned(), "{}"),
        ("a-number", "7".to_owned(), "{}"),
        ("no-number", "{\"minimum\":1e999999}".to_owned(), "{}"),
        ("not-json", "{\"minimum\":NaN}".to_owned(), "{}"),
        ("required-keys", json!({ "required": (0..80_000).map(|n| format!("k{n}")).collect::<Vec<_>>() }).to_string(), "{}"),
        ("terminal-escapes", json!({ "properties": { "a": { "enum": ["\u{1b}[2J\u{202e}"] } } }).to_string(), "{ a = 1 }"),
        ("backtracking", json!({ "properties": { "a": { "pattern": "^(a|ab)*(?=c)\\1$" } } }).to_string(), "{ a = \"aaaa\" }"),
    ];
    let accepted = [
        ("long-chain", json!({ "$ref": "#/$defs/a0", "$defs": chain }).to_string(), "{}"),
        ("own-reference", json!({ "$ref": "#" }).to_string(), "{}"),
        (
            "cycle",
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "allOf": [{ "$ref": "#/$defs/a" }] } } }).to_string(),
            "{}",
        ),
        ("unevaluated-cycle", json!({ "unevaluatedProperties": false, "allOf": [{ "$ref": "#" }] }).to_string(), "{}"),
        (
            "pattern-properties",
            json!({ "patternProperties": table(200, |_| json!(true)).as_object().unwrap().keys().map(|key| (format!("^\\w{{60}}{key}$"), json!(true))).collect::<Map<_, _>>() }).to_string(),
            "{ a = 1 }",
        ),
        ("tiny-multiple", "{\"properties\":{\"a\":{\"multipleOf\":1e-320}}}".to_owned(), "{ a = 1 }"),
        ("every-format", json!({ "properties": { "a": { "format": "idn-hostname" }, "b": { "format": "regex" } } }).to_string(), "{ a = \"x\" }"),
    ];
    let of = |must_fail| {
        move |(id, schema, config): (&str, String, &str)| Hostile {
            id: id.to_owned(),
            schema,
            config: config.to_owned(),
            must_fail,
        }
    };
    let mut all: Vec<_> = refused.into_iter().map(of(true)).collect();
    all.extend(accepted.into_iter().map(of(false)));
    all.push(Hostile {
        id: "many-keys".to_owned(),
        schema:
            json!({ "additionalProperties": false, "properties": table(10_000, |_| text.clone()) })
                .to_string(),
        config: format!("{{ {} }}", many_keys.trim_end_matches(", ")),
        must_fail: true,
    });
    all
}

/// Compiles a plugin with this schema; returns `false` if there is no compiler.
fn install(hostile: &Hostile, folder: &Path) -> bool {
    let schema = folder.join("schema.json");
    fs::write(&schema, &hostile.schema).unwrap();
    let source = format!(
        "#include <stdlib.h>\n#include \"conductor_plugin.h\"\n\
         __asm__(\".section .rodata\\n.hidden hostile_schema\\n.global hostile_schema\\nhostile_schema:\\n.incbin \\\"{}\\\"\\n.byte 0\\n.previous\\n\");\n\
         extern const char hostile_schema[] __attribute__((visibility(\"hidden\")));\n\
         static void *create(const conductor_call_t *call, const char *config) {{ (void)call, (void)config; return malloc(1); }}\n\
         static void check(void *probe, const conductor_call_t *call) {{ (void)probe; conductor_report(call, 0, \"fine\"); }}\n\
         static void destroy(void *probe, const conductor_call_t *call) {{ (void)call; free(probe); }}\n\
         CONDUCTOR_PLUGIN(\"{}\", \"1.0.0\", \"Hostile\", \"\", hostile_schema, create, check, destroy, NULL, NULL, NULL);\n",
        schema.display(),
        hostile.id
    );
    compile(
        &source,
        Language::C,
        &folder.join("plugins").join(format!("{}.so", hostile.id)),
    )
}

/// Starts the host with 512 MiB of address space; each of its workers has the same limit.
fn start_small(setup: Setup) -> Host {
    let command = setup.command(&[
        "run",
        "--web.listen-address",
        "127.0.0.1:0",
        "--web.enable-lifecycle",
    ]);
    let mut limited = Command::new("prlimit");
    limited
        .arg("--as=536870912")
        .arg(command.get_program())
        .args(command.get_args());
    limited.env("NO_COLOR", "1").stdin(Stdio::null());
    let mut host = Host::adopt(limited.stderr(Stdio::piped()).spawn().unwrap(), setup);
    host.find_address();
    host
}

#[test]
fn a_host_with_little_memory_withstands_hostile_schemas_and_configs() {
    let hostile = hostile();
    assert!(hostile.len() >= 20);
    let mut setup = Setup::new()
        .host("interval = \"2s\"\nstagger = \"10ms\"\ntimeout = \"2s\"")
        .platform("bystander", "fault", "{}");
    let good = fs::read_to_string(setup.write()).unwrap();
    for hostile in &hostile {
        if !install(hostile, setup.folder.path()) {
            return;
        }
        setup = setup.platform(&hostile.id, &hostile.id, &hostile.config);
    }
    let bad = fs::read_to_string(setup.write()).unwrap();
    let mut host = start_small(setup);
    let (done, slowest) = (AtomicBool::new(false), Duration::from_secs(20));
    let host_alive = &host;
    thread::scope(|scope| {
        // It asserts that each scrape gets a response in time.
        let scraping = scope.spawn(|| {
            let mut scrapes = 0;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(host_alive.get("/metrics").0, 200);
                assert!(start.elapsed() < slowest, "{:?}", start.elapsed());
                scrapes += 1;
                thread::sleep(Duration::from_millis(50));
            }
            scrapes
        });
        let obeyed = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            obeys(host_alive, &hostile, &good, &bad);
        }));
        done.store(true, Ordering::Relaxed);
        assert!(scraping.join().unwrap() > 10);
        if let Err(failed) = obeyed {
            panic::resume_unwind(failed);
        }
    });
    assert!(host.stop().success());
}

/// Asserts that each hostile plugin is named while the bystander is checked, and that orders and reloads work
/// meanwhile.
fn obeys(host: &Host, hostile: &[Hostile], good: &str, bad: &str) {
    let config = host.setup.path("conductor.toml");
    host.wait("the bystander", |m| m.checks("bystander", "healthy") >= 1.0);
    // They are being loaded now.
    let (code, said) = post(host, "/api/v1/platforms/bystander/check");
    assert!([202, 409].contains(&code), "{code}: {said}");
    let start = Instant::now();
    let (code, refused) = post(host, "/-/reload");
    assert_eq!(code, 400, "{refused}");
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    for hostile in hostile.iter().filter(|hostile| hostile.must_fail) {
        let named = format!("platform.{}", hostile.id);
        assert!(refused.contains(&named), "{named}: {refused}");
    }
    assert!(!refused.contains('\u{1b}') && !refused.contains('\u{202e}'));
    assert!(!refused.contains("platform.bystander"), "{refused}");
    for hostile in hostile {
        let id = &*hostile.id;
        host.wait(id, |m| {
            m.checks(id, "healthy") >= 1.0 || m.checks(id, "failed") >= 1.0
        });
        if hostile.must_fail {
            assert_eq!(host.metrics().checks(id, "healthy"), 0.0, "{id}");
        }
    }
    fs::write(&config, good).unwrap();
    let (code, body) = post(host, "/-/reload");
    assert_eq!(code, 200, "{body}");
    assert!(
        !host
            .get("/metrics")
            .1
            .contains("platform=\"fan-of-errors\"")
    );
    fs::write(&config, bad).unwrap();
    let (code, body) = post(host, "/-/reload");
    assert_eq!(code, 400, "{body}");
    fs::write(&config, good).unwrap();
    let (code, body) = post(host, "/-/reload");
    assert_eq!(code, 200, "{body}");
    let before = host.metrics().checks("bystander", "healthy");
    let after = host.wait("its checks", |m| {
        m.checks("bystander", "healthy") > before + 3.0
    });
    assert_eq!(after.failed_in_time("bystander"), 0.0);
}
