//! A host that died inside an in-process plugin, and its successor.
#![cfg(target_os = "linux")]

use std::process::Output;

use crate::harness::{Host, Setup};

/// Returns a host with one platform whose check never returns, and is known to be running.
fn stuck() -> Host {
    let setup = Setup::new()
        .with("[plugin.fault]\nisolation = \"in-process\"")
        .platform("sticky", "fault", "{ check = { fault = \"hang\" } }")
        .platform("fine", "disk", "{ path = \"/\" }");
    let host = setup.start();
    host.wait("the check hangs", |m| m.failures("sticky", "timeout") > 0.0);
    host
}

fn output(host: &Host, arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = host.setup.command(arguments).output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_next_host_names_the_plugin_and_holds_it_until_it_is_cleared() {
    let mut host = stuck();
    host.signal("KILL");
    host.wait_for_exit();
    // Any command removes the dead run's folder; its record is for the next host.
    let (_, listed) = output(&host, &["plugin", "list"]);
    assert!(!listed.contains("quarantined"), "{listed}");
    let (_, next) = output(&host, &["run", "--once"]);
    let suspect =
        "suspect: plugin fault was inside a check of platform sticky when the last host died";
    assert!(next.contains(suspect), "{next}");
    assert!(!next.contains("plugin disk was"), "{next}");

    let (_, again) = output(&host, &["run", "--once"]);
    assert!(
        !again.contains("ERROR suspect") && next.contains("ERROR suspect"),
        "named twice: {again}"
    );
    assert!(
        again.contains("it runs in a worker: quarantined"),
        "{again}"
    );
    let (code, listed) = output(&host, &["plugin", "list"]);
    assert_eq!(code, Some(0), "{listed}");
    assert!(listed.contains("\nfault: quarantined since "), "{listed}");
    assert!(listed.contains(suspect), "{listed}");

    let (code, cleared) = output(&host, &["plugin", "clear", "fault"]);
    assert_eq!(code, Some(0), "{cleared}");
    assert!(cleared.starts_with("fault is cleared"), "{cleared}");
    let (_, listed) = output(&host, &["plugin", "list"]);
    assert!(!listed.contains("quarantined"), "{listed}");
    let (code, refused) = output(&host, &["plugin", "clear", "fault"]);
    assert_eq!(code, Some(1), "{refused}");
    assert!(
        refused.contains("plugin fault is not quarantined; no plugin is"),
        "{refused}"
    );
}

#[test]
fn a_host_that_was_asked_to_end_blames_nobody_however_it_ended() {
    for patience_is_lost in [false, true] {
        let mut host = stuck();
        host.ask_to_stop();
        if patience_is_lost {
            host.wait_for_log("stopping");
            host.signal("KILL");
        }
        host.wait_for_exit();
        let (_, next) = output(&host, &["run", "--once"]);
        assert!(!next.contains("suspect"), "{next}");
    }
}
