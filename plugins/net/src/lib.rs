//! Addresses, name resolution, connections, TLS, limits and errors of the bundled probes.
//!
//! A library of the bundled plugins, not a plugin: a check resolves a [`ServerAddress`] with [`NameResolver`],
//! connects with [`connect`] (a [`SocketTarget`] may be a Unix socket), encrypts with a [`TlsClient`], where needed after
//! [`StartTls`], and gives up in time by its [`TimeLimit`]. A [`PhaseClock`] times the steps, and [`DurationRules`] limit
//! them. A [`ServerEndpoint`] is a server with TLS or without. A [`CheckError`] distinguishes faults of the platform from
//! those of this machine, and a [`LimitVerdict`] judges values by the [`Limits`] of a config. The module `http`, with the
//! feature of this name, has the client of HTTP APIs.

mod check_error;
mod database_load;
mod dial;
mod duration_limits;
mod endpoint;
mod host_name;
#[cfg(feature = "http")]
pub mod http;
mod limit;
mod limits;
mod phases;
mod resolver;
mod server_address;
mod show;
mod socket_target;
mod sql_query;
mod starttls;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use self::{
    check_error::CheckError,
    database_load::{DatabaseLimits, DatabaseLoad, ShownSeconds, seconds},
    dial::{connect, race, udp_socket},
    duration_limits::{DurationLimits, DurationRules, TOTAL, TimedPhases},
    endpoint::{OpenedConnection, ServerEndpoint},
    host_name::HostNameError,
    limit::{TimeLimit, show_duration},
    limits::{LimitVerdict, Limits},
    phases::PhaseClock,
    resolver::{Lookup, NameResolver, ip_address},
    server_address::{AddressError, ServerAddress},
    show::{short, show_age, show_size},
    socket_target::{ByteStream, SocketTarget},
    sql_query::{QueryValue, ScalarValue, SqlQuery},
    starttls::StartTls,
    tls::{PresentedChain, TlsClient, TlsConfig, TlsHandshake, TlsStream, TlsVersion},
};
