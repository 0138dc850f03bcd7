//! Limits on the contents of a report.

/// The maximum number of measurement names of one platform.
pub const MEASUREMENTS: usize = 64;

/// The maximum length of a measurement's name, in bytes.
pub const MEASUREMENT_NAME_BYTES: usize = 128;
