//! C plugins with asynchronous checks.

use std::fmt::Write as _;

use super::{
    Language, host_with,
    source::{ON_A_THREAD, beginning, compile},
};
use crate::harness::Setup;

#[test]
fn a_check_is_completed_from_another_thread() {
    let Some(host) = host_with(&beginning(ON_A_THREAD, ""), Language::C) else {
        return;
    };
    host.wait("its reports", |m| m.checks("sinner", "healthy") >= 5.0);
    host.wait_for_log("healthy: sinner");
}

#[test]
fn a_check_may_be_completed_before_begin_returns() {
    let begin = "conductor_report(call, 1, \"at once\"); conductor_complete(call);";
    let Some(host) = host_with(&beginning(begin, ""), Language::C) else {
        return;
    };
    host.wait("its reports", |m| m.checks("sinner", "degraded") >= 5.0);
}

#[test]
fn a_second_completion_is_nobodys() {
    let begin = "conductor_report(call, 0, \"once\"); conductor_complete(call);
        conductor_report(call, 2, \"twice\"); conductor_complete(call);";
    let Some(host) = host_with(&beginning(begin, ""), Language::C) else {
        return;
    };
    let metrics = host.wait("its reports", |m| m.checks("sinner", "healthy") >= 5.0);
    assert_eq!(metrics.checks("sinner", "unhealthy"), 0.0);
    host.wait_for_log("a plugin completed a check that had ended or was not requested");
}

#[test]
fn a_check_that_is_never_completed_times_out_and_is_cancelled() {
    let cancel = "conductor_log(call, CONDUCTOR_LEVEL_INFO, \"cancelled\");";
    let Some(host) = host_with(&beginning("(void)call;", cancel), Language::C) else {
        return;
    };
    host.wait("a timeout", |m| m.failures("sinner", "timeout") >= 1.0);
    host.wait_for_log("cancelled");
    host.wait("the bystander's checks", |m| {
        m.checks("bystander", "healthy") >= 10.0
    });
}

#[test]
fn a_thousand_platforms_are_checked_side_by_side() {
    let source = beginning(ON_A_THREAD, "");
    for isolation in ["process", "in-process"] {
        let setup = Setup::without_plugins()
            .host("interval = \"5s\"\nstagger = \"1ms\"\ntimeout = \"4s\"")
            .with(&format!("[plugin.sinner]\nisolation = \"{isolation}\""));
        if !compile(&source, Language::C, &setup.plugin_dir().join("x.so")) {
            return;
        }
        let mut platforms = String::new();
        for n in 0..1000 {
            writeln!(platforms, "[platform.p{n}]\nplugin = \"sinner\"").unwrap();
        }
        let host = setup.with(&platforms).start();
        host.wait("a report of each", |m| {
            m.sum("conductor_platform_up", &[]) == 1000.0
        });
    }
}
