//! Sources of plugins in C, and their compilation into libraries.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{is_windows, library_suffix, workspace};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    C,
    Cpp,
}

impl Language {
    /// Returns the name of the compiler for the system under test.
    pub(crate) fn compiler(self) -> &'static str {
        match (self, is_windows()) {
            (Self::C, false) => "cc",
            (Self::Cpp, false) => "c++",
            (Self::C, true) => "x86_64-w64-mingw32-gcc",
            (Self::Cpp, true) => "x86_64-w64-mingw32-g++",
        }
    }
}

/// Returns `true` if there is a compiler; prints a note if not.
pub(crate) fn has(language: Language) -> bool {
    let compiler = language.compiler();
    let there = Command::new(compiler)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        eprintln!("skipped: there is no `{compiler}` on this machine");
    }
    there
}

/// Compiles a source into a library; returns `false` if there is no compiler for it.
#[track_caller]
pub(crate) fn compile(source: &str, language: Language, library: &Path) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(match language {
        Language::C => "x.c",
        Language::Cpp => "x.cpp",
    });
    fs::write(&file, source).unwrap();
    compile_file(&file, language, library)
}

/// Compiles a file into a library; returns `false` if there is no compiler for it.
#[track_caller]
pub(crate) fn compile_file(file: &Path, language: Language, library: &Path) -> bool {
    let header = workspace().join("plugin-api/include");
    run(language, &header, &[], file, library)
}

/// Compiles a C source into a library with the header in this folder.
#[track_caller]
pub(crate) fn compile_against(header: &Path, source: &str, flags: &[&str], library: &Path) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.c");
    fs::write(&file, source).unwrap();
    run(Language::C, header, flags, &file, library)
}

#[track_caller]
fn run(language: Language, header: &Path, flags: &[&str], file: &Path, library: &Path) -> bool {
    if !has(language) {
        return false;
    }
    let output = Command::new(language.compiler())
        .args(["-shared", "-fPIC", "-pthread", "-I"])
        .arg(header)
        // The compiler's own libraries for Windows are not on the machines that run the plugin.
        .args(is_windows().then_some("-static"))
        .args(flags)
        .arg("-o")
        .arg(library.with_extension(&library_suffix()[1..]))
        .arg(file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    true
}

/// Returns a plugin called `sinner` with this check.
pub(crate) fn checking(body: &str) -> String {
    format!(
        "{HEAD}
static void *create(const conductor_call_t *call, const char *config)
{{ (void)call, (void)config; return malloc(1); }}
static void check(void *probe, const conductor_call_t *call) {{ (void)probe; {body} }}
{DESTROY}
CONDUCTOR_PLUGIN(\"sinner\", \"1.0.0\", \"Sinner\", \"\", \"{{}}\", create, check, destroy, NULL, NULL);\n"
    )
}

/// Returns one whose checks report this.
pub(crate) fn reporting(status: &str, message: &str) -> String {
    checking(&format!("conductor_report(call, {status}, \"{message}\");"))
}

/// Returns one with this `create`.
pub(crate) fn creating(body: &str) -> String {
    checking("conductor_report(call, 0, \"fine\");").replace("return malloc(1);", body)
}

/// Returns one that exports this instead of the macro's output.
pub(crate) fn exporting(members: &str) -> String {
    let source = reporting("0", "fine");
    let source = source.replace(
        "CONDUCTOR_PLUGIN(",
        "#define conductor_plugin what_the_macro_writes\nCONDUCTOR_PLUGIN(",
    );
    format!(
        "{source}\n#undef conductor_plugin\nconst conductor_plugin_t conductor_plugin = {{{members}}};\n"
    )
}

/// Returns one with this `begin`, plus `finish` to complete checks and `threads` to do that later.
pub(crate) fn beginning(begin: &str, cancel: &str) -> String {
    format!(
        "{HEAD}
static void *create(const conductor_call_t *call, const char *config)
{{ (void)call, (void)config; return malloc(1); }}
static void *later(void *call)
{{
    struct timespec pause = {{0, 5000000}};
    nanosleep(&pause, NULL);
    conductor_report((const conductor_call_t *)call, 0, conductor_platform((const conductor_call_t *)call));
    conductor_complete((const conductor_call_t *)call);
    return NULL;
}}
static void begin(void *probe, const conductor_call_t *call) {{ (void)probe, (void)later; {begin} }}
static void cancel(void *probe, const conductor_call_t *call) {{ (void)probe, (void)call; {cancel} }}
{DESTROY}
CONDUCTOR_PLUGIN(\"sinner\", \"1.0.0\", \"Sinner\", \"\", \"{{}}\", create, NULL, destroy, begin, cancel);\n"
    )
}

/// A `begin` that completes the check on another thread.
pub(crate) const ON_A_THREAD: &str = "pthread_t thread;
    if (pthread_create(&thread, NULL, later, (void *)call) == 0) pthread_detach(thread);";

const HEAD: &str = "#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include \"conductor_plugin.h\"";

const DESTROY: &str = "static void destroy(void *probe, const conductor_call_t *call)
{ conductor_log(call, CONDUCTOR_LEVEL_INFO, \"destroyed\"); free(probe); }";
