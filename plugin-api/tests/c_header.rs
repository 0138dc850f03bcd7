//! The C header, as C and C++ compilers see it: it compiles without warnings and matches the Rust side.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use conductor_plugin_api::{
    abi::{AbiFailureKind, AbiLevel, AbiStatus},
    c,
    manifest::{ApiVersion, Door, Manifest, Need},
};

#[test]
fn both_sides_lay_the_structs_out_alike_and_number_things_alike() {
    let Some(compiler) = compiler("cc") else {
        return;
    };
    let mut source = String::from("#include \"conductor_plugin.h\"\n");
    let mut same = |what: &str, number: usize| {
        writeln!(source, "_Static_assert({what} == {number}, \"{what}\");").unwrap();
    };
    for layout in c::LAYOUTS {
        same(&format!("sizeof({})", layout.name), layout.size);
        for (member, offset) in layout.members {
            same(&format!("offsetof({}, {member})", layout.name), *offset);
        }
    }
    let numbers = [
        ("API_MAJOR", usize::from(ApiVersion::CURRENT.major)),
        ("API_MINOR", usize::from(ApiVersion::CURRENT.minor)),
        ("API_PATCH", usize::from(ApiVersion::CURRENT.patch)),
        ("STATUS_HEALTHY", AbiStatus::HEALTHY.0.into()),
        ("STATUS_DEGRADED", AbiStatus::DEGRADED.0.into()),
        ("STATUS_UNHEALTHY", AbiStatus::UNHEALTHY.0.into()),
        ("FAILURE_ERROR", AbiFailureKind::ERROR.0.into()),
        ("FAILURE_PANIC", AbiFailureKind::PANIC.0.into()),
        ("FAILURE_CONFIG", AbiFailureKind::CONFIG.0.into()),
        ("FAILURE_TIMEOUT", AbiFailureKind::TIMEOUT.0.into()),
        ("LEVEL_ERROR", AbiLevel::ERROR.0.into()),
        ("LEVEL_WARN", AbiLevel::WARN.0.into()),
        ("LEVEL_INFO", AbiLevel::INFO.0.into()),
        ("LEVEL_DEBUG", AbiLevel::DEBUG.0.into()),
        ("LEVEL_TRACE", AbiLevel::TRACE.0.into()),
    ];
    for (name, number) in numbers {
        same(&format!("CONDUCTOR_{name}"), number);
    }
    same("sizeof(conductor_manifest_t)", Manifest::FULL_SIZE);
    writeln!(source, "int nothing(void) {{ return 0; }}").unwrap();
    compiles(&compiler, &["-std=c11", "-fsyntax-only"], "c", &source);
}

#[test]
fn the_macro_writes_the_manifest_that_is_read_back() {
    let Some(compiler) = compiler("cc") else {
        return;
    };
    let source = plugin(
        r#""my-plugin2", "1.2.3-rc.1", "My plugin ü", "network\nread /x""#,
        ".config_schema = \"{}\", .create = create, .check = check, .destroy = check",
    );
    let source = format!(
        "#define CONDUCTOR_DESCRIPTION \"Ä test\"\n#define CONDUCTOR_AUTHOR \"http://example.org\"\n{source}"
    );
    let object = compiles(&compiler, &["-std=c99", "-fPIC", "-c"], "c", &source);
    let magic = b"CNDCTR\x1a\x01";
    let at = object.windows(magic.len()).position(|w| w == magic);
    let manifest = Manifest::parse(&object[at.unwrap()..]).unwrap();
    assert_eq!(
        manifest,
        Manifest {
            api: ApiVersion::CURRENT,
            door: Door::C,
            panics_unwind: false,
            id: "my-plugin2".to_owned(),
            version: "1.2.3-rc.1".to_owned(),
            name: "My plugin ü".to_owned(),
            needs: vec![Need::Network, Need::Read("/x".to_owned())],
            description: "Ä test".to_owned(),
            author: "http://example.org".to_owned(),
            licence: String::new(),
        }
    );
}

#[test]
fn header_and_examples_compile_without_a_warning_in_every_standard() {
    let example =
        |name| fs::read_to_string(folder().join("../examples/plugins/c").join(name)).unwrap();
    let (c, cpp) = (example("file_age.c"), example("load_average.cpp"));
    let strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fPIC", "-c"];
    if let Some(compiler) = compiler("cc") {
        for standard in ["-std=c99", "-std=c11", "-std=c17"] {
            let mut flags = vec![standard, "-D_POSIX_C_SOURCE=200809L"];
            flags.extend(strict);
            compiles(&compiler, &flags, "c", &c);
            compiles(&compiler, &flags, "c", &hello());
        }
    }
    if let Some(compiler) = compiler("c++") {
        for standard in ["-std=c++11", "-std=c++17", "-std=c++20"] {
            let mut flags = vec![standard];
            flags.extend(strict);
            compiles(&compiler, &flags, "cpp", &cpp);
        }
    }
}

