//! Sockets and the processes that hold them, from `/proc`; see proc_pid_net(5) and proc_pid_fd(5).

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process,
};

use super::{ConnectionAddresses, SocketEntry, SocketHolder};

/// Returns the client's socket of a connection; `None` if it is not on this machine.
pub(super) fn find_socket(connection: ConnectionAddresses) -> io::Result<Option<SocketEntry>> {
    let (local, peer) = (canonical(connection.local), canonical(connection.peer));
    let wanted = |line: &str| parse(line).filter(|(own, other, _)| (*own, *other) == (peer, local));
    let tcp = fs::read_to_string("/proc/self/net/tcp")?;
    // This file does not exist on a machine without IPv6.
    let tcp6 = fs::read_to_string("/proc/self/net/tcp6").unwrap_or_default();
    let found = tcp.lines().chain(tcp6.lines()).find_map(wanted);
    Ok(found.map(|(_, _, socket)| socket))
}

/// Finds the process that holds a socket, checking the host's own first.
pub(super) fn holder(inode: u64) -> SocketHolder {
    let host = process::id();
    let parents = parents();
    let own: HashSet<u32> = parents
        .keys()
        .copied()
        .filter(|pid| descends(*pid, host, &parents))
        .collect();
    let held = |folder: &Path| holds(folder, inode);
    for &pid in &own {
        // A thread can have its own file descriptors.
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let threads = threads.into_iter().flatten().flatten();
        if threads.into_iter().any(|thread| held(&thread.path())) {
            return SocketHolder::Own {
                pid,
                worker: child_above(pid, host, &parents),
            };
        }
    }
    let filters = seccomp_filters("self");
    let others = parents.keys().filter(|pid| !own.contains(pid));
    let mut holders = others.filter(|pid| held(Path::new(&format!("/proc/{pid}"))));
    let confined = |pid: &u32| seccomp_filters(&pid.to_string()) > filters;
    match holders.next() {
        None => SocketHolder::Unseen,
        Some(first) => SocketHolder::Other {
            confined: confined(first) || holders.any(confined),
        },
    }
}

/// Returns the reason why callers cannot be identified on this machine, if any.
pub(super) fn limitation() -> Option<&'static str> {
    fs::File::open("/proc/self/net/tcp").err().map(|_| {
        "cannot read /proc/self/net/tcp, so the host cannot distinguish its plugins from other local clients: local requests that change something are refused unless a password is required (--web.config.file)"
    })
}

/// Parses one line of the table: the local end, the remote end, and the socket.
fn parse(line: &str) -> Option<(SocketAddr, SocketAddr, SocketEntry)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let own = address(fields.next()?)?;
    let other = address(fields.next()?)?;
    let user = fields.nth(4)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    Some((own, other, SocketEntry { inode, user }))
}

/// Parses an address such as `0100007F:2616`: words in the machine's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(address, port)))
}

/// Drops what the table does not contain: an IPv4 address is the same behind an IPv6 socket, and there are no zones.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns `true` if the process or thread with this folder has the socket among its file descriptors.
fn holds(folder: &Path, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(folder.join("fd")) else {
        return false;
    };
    let mut links = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| link.as_os_str() == wanted.as_str())
}

/// Returns the parent of each process.
fn parents() -> HashMap<u32, u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let processes = processes.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((pid, parent(&stat)?))
    });
    processes.collect()
}

/// Returns the parent. The process name before it may contain spaces and parentheses.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Returns `true` if a process is `ancestor` or descends from it.
fn descends(pid: u32, ancestor: u32, parents: &HashMap<u32, u32>) -> bool {
    pid == ancestor || child_above(pid, ancestor, parents).is_some()
}

/// Returns the child of `ancestor` that a process is or descends from.
fn child_above(pid: u32, ancestor: u32, parents: &HashMap<u32, u32>) -> Option<u32> {
    let mut at = pid;
    // Parents change while they are read, so a cycle is possible.
    for _ in 0..parents.len() {
        let parent = *parents.get(&at)?;
        if parent == ancestor {
            return Some(at);
        }
        at = parent;
    }
    None
}

/// Returns the number of a process's seccomp filters; 0 if unknown.
fn seccomp_filters(pid: &str) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    line.and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        net::{TcpListener, TcpStream},
        process::{Command, Stdio},
    };

    use super::*;
    use crate::caller::{CallerIdentity, identify};

    fn accepted(listener: &TcpListener) -> (TcpStream, ConnectionAddresses) {
        let (stream, peer) = listener.accept().unwrap();
        let local = stream.local_addr().unwrap();
        (stream, ConnectionAddresses { local, peer })
    }

    #[test]
    fn a_line_of_the_kernels_table_is_understood() {
        let line = "   3: 0100007F:A1B2 0100007F:2616 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 20 4 30 10 -1";
        let (own, other, socket) = parse(line).unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(own, "127.0.0.1:41394".parse().unwrap());
            assert_eq!(other, "127.0.0.1:9750".parse().unwrap());
        }
        let (inode, user) = (4711, 1000);
        assert_eq!(socket, SocketEntry { inode, user });
        for none in ["", "  sl  local_address rem_address", "0: 0100007F:1 x 01"] {
            assert_eq!(parse(none), None, "{none}");
        }
        assert_eq!(parent("7 (a ) b) S 5 7 7 0"), Some(5));
    }

    #[test]
    fn this_processs_own_connections_are_its_own_over_either_protocol() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let client = match address {
                "[::1]:0" => TcpStream::connect(("::1", port)),
                _ => TcpStream::connect(("127.0.0.1", port)),
            };
            let client = client.unwrap();
            let (_stream, connection) = accepted(&listener);
            let (pid, worker) = (process::id(), None);
            assert_eq!(
                identify(connection),
                CallerIdentity::Own { pid, worker },
                "{address}"
            );
            drop(client);
            assert!(
                matches!(identify(connection), CallerIdentity::Unknown(_)),
                "{address}"
            );
        }
    }

    #[test]
    fn a_connection_of_a_childs_child_is_traced_to_the_child() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("exec 5<>/dev/tcp/127.0.0.1/{port}; echo connected; read -r _");
        let mut child = Command::new("bash")
            .args(["-c", "bash -c \"$1\"; exit", "bash", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let (_stream, connection) = accepted(&listener);
        let CallerIdentity::Own { pid, worker } = identify(connection) else {
            panic!("it is not found");
        };
        assert_eq!(worker, Some(child.id()));
        assert_ne!(pid, child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
