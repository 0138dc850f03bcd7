//! The body of a webhook's request: a text with placeholders.

use serde_json::{Value, json};

use super::{NotifiedEvent, alerts::date};

/// A text with placeholders, such as `{{title}}`.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageTemplate {
    text: String,
    is_json: bool,
}

/// A mistake in a template.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error("there is no placeholder {{{{{0}}}}}: choose from {list}", list = PLACEHOLDERS.join(", "))]
    Unknown(String),
    /// A `{{` has no `}}`.
    #[error("a {{{{ has no }}}}")]
    Open,
    /// The text is not JSON once its placeholders are replaced.
    #[error(
        "not valid JSON once its placeholders are replaced: {0}; for another format, set the header Content-Type"
    )]
    NotJson(String),
}

impl MessageTemplate {
    /// Parses a template. In JSON, what replaces a placeholder is escaped as for a JSON text.
    ///
    /// # Errors
    /// If it has unknown placeholders, or is to be JSON and is not.
    pub fn parse(text: &str, is_json: bool) -> Result<Self, TemplateError> {
        let template = Self {
            text: text.to_owned(),
            is_json,
        };
        let sample = template.replaced(|name| {
            let known = PLACEHOLDERS.contains(&name);
            // Valid as a text and as a number.
            known
                .then(|| "1".to_owned())
                .ok_or_else(|| TemplateError::Unknown(name.to_owned()))
        })?;
        if is_json && let Err(error) = serde_json::from_str::<Value>(&sample) {
            return Err(TemplateError::NotJson(error.to_string()));
        }
        Ok(template)
    }

    /// Returns the body for these events.
    #[must_use]
    pub fn body(&self, id: &str, events: &[NotifiedEvent]) -> String {
        let body = self.replaced(|name| {
            let value = value(name, id, events);
            Ok(if self.is_json { escaped(&value) } else { value })
        });
        body.unwrap_or_default()
    }

    fn replaced(
        &self,
        mut value: impl FnMut(&str) -> Result<String, TemplateError>,
    ) -> Result<String, TemplateError> {
        let (mut replaced, mut rest) = (String::new(), self.text.as_str());
        while let Some((before, inside)) = rest.split_once("{{") {
            let (name, after) = inside.split_once("}}").ok_or(TemplateError::Open)?;
            replaced.push_str(before);
            replaced.push_str(&value(name.trim())?);
            rest = after;
        }
        replaced.push_str(rest);
        Ok(replaced)
    }

    /// Returns the document that a webhook without a template gets.
    #[must_use]
    pub fn default_body(id: &str, events: &[NotifiedEvent]) -> String {
        let listed: Vec<Value> = events
            .iter()
            .map(|event| {
                json!({
                    "platform": event.platform,
                    "plugin": event.facts.plugin,
                    "labels": event.facts.labels,
                    "status": status(std::slice::from_ref(event)),
                    "state": event.state,
                    "severity": event.severity(),
                    "message": event.facts.message,
                    "since": date(event.since),
                    "ended": event.ended.map(date),
                })
            })
            .collect();
        json!({
            "version": 1,
            "id": id,
            "status": status(events),
            "title": value("title", id, events),
            "events": listed,
        })
        .to_string()
    }
}

fn value(name: &str, id: &str, events: &[NotifiedEvent]) -> String {
    let joined = |of: &dyn Fn(&NotifiedEvent) -> String| {
        let mut texts: Vec<_> = events.iter().take(MOST_LISTED).map(of).collect();
        texts.dedup();
        texts.join(", ")
    };
    match name {
        "id" => id.to_owned(),
        "count" => events.len().to_string(),
        "status" => status(events).to_owned(),
        "severity" => {
            let is_critical = events.iter().any(|event| event.severity() == "critical");
            if is_critical { "critical" } else { "warning" }.to_owned()
        }
        "platform" => joined(&|event| event.platform.clone()),
        "plugin" => joined(&|event| event.facts.plugin.clone()),
        "state" => joined(&|event| event.state.clone()),
        "since" => joined(&|event| date(event.since)),
        "message" => joined(&|event| event.facts.message.clone()),
        "title" => match events {
            [event] => event.title(),
            _ => format!(
                "{} platforms: {}{}",
                events.len(),
                joined(&NotifiedEvent::title),
                more(events)
            ),
        },
        _ => {
            let lines = events.iter().take(MOST_LISTED);
            let lines: Vec<_> = lines
                .map(|event| format!("{}: {}", event.title(), event.facts.message))
                .collect();
            lines.join("\n") + &more(events)
        }
    }
}

/// Returns `resolved` if all problems are over.
fn status(events: &[NotifiedEvent]) -> &'static str {
    if events.iter().all(|event| event.ended.is_some()) {
        "resolved"
    } else {
        "firing"
    }
}

fn more(events: &[NotifiedEvent]) -> String {
    match events.len().saturating_sub(MOST_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// Returns a text as inside the quotes of a JSON text.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The names of all placeholders.
const PLACEHOLDERS: [&str; 11] = [
    "title", "text", "status", "severity", "platform", "plugin", "state", "message", "since",
    "count", "id",
];

/// The number of events that a text lists: chats refuse long ones.
const MOST_LISTED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlatformFacts;

    fn event(platform: &str) -> NotifiedEvent {
        NotifiedEvent {
            platform: platform.to_owned(),
            facts: PlatformFacts {
                message: "\"no\"\n".to_owned(),
                ..PlatformFacts::default()
            },
            state: "unhealthy".to_owned(),
            since: 0.0,
            ended: None,
        }
    }

    #[test]
    fn what_a_plugin_says_cannot_leave_its_text() {
        let text = r#"{"text": "{{ title }}: {{message}}", "n": {{count}}}"#;
        let template = MessageTemplate::parse(text, true).unwrap();
        let body: Value = serde_json::from_str(&template.body("7", &[event("shop")])).unwrap();
        assert_eq!(
            body,
            json!({ "text": "shop is unhealthy: \"no\"\n", "n": 1 })
        );
        let plain = MessageTemplate::parse("{{message}}{{id}}", false).unwrap();
        assert_eq!(plain.body("7", &[event("shop")]), "\"no\"\n7");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text| MessageTemplate::parse(text, true).unwrap_err().to_string();
        assert!(
            error("{\"a\": \"{{nme}}\"}").contains("no placeholder {{nme}}: choose from title")
        );
        assert!(error("{{title").contains("{{ has no }}"));
        assert!(error("{{title}} x").contains("not valid JSON"));
        assert_eq!(
            MessageTemplate::parse("x {{text}}", false).unwrap().text,
            "x {{text}}"
        );
    }

    #[test]
    fn a_long_list_ends_early() {
        let events: Vec<_> = (0..50).map(|n| event(&n.to_string())).collect();
        let title = value("title", "", &events);
        assert!(
            title.starts_with("50 platforms: 0 is unhealthy, 1 "),
            "{title}"
        );
        assert!(title.ends_with("19 is unhealthy and 30 more"), "{title}");
        let body: Value =
            serde_json::from_str(&MessageTemplate::default_body("a", &events)).unwrap();
        assert_eq!(body["events"].as_array().unwrap().len(), 50);
    }
}
