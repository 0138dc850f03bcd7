//! Faults of the standard streams: a plugin that prints too much, or reads standard input.

use std::io::{self, Read as _, Write};

use crate::injection::InjectionConfig;

pub(crate) fn stdout(injection: &InjectionConfig) {
    write(injection, io::stdout().lock());
}

pub(crate) fn stderr(injection: &InjectionConfig) {
    write(injection, io::stderr().lock());
}

/// Reads standard input to its end.
pub(crate) fn stdin() {
    let mut buffer = [0; 4096];
    while io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
}

/// Writes lines of 100 bytes, and at the end an incomplete one.
fn write(injection: &InjectionConfig, mut to: impl Write) {
    let line = format!("{:-<99}\n", "injected output ");
    for _ in 0..injection.limit.unwrap_or(8 << 20) / 100 {
        // A missing reader does not matter.
        if to.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
    let _ = to
        .write_all(b"and no end of line")
        .and_then(|()| to.flush());
}
