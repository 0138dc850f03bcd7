//! Backslashes in double quotes: TOML reads them as the start of an escape, and Windows separates folders with them.

use super::error::ConfigMistake;

/// Returns the fix for a syntax error at `place` if it is about an escape in a double-quoted text.
pub(super) fn cure(text: &str, place: usize) -> Option<String> {
    let line = text[..place].rfind('\n').map_or(0, |newline| newline + 1);
    let before = &text[line..place];
    // The error is at the character after the backslash, or after the digits of `\x`, `\u` and `\U`.
    let digits = before.trim_end_matches(|c: char| c.is_ascii_hexdigit());
    let escape = digits.strip_suffix(['x', 'u', 'U']).unwrap_or(digits);
    if !before.ends_with('\\') && !escape.ends_with('\\') {
        return None;
    }
    let written = quoted_around(&text[line..], place - line);
    Some(match written {
        Some(written) if !written.contains('\'') => with_example(written),
        _ => RULE.to_owned(),
    })
}

/// Returns the text between the double quotes around the byte `at` of a line.
fn quoted_around(text: &str, at: usize) -> Option<&str> {
    let line = text.lines().next()?;
    let start = line[..at].rfind('"')? + 1;
    let end = line[at..].find('"')? + at;
    Some(&line[start..end])
}

/// Returns a mistake if `value`, written as `written` in the file, is a Windows path in which an escape has become a
/// control character: `"C:\new"` has a line break in place of `\n`.
pub(super) fn garbled_path(written: &str, value: &str) -> Option<ConfigMistake> {
    let inside = written.strip_prefix('"')?.strip_suffix('"')?;
    let is_path = match inside.as_bytes() {
        [b'"', ..] => false,
        [letter, b':', b'\\', ..] => letter.is_ascii_alphabetic(),
        [b'\\', b'\\', ..] => true,
        _ => false,
    };
    is_path.then(|| control_in(value, Some(inside))).flatten()
}

/// Returns a mistake if a path contains a control character, which no path on Windows can; `written` is its text in
/// the file, if that is known.
pub(super) fn control_in(path: &str, written: Option<&str>) -> Option<ConfigMistake> {
    let control = path.chars().find(|c| c.is_control())?;
    let escape = match control {
        '\u{8}' => r"\b".to_owned(),
        '\u{1b}' => r"\e".to_owned(),
        '\u{c}' => r"\f".to_owned(),
        control => control.escape_default().to_string(),
    };
    let help = match written.filter(|written| !written.contains('\'')) {
        Some(written) => with_example(written),
        None => RULE.to_owned(),
    };
    Some(
        ConfigMistake::new(format!(
            "this path contains a control character: in double quotes, `{escape}` is an escape"
        ))
        .help(help),
    )
}

fn with_example(written: &str) -> String {
    let doubled = written.replace(r"\\", r"\").replace('\\', r"\\");
    format!("{RULE}: '{written}' or \"{doubled}\"")
}

const RULE: &str = "write texts with backslashes in single quotes, or double each backslash";

#[cfg(test)]
mod tests {
    use super::*;

    fn help(mistake: &ConfigMistake) -> String {
        format!("{mistake:?}")
    }

    #[test]
    fn an_escape_in_a_windows_path_is_found_and_other_texts_are_left_alone() {
        for (written, value, is_garbled) in [
            (r#""C:\new""#, "C:\new", true),
            (r#""D:\temp\x""#, "D:\temp\\x", true),
            (r#""\\server\backup""#, "\\server\u{8}ackup", true),
            (r#""C:\\new""#, r"C:\new", false),
            (r"'C:\new'", r"C:\new", false),
            (r#""one\ntwo""#, "one\ntwo", false),
            (r#""""C:\new""""#, "C:\new", false),
            (r#""a:\\b""#, r"a:\b", false),
        ] {
            let found = garbled_path(written, value);
            assert_eq!(found.is_some(), is_garbled, "{written}: {found:?}");
        }
        let found = help(&garbled_path(r#""C:\new""#, "C:\new").unwrap());
        assert!(found.contains(r"`\\n` is an escape"), "{found}");
        assert!(found.contains(r"'C:\\new'"), "{found}");
    }

    #[test]
    fn only_an_error_behind_a_backslash_is_one_of_an_escape() {
        let place = |text: &str| {
            text.find('^')
                .map(|at| (text.replace('^', ""), at))
                .unwrap()
        };
        for (text, cured) in [
            (r#"x = "C:\U^sers""#, true),
            (r#"x = "C:\^Games""#, true),
            (r#"x = "\u12^""#, true),
            (r#"x = "abc^"#, false),
            (r#"x = ^abc"#, false),
        ] {
            let (text, at) = place(text);
            assert_eq!(cure(&text, at).is_some(), cured, "{text}");
        }
    }
}
