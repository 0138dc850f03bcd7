//! A probe for Conductor.
