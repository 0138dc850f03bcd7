//! The spans of the library, and those that each thread is in: events carry their fields.
//!
//! A span costs what its fields take, at most [`MAX_TEXT`] bytes and [`MAX_FIELDS`] of them, in a place that the next
//! span reuses; entering one costs a few instructions. So spans that no event is logged in allocate nothing once the
//! library has had as many of them at once.

use std::{
    cell::Cell,
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::{
    Event, Metadata,
    field::{Field, Visit},
    span,
};
use tracing_core::span::Current;

/// Opens a span, and returns its number.
pub(super) fn open(attributes: &span::Attributes<'_>) -> span::Id {
    let parent = match attributes.parent() {
        Some(parent) => parent.into_u64(),
        None if attributes.is_root() => NONE,
        None => ENTERED.with(EnteredSpans::innermost),
    };
    // The author's Debug may open spans itself, so nothing is locked here.
    let mut fields = FieldBuffer::new();
    attributes.record(&mut fields);
    span::Id::from_u64(table().open(attributes.metadata(), parent, &fields))
}

/// Sets further fields of a span.
pub(super) fn record(id: &span::Id, values: &span::Record<'_>) {
    let mut fields = FieldBuffer::new();
    values.record(&mut fields);
    if let Some(slot) = table().slot(id.into_u64()) {
        fields.each(|name, value| slot.fields.set(name, value));
    }
}

/// Notes that this thread is in the span.
pub(super) fn enter(id: &span::Id) {
    ENTERED.with(|entered| entered.enter(id.into_u64()));
}

/// Notes that this thread has left the span.
pub(super) fn exit(id: &span::Id) {
    ENTERED.with(|entered| entered.exit(id.into_u64()));
}

/// Notes another handle of the span.
pub(super) fn clone(id: &span::Id) -> span::Id {
    if let Some(slot) = table().slot(id.into_u64()) {
        slot.references += 1;
    }
    id.clone()
}

/// Notes that a handle of the span is gone; returns `true` if it was the last one.
pub(super) fn close(id: &span::Id) -> bool {
    table().close(id.into_u64())
}

/// Returns the span that this thread is in.
pub(super) fn current() -> Current {
    let id = ENTERED.with(EnteredSpans::innermost);
    let metadata = table().slot(id).and_then(|slot| slot.metadata);
    match metadata {
        Some(metadata) => Current::new(span::Id::from_u64(id), metadata),
        None => Current::none(),
    }
}

/// Calls `see` with each field of the spans that an event is in, from the innermost span outwards.
pub(super) fn fields_of(event: &Event<'_>, mut see: impl FnMut(&'static str, &str)) {
    let mut id = match event.parent() {
        Some(parent) => parent.into_u64(),
        None if event.is_root() => NONE,
        None => ENTERED.with(EnteredSpans::innermost),
    };
    let mut table = table();
    for _ in 0..MAX_DEPTH {
        let Some(slot) = table.slot(id) else {
            return;
        };
        slot.fields.each(&mut see);
        id = slot.parent;
    }
}

/// Keeps the spans of a call apart from those of other calls on the same thread: an author may forget to leave one.
pub(super) struct CallSpans {
    outer: usize,
    length: usize,
}

impl CallSpans {
    pub(super) fn begin() -> Self {
        ENTERED.with(|entered| {
            let length = entered.length.get();
            Self {
                outer: entered.first.replace(length),
                length,
            }
        })
    }
}

impl Drop for CallSpans {
    fn drop(&mut self) {
        ENTERED.with(|entered| {
            entered.first.set(self.outer);
            entered.length.set(self.length);
        });
    }
}

/// All spans of the library.
struct SpanTable {
    slots: Vec<SpanSlot>,
    free: Vec<usize>,
}

/// The place of one span; a closed one leaves its memory to the next.
struct SpanSlot {
    /// The number of spans that this place has had.
    generation: u64,
    /// The number of its handles and of its child spans; 0 if the place is free.
    references: usize,
    parent: u64,
    metadata: Option<&'static Metadata<'static>>,
    fields: SpanFields,
}

impl SpanTable {
    fn open(
        &mut self,
        metadata: &'static Metadata<'static>,
        parent: u64,
        fields: &FieldBuffer,
    ) -> u64 {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < MAX_SPANS => {
                self.slots.push(SpanSlot {
                    generation: 0,
                    references: 0,
                    parent: NONE,
                    metadata: None,
                    fields: SpanFields::default(),
                });
                self.slots.len() - 1
            }
            None => return UNKNOWN,
        };
        let parent = match self.slot(parent) {
            Some(slot) => {
                slot.references += 1;
                parent
            }
            None => NONE,
        };
        let slot = &mut self.slots[index];
        slot.generation += 1;
        slot.references = 1;
        slot.parent = parent;
        slot.metadata = Some(metadata);
        slot.fields.clear();
        fields.each(|name, value| slot.fields.set(name, value));
        slot.generation << INDEX_BITS | index as u64
    }

    /// Returns the place of an open span.
    fn slot(&mut self, id: u64) -> Option<&mut SpanSlot> {
        let index = usize::try_from(id & INDEX_MASK).ok()?;
        let slot = self.slots.get_mut(index)?;
        (slot.references > 0 && slot.generation == id >> INDEX_BITS).then_some(slot)
    }

    fn close(&mut self, id: u64) -> bool {
        let (mut id, mut is_closed) = (id, false);
        while let Some(slot) = self.slot(id) {
            slot.references -= 1;
            if slot.references > 0 {
                break;
            }
            is_closed = true;
            let parent = slot.parent;
            self.free.push((id & INDEX_MASK) as usize);
            // Its parent has one child less.
            id = parent;
        }
        is_closed
    }
}

