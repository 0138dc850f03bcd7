//! The config of a probe, for a plugin without a JSON parser.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    sync::{Mutex, PoisonError},
};

use conductor_types::ErrorType;
use serde_json::Value;

use crate::CallFailure;

/// A platform's `config` table, and the texts requested from it.
pub(super) struct ProbeConfig {
    table: Value,
    /// By their keys. A text that was lent stays in place until the config is dropped.
    texts: Mutex<HashMap<String, CString>>,
}

impl ProbeConfig {
    /// # Errors
    /// When it contains a text that C would see only in part.
    pub(super) fn read(json: &str) -> Result<Self, CallFailure> {
        let table = serde_json::from_str(json).map_err(|e| config(format!("config: {e}")))?;
        if let Some(key) = key_of_nul(&table) {
            return Err(config(format!(
                "config key `{}`: a text has a NUL character, where a text ends for C plugins; take it out",
                key.escape_debug()
            )));
        }
        Ok(Self {
            table,
            texts: Mutex::default(),
        })
    }

    /// Returns a text; it lives as long as the config.
    pub(super) fn string(&self, key: &str) -> Option<&CStr> {
        let value = self.get(key)?.as_str()?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if !texts.contains_key(key) {
            texts.insert(key.to_owned(), CString::new(value).ok()?);
        }
        let text: *const CStr = texts.get(key)?.as_c_str();
        drop(texts);
        // SAFETY: on the heap, where it stays until the map is dropped: entries are never removed or replaced.
        Some(unsafe { &*text })
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    pub(super) fn bool(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// Returns the value of a key of the table, or of a JSON pointer.
    fn get(&self, key: &str) -> Option<&Value> {
        if key.starts_with('/') {
            self.table.pointer(key)
        } else {
            self.table.get(key)
        }
    }
}

fn config(message: String) -> CallFailure {
    CallFailure::new(ErrorType::Config, message)
}

/// Returns the path to a text with a NUL character, for example `urls.1`.
fn key_of_nul(value: &Value) -> Option<String> {
    let below = |key: &str, value: &Value| {
        let rest = key_of_nul(value)?;
        let dot = if rest.is_empty() { "" } else { "." };
        Some(format!("{key}{dot}{rest}"))
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => {
            let mut values = values.iter().enumerate();
            values.find_map(|(place, value)| below(&place.to_string(), value))
        }
        Value::Object(table) => table.iter().find_map(|(key, value)| {
            let own = key.contains('\0').then(|| key.clone());
            own.or_else(|| below(key, value))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_key_and_by_pointer_and_only_if_their_type_fits() {
        let json =
            r#"{"path": "/x ü", "tls": {"on": true}, "urls": ["a", "b"], "n": 3, "a/b": "odd"}"#;
        let config = ProbeConfig::read(json).unwrap();
        let text = |key| config.string(key).map(|text| text.to_str().unwrap());
        assert_eq!(text("path"), Some("/x ü"));
        assert_eq!(text("/urls/1"), Some("b"));
        assert_eq!(text("/a~1b"), Some("odd"));
        assert_eq!((text("n"), text("/urls/2"), text("")), (None, None, None));
        assert_eq!(
            (config.number("n"), config.number("path")),
            (Some(3.0), None)
        );
        assert_eq!(
            (config.bool("/tls/on"), config.bool("tls")),
            (Some(true), None)
        );
    }

    #[test]
    fn a_text_stays_where_it_is_while_others_are_asked_for() {
        let table: HashMap<_, _> = (0..200).map(|n| (format!("k{n}"), "text")).collect();
        let config = ProbeConfig::read(&serde_json::to_string(&table).unwrap()).unwrap();
        let first = config.string("k0").unwrap();
        for key in table.keys() {
            config.string(key).unwrap();
        }
        assert_eq!(first.as_ptr(), config.string("k0").unwrap().as_ptr());
        assert_eq!(first, c"text");
    }

    #[test]
    fn a_text_that_c_would_see_a_part_of_is_refused() {
        let refused = ProbeConfig::read(r#"{"a": ["x\u0000y"]}"#).err().unwrap();
        assert_eq!(refused.kind, ErrorType::Config);
        assert!(
            refused
                .message
                .starts_with("config key `a.0`: a text has a NUL"),
            "{refused}"
        );
    }
}
