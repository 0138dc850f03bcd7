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

/// Renders labels.
pub(super) fn rendered<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        push_label(&mut text, name, value);
    }
    text
}
