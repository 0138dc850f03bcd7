//! The log as text for people: one line per event that fits a terminal of 80 columns, its subject first.
//!
//! ```text
//! 2026-11-29T18:44:03Z INFO  shop: healthy: 200 OK in 12 ms
//! 2026-11-29T18:44:03Z ERROR shop (plugin http): check timed out after 4s
//! 2026-11-29T18:44:04Z ERROR plugin http: its worker was killed by signal 6 (SIGABRT)
//! 2026-11-29T18:44:05Z WARN  shop: plugin http says: retrying attempt=2
//! ```
//!
//! JSON and the journal have the same events, with `platform` and `plugin` as separate fields.
//!
//! The text of an event can come from a plugin or a file name. Control characters are escaped here, for every event,
//! and further lines of a message are indented, so that no text can pass for a separate event.

use std::fmt::{self, Write as _};

use conductor_library::printable;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Writes an event as a line.
pub struct LogText;

impl<S, N> FormatEvent<S, N> for LogText
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut said = EventFields::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let (colour, level) = level(*metadata.level());
        let seconds = time.get(..SECONDS).unwrap_or(&time);
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[2m{seconds}Z\x1b[0m {colour}{level:5}\x1b[0m ")?,
            false => write!(writer, "{seconds}Z {level:5} ")?,
        }
        let is_problem = *metadata.level() <= Level::WARN;
        let line = said.line(metadata.target() == "plugin", is_problem);
        let text = printable::lines(line.trim_end()).replace('\n', "\n  ");
        writeln!(writer, "{text}")
    }
}

/// Writes an event as JSON in which every terminal control character is escaped.
pub struct LogJson<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for LogJson<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0
            .format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&printable::json(&text))
    }
}

fn level(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("\x1b[31m", "ERROR"),
        Level::WARN => ("\x1b[33m", "WARN"),
        Level::INFO => ("\x1b[32m", "INFO"),
        Level::DEBUG => ("\x1b[34m", "DEBUG"),
        Level::TRACE => ("\x1b[35m", "TRACE"),
    }
}

/// Visitor that collects the fields of a log event.
#[derive(Default)]
struct EventFields {
    platform: Option<String>,
    plugin: Option<String>,
    message: String,
    fields: String,
}

impl EventFields {
    /// Returns the subject and the text; `by_plugin` marks lines logged by the plugin itself, and `is_problem` warnings
    /// and errors, which name the plugin next to the platform.
    fn line(&self, by_plugin: bool, is_problem: bool) -> String {
        let subject = match (&self.platform, &self.plugin) {
            (Some(platform), Some(plugin)) if by_plugin => {
                format!("{platform}: plugin {plugin} says: ")
            }
            (None, Some(plugin)) if by_plugin => format!("plugin {plugin} says: "),
            (Some(platform), Some(plugin)) if is_problem => {
                format!("{platform} (plugin {plugin}): ")
            }
            (Some(platform), _) => format!("{platform}: "),
            (None, Some(plugin)) => format!("plugin {plugin}: "),
            (None, None) => String::new(),
        };
        subject + &self.message + &self.fields
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "platform" => self.platform = Some(value.to_owned()),
            "plugin" => self.plugin = Some(value.to_owned()),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// The length of a time without fractional seconds.
const SECONDS: usize = "2026-11-29T18:44:03".len();

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(write: impl Fn()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(LogText)
            .finish();
        tracing::subscriber::with_default(subscriber, write);
        let bytes = captured.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let lines = text.lines().map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.len() == 20 && time.ends_with('Z'), "{line}");
            format!("{rest}\n")
        });
        lines.collect()
    }

    #[test]
    fn a_line_names_its_subject_once_and_first() {
        let text = logged(|| {
            tracing::info!("listening on http://127.0.0.1:9750");
            tracing::info!(platform = "shop", plugin = "http", "healthy: 200 OK");
            tracing::error!(
                platform = "shop",
                plugin = "http",
                "check failed: error: no route"
            );
            tracing::error!(plugin = "http", "its worker was killed");
            let none = None::<&str>;
            tracing::warn!(target: "plugin", plugin = "http", platform = "shop", "slow n={}", 2);
            tracing::warn!(target: "plugin", plugin = "http", platform = none, nth = 3, "at {:?}", "x");
        });
        assert_eq!(
            text,
            "INFO  listening on http://127.0.0.1:9750\n\
             INFO  shop: healthy: 200 OK\n\
             ERROR shop (plugin http): check failed: error: no route\n\
             ERROR plugin http: its worker was killed\n\
             WARN  shop: plugin http says: slow n=2\n\
             WARN  plugin http says: at \"x\" nth=3\n"
        );
    }
    #[test]
    fn no_text_of_an_event_steers_the_terminal_or_passes_for_another_event() {
        let evil =
            "a\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}b\n2026-11-29T18:44:03Z INFO  shop: healthy";
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(LogText)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("{evil}");
            tracing::warn!(platform = evil, plugin = evil, "said");
            tracing::warn!(display = %evil, debug = ?evil, text = evil, "said");
        });
        let bytes = captured.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            !text.contains(|c: char| printable::steers(c) && c != '\n'),
            "{text:?}"
        );
        let events = text.lines().filter(|line| !line.starts_with("  "));
        assert_eq!(events.count(), 3, "{text}");
        assert!(
            text.contains("a\\u{1b}]0;owned\\u{7}\\u{9b}2J\\r\\u{202e}b\n  2026"),
            "{text}"
        );
    }
    #[test]
    fn the_log_as_json_steers_no_terminal_and_means_the_same() {
        let evil = "a\u{1b}[2J\u{7f}\u{9b}2J\u{202e}b";
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .json()
            .map_event_format(LogJson)
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(platform = evil, "{evil}"));
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let event = text.strip_suffix('\n').unwrap();
        assert!(!event.contains(printable::steers), "{event:?}");
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["fields"]["message"], evil);
        assert_eq!(event["fields"]["platform"], evil);
    }
}
