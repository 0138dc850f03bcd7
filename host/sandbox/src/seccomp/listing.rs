//! The filter as text for `SECURITY.md`.

use std::fmt::Write as _;

use super::{
    allowed, rules,
    table::{self, FilterDecision, SystemCall},
};

/// Returns the table of system calls as Markdown: those open to a plugin that declares nothing, and those closed to
/// all.
#[must_use]
pub fn listing() -> String {
    let mut text = String::new();
    for (decision, title) in SECTIONS {
        let _ = writeln!(text, "**{title}**\n");
        let mut groups: Vec<(&str, Vec<&SystemCall>)> = Vec::new();
        for group in table::groups().filter(|group| group.decision == decision) {
            match groups.iter_mut().find(|(why, _)| *why == group.why) {
                Some((_, calls)) => calls.extend(group.calls),
                None => groups.push((group.why, group.calls.iter().collect())),
            }
        }
        for (why, calls) in groups {
            let names: Vec<String> = calls.iter().map(|c| format!("`{}`", c.name())).collect();
            let _ = writeln!(text, "- {why}: {}", names.join(", "));
        }
        text.push('\n');
    }
    text.push_str("**Allowed values of arguments.** Every other value returns EPERM.\n\n");
    for list in allowed::lists() {
        let names: Vec<String> = list.values.iter().map(|v| format!("`{}`", v.0)).collect();
        let _ = writeln!(text, "- `{}`: {}", list.call, names.join(", "));
    }
    text.push('\n');
    let options: Vec<String> = rules::REFUSED_OPTIONS
        .iter()
        .map(|(name, ..)| format!("`{name}`"))
        .collect();
    let _ = writeln!(
        text,
        "**Refused options of `setsockopt`:** {}",
        options.join(", ")
    );
    text
}

const SECTIONS: [(FilterDecision, &str); 4] = [
    (
        FilterDecision::Open,
        "Allowed. A plugin that declares nothing:",
    ),
    (FilterDecision::Judged, "Allowed in part"),
    (FilterDecision::Refused, "Refused (EPERM). A call that:"),
    (
        FilterDecision::Absent,
        "Absent (ENOSYS), as is every call that is not listed. A call that:",
    ),
];
