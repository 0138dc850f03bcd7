//! Forwards a plugin's `tracing` events to the host's log.
//!
//! A plugin has its own copy of `tracing`, whose events would be lost; [`install`] installs a subscriber for that copy
//! which sends each event to the host, with the platform of the current call on the same thread.

use std::{cell::Cell, fmt, fmt::Write as _};

use abi_stable::std_types::{RSlice, RStr};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

use crate::abi::{AbiCall, AbiField, AbiHostHandle, AbiLevel, AbiLogRecord};

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

    // Spans are not forwarded: they mostly add context, and the host's log already has the plugin and the platform.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct FieldCollector {
    message: String,
    fields: Vec<(&'static str, String)>,
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
