//! C libraries with one fault each: the fault is named and counted, and no other plugin is affected.

use super::{
    Language, host_with,
    source::{checking, compile, creating, exporting, reporting},
};
use crate::harness::{Setup, is_windows};

/// Asserts that the plugin's checks fail with this type and these words in the log, and the bystander's do not.
#[track_caller]
fn fails(source: &str, language: Language, error_type: &str, words: &[&str]) {
    let Some(host) = host_with(source, language) else {
        return;
    };
    host.wait("its failure", |m| m.failures("sinner", error_type) >= 1.0);
    for word in words {
        host.wait_for_log(word);
    }
    let before = host.metrics().checks("bystander", "healthy");
    host.wait("the bystander's checks", |m| {
        m.checks("bystander", "healthy") >= before + 10.0
    });
}

#[test]
fn a_struct_that_is_too_small_is_refused_with_both_sizes() {
    let words = [
        "its `conductor_plugin` says it has 16 bytes, where at least 64 are needed",
        "rebuild it with the conductor_plugin.h of API 1.x",
    ];
    fails(&exporting("16, 0"), Language::C, "abi", &words);
}

#[test]
fn a_function_that_is_null_is_refused_by_its_name() {
    let source = reporting("0", "fine").replace("create, check, destroy", "create, NULL, destroy");
    let words = ["`check` of its `conductor_plugin` is NULL"];
    fails(&source, Language::C, "load", &words);
}

#[test]
fn a_reserved_member_that_is_used_is_refused() {
    let members = "sizeof(conductor_plugin_t), 7";
    let words = ["has 7 in the member `reserved`"];
    fails(&exporting(members), Language::C, "abi", &words);
}

#[test]
fn a_library_that_says_another_id_than_its_manifest_is_refused() {
    let members = "sizeof(conductor_plugin_t), 0, \"saint\", \"1.0.0\", &conductor_host, \"{}\", create, check, destroy, NULL, NULL";
    let words = ["says it is saint 1.0.0, its manifest says sinner 1.0.0"];
    fails(&exporting(members), Language::C, "load", &words);
}

#[test]
fn a_schema_that_is_no_json_is_refused() {
    let source = reporting("0", "fine").replace("\"{}\", create", "\"{oops\", create");
    fails(
        &source,
        Language::C,
        "load",
        &["its config schema is not JSON"],
    );
}

#[test]
fn a_library_that_hides_its_struct_is_refused_before_it_runs() {
    let source = exporting("0").replace(
        "#undef conductor_plugin\nconst conductor_plugin_t conductor_plugin = {0};",
        "",
    );
    let setup = Setup::new();
    if !compile(&source, Language::C, &setup.plugin_dir().join("sinner.so")) {
        return;
    }
    let host = setup.platform("sinner", "sinner", "{}").start();
    host.wait("its failure", |m| m.failures("sinner", "load") >= 1.0);
    host.wait_for_log("refused by rule door: it is a C plugin and exports no `conductor_plugin`");
}

#[test]
fn a_check_that_says_nothing_is_a_failure_that_says_so() {
    let words = ["the check ended without a report; it calls conductor_report or conductor_fail"];
    fails(&checking(""), Language::C, "error", &words);
}

#[test]
fn a_create_that_answers_null_without_a_word_is_a_failure_that_says_so() {
    let words = ["`create` answered NULL and did not say why"];
    fails(&creating("return NULL;"), Language::C, "error", &words);
}

#[test]
fn a_create_that_says_what_is_wrong_with_the_config_is_heard() {
    let body =
        "conductor_fail(call, CONDUCTOR_FAILURE_CONFIG, \"config key `x`: no\"); return NULL;";
    fails(
        &creating(body),
        Language::C,
        "config",
        &["config key `x`: no"],
    );
}

#[test]
fn a_status_nobody_knows_is_a_breach_of_the_protocol() {
    let words = ["the probe reported status 9"];
    fails(&reporting("9", "?"), Language::C, "protocol", &words);
}

#[test]
fn a_check_that_exits_or_crashes_costs_its_worker() {
    fails(&checking("exit(3);"), Language::C, "crash", &[]);
    let segfault = checking("*(volatile int *)0 = (int)(size_t)call;");
    fails(
        &segfault,
        Language::C,
        "crash",
        &[by_status("SIGSEGV", "access violation")],
    );
}

#[test]
fn an_exception_that_leaves_a_check_costs_its_worker() {
    fails(
        &checking("(void)call; throw 1;"),
        Language::Cpp,
        "crash",
        &[by_status("SIGABRT", "0xC0000409")],
    );
}

#[test]
fn a_probe_that_says_it_is_broken_is_destroyed_and_made_anew() {
    let body = "conductor_fail(call, CONDUCTOR_FAILURE_PANIC, \"broken\");";
    fails(
        &checking(body),
        Language::C,
        "panic",
        &["broken", "destroyed"],
    );
}

#[test]
fn text_that_is_no_utf8_is_made_fit() {
    let source = reporting("1", "caf\\xe9\\nis \\x1b[31mopen");
    let Some(host) = host_with(&source, Language::C) else {
        return;
    };
    host.wait("its report", |m| m.checks("sinner", "degraded") >= 1.0);
    host.wait_for_log("degraded: caf\u{fffd}\\nis \\u{1b}[31mopen");
}

#[test]
fn a_call_that_is_used_after_its_end_is_nobodys() {
    let body = "static const conductor_call_t *last;
        conductor_report(last, 2, \"too late\"); conductor_complete(last);
        last = call; conductor_report(call, 0, conductor_platform(call));";
    let Some(host) = host_with(&checking(body), Language::C) else {
        return;
    };
    let metrics = host.wait("its reports", |m| m.checks("sinner", "healthy") >= 5.0);
    assert_eq!(metrics.checks("sinner", "unhealthy"), 0.0);
    host.wait_for_log("healthy: sinner");
}

/// Returns the name of a death on the system under test.
fn by_status(signal: &'static str, status: &'static str) -> &'static str {
    if is_windows() { status } else { signal }
}
