//! Attempts on the network, on programs behind sockets, and on the kernel behind socket families.

use std::{
    ffi::c_long,
    io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
};

use super::{
    Attempt, Need,
    kernel::{address, call},
    victims::{at, told},
};

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    for family in (0..=46).filter(|family| ![1, 2, 10, 16].contains(family)) {
        for kind in [1, 2, 3, 5] {
            let name = format!("family {family}, kind {kind}");
            all.push(socket("other families", name, family, kind, 0));
        }
    }
    for (name, kind, protocol) in [("TCP", 1, 0), ("MPTCP", 1, 262)] {
        for (version, family) in [(4, 2), (6, 10)] {
            let made = socket(
                "streams",
                format!("{name} over IPv{version}"),
                family,
                kind,
                protocol,
            );
            all.push(made.unless(&[Need::Network]));
        }
    }
    for (name, kind, protocol) in [
        ("SCTP", 1, 132),
        ("SCTP packets", 5, 132),
        ("DCCP", 6, 33),
        ("SMC", 1, 256),
        ("UDP-Lite", 2, 136),
        ("L2TP", 2, 115),
        ("raw TCP", 3, 6),
        ("raw UDP", 3, 17),
        ("raw ICMP", 3, 1),
        ("raw anything", 3, 255),
        ("packets", 10, 0),
    ] {
        for (version, family) in [(4, 2), (6, 10)] {
            all.push(socket(
                "other protocols",
                format!("{name} over IPv{version}"),
                family,
                kind,
                protocol,
            ));
        }
    }
    for (version, family, protocol) in [(4, 2, 1), (6, 10, 58)] {
        let ping = socket("ping", format!("over IPv{version}"), family, 2, protocol);
        all.push(ping.unless(&[Need::Network]));
    }
    for protocol in 1..=22 {
        all.push(socket(
            "netlink",
            format!("protocol {protocol}"),
            16,
            3,
            protocol,
        ));
    }
    all.push(Attempt::refused(
        "route changes",
        "a link, by netlink",
        || {
            // RTM_NEWLINK for a bridge; without the privilege the response is an error.
            let made = netlink(16)?;
            Err(io::Error::from_raw_os_error(made))
        },
    ));
    all.push(Attempt::refused(
        "route changes",
        "an address, by netlink",
        || {
            let made = netlink(20)?;
            Err(io::Error::from_raw_os_error(made))
        },
    ));
    all.extend(tcp());
    all.extend(unix());
    all.extend(options());
    all
}

fn tcp() -> Vec<Attempt> {
    let network = |name: &str, act: fn() -> io::Result<String>| {
        Attempt::refused("TCP", name, act).unless(&[Need::Network])
    };
    vec![
        network("connect", || shown(TcpStream::connect(told("TCP"))?)),
        network("listen", || shown(TcpListener::bind("127.0.0.1:0")?)),
        network("listen on all addresses", || {
            shown(TcpListener::bind("[::]:0")?)
        }),
    ]
}

fn unix() -> Vec<Attempt> {
    let unix = |name: &str, act: fn() -> io::Result<String>| {
        Attempt::refused("Unix sockets", name, act).unless(&[Need::UnixSockets])
    };
    vec![
        unix("connect by path", || {
            shown(UnixStream::connect(at("socket"))?)
        }),
        unix("make a datagram one", || shown(UnixDatagram::unbound()?)),
        Attempt::refused("Unix sockets", "listen by path", || {
            shown(UnixListener::bind(at("closed/new"))?)
        }),
        unix("a pair of datagrams", || shown(UnixDatagram::pair()?)),
        unix("a pair of raw ones", || {
            let pair = [0_i32; 2];
            call(libc::SYS_socketpair, &[1, 3, 0, address(pair.as_ptr())])
        }),
        unix("send from a pair by path", || {
            let (one, _other) = UnixDatagram::pair()?;
            shown(one.send_to(b"x", at("socket")))
        }),
        unix("make a stream", || call(libc::SYS_socket, &[1, 1, 0])),
        Attempt::refused("Unix sockets", "a pair of another family", || {
            let pair = [0_i32; 2];
            call(libc::SYS_socketpair, &[16, 3, 0, address(pair.as_ptr())])
        }),
    ]
}

fn options() -> Vec<Attempt> {
    [
        ("SO_ATTACH_FILTER", 1, 26),
        ("SO_ATTACH_BPF", 1, 50),
        ("SO_ATTACH_REUSEPORT_CBPF", 1, 51),
        ("SO_ATTACH_REUSEPORT_EBPF", 1, 52),
        ("SO_ZEROCOPY", 1, 60),
        ("SO_RCVBUFFORCE", 1, 33),
        ("SO_SNDBUFFORCE", 1, 32),
        ("SO_MARK", 1, 36),
        ("SO_DEBUG", 1, 1),
        ("IP_TRANSPARENT", 0, 19),
        ("IPV6_FLOWLABEL_MGR", 41, 32),
        ("UDP_ENCAP", 17, 100),
        ("TCP_ULP", 6, 31),
        ("TCP_REPAIR", 6, 19),
        ("IPT_SO_SET_REPLACE", 0, 64),
    ]
    .into_iter()
    .map(|(name, level, option)| {
        Attempt::refused("options of sockets", name, move || {
            let (socket, on) = (UdpSocket::bind("127.0.0.1:0")?, [1_i32; 64]);
            let fd = socket.as_raw_fd().into();
            call(
                libc::SYS_setsockopt,
                &[fd, level, option, address(on.as_ptr()), 4],
            )
        })
    })
    .collect()
}

fn socket(
    kind: &'static str,
    name: String,
    family: c_long,
    form: c_long,
    protocol: c_long,
) -> Attempt {
    Attempt::refused(kind, name, move || {
        call(libc::SYS_socket, &[family, form, protocol])
    })
}

/// Sends a request without a body to the kernel's routing; returns the errno of the response.
fn netlink(request: u16) -> io::Result<i32> {
    // SAFETY: a socket is created, and bytes are sent and received within arrays of their size.
    unsafe {
        let socket = libc::socket(16, 3, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut message = [0_u8; 36];
        message[0] = 36;
        message[4..6].copy_from_slice(&request.to_ne_bytes());
        // NLM_F_REQUEST, ACK and CREATE.
        message[6..8].copy_from_slice(&0x405_u16.to_ne_bytes());
        message[16] = 2;
        if libc::send(socket, message.as_ptr().cast(), message.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0_u8; 256];
        let received = libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0);
        libc::close(socket);
        if received < 20 {
            return Err(io::Error::other("no answer"));
        }
        let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        Ok(-errno)
    }
}

fn shown<T>(_: T) -> io::Result<String> {
    Ok("went through".to_owned())
}
