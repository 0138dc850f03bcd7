//! Rendered labels: `platform="a",plugin="b"`, escaped as both text formats require.

/// Appends a label.
pub(super) fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    escape(value, |piece| text.push_str(piece));
    text.push('"');
}

/// Calls `push` with the pieces of an escaped label value.
pub(super) fn escape(value: &str, mut push: impl FnMut(&str)) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '\n', '"']) {
        let (before, special) = rest.split_at(at);
        push(before);
        push(match special.as_bytes()[0] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        });
        rest = &special[1..];
    }
    push(rest);
}

/// The labels of a platform, rendered once.
///
/// Kept small, since there may be 100 000 of them.
#[derive(Debug, Default)]
pub(super) struct PlatformLabels {
    text: Box<str>,
    /// The length of the labels that every series of the platform has.
    common: u32,
}

impl PlatformLabels {
    /// Renders labels: those that every series has, and those that only `conductor_platform_info` has.
    pub(super) fn new<'a>(
        common: impl IntoIterator<Item = (&'a str, &'a str)>,
        info: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut text = String::new();
        for (name, value) in common {
            push_label(&mut text, name, value);
        }
        let common = u32::try_from(text.len()).unwrap_or(u32::MAX);
        for (name, value) in info {
            push_label(&mut text, name, value);
        }
        Self {
            text: text.into(),
            common,
        }
    }

    /// Returns the labels that every series of the platform has.
    pub(super) fn common(&self) -> &str {
        self.text.get(..self.common as usize).unwrap_or(&self.text)
    }

    /// Returns the labels of `conductor_platform_info`.
    pub(super) fn info(&self) -> &str {
        &self.text
    }
}
