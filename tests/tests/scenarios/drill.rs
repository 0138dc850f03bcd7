//! Every fault of the drill: the host responds as required, and no other platform is affected.

use serde_json::Value;

use crate::harness::conductor;

#[test]
fn no_fault_while_a_library_is_loaded_reaches_anybody_else() {
    every_row_holds("load/");
}

#[test]
fn no_fault_while_a_probe_is_created_reaches_anybody_else() {
    every_row_holds("create/");
}

#[test]
fn no_fault_during_a_check_reaches_anybody_else() {
    every_row_holds("check/");
}

#[test]
fn no_fault_while_a_probe_is_dropped_reaches_anybody_else() {
    every_row_holds("drop/");
}

#[test]
fn nothing_a_worker_says_to_its_host_reaches_anybody_else() {
    every_row_holds("protocol/");
}

#[test]
fn what_befalls_the_host_or_a_worker_costs_nobody_a_check() {
    every_row_holds("host/");
}

#[test]
fn a_drill_without_a_fault_of_that_name_says_how_they_are_called() {
    let output = conductor(&["drill", "--only", "nonsense"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("nonsense") && said.contains("check/segfault/process"),
        "{said}"
    );
}

/// Runs the faults of one stage, in both isolations.
#[track_caller]
fn every_row_holds(stage: &str) {
    let mut drill = conductor(&["drill", "--output", "json", "--only", stage]);
    // Other tests run at the same time.
    let output = drill.args(["--jobs", "3"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).expect(&said);
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    let of = |verdict| rows.iter().filter(move |row| row["verdict"] == verdict);
    let short: Vec<_> = of("failed").collect();
    assert!(short.is_empty(), "{short:#?}");
    // In-process some make no sense; in a worker all do, and only a machine may lack the means.
    let skipped = |row: &&Value| row["isolation"] == "process" && row["fault"] != "full-disk";
    let skipped: Vec<_> = of("skipped").filter(skipped).collect();
    assert!(skipped.is_empty(), "{skipped:#?}");
    let lost = |row: &&Value| row["stage"] != "host" && row["collateral"] != "nothing";
    let lost: Vec<_> = of("passed").filter(lost).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert_eq!(output.status.code(), Some(0));
}
