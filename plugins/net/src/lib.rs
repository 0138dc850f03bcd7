//! Name resolution, connections, time limits and errors of the network probes.
//!
//! A library of the bundled plugins `http` and `tcp`, not a plugin: a check resolves its host with [`NameResolver`],
//! connects with [`connect`], and gives up in time by its [`TimeLimit`]. A [`CheckError`] distinguishes faults of the
//! platform from those of this machine.

mod check_error;
mod dial;
mod host_name;
mod limit;
mod resolver;

pub use self::{
    check_error::CheckError,
    dial::connect,
    host_name::HostNameError,
    limit::{TimeLimit, show_duration},
    resolver::{Lookup, NameResolver, ip_address},
};
