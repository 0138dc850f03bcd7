//! The crate plugin authors depend on.
