//! A request to one address, repeated until the server responds.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    io,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use conductor_net::{CheckError, udp_socket};
use conductor_plugin_api::Failure;
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};

use crate::packet::{NtpRequest, NtpResponse, difference, ntp_seconds};

/// A response, and the clocks of both sides.
pub(crate) struct NtpAnswer {
    pub(crate) response: NtpResponse,
    /// This machine's clock minus the server's, in seconds.
    pub(crate) offset: f64,
    /// Delay of the network, in seconds.
    pub(crate) delay: f64,
}

/// Queries a server, again every second until it responds; the caller ends it.
pub(crate) async fn query(server: SocketAddr) -> Result<NtpAnswer, CheckError> {
    let fault = |what: &str, error: &io::Error| {
        CheckError::of(format_args!("cannot {what} {server}"), error)
    };
    let socket = udp_socket(server).await?;
    loop {
        let request = NtpRequest::new(nonce());
        let (begun, clock) = (Instant::now(), now()?);
        let sent = socket.send(&request.bytes).await;
        sent.map_err(|error| fault("send a request to", &error))?;
        if let Ok(response) = timeout(RESEND, receive(&socket, &request)).await {
            let response = response.map_err(|error| fault("get a response from", &error))?;
            // The clock may be set in between: the time between both ends is that of the steady one.
            return Ok(answer(response, ntp_seconds(clock), begun.elapsed()));
        }
    }
}

async fn receive(socket: &UdpSocket, request: &NtpRequest) -> io::Result<NtpResponse> {
    let mut buffer = [0; 1024];
    loop {
        let size = socket.recv(&mut buffer).await?;
        if let Some(response) = request.read(&buffer[..size]) {
            return Ok(response);
        }
    }
}

/// Computes offset and delay: RFC 5905, section 8.
fn answer(response: NtpResponse, begun: f64, took: Duration) -> NtpAnswer {
    let took = took.as_secs_f64();
    let there = difference(response.received, begun);
    let back = difference(response.sent, begun + took);
    let served = difference(response.sent, response.received);
    NtpAnswer {
        offset: -f64::midpoint(there, back),
        delay: (took - served).max(0.0),
        response,
    }
}

/// Returns this machine's time since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "this clock is what the probe compares"
)]
fn now() -> Result<Duration, CheckError> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|error| {
            CheckError::Host(Failure::new(format!(
                "cannot read the clock of this machine: {error}"
            )))
        })
}

/// Returns bytes that a forger of responses cannot guess: the keys of the hasher are random.
fn nonce() -> [u8; 8] {
    RandomState::new().build_hasher().finish().to_be_bytes()
}

/// Time after which a request is sent again.
const RESEND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_positive_if_this_machine_is_ahead() {
        let response = NtpResponse {
            leap: 0,
            stratum: 1,
            root_delay: Duration::ZERO,
            root_dispersion: Duration::ZERO,
            reference: String::new(),
            received: 100.25,
            sent: 100.5,
        };
        // Sent at 105, received at 106: half a second on the way in total, of which 0.25 at the server.
        let answer = answer(response, 105.0, Duration::from_secs(1));
        assert!((answer.offset - 5.125).abs() < 1e-9, "{}", answer.offset);
        assert!((answer.delay - 0.75).abs() < 1e-9, "{}", answer.delay);
    }
}
