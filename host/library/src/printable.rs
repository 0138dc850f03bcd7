//! Makes untrusted text safe to print: file names, manifests, responses of remote hosts.
//!
//! Escapes everything that controls a terminal, breaks a line or changes the text direction. The command line prints
//! through this, and messages that contain a path are built with [`path`], so that the log is safe as well.

use std::{borrow::Cow, fmt::Write as _, path::Path};

use serde_json::Value;

/// Returns `true` for characters that could control a log or a terminal: control characters, line separators, and those
/// that change the text direction.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the character, escaped if it could do harm.
pub fn escaped(c: char) -> String {
    if steers(c) {
        c.escape_default().collect()
    } else {
        c.into()
    }
}

/// Returns a name on one line; invisible characters are escaped too, so that different names look different.
pub fn name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                    text.extend(c.escape_unicode());
                }
                c if steers(c) => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Returns a path on one line.
pub fn path(path: &Path) -> String {
    name(path.as_os_str().as_encoded_bytes())
}

/// Returns multi-line text; newlines and tabs are kept.
pub fn lines(text: &str) -> Cow<'_, str> {
    let is_layout = |c: char| c == '\n' || c == '\t';
    if !text.contains(|c: char| steers(c) && !is_layout(c)) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match is_layout(c) {
        true => c.to_string(),
        false => escaped(c),
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Returns equivalent JSON text: JSON itself escapes control characters only where it must.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| steers(c) && !c.is_ascii_control()) && !text.contains('\u{7f}') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // All of these have one UTF-16 unit. Line breaks occur between tokens.
        match steers(c) && !matches!(c, '\n' | '\t' | '\r') {
            true => drop(write!(shown, "\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Makes every string in a value safe to print, including keys.
pub fn value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(safe) = lines(text) {
                *text = safe;
            }
        }
        Value::Array(all) => all.iter_mut().for_each(self::value),
        Value::Object(all) => {
            all.values_mut().for_each(self::value);
            if all.keys().any(|key| key.contains(steers)) {
                let entries = std::mem::take(all).into_iter();
                *all = entries
                    .map(|(key, value)| (name(key.as_bytes()), value))
                    .collect();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_from_a_file_cannot_steer_the_terminal() {
        assert_eq!(name(b"a\x1b[31m\nb\xff\x9b"), "a\\u{1b}[31m\\nb\\xff\\x9b");
        assert_eq!(name("ü\u{9b}\u{202e}x".as_bytes()), "ü\\u{9b}\\u{202e}x");
        assert_eq!(
            lines("a\tb\n\u{1b}]0;x\u{7}c\r"),
            "a\tb\n\\u{1b}]0;x\\u{7}c\\r"
        );
    }

    #[test]
    fn json_stays_json_and_means_the_same() {
        let said = json!({ "k\u{202e}": ["\u{7f}\u{9b}", "\u{1b}[2J", "plain ü"] });
        let text = serde_json::to_string_pretty(&said).unwrap();
        let safe = json(&text);
        assert!(!safe.contains(|c: char| steers(c) && c != '\n'), "{safe}");
        assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), said);
    }

    #[test]
    fn every_text_of_a_hosts_answer_is_made_safe() {
        let mut said = json!({ "a\u{1b}": [{ "b": "x\u{202e}y" }, 1, null] });
        value(&mut said);
        assert_eq!(
            said,
            json!({ "a\\u{1b}": [{ "b": "x\\u{202e}y" }, 1, null] })
        );
    }
}
