//! OpenMetrics 1.0, for scrapers that ask for it: the same samples as in the text format, under its stricter rules.
//!
//! It differs from the text encoder's output in three ways: the headers of a counter lack the `_total` of its samples,
//! upper bounds of buckets are written as floats, and the text has an explicit end. The units of declared families, which
//! the text format cannot state, are added by the encoder.

use std::io::{self, Write};

/// The content type of this format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Converts lines of the text format to OpenMetrics and writes them.
pub struct OpenMetrics<'a>(pub &'a mut dyn Write);

impl OpenMetrics<'_> {
    /// Writes complete lines of the text format.
    ///
    /// # Errors
    /// If a write fails.
    pub fn write_lines(&mut self, text: &str) -> io::Result<()> {
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            match line.strip_prefix("# HELP ") {
                Some(header) => {
                    // Its type is in the next line.
                    let is_counter = lines
                        .peek()
                        .is_some_and(|kind| kind.trim_end().ends_with(" counter"));
                    self.header("# HELP ", header, is_counter, true)?;
                }
                None => match line.strip_prefix("# TYPE ") {
                    Some(header) => {
                        let is_counter = header.trim_end().ends_with(" counter");
                        self.header("# TYPE ", header, is_counter, false)?;
                    }
                    None => self.sample(line)?,
                },
            }
        }
        Ok(())
    }

    /// Ends the text.
    ///
    /// # Errors
    /// If the write fails.
    pub fn end(self) -> io::Result<()> {
        self.0.write_all(b"# EOF\n")
    }

    fn header(
        &mut self,
        mark: &str,
        header: &str,
        is_counter: bool,
        is_help: bool,
    ) -> io::Result<()> {
        let (name, rest) = header.split_once(' ').unwrap_or((header, "\n"));
        let name = match name.strip_suffix("_total") {
            Some(stem) if is_counter => stem,
            _ => name,
        };
        if is_help {
            // Backslashes and line breaks are escaped already; here quotes must be, too.
            return write!(self.0, "{mark}{name} {}", rest.replace('"', "\\\""));
        }
        write!(self.0, "{mark}{name} {rest}")
    }

    fn sample(&mut self, line: &str) -> io::Result<()> {
        // `le` is the last label of a bucket, and no value of another label can contain an unescaped quote.
        if let Some((before, bound)) = line.rsplit_once(",le=\"").or(line.rsplit_once("{le=\""))
            && let Some((number, after)) = bound.split_once('"')
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            let mark = &line[before.len()..line.len() - bound.len()];
            return write!(self.0, "{before}{mark}{number}.0\"{after}");
        }
        self.0.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let mut out = Vec::new();
        let mut open = OpenMetrics(&mut out);
        open.write_lines(text).unwrap();
        open.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn counters_bounds_and_the_end_differ_and_nothing_else_does() {
        let text = "\
# HELP checks_total Checks, \"all\" of them.
# TYPE checks_total counter
checks_total{platform=\"a,le=\\\"5\"} 3
# HELP seconds How long.
# TYPE seconds histogram
seconds_bucket{platform=\"a\",le=\"0.5\"} 1
seconds_bucket{platform=\"a\",le=\"5\"} 2
seconds_bucket{le=\"10\"} 2
seconds_bucket{platform=\"a\",le=\"+Inf\"} 2
# HELP grand_total A gauge.
# TYPE grand_total gauge
grand_total 5
";
        let expected = "\
# HELP checks Checks, \\\"all\\\" of them.
# TYPE checks counter
checks_total{platform=\"a,le=\\\"5\"} 3
# HELP seconds How long.
# TYPE seconds histogram
seconds_bucket{platform=\"a\",le=\"0.5\"} 1
seconds_bucket{platform=\"a\",le=\"5.0\"} 2
seconds_bucket{le=\"10.0\"} 2
seconds_bucket{platform=\"a\",le=\"+Inf\"} 2
# HELP grand_total A gauge.
# TYPE grand_total gauge
grand_total 5
# EOF
";
        assert_eq!(told(text), expected);
    }
}
