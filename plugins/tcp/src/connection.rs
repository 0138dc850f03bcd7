//! From addresses to a connection.

use std::{io::ErrorKind, net::SocketAddr};

use conductor_plugin_api::Failure;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    Measured,
    limit::{Limit, show},
    obstacle::Obstacle,
};

/// Connects to the first of the addresses that lets us in.
///
/// Each is given its share of the time left, so that one that swallows packets leaves some for the next.
pub(crate) async fn open(
    addresses: &[SocketAddr],
    limit: &Limit<'_>,
    measured: &mut Measured,
) -> Result<TcpStream, Obstacle> {
    let begun = limit.elapsed();
    let mut obstacles = Vec::new();
    for (address, to_try) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = limit.left() / u32::try_from(to_try).unwrap_or(u32::MAX);
        if share.is_zero() {
            obstacles.push(silent(address, &limit.show()));
            break;
        }
        let tried = timeout(share, TcpStream::connect(address)).await;
        match tried.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                measured.push(("connect_seconds", (limit.elapsed() - begun).as_secs_f64()));
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                obstacles.push(silent(address, &show(share)));
            }
            Err(error) => {
                obstacles.push(Obstacle::of(
                    format_args!("cannot connect to {address}"),
                    &error,
                ));
            }
        }
    }
    Err(worst(obstacles))
}

fn silent(address: &SocketAddr, time: &str) -> Obstacle {
    Obstacle::Platform(format!(
        "no answer within {time} (waiting for {address} to take the connection)"
    ))
}

/// One address that answered badly says more of the platform than any number of them out of our reach.
fn worst(obstacles: Vec<Obstacle>) -> Obstacle {
    let (mut platform, mut ours) = (Vec::new(), Vec::new());
    for obstacle in obstacles {
        match obstacle {
            Obstacle::Platform(message) => platform.push(message),
            Obstacle::Ours(failure) => ours.push(failure.message().to_owned()),
        }
    }
    if platform.is_empty() {
        Obstacle::Ours(Failure::new(ours.join("; ")))
    } else {
        Obstacle::Platform(platform.join("; "))
    }
}
