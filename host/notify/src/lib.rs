//! Rules by which confirmed changes of platforms' states are announced to receivers, and the bodies of the requests.
//!
//! This crate does no I/O and reads no clock. The [`ReceiverRecord`] of a receiver decides what it is told, queues that
//! until it is delivered, and can be saved. [`alertmanager_body`] and [`MessageTemplate`] write the requests.

mod alerts;
mod backoff;
mod event;
mod ledger;
mod record;
mod template;

pub use alerts::alertmanager_body;
pub use backoff::retry_delay;
pub use event::{NotifiedEvent, PlatformFacts};
pub use ledger::{Announcement, AnnouncementLedger, ObservedState};
pub use record::{MOST_QUEUED, Notification, ReceiverRecord};
pub use template::{MessageTemplate, TemplateError};
