//! Stands between the host and a server, over TCP and UDP on one port, as a network that can fail.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::servers::tcp_and_udp;

/// The treatment of new connections and of datagrams.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// They pass.
    Open,
    /// Nothing is ever answered.
    Silent,
    /// Connections end at once.
    HangUp,
    /// An HTTP server responds, and refuses everything.
    Other,
}

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
}

impl Relay {
    /// Starts a relay to a server; it lives as long as the test process.
    pub(super) fn start(server: SocketAddr) -> Self {
        let (listener, socket) = tcp_and_udp();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            mode: Arc::new(Mutex::new(Mode::Open)),
        };
        let mode = Arc::clone(&relay.mode);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mode = *mode.lock().unwrap();
                thread::spawn(move || connect(stream, server, mode));
            }
        });
        let mode = Arc::clone(&relay.mode);
        thread::spawn(move || pass_datagrams(&socket, server, &mode));
        relay
    }

    pub(super) fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
}

/// Serves one connection, which may fail.
fn connect(mut client: TcpStream, server: SocketAddr, mode: Mode) {
    match mode {
        Mode::Open => {
            let Ok(server) = TcpStream::connect(server) else {
                return;
            };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass(from, to));
            pass(server, client);
        }
        Mode::Silent => while client.read(&mut [0; 512]).is_ok_and(|read| read > 0) {},
        Mode::HangUp => {}
        Mode::Other => {
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            let _ = client.shutdown(Shutdown::Write);
            let _ = io::copy(&mut client, &mut io::sink());
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Passes the datagrams of one client after the other.
fn pass_datagrams(socket: &UdpSocket, server: SocketAddr, mode: &Mutex<Mode>) {
    let mut datagram = [0; 2048];
    while let Ok((size, client)) = socket.recv_from(&mut datagram) {
        let mode = *mode.lock().unwrap();
        if mode != Mode::Open {
            continue;
        }
        let upstream = UdpSocket::bind("127.0.0.1:0").unwrap();
        upstream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        // A server that does not run refuses, or does not answer.
        let answer = upstream
            .connect(server)
            .and_then(|()| upstream.send(&datagram[..size]))
            .and_then(|_| upstream.recv(&mut datagram));
        if let Ok(size) = answer {
            let _ = socket.send_to(&datagram[..size], client);
        }
    }
}
