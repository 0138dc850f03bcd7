//! Rules by which confirmed changes of platforms' states are announced to receivers.
//!
//! This crate does no I/O and reads no clock.

mod ledger;

pub use ledger::{Announcement, AnnouncementLedger, ObservedState};
