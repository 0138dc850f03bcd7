//! Output of commands: tables, JSON, and text with terminal escapes removed.

use clap::ValueEnum;
use comfy_table::{Table, presets::NOTHING};
use conductor_library::printable;
use serde::Serialize;

use crate::CliError;

/// Form of a command's output.
#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    /// Table
    Table,
    /// JSON
    Json,
}

/// Prints a warning to standard error.
pub fn warn(text: &str) {
    use std::io::Write as _;
    // A failed write to standard error cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "warning: {}", printable::lines(text));
}

/// Returns a table without borders, as wide as its content.
#[must_use]
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    format!("{}\n", table.trim_fmt())
}

/// Returns a value as JSON for programs.
///
/// # Errors
/// If the value has no JSON form.
pub fn json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(value)
        .map(|json| format!("{}\n", printable::json(&json)))
        .map_err(|e| CliError::Other(format!("cannot print as JSON: {e}")))
}

/// Prints a command's output, escaped where it could control a terminal; a reader that closes the pipe early (`| head`)
/// is no error.
///
/// # Errors
/// If standard output cannot be written.
pub fn print(text: &str) -> Result<(), CliError> {
    print_styled(&printable::lines(text))
}

/// Prints JSON text from elsewhere, such as a host's response.
///
/// # Errors
/// If standard output cannot be written.
pub fn print_json(text: &str) -> Result<(), CliError> {
    print(&format!("{}\n", printable::json(text.trim_end())))
}

/// Prints output that contains this program's own escape sequences; everything else in it was escaped before.
///
/// # Errors
/// If standard output cannot be written.
pub fn print_styled(text: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::Other(format!("cannot print: {e}")))
        }
        _ => Ok(()),
    }
}
