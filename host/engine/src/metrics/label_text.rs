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

/// Appends rendered labels, except for those with an unwanted name.
pub(super) fn push_labels_without(
    text: &mut String,
    mut labels: &str,
    is_unwanted: impl Fn(&str) -> bool,
) {
    while let Some((name, value)) = labels.split_once("=\"") {
        let end = end_of_value(value);
        if !is_unwanted(name) {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&labels[..name.len() + 2 + end + 1]);
        }
        labels = value.get(end + 2..).unwrap_or_default();
    }
}

/// Returns the length of an escaped value, up to its closing quotation mark.
fn end_of_value(value: &str) -> usize {
    let mut bytes = value.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return at,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_left_out_by_name_whatever_the_others_hold() {
        let labels = rendered([
            ("platform", "a\",plugin=\"x"),
            ("plugin", "b\\"),
            ("team", "ü,\n"),
            ("plugin_2", "c"),
        ]);
        let mut text = String::new();
        push_labels_without(&mut text, &labels, |name| name == "plugin");
        let expected = rendered([
            ("platform", "a\",plugin=\"x"),
            ("team", "ü,\n"),
            ("plugin_2", "c"),
        ]);
        assert_eq!(text, expected);
        text.clear();
        push_labels_without(&mut text, &labels, |_| false);
        assert_eq!(text, labels);
    }
}
