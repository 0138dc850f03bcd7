//! The past of platforms, in one SQLite file of the host's state folder.
//!
//! [`HistoryWriter`] is the only writer: a thread that stores changes of state and rollups of checks in batches, and keeps
//! the file within its limits of age and size. Nothing that it is given ever waits for it. [`HistoryReader`] answers
//! queries with a connection of its own, within a deadline. [`timeline`] computes uptime and incidents from stored changes
//! and knows nothing of files.

pub mod rollup;
pub mod sketch;
pub mod store;
pub mod timeline;

mod reader;
mod writer;

pub use reader::{HistoryReader, QueryError};
pub use rollup::RollupCell;
pub use sketch::DurationSketch;
pub use store::{HistoryLimits, StoreError};
pub use timeline::StoredState;
pub use writer::{HistoryWriter, PlatformKey, RecordedChange, WriterCounts};

/// The name of the file in the state folder.
pub const FILE: &str = "history.sqlite";
