//! The body of `POST /api/v2/alerts` of Alertmanager.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::NotifiedEvent;

/// Returns the alerts of these events as JSON.
///
/// Alertmanager knows an alert by its labels. None of them depends on the state except `severity`; at a change of that,
/// [`super::ReceiverRecord`] ends the alert with the old one.
#[must_use]
pub fn alertmanager_body(events: &[NotifiedEvent]) -> Vec<u8> {
    let alerts: Vec<Value> = events.iter().map(alert).collect();
    Value::from(alerts).to_string().into_bytes()
}

fn alert(event: &NotifiedEvent) -> Value {
    // Labels without a value are none to Alertmanager, which refuses names such as `a-b`.
    let own = event.facts.labels.iter().filter(|(_, v)| !v.is_empty());
    let mut labels: BTreeMap<String, &str> = own.map(|(k, v)| (label_name(k), &**v)).collect();
    for (name, value) in [
        ("alertname", "ConductorPlatform"),
        ("platform", &event.platform),
        ("plugin", &event.facts.plugin),
        ("severity", event.severity()),
    ] {
        labels.insert(name.to_owned(), value);
    }
    let mut alert = json!({
        "labels": labels,
        "annotations": {
            "summary": format!("{} is {}", event.platform, event.state),
            "description": event.facts.message,
        },
        "startsAt": date(event.since),
    });
    if let Some(ended) = event.ended {
        // An end before the begin is refused: a clock may have been set back.
        alert["endsAt"] = date(ended.max(event.since)).into();
    }
    alert
}

/// Returns the name as one of a Prometheus label.
fn label_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(allowed).collect()
}

/// Returns a time as RFC 3339.
pub(crate) fn date(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and such a time is refused"
    )]
    let millis = (seconds * 1000.0) as i64;
    Timestamp::from_millisecond(millis)
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlatformFacts;

    #[test]
    fn an_alert_has_the_labels_of_the_platform_and_ends_with_the_problem() {
        let mut event = NotifiedEvent {
            platform: "shop".to_owned(),
            facts: PlatformFacts {
                plugin: "http".to_owned(),
                labels: [
                    ("team".into(), "web".into()),
                    ("empty".into(), String::new()),
                ]
                .into(),
                message: "503".to_owned(),
            },
            state: "unhealthy".to_owned(),
            since: 1.5,
            ended: None,
        };
        let body = |event| serde_json::from_slice(&alertmanager_body(&[event])).unwrap();
        let firing: Value = body(event.clone());
        let wanted = json!([{
            "labels": { "alertname": "ConductorPlatform", "platform": "shop", "plugin": "http",
                "severity": "critical", "team": "web" },
            "annotations": { "summary": "shop is unhealthy", "description": "503" },
            "startsAt": "1970-01-01T00:00:01.5Z",
        }]);
        assert_eq!(firing, wanted);
        event.ended = Some(3.0);
        let ended: Value = body(event);
        assert_eq!(ended[0]["labels"], wanted[0]["labels"]);
        assert_eq!(ended[0]["endsAt"], "1970-01-01T00:00:03Z");
    }
}
