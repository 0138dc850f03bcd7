//! Passes on what is logged in a worker, by the plugin and by the host's own code in it, to the host's log.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{Event, Level, Subscriber, field, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use super::{super::limiter::Limiter, outlet::Outlet};
use crate::plugin::{protocol::messages::FromWorker, set_message};

/// From now on, what is logged goes to the host, down to the level it logs itself: 0 nothing, 1 errors, … 5 everything.
pub(super) fn start(level: u8, outlet: &Arc<Outlet>) {
    let level = match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let forward = Forward {
        outlet: Arc::clone(outlet),
        limiter: Mutex::default(),
    };
    // Nothing was installed before: this process has only just begun.
    let _ = tracing_subscriber::registry()
        .with(level)
        .with(forward)
        .try_init();
}

struct Forward {
    outlet: Arc<Outlet>,
    /// The host has one as well. This one keeps a flood from costing anything but the plugin's own time.
    limiter: Mutex<Limiter>,
}

impl<S: Subscriber> Layer<S> for Forward {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = self.outlet.clock().now();
        let (admitted, dropped) = {
            let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
            (limiter.admit(now), limiter.dropped(now, false))
        };
        if let Some(dropped) = dropped {
            self.pass_on(Level::WARN, Line::dropped(dropped));
        }
        if admitted {
            let mut line = Line::default();
            event.record(&mut line);
            self.pass_on(*event.metadata().level(), line);
        }
    }
}

impl Forward {
    fn pass_on(&self, level: Level, line: Line) {
        let mut text = String::new();
        set_message(
            &mut text,
            format!("{}{}", line.message, line.fields).as_bytes(),
        );
        // Short enough by now to fit into any frame; a platform's name is at most 64 bytes.
        let _ = self.outlet.say(&FromWorker::Log {
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
}

/// What an event says. The plugin's name is left out: the host knows it better.
#[derive(Default)]
struct Line {
    message: String,
    platform: Option<String>,
    fields: String,
}

impl Line {
    fn dropped(lines: u64) -> Self {
        Self {
            message: format!("logs too much: {lines} lines are left out, 100 a second are not"),
            ..Self::default()
        }
    }
}

impl field::Visit for Line {
    fn record_str(&mut self, field: &field::Field, value: &str) {
        match field.name() {
            "platform" => self.platform = Some(value.to_owned()),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "plugin" | "platform" => Ok(()),
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
