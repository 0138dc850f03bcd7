//! Scenarios by behaviour: the real host as a separate process, real libraries, real HTTP.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and one that waits has to give up some time"
)]

mod after_a_crash;
#[cfg(target_os = "linux")]
mod async_checks;
mod author;
mod blackbox;
mod breaker_over_the_wire;
#[cfg(target_os = "linux")]
mod bundled;
#[cfg(target_os = "linux")]
mod c_plugins;
#[cfg(target_os = "linux")]
mod campaign;
mod changing_libraries;
mod command_line;
mod confirmation;
mod discovery;
#[cfg(target_os = "linux")]
mod disturbed;
#[cfg(target_os = "linux")]
mod docs;
#[cfg(target_os = "linux")]
mod drill;
#[cfg(target_os = "linux")]
mod escaping;
mod example_configs;
#[cfg(target_os = "linux")]
mod exec_probe;
mod faults_of_the_original;
#[cfg(target_os = "linux")]
mod files_that_block;
#[cfg(target_os = "linux")]
mod greedy_plugins;
mod harness;
#[cfg(target_os = "linux")]
mod heartbeat;
mod history;
#[cfg(target_os = "linux")]
mod hostile_schemas;
mod log_width;
mod misbehaving_files;
mod misbehaving_plugins;
mod nagios;
mod newcomer;
#[cfg(target_os = "linux")]
mod notify;
mod one_judge;
mod operators;
#[cfg(target_os = "linux")]
mod orphans;
#[cfg(target_os = "linux")]
mod own_api;
#[cfg(unix)]
mod plugin_dev;
mod plugin_keys;
mod plugin_new;
#[cfg(target_os = "linux")]
mod private_copies;
mod prometheus;
mod reload;
#[cfg(target_os = "linux")]
mod replacements;
#[cfg(target_os = "linux")]
mod resume;
mod secrets;
mod servers;
mod shards;
mod signatures;
mod status_page;
#[cfg(target_os = "linux")]
mod systemd;
mod targets;
#[cfg(target_os = "linux")]
mod unix_sockets;
#[cfg(target_os = "linux")]
mod unread_responses;
#[cfg(target_os = "linux")]
mod validator;
#[cfg(target_os = "linux")]
mod waiting_checks;
mod web_config;
#[cfg(target_os = "linux")]
mod windows;
#[cfg(target_os = "linux")]
mod worker_program;
#[cfg(target_os = "linux")]
mod workers;
