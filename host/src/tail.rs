//! The last lines of the log about each platform: what its probe said, and what the host said of it.
//!
//! A layer beneath the log's own, so that it keeps just the lines that the log gets, whoever wrote them.

use std::{
    collections::{HashMap, VecDeque},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// The last lines about each platform.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<HashMap<String, VecDeque<Line>>>>);

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it was written, in seconds since 1970.
    pub at: f64,
    /// How important it is.
    pub level: Level,
    /// What it says, at most [`LINE_BYTES`] long.
    pub text: String,
}

impl Tail {
    /// The lines about a platform, the oldest first.
    pub fn lines(&self, platform: &str) -> Vec<Line> {
        let tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = tails.get(platform);
        lines.map_or_else(Vec::new, |lines| lines.iter().cloned().collect())
    }

    /// Forgets what is about other platforms than these.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tails.retain(|platform, _| is_there(platform));
    }

    fn push(&self, platform: String, line: Line) {
        let mut tails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = tails.entry(platform).or_default();
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for Tail {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.fields().field(PLATFORM).is_none() {
            return;
        }
        let mut found = Found::default();
        event.record(&mut found);
        if let Some(platform) = found.platform {
            #[expect(
                clippy::disallowed_methods,
                reason = "the log's own lines read it too: they are of the moment in which they are written"
            )]
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let line = Line {
                at: now.map_or(0.0, |now| now.as_secs_f64()),
                level: *metadata.level(),
                text: found.text,
            };
            self.push(platform, line);
        }
    }
}

#[derive(Default)]
struct Found {
    platform: Option<String>,
    text: String,
}

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            // Writing to a string cannot fail; what a Debug of the host's own leaves unsaid is not missed.
            let _ = write!(self.text, "{value:?}");
            cut(&mut self.text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            PLATFORM => self.platform = Some(value.to_owned()),
            MESSAGE => {
                value.clone_into(&mut self.text);
                cut(&mut self.text);
            }
            _ => {}
        }
    }
}

fn cut(text: &mut String) {
    if text.len() > LINE_BYTES {
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        text.push('…');
    }
}

const PLATFORM: &str = "platform";
const MESSAGE: &str = "message";
/// How many lines about a platform are kept.
const LINES: usize = 20;
/// The longest line that is kept whole, in bytes.
pub const LINE_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn logged(write: impl Fn()) -> Tail {
        let tail = Tail::default();
        let subscriber = tracing_subscriber::registry().with(tail.clone());
        tracing::subscriber::with_default(subscriber, write);
        tail
    }

    fn texts(tail: &Tail, platform: &str) -> Vec<String> {
        tail.lines(platform)
            .into_iter()
            .map(|line| line.text)
            .collect()
    }

    #[test]
    fn each_platform_keeps_its_last_lines() {
        let tail = logged(|| {
            for n in 0..30 {
                tracing::warn!(platform = "shop", "line {n}");
            }
            tracing::info!(platform = "other", "of another");
            tracing::info!("of none");
        });
        let shop = texts(&tail, "shop");
        assert_eq!(shop.len(), LINES);
        assert_eq!(
            (shop[0].as_str(), shop[19].as_str()),
            ("line 10", "line 29")
        );
        assert_eq!(texts(&tail, "other"), ["of another"]);
        assert_eq!(tail.lines("shop")[0].level, Level::WARN);
        tail.retain(|platform| platform == "other");
        assert!(tail.lines("shop").is_empty());
    }

    #[test]
    fn the_platform_may_be_there_or_not_and_long_lines_are_cut() {
        let tail = logged(|| {
            let (some, none) = (Some("shop"), None::<&str>);
            tracing::info!(platform = none, "left out");
            tracing::info!(platform = some, "{}", "ä".repeat(1000));
        });
        let [line] = &texts(&tail, "shop")[..] else {
            panic!("{tail:?}");
        };
        assert!(
            line.len() <= LINE_BYTES + 3 && line.ends_with("ä…"),
            "{line}"
        );
    }
}
