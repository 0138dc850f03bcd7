//! Forwards a plugin's `tracing` events to the host's log.
//!
//! A plugin has its own copy of `tracing`, whose events would be lost; [`install`] installs a subscriber for that copy
//! which sends each event to the host, with the platform of the current call on the same thread and the fields of the
//! [spans] that it is in.

use std::{cell::Cell, fmt, fmt::Write as _};

use abi_stable::std_types::{RSlice, RStr};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use tracing_core::span::Current;

use self::spans::CallSpans;
use crate::abi::{AbiCall, AbiField, AbiHostHandle, AbiLevel, AbiLogRecord};

mod spans;

/// Sends this copy's `tracing` events to `host` from now on.
pub(crate) fn install(host: AbiHostHandle) {
    // A library that is initialised twice keeps its first subscriber; both send to the same host.
    let _ = tracing::subscriber::set_global_default(subscriber(host));
}

/// Returns a subscriber that sends events to `host`.
pub(crate) fn subscriber(host: AbiHostHandle) -> impl Subscriber + Send + Sync {
    let max_level = match host.functions.max_level()(host.plugin).0 {
        0 | 1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    HostSubscriber { host, max_level }
}

/// Runs `f` as part of `call`; events on this thread carry the call's platform.
pub(crate) fn within<T>(call: &AbiCall, f: impl FnOnce() -> T) -> T {
    struct CallScope(usize);
    impl Drop for CallScope {
        fn drop(&mut self) {
            CALL.set(self.0);
        }
    }
    let _restore = CallScope(CALL.replace(call.call));
    let _spans = CallSpans::begin();
    f()
}

struct HostSubscriber {
    host: AbiHostHandle,
    max_level: LevelFilter,
}

impl Subscriber for HostSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.max_level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.max_level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut texts = FieldCollector::default();
        event.record(&mut texts);
        spans::fields_of(event, |name, value| texts.add_outer(name, value));
        let fields: Vec<_> = texts
            .fields
            .iter()
            .map(|(name, value)| AbiField {
                name: RStr::from_str(name),
                value: RStr::from_str(value),
            })
            .collect();
        let record = AbiLogRecord {
            level: level(*event.metadata().level()),
            target: RStr::from_str(event.metadata().target()),
            message: RStr::from_str(&texts.message),
            fields: RSlice::from_slice(&fields),
        };
        self.host.functions.log()(self.host.plugin, CALL.get(), &record);
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        spans::open(attributes)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        spans::record(span, values);
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, span: &span::Id) {
        spans::enter(span);
    }

    fn exit(&self, span: &span::Id) {
        spans::exit(span);
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        spans::clone(span)
    }

    fn try_close(&self, span: span::Id) -> bool {
        spans::close(&span)
    }

    fn current_span(&self) -> Current {
        spans::current()
    }
}

#[derive(Default)]
struct FieldCollector {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl FieldCollector {
    /// Adds a field of a span, unless the event or an inner span has one of this name.
    fn add_outer(&mut self, name: &'static str, value: &str) {
        if self.fields.iter().all(|(known, _)| *known != name) {
            self.fields.push((name, value.to_owned()));
        }
    }
}

impl Visit for FieldCollector {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail, but the author's Debug can; what it wrote so far is kept.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.fields.push((field.name(), format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }
}

fn level(level: Level) -> AbiLevel {
    match level {
        Level::ERROR => AbiLevel::ERROR,
        Level::WARN => AbiLevel::WARN,
        Level::INFO => AbiLevel::INFO,
        Level::DEBUG => AbiLevel::DEBUG,
        Level::TRACE => AbiLevel::TRACE,
    }
}

thread_local! {
    static CALL: Cell<usize> = const { Cell::new(0) };
}
