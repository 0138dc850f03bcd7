//! Bounds on what a report may carry.

/// The greatest number of measurement names of one platform.
pub const MEASUREMENTS: usize = 64;

/// The greatest length of a measurement's name, in bytes.
pub const MEASUREMENT_NAME_BYTES: usize = 128;
