//! Conductor.
pub mod breaker;
pub mod clock;
pub mod config;
pub mod guard;
pub mod library;
pub mod metrics;
pub mod plugin;
pub mod resources;
pub mod schedule;
pub mod scheduler;
pub mod server;
pub mod stagger;
pub mod state;
