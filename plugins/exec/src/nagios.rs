//! The output of a Nagios plugin: text, long text and performance data.
//!
//! ```text
//! TEXT | PERFORMANCE DATA
//! LONG TEXT
//! LONG TEXT | PERFORMANCE DATA
//! PERFORMANCE DATA
//! ```

/// The parts of a plugin's standard output.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct PluginOutput {
    /// The first line, without its performance data.
    pub(crate) text: String,
    /// Number of lines of long text.
    pub(crate) more_lines: usize,
    /// All performance data, in one line.
    pub(crate) performance: String,
}

impl PluginOutput {
    /// Splits the output of a Nagios plugin.
    pub(crate) fn parse(stdout: &str) -> Self {
        let mut lines = stdout.trim().lines();
        let first = lines.next().unwrap_or_default();
        let (text, mut performance) = match first.split_once('|') {
            Some((text, data)) => (text.trim(), data.trim().to_owned()),
            None => (first.trim(), String::new()),
        };
        let mut more_lines = 0;
        let mut is_data = false;
        for line in lines {
            let (long_text, data) = match (is_data, line.split_once('|')) {
                (true, _) => ("", line),
                (false, Some((long_text, data))) => {
                    is_data = true;
                    (long_text, data)
                }
                (false, None) => (line, ""),
            };
            more_lines += usize::from(!long_text.trim().is_empty());
            if !data.trim().is_empty() {
                performance.push(' ');
                performance.push_str(data.trim());
            }
        }
        Self {
            text: text.to_owned(),
            more_lines,
            performance: performance.trim().to_owned(),
        }
    }

    /// Returns the output of a command that has no performance data.
    pub(crate) fn plain(stdout: &str) -> Self {
        let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
        Self {
            text: lines.next().unwrap_or_default().trim().to_owned(),
            more_lines: lines.count(),
            performance: String::new(),
        }
    }
}