#[test]
fn the_double_of_a_host_shows_what_a_check_did() {
    for (name, standards) in [
        ("cc", ["-std=c99", "-std=c17"]),
        ("c++", ["-std=c++11", "-std=c++20"]),
    ] {
        let Some(compiler) = compiler(name) else {
            return;
        };
        for standard in standards {
            let place = tempfile::tempdir().unwrap();
            let file = place
                .path()
                .join(if name == "cc" { "x.c" } else { "x.cpp" });
            fs::write(&file, include_str!("double.c")).unwrap();
            let program = place.path().join("x");
            let output = Command::new(&compiler)
                .args([
                    standard,
                    "-Wall",
                    "-Wextra",
                    "-pedantic",
                    "-Werror",
                    "-O2",
                    "-I",
                ])
                .arg(folder().join("include"))
                .arg("-o")
                .args([&program, &file])
                .arg("-lm")
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{standard}: {errors}");
            let output = Command::new(&program).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{standard}: {errors}");
        }
    }
}

#[test]
fn a_text_too_long_for_the_manifest_does_not_compile() {
    let long = "x".repeat(64);
    let members = ".config_schema = \"{}\", .create = create, .check = check, .destroy = check";
    for (arguments, what) in [
        (
            format!("\"{long}\", \"1.0.0\", \"x\", \"\""),
            "plugin_id_has_1_to_63_bytes",
        ),
        (
            format!("\"x\", \"{long}\", \"x\", \"\""),
            "plugin_version_has_1_to_63_bytes",
        ),
        (
            "\"x\", \"1.0.0\", \"\", \"\"".to_owned(),
            "plugin_name_has_1_to_127_bytes",
        ),
        (
            format!("\"x\", \"1.0.0\", \"x\", \"{}\"", "y".repeat(512)),
            "plugin_needs_have_at_most_511_bytes",
        ),
    ] {
        let source = plugin(&arguments, members);
        for standard in ["-std=c99", "-std=c11"] {
            let Some(compiler) = compiler("cc") else {
                return;
            };
            let output = compile(&compiler, &[standard, "-fsyntax-only"], "c", &source).0;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && errors.contains(what),
                "{errors}"
            );
        }
    }
}

/// Returns the hello world from the header's comment.
fn hello() -> String {
    let header = fs::read_to_string(folder().join("include/conductor_plugin.h")).unwrap();
    let lines: String = header
        .lines()
        .skip_while(|line| !line.contains("HELLO WORLD"))
        .take_while(|line| !line.contains("cc -shared"))
        .filter_map(|line| line.strip_prefix(" *     "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(
        lines.lines().count() < 25 && lines.contains("CONDUCTOR_PLUGIN"),
        "{lines}"
    );
    lines
}

fn plugin(arguments: &str, members: &str) -> String {
    format!(
        "#include \"conductor_plugin.h\"
         static void *create(const conductor_call_t *call, const char *config)
         {{ (void)call, (void)config; return \"\"; }}
         static void check(void *probe, const conductor_call_t *call) {{ (void)probe, (void)call; }}
         CONDUCTOR_PLUGIN({arguments}, {members});\n"
    )
}

/// Compiles `source` and returns the output of the compiler.
#[track_caller]
fn compiles(compiler: &str, flags: &[&str], extension: &str, source: &str) -> Vec<u8> {
    let (output, made) = compile(compiler, flags, extension, source);
    assert!(
        output.status.success(),
        "{flags:?}: {}\n{source}",
        String::from_utf8_lossy(&output.stderr)
    );
    made
}

fn compile(compiler: &str, flags: &[&str], extension: &str, source: &str) -> (Output, Vec<u8>) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("x").with_extension(extension);
    let object = place.path().join("x.o");
    fs::write(&file, source).unwrap();
    let mut command = Command::new(compiler);
    command.args(flags).arg("-I").arg(folder().join("include"));
    let output = command.arg(&file).arg("-o").arg(&object).output().unwrap();
    (output, fs::read(object).unwrap_or_default())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Returns the system's compiler; `None`, with a note on the terminal, if there is none.
fn compiler(name: &str) -> Option<String> {
    if Command::new(name).arg("--version").output().is_ok() {
        return Some(name.to_owned());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "there is no `{name}` on this machine, and CI has one"
    );
    eprintln!("skipped: there is no `{name}` on this machine");
    None
}
