//! Platforms that are slow, refusing or lying: each network probe reports them as unhealthy, and harms no other platform.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    thread,
    time::Duration,
};

use super::{at, at_socket, ids};
use crate::{harness::Setup, servers::tcp_and_udp};

/// The behaviour of a server, over TCP and UDP on one port.
#[derive(Clone, Copy, Debug)]
enum OddServer {
    /// Nothing listens.
    Refusing,
    /// Accepts, and never responds.
    Silent,
    /// Accepts, and ends the connection.
    Closing,
    /// Responds to anything with bytes of no protocol, then ends the connection.
    Garbage,
    /// Responds to anything with the same byte, for as long as the client reads.
    Endless,
}

impl OddServer {
    const ALL: [Self; 5] = [
        Self::Refusing,
        Self::Silent,
        Self::Closing,
        Self::Garbage,
        Self::Endless,
    ];

    /// Starts it for a plugin, at a port or a socket in `folder`; returns the config to check it with, or `None` for a
    /// plugin that checks no servers.
    fn start_for(self, id: &str, folder: &Path) -> Option<String> {
        if at(id, "127.0.0.1:1").is_some() {
            return at(id, &self.start().to_string());
        }
        let socket = folder.join(format!("{id}-{self:?}"));
        let config = at_socket(id, &socket)?;
        #[cfg(unix)]
        self.start_at(&socket);
        Some(config)
    }

    /// Starts it on a port of its own; it lives as long as the test process.
    fn start(self) -> SocketAddr {
        let (listener, socket) = tcp_and_udp();
        let address = listener.local_addr().unwrap();
        if matches!(self, Self::Refusing) {
            return address;
        }
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_write_timeout(PATIENCE).unwrap();
                thread::spawn(move || self.serve(stream));
            }
        });
        thread::spawn(move || {
            let mut request = [0; 2048];
            while let Ok((_, client)) = socket.recv_from(&mut request) {
                let responses = match self {
                    Self::Garbage => 1,
                    Self::Endless => 1000,
                    Self::Refusing | Self::Silent | Self::Closing => 0,
                };
                for _ in 0..responses {
                    // The client may be gone.
                    let _ = socket.send_to(&GARBAGE, client);
                }
            }
        });
        address
    }

    /// Starts it at a Unix socket.
    #[cfg(unix)]
    fn start_at(self, socket: &Path) {
        use std::os::unix::net::UnixListener;

        let listener = UnixListener::bind(socket).unwrap();
        if matches!(self, Self::Refusing) {
            return;
        }
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_write_timeout(PATIENCE).unwrap();
                thread::spawn(move || self.serve(stream));
            }
        });
    }

    fn serve(self, mut stream: impl Read + Write) {
        let mut request = [0; 2048];
        match self {
            Self::Refusing | Self::Closing => {}
            Self::Silent => while stream.read(&mut request).is_ok_and(|read| read > 0) {},
            Self::Garbage => {
                let _ = stream.write_all(&GARBAGE);
                let _ = stream.read(&mut request);
            }
            Self::Endless => while stream.write_all(&[b'a'; 4096]).is_ok() {},
        }
    }
}

/// Longest time for which a server waits for a client that does not read.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

const GARBAGE: [u8; 12] = *b"\x80\xff\0\x07*\r\n\x1b$9\n\n";

#[test]
fn a_server_that_refuses_is_slow_or_lies_is_unhealthy() {
    let mut setup =
        Setup::without_plugins().host("interval = \"3s\"\ntimeout = \"2s\"\nstagger = \"10ms\"");
    let folder = tempfile::tempdir().unwrap();
    let mut platforms = Vec::new();
    for id in ids() {
        let configs = OddServer::ALL.map(|server| (server, server.start_for(&id, folder.path())));
        let configs = configs.into_iter();
        let configs = configs.filter_map(|(server, config)| Some((server, config?)));
        let configs: Vec<_> = configs.collect();
        if configs.is_empty() {
            continue;
        }
        setup = setup.bundled(&id);
        for (server, config) in configs {
            let name = format!("{id}-{server:?}").to_lowercase();
            setup = setup.platform(&name, &id, &config);
            platforms.push(name);
        }
    }
    let host = setup.start();
    let metrics = host.wait("each platform is unhealthy", |m| {
        platforms
            .iter()
            .all(|name| m.checks(name, "unhealthy") > 0.0)
    });
    for name in &platforms {
        for status in ["healthy", "degraded"] {
            assert_eq!(metrics.checks(name, status), 0.0, "{name}: {status}");
        }
        for fault in ["panic", "crash"] {
            assert_eq!(metrics.failures(name, fault), 0.0, "{name}: {fault}");
        }
    }
}
