//! Forwards log lines in a worker, from the plugin and from the host's own code, to the host's log.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use conductor_core::clock::Clock;
use tracing::{Event, Level, Subscriber, field, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use super::{
    super::limiter::{DroppedLines, LogRateLimiter},
    response_writer::ResponseWriter,
};
use crate::{protocol::messages::FromWorker, set_message};

/// Starts forwarding log lines to the host, down to the host's own level: 0 nothing, 1 errors, … 5 everything.
pub(super) fn start(level: u8, writer: &Arc<ResponseWriter>) -> Arc<LogSender> {
    let level = match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let sender = LogSender::new(writer);
    // No subscriber was installed before: this process has just started.
    let _ = tracing_subscriber::registry()
        .with(level)
        .with(ForwardLayer(Arc::clone(&sender)))
        .try_init();
    sender
}

struct ForwardLayer(Arc<LogSender>);

impl<S: Subscriber> Layer<S> for ForwardLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if self.0.admit(level == Level::ERROR) {
            let mut line = EventText::default();
            event.record(&mut line);
            self.0.pass_on(level, line);
        }
    }
}

/// Sends log lines to the host, and the number of dropped ones.
pub(super) struct LogSender {
    writer: Arc<ResponseWriter>,
    clock: Clock,
    limits: Mutex<LogLimits>,
}

struct LogLimits {
    /// The host has one as well. This one makes a flood cost only the plugin's own time.
    limiter: LogRateLimiter,
    /// Number of dropped lines after which the host is informed.
    report_after: u64,
}

impl LogSender {
    fn new(writer: &Arc<ResponseWriter>) -> Arc<Self> {
        Arc::new(Self {
            writer: Arc::clone(writer),
            clock: writer.clock(),
            limits: Mutex::new(LogLimits {
                limiter: LogRateLimiter::default(),
                report_after: 1,
            }),
        })
    }

    /// Returns `true` if a line may be sent.
    ///
    /// Informs the host of the first dropped line at once and then each time the number has doubled, because a plugin
    /// may go silent after a burst, or end: the host then knows at least half of the number. [`flush`](Self::flush)
    /// adds the rest.
    fn admit(&self, is_error: bool) -> bool {
        let now = self.clock.now();
        let mut limits = self.limits();
        let admitted = limits.limiter.admit(now, is_error);
        let report = if admitted {
            limits.report_after = 1;
            limits.limiter.dropped(now, true)
        } else if limits.limiter.count() >= limits.report_after {
            limits.report_after = limits.report_after.saturating_mul(2).min(MOST_UNREPORTED);
            limits.limiter.dropped(now, true)
        } else {
            None
        };
        drop(limits);
        self.report(report);
        admitted
    }

    /// Informs the host of dropped lines not yet reported.
    pub(super) fn flush(&self) {
        let report = self.limits().limiter.dropped(self.clock.now(), true);
        self.report(report);
    }

    fn report(&self, dropped: Option<DroppedLines>) {
        if let Some(DroppedLines { lines, errors }) = dropped {
            let _ = self.writer.say(&FromWorker::Dropped { lines, errors });
        }
    }

    fn pass_on(&self, level: Level, line: EventText) {
        let mut text = String::new();
        set_message(
            &mut text,
            format!("{}{}", line.message, line.fields).as_bytes(),
        );
        // Short enough by now for any frame; a platform's name is at most 64 bytes.
        let _ = self.writer.say(&FromWorker::Log {
            level: match level {
                Level::ERROR => 1,
                Level::WARN => 2,
                Level::INFO => 3,
                Level::DEBUG => 4,
                Level::TRACE => 5,
            },
            platform: line.platform.filter(|name| name.len() <= 64),
            text,
        });
    }

    fn limits(&self) -> MutexGuard<'_, LogLimits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of an event. The plugin's name is left out: the host knows it.
#[derive(Default)]
struct EventText {
    message: String,
    platform: Option<String>,
    fields: String,
}

impl field::Visit for EventText {
    fn record_str(&mut self, field: &field::Field, value: &str) {
        match field.name() {
            "platform" => self.platform = Some(value.to_owned()),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "plugin" | "platform" => Ok(()),
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Maximum number of lines dropped without a message to the host.
const MOST_UNREPORTED: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{self, FrameDecoder},
        worker::channel::{ReadOutcome, WorkerChannel},
    };

    #[test]
    fn a_burst_before_silence_drops_no_error_and_each_dropped_line_is_reported() {
        let (ours, theirs) = WorkerChannel::pair().unwrap();
        let theirs = WorkerChannel::of_worker(theirs).unwrap();
        let writer = Arc::new(ResponseWriter::new(ours, Clock::start()));
        let sender = LogSender::new(&writer);
        let subscriber = tracing_subscriber::registry().with(ForwardLayer(Arc::clone(&sender)));
        let reading = std::thread::spawn(move || {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                theirs.wait(None).unwrap();
                match theirs.receive_now(&mut buffer).unwrap() {
                    ReadOutcome::Bytes(read) => bytes.extend_from_slice(&buffer[..read]),
                    ReadOutcome::Nothing => {}
                    ReadOutcome::End => return bytes,
                }
            }
        });
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..5000 {
                tracing::info!("noise");
            }
            tracing::error!("the disk is gone");
        });
        sender.flush();
        drop((writer, sender));

        let mut decoder = FrameDecoder::new(protocol::FROM_WORKER);
        decoder.feed(&reading.join().unwrap());
        let (mut passed, mut dropped, mut reports, mut errors) = (0, 0, 0, Vec::new());
        while let Some(message) = decoder.message::<FromWorker<String>>().unwrap() {
            match message {
                FromWorker::Log { level: 1, text, .. } => errors.push(text),
                FromWorker::Log { .. } => passed += 1,
                FromWorker::Dropped { lines, .. } => {
                    dropped += lines;
                    reports += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(errors, ["the disk is gone"]);
        assert_eq!(passed + dropped, 5000);
        assert!(passed < 2000, "{passed} passed");
        assert!(reports < 200, "{reports} messages");
    }
}
