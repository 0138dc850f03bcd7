//! Output of commands: tables, JSON, and text with terminal escapes removed.

use clap::ValueEnum;
use comfy_table::{ColumnConstraint, Table, Width, presets::NOTHING};
use conductor_library::printable;
use serde::Serialize;

use crate::CliError;

/// Form of a command's output.
#[derive(Clone, Copy, ValueEnum)]
#[expect(
    missing_docs,
    reason = "the names say it, and help shows documentation"
)]
pub enum OutputFormat {
    Table,
    Json,
}

/// Prints a warning to standard error.
pub fn warn(text: &str) {
    aside("warning", text);
}

/// Prints to standard error what explains the output, such as the reason why a part of it is missing.
pub fn note(text: &str) {
    aside("note", text);
}

fn aside(kind: &str, text: &str) {
    use std::io::Write as _;
    // A failed write to standard error cannot be reported anywhere.
    let _ = writeln!(std::io::stderr(), "{kind}: {}", printable::lines(text));
}

/// Returns a table without borders: as wide as its content, or as the terminal if that is narrower and standard output
/// is one.
#[must_use]
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    table_within(terminal_width(), header, rows)
}

/// Returns a table without borders: as wide as its content, or at most `width` columns if given. Longer cells are
/// wrapped.
#[must_use]
pub fn table_within<const N: usize>(
    width: Option<u16>,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let header = header.map(str::to_owned);
    let words = longest_words(std::iter::once(&header).chain(&rows));
    let mut table = Table::new();
    table.set_header(header).add_rows(rows);
    formatted(table, &words, width)
}

/// Returns names with their values below each other, wrapped as in [`table`].
#[must_use]
pub fn facts(rows: impl IntoIterator<Item = [String; 2]>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let words = longest_words(&rows);
    let mut table = Table::new();
    table.add_rows(rows);
    formatted(table, &words, terminal_width())
}

/// Returns the number of columns of the terminal, if standard output is one.
#[must_use]
pub fn terminal_width() -> Option<u16> {
    Table::new().width()
}

/// Returns the length of the longest word in each column; escape sequences count as part of it.
fn longest_words<'a, const N: usize>(rows: impl IntoIterator<Item = &'a [String; N]>) -> [u16; N] {
    let mut longest = [0; N];
    for row in rows {
        for (longest, cell) in longest.iter_mut().zip(row) {
            let words = cell.split_whitespace().map(|word| word.chars().count());
            let word = words.max().unwrap_or_default();
            *longest = u16::try_from(word).unwrap_or(u16::MAX).max(*longest);
        }
    }
    longest
}

fn formatted(mut table: Table, words: &[u16], width: Option<u16>) -> String {
    table.load_style(NOTHING);
    for column in table.column_iter_mut() {
        column.set_padding((0, PADDING));
    }
    let full = table.column_max_content_widths();
    let columns = u16::try_from(full.len()).unwrap_or(u16::MAX);
    let padding = columns.saturating_sub(1).saturating_mul(PADDING);
    let available = width.map(|width| width.saturating_sub(padding));
    let needed = full
        .iter()
        .fold(0, |sum: u16, width| sum.saturating_add(*width));
    if let Some(available) = available.filter(|available| *available < needed) {
        let widths = wrapped_widths(&full, words, available);
        for (column, width) in table.column_iter_mut().zip(widths) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + PADDING)));
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// Returns the widths of columns that need `full` columns each and have `available` ones together: at first as many as
/// the longest word needs, if there are as many, and the rest in equal shares.
fn wrapped_widths(full: &[u16], words: &[u16], available: u16) -> Vec<u16> {
    let words = full.iter().zip(words).map(|(full, word)| *full.min(word));
    let words = shares(&words.collect::<Vec<_>>(), available);
    let left = available.saturating_sub(words.iter().sum());
    let missing = full.iter().zip(&words).map(|(full, word)| full - word);
    let more = shares(&missing.collect::<Vec<_>>(), left);
    let widths = words.into_iter().zip(more);
    widths.map(|(word, more)| (word + more).max(1)).collect()
}

/// Shares `available` among `wanted`: small wishes are fulfilled, and large ones get equal shares of the rest.
fn shares(wanted: &[u16], mut available: u16) -> Vec<u16> {
    let mut shares = wanted.to_vec();
    let mut smallest_first: Vec<_> = (0..wanted.len()).collect();
    smallest_first.sort_by_key(|at| wanted[*at]);
    let mut left = u16::try_from(wanted.len()).unwrap_or(u16::MAX);
    for at in smallest_first {
        shares[at] = wanted[at].min(available / left.max(1));
        available -= shares[at];
        left = left.saturating_sub(1);
    }
    shares
}

/// Spaces between two columns.
const PADDING: u16 = 2;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn widest(text: &str) -> usize {
        let widths = text.lines().map(|line| line.chars().count());
        widths.max().unwrap_or_default()
    }

    #[test]
    fn a_table_fits_the_terminal_and_loses_no_word() {
        let row = [
            "db-* team=chat",
            "in force until Mon 2026-11-30 00:52:17 UTC",
            "pause",
            "Sat 02:00-04:00, Mon-Fri 22:00-23:00 (Europe/Berlin)",
            "alice",
            "the database is patched and moved to other disks",
        ];
        let table = |width| {
            let header = ["WINDOW", "STATE", "CHECKS", "TIMES", "BY", "REASON"];
            table_within(width, header, [row.map(str::to_owned)])
        };
        assert!(widest(&table(None)) > 150);
        for width in [80, 100, 200] {
            let table = table(Some(width));
            assert!(widest(&table) <= usize::from(width), "{width}:\n{table}");
            for word in row.iter().flat_map(|cell| cell.split(' ')) {
                assert!(table.contains(word), "{word} at {width}:\n{table}");
            }
        }
        assert_eq!(widest(&table(Some(200))), widest(&table(None)));
    }

    #[test]
    fn a_word_that_is_wider_than_its_column_is_split() {
        let path = format!("/usr/lib/conductor/{}.so", "x".repeat(90));
        let table = table_within(Some(40), ["PLUGIN", "FILE"], [["http".to_owned(), path]]);
        assert!(widest(&table) <= 40, "{table}");
    }
}
