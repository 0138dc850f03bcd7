//! The last log lines about each platform, from its probe and from the host.
//!
//! A layer beneath the log's own, so that it keeps exactly the lines that the log gets.

use std::{
    collections::{HashMap, VecDeque},
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use conductor_core::clock::{Clock, WallClock};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// The last lines about each platform.
#[derive(Clone, Debug)]
pub struct LogTail {
    /// Lines are dated when they are shown, like everything shown with them.
    wall: Arc<WallClock>,
    tails: Arc<Mutex<PlatformTails>>,
}

#[derive(Debug, Default)]
struct PlatformTails {
    by_platform: HashMap<String, VecDeque<StoredLine>>,
    /// Their approximate size.
    bytes: usize,
}

/// A stored line.
#[derive(Clone, Debug, PartialEq)]
struct StoredLine {
    /// The time it was written, by the host's clock.
    at: Duration,
    level: Level,
    text: String,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct TailLine {
    /// The time it was written, in seconds since 1970, by the current wall clock.
    pub at: f64,
    /// The log level.
    pub level: Level,
    /// The text, at most [`LINE_BYTES`] long.
    pub text: String,
}

impl Default for LogTail {
    fn default() -> Self {
        Self {
            wall: Arc::new(WallClock::new(Clock::start())),
            tails: Arc::default(),
        }
    }
}

impl LogTail {
    /// Returns the lines about a platform, the oldest first.
    pub fn lines(&self, platform: &str) -> Vec<TailLine> {
        self.wall.follow();
        let tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = tails.by_platform.get(platform).into_iter().flatten();
        let dated = lines.map(|kept| TailLine {
            at: self.wall.unix_seconds(kept.at),
            level: kept.level,
            text: kept.text.clone(),
        });
        dated.collect()
    }

    /// Drops the lines about platforms for which `is_there` returns `false`.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.by_platform.retain(|platform, _| is_there(platform));
        tails.count();
    }

    /// Drops the lines about these platforms.
    pub fn remove<'a>(&self, platforms: impl IntoIterator<Item = &'a str>) {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        for platform in platforms {
            tails.remove(platform);
        }
    }

    /// Returns the number of platforms with lines.
    pub fn platforms(&self) -> usize {
        let tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.by_platform.len()
    }

    fn push(&self, platform: String, line: StoredLine) {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        tails.push(platform, line);
    }
}

impl PlatformTails {
    fn remove(&mut self, platform: &str) {
        let lines = self.by_platform.remove(platform);
        let sizes = lines.iter().flatten().map(|line| size(platform, line));
        self.bytes -= sizes.sum::<usize>();
    }

    fn push(&mut self, platform: String, line: StoredLine) {
        self.bytes += size(&platform, &line);
        let mut gone = 0;
        match self.by_platform.get_mut(&platform) {
            Some(lines) => {
                if lines.len() == LINES
                    && let Some(first) = lines.pop_front()
                {
                    gone = size(&platform, &first);
                }
                lines.push_back(line);
            }
            None => {
                self.by_platform.insert(platform, VecDeque::from([line]));
            }
        }
        self.bytes -= gone;
        if self.bytes > MAX_BYTES {
            self.forget_half();
        }
    }

    /// Keeps the later half of the lines of each platform.
    fn forget_half(&mut self) {
        self.by_platform.retain(|_, lines| {
            lines.drain(..lines.len().div_ceil(2));
            lines.shrink_to_fit();
            !lines.is_empty()
        });
        self.by_platform.shrink_to_fit();
        self.count();
    }

    fn count(&mut self) {
        let tails = self.by_platform.iter();
        let sizes = tails.flat_map(|(name, lines)| lines.iter().map(move |l| size(name, l)));
        self.bytes = sizes.sum();
    }
}

/// Returns the size of a line including the platform's name: most platforms have few lines.
fn size(platform: &str, line: &StoredLine) -> usize {
    platform.len() + size_of::<StoredLine>() + line.text.len()
}

impl<S: Subscriber> Layer<S> for LogTail {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.fields().field(PLATFORM).is_none() {
            return;
        }
        let mut found = MessageVisitor::default();
        event.record(&mut found);
        if let Some(platform) = found.platform {
            let line = StoredLine {
                at: self.wall.clock().now(),
                level: *metadata.level(),
                text: found.text,
            };
            self.push(platform, line);
        }
    }
}

#[derive(Default)]
struct MessageVisitor {
    platform: Option<String>,
    text: String,
}

impl Visit for MessageVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == MESSAGE {
            // Writing to a string cannot fail; a `Debug` that fails is cut off.
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
    // It is kept for long.
    text.shrink_to_fit();
}

const PLATFORM: &str = "platform";
const MESSAGE: &str = "message";
/// The number of lines kept for a platform.
const LINES: usize = 20;
/// The limit for all of them: 20 lines of 100 bytes about each of 10 000 platforms need less.
const MAX_BYTES: usize = 64 << 20;
/// The length to which lines are cut, in bytes.
pub const LINE_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(write: impl Fn()) -> LogTail {
        let tail = LogTail::default();
        let subscriber = tracing_subscriber::registry().with(tail.clone());
        tracing::subscriber::with_default(subscriber, write);
        tail
    }

    fn texts(tail: &LogTail, platform: &str) -> Vec<String> {
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
    fn however_many_platforms_there_are_said_to_be_the_last_lines_take_up_so_much_and_no_more() {
        let mut tails = PlatformTails::default();
        let text = "x".repeat(LINE_BYTES);
        for n in 0..200_000 {
            let line = StoredLine {
                at: Duration::ZERO,
                level: Level::INFO,
                text: text.clone(),
            };
            tails.push(n.to_string(), line.clone());
            tails.push("one that goes on".to_owned(), line);
        }
        let counted = tails.bytes;
        tails.count();
        assert_eq!(counted, tails.bytes);
        assert!(counted <= MAX_BYTES, "{counted}");
        assert!(tails.by_platform.contains_key("199999"));
        assert!(tails.by_platform["one that goes on"].len() >= LINES / 2);
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
