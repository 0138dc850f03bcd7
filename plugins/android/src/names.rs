//! Texts of a config that become arguments of a shell on the device.

/// Returns the rule that a package's name breaks.
pub(crate) fn check_package(name: &str) -> Result<(), &'static str> {
    const RULE: &str = "is not a package name; write one such as \"com.example.shop\": letters, digits and `_` in parts with dots between them";
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match name.len() <= MAX_NAME && name.split('.').all(is_part) {
        true => Ok(()),
        false => Err(RULE),
    }
}

/// Returns the rule that the name of an activity breaks.
pub(crate) fn check_component(name: &str) -> Result<(), &'static str> {
    const RULE: &str = "is not the name of an activity; write PACKAGE/CLASS, such as \"com.example.shop/.HealthActivity\"";
    let Some((package, class)) = name.split_once('/') else {
        return Err(RULE);
    };
    let is_class = !class.is_empty()
        && name.len() <= MAX_NAME
        && class
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._$".contains(&b));
    match check_package(package) {
        Ok(()) if is_class => Ok(()),
        _ => Err(RULE),
    }
}

/// Returns the rule that the action of an intent breaks.
pub(crate) fn check_action(name: &str) -> Result<(), &'static str> {
    let is_action = !name.is_empty()
        && name.len() <= MAX_NAME
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b));
    match is_action {
        true => Ok(()),
        false => Err(
            "is not the action of an intent; write one such as \"android.intent.action.VIEW\": letters, digits, `_` and dots",
        ),
    }
}

/// Returns the rule that a text without line breaks breaks; any such text can be quoted.
pub(crate) fn check_text(text: &str) -> Result<(), &'static str> {
    match !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(
            "is empty, has more than 1024 bytes, or has control characters; shorten or remove it",
        ),
    }
}

/// Returns the rule that the serial of a device, or its USB port, breaks.
pub(crate) fn check_serial(serial: &str) -> Result<(), &'static str> {
    let is_serial = !serial.is_empty()
        && serial.len() <= MAX_NAME
        && serial.bytes().all(|b| b.is_ascii_graphic());
    match is_serial {
        true => Ok(()),
        false => Err("is not a serial; write the first column of `adb devices`"),
    }
}

/// Quotes a text for the shell of the device, which then sees one argument and nothing else.
pub(crate) fn quote(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-:@%+,".contains(&b);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Longest name, in bytes; Android's own limit for packages is 223.
const MAX_NAME: usize = 255;

/// Longest text, in bytes. An old adb server takes requests of at most 4096.
const MAX_TEXT: usize = 1024;
