//! A file system of the device, by `df`.

use crate::{
    reading::{Reading, number, unread},
    wire::ShellOutput,
};

/// The space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Storage {
    pub(crate) size: f64,
    pub(crate) free: f64,
    /// Used part in percent, 0–100, as `df` counts it: without blocks that are reserved.
    pub(crate) used_percent: f64,
}

impl Storage {
    /// Parses the output of `command`, which is `df PATH`.
    pub(crate) fn parse(command: &str, output: &ShellOutput) -> Reading<Self> {
        Self::find(&output.stdout).ok_or_else(|| unread(command, output))
    }

    fn find(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let header = lines.find(|line| line.starts_with("Filesystem"))?;
        let row: Vec<&str> = lines.next()?.split_whitespace().collect();
        let [size, used, free] = if header.contains("1K-blocks") {
            let percent = row.iter().position(|word| word.ends_with('%'))?;
            let columns = row.get(percent.checked_sub(3)?..percent)?;
            let [size, used, free] = columns else {
                return None;
            };
            [size, used, free].map(|blocks| Some(number(blocks)? * 1024.0))
        } else {
            // The one before Android 6: `Filesystem Size Used Free Blksize`.
            let [_, size, used, free, ..] = row[..] else {
                return None;
            };
            [size, used, free].map(sized)
        };
        let (size, used, free) = (size?, used?, free?);
        let is_plausible = size > 0.0 && used >= 0.0 && free >= 0.0 && used + free > 0.0;
        is_plausible.then(|| Self {
            size,
            free,
            used_percent: used / (used + free) * 100.0,
        })
    }
}

/// Parses a size such as `12.5G`.
fn sized(text: &str) -> Option<f64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1024.0),
        b'M' => (&text[..text.len() - 1], 1024.0 * 1024.0),
        b'G' => (&text[..text.len() - 1], 1024.0 * 1024.0 * 1024.0),
        _ => (text, 1.0),
    };
    Some(number(digits)? * factor)
}
