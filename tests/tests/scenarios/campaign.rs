//! A short campaign of random faults against one host of many platforms; the README has the command for the long form.

use serde_json::Value;

use crate::harness::conductor;

#[test]
fn hundreds_of_faults_at_random_times_cost_nobody_else_a_check_and_leave_nothing_behind() {
    let mut drill = conductor(&["drill", "--campaign", "300", "--platforms", "100"]);
    let output = drill.args(["--output", "json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).expect(&said);
    assert_eq!(report["failures"], serde_json::json!([]), "{report:#}");
    assert_eq!(output.status.code(), Some(0), "{report:#}");
    // Success means something only if something happened.
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&report["faults"]) >= 300.0, "{report:#}");
    assert!(number(&report["outside"]["replaced"]) >= 8.0, "{report:#}");
    assert!(number(&report["restarts"]["crash"]) >= 10.0, "{report:#}");
    let control_group = &report["control_group"];
    assert!(number(&control_group["checks_seen"]) > number(&control_group["platforms"]) * 3.0);
    // In such a short time, chance skips some of them.
    let kinds = report["by_fault"].as_object().unwrap();
    let mute: Vec<_> = kinds.iter().filter(|(_, t)| t["count"] == 0).collect();
    assert!(
        mute.len() * 10 <= kinds.len(),
        "these did not happen: {mute:#?}"
    );
}

#[test]
fn a_campaign_of_too_few_platforms_is_refused() {
    let output = conductor(&["drill", "--campaign", "10", "--platforms", "3"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