/// The fields of a span, in memory that is reused.
#[derive(Default)]
struct SpanFields {
    text: String,
    /// Each name, with the end of its value in the text.
    ends: Vec<(&'static str, usize)>,
}

impl SpanFields {
    fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Adds a field, or replaces its value.
    fn set(&mut self, name: &'static str, value: &str) {
        if let Some(nth) = self.ends.iter().position(|(known, _)| *known == name) {
            let start = nth.checked_sub(1).map_or(0, |before| self.ends[before].1);
            let (_, end) = self.ends.remove(nth);
            self.text.replace_range(start..end, "");
            for (_, later) in &mut self.ends[nth..] {
                *later -= end - start;
            }
        }
        if self.ends.len() < MAX_FIELDS {
            let left = MAX_TEXT.saturating_sub(self.text.len());
            self.text
                .push_str(&value[..value.floor_char_boundary(left)]);
            self.ends.push((name, self.text.len()));
        }
    }

    fn each(&self, mut see: impl FnMut(&'static str, &str)) {
        let mut start = 0;
        for &(name, end) in &self.ends {
            see(name, &self.text[start..end]);
            start = end;
        }
    }
}

/// Fields on the stack, while they are formatted.
struct FieldBuffer {
    bytes: [u8; MAX_TEXT],
    length: usize,
    /// Each name, with the end of its value.
    ends: [(&'static str, usize); MAX_FIELDS],
    count: usize,
}

impl FieldBuffer {
    fn new() -> Self {
        Self {
            bytes: [0; MAX_TEXT],
            length: 0,
            ends: [("", 0); MAX_FIELDS],
            count: 0,
        }
    }

    fn add(&mut self, field: &Field, write: impl FnOnce(&mut Self) -> fmt::Result) {
        if self.count < MAX_FIELDS {
            // An error means that the rest does not fit, or that the author's Debug failed.
            let _ = write(self);
            self.ends[self.count] = (field.name(), self.length);
            self.count += 1;
        }
    }

    fn each(&self, mut see: impl FnMut(&'static str, &str)) {
        let mut start = 0;
        for &(name, end) in &self.ends[..self.count] {
            // Only whole characters are written.
            see(
                name,
                str::from_utf8(&self.bytes[start..end]).unwrap_or_default(),
            );
            start = end;
        }
    }
}

impl fmt::Write for FieldBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fitting = text.floor_char_boundary(MAX_TEXT - self.length);
        let end = self.length + fitting;
        self.bytes[self.length..end].copy_from_slice(&text.as_bytes()[..fitting]);
        self.length = end;
        match fitting == text.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

impl Visit for FieldBuffer {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, |buffer| write!(buffer, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |buffer| buffer.write_str(value));
    }
}

/// The spans that a thread is in.
struct EnteredSpans {
    ids: [Cell<u64>; MAX_DEPTH],
    /// Their number; those beyond [`MAX_DEPTH`] are not kept.
    length: Cell<usize>,
    /// The first one of the current call.
    first: Cell<usize>,
}

impl EnteredSpans {
    fn enter(&self, id: u64) {
        let length = self.length.get();
        if let Some(place) = self.ids.get(length) {
            place.set(id);
        }
        self.length.set(length + 1);
    }

    fn exit(&self, id: u64) {
        let length = self.length.get();
        let kept = &self.ids[..length.min(MAX_DEPTH)];
        match kept.iter().rposition(|entered| entered.get() == id) {
            // Spans can be left in any order.
            Some(nth) => {
                for (place, next) in kept[nth..].iter().zip(&kept[nth + 1..]) {
                    place.set(next.get());
                }
                self.length.set(length - 1);
            }
            None if length > MAX_DEPTH => self.length.set(length - 1),
            None => {}
        }
    }

    fn innermost(&self) -> u64 {
        let length = self.length.get();
        let of_call = self.first.get()..length.min(MAX_DEPTH);
        let kept = self.ids.get(of_call).and_then(|kept| kept.last());
        kept.map_or(NONE, Cell::get)
    }
}

fn table() -> MutexGuard<'static, SpanTable> {
    // No code of the author runs while it is locked, so it is consistent even if poisoned.
    SPANS.lock().unwrap_or_else(PoisonError::into_inner)
}

static SPANS: Mutex<SpanTable> = Mutex::new(SpanTable {
    slots: Vec::new(),
    free: Vec::new(),
});

thread_local! {
    static ENTERED: EnteredSpans = const {
        EnteredSpans {
            ids: [const { Cell::new(NONE) }; MAX_DEPTH],
            length: Cell::new(0),
            first: Cell::new(0),
        }
    };
}

/// No span.
const NONE: u64 = 0;
/// A span without fields, because there are too many.
const UNKNOWN: u64 = u64::MAX;
const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// Maximum number of spans with fields that exist at once: one for each check that a worker can have in flight.
const MAX_SPANS: usize = 65_536;
/// Maximum number of a span's fields.
const MAX_FIELDS: usize = 16;
/// Maximum length of the values of a span's fields together, in bytes.
const MAX_TEXT: usize = 512;
/// Maximum number of spans within each other whose fields an event carries.
const MAX_DEPTH: usize = 16;

#[cfg(test)]
mod tests;
