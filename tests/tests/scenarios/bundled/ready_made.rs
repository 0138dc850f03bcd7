//! Each bundled probe has a row of the dashboard, an alert rule with its test, an example config, and a line for operators who
//! come from another monitor.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::harness::workspace;

const DASHBOARD: &str = "packaging/grafana/conductor.json";
const RULES: &str = "packaging/prometheus/conductor-probes.rules.yml";
const RULE_TESTS: &str = "packaging/prometheus/conductor-probes.rules.test.yml";

#[test]
fn each_probe_has_a_row_a_rule_with_a_test_an_example_and_a_line_for_newcomers() {
    let dashboard = dashboard();
    let rules = read(RULES);
    let tests = read(RULE_TESTS);
    let examples = examples();
    let newcomers = read("docs/operate/coming-from.md");
    let mut missing = Vec::new();
    for id in probes() {
        let title = format!("Probe {id}");
        if !rows(&dashboard).any(|row| row["title"] == *title && shows(row, &id)) {
            missing.push(format!(
                "{DASHBOARD}: a row \"{title}\" whose panels all query metrics of {id}"
            ));
        }
        let alerts: Vec<_> = alerts(&rules)
            .filter(|(_, rule)| mentions(rule, &id))
            .map(|(name, _)| name)
            .collect();
        if alerts.is_empty() {
            missing.push(format!("{RULES}: an alert on a metric of {id}"));
        } else if !alerts.iter().any(|alert| is_tested(&tests, alert, &id)) {
            missing.push(format!(
                "{RULE_TESTS}: a test in which one of {alerts:?} fires with `plugin: {id}`"
            ));
        }
        if !examples
            .iter()
            .any(|line| *line == format!("plugin = \"{id}\""))
        {
            missing.push(format!(
                "examples/*.toml: a platform with plugin = \"{id}\""
            ));
        }
        if !newcomers.contains(&format!("[{id}](../reference/probes/{id}.md)")) {
            missing.push(format!(
                "docs/operate/coming-from.md: the checks of others that {id} replaces"
            ));
        }
    }
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}

#[test]
fn the_rows_and_the_rules_are_in_the_order_of_the_probes() {
    let dashboard = dashboard();
    let titles: Vec<_> = rows(&dashboard)
        .filter_map(|row| row["title"].as_str()?.strip_prefix("Probe "))
        .collect();
    assert!(titles.is_sorted(), "{DASHBOARD}: {titles:?}");
    let ids = probes();
    let rules = read(RULES);
    // A rule about two probes is at the one that it mentions first.
    let order: Vec<_> = alerts(&rules)
        .filter_map(|(_, rule)| {
            let places = ids.iter().filter_map(|id| Some((place(rule, id)?, id)));
            Some(places.min()?.1)
        })
        .collect();
    assert!(order.is_sorted(), "{RULES}: {order:?}");
}

#[test]
fn each_graph_of_the_dashboard_has_a_legend_a_unit_and_an_id_of_its_own() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut panels: Vec<_> = dashboard["panels"].as_array().unwrap().iter().collect();
    while let Some(panel) = panels.pop() {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        panels.extend(panel["panels"].as_array().into_iter().flatten());
        if panel["type"] != "timeseries" {
            continue;
        }
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string(), "{title} has no unit");
        for target in panel["targets"].as_array().unwrap() {
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            assert!(!legend.is_empty(), "{title} has no legend");
        }
    }
}

#[test]
fn the_documentation_lists_each_alert() {
    let page = "docs/operate/prometheus.md";
    let text = read(page);
    for file in ["packaging/prometheus/conductor.rules.yml", RULES] {
        for (alert, _) in alerts(&read(file)) {
            assert!(
                text.contains(&format!("`{alert}`")),
                "{page} does not list {alert} of {file}"
            );
        }
    }
}

/// Returns the ids of the bundled plugins that hosts load: all but that of the drill.
fn probes() -> Vec<String> {
    let list = read("plugins/bundled.txt");
    let rows = list.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let mut columns = row.split_whitespace();
        let id = columns.next()?;
        (columns.next()? != "-").then(|| id.to_owned())
    })
    .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

/// Returns the rows of the dashboard.
fn rows(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] == "row")
}

/// Returns `true` if a row has panels, and each of them queries metrics of the probe.
fn shows(row: &Value, id: &str) -> bool {
    let panels = row["panels"].as_array().unwrap();
    let mut queries = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap());
    !panels.is_empty() && queries.all(|query| mentions(query, id))
}

/// Returns the names of the alerts in a file of rules, each with its expression.
fn alerts(rules: &str) -> impl Iterator<Item = (&str, &str)> {
    rules.split("- alert: ").skip(1).map(|alert| {
        let (name, rule) = alert.split_once('\n').unwrap();
        (name, rule.split("annotations:").next().unwrap())
    })
}

/// Returns `true` if a test sees the alert fire for a platform of the probe.
fn is_tested(tests: &str, alert: &str, id: &str) -> bool {
    tests.split("alertname: ").skip(1).any(|test| {
        let (name, expected) = test.split_once('\n').unwrap();
        name == alert && expected.contains(&format!(" plugin: {id},"))
    })
}

/// Returns the lines of the example configs, without those that are commented out.
fn examples() -> Vec<String> {
    fs::read_dir(workspace().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| file.extension().is_some_and(|end| end == "toml"))
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            // A platform may be a single line.
            let parts = text.lines().filter(|line| !line.starts_with('#'));
            let parts = parts.flat_map(|line| line.split(['{', ',']));
            parts.map(|part| part.trim().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

fn mentions(text: &str, id: &str) -> bool {
    place(text, id).is_some()
}

/// Returns the place at which a query first names a metric of the probe: a declared one, or a measurement.
fn place(text: &str, id: &str) -> Option<usize> {
    let declared = text.find(&format!("conductor_{}_", id.replace('-', "_")));
    let measured = text.find(&format!("plugin=\"{id}\""));
    declared.into_iter().chain(measured).min()
}
