//! The permissions of a worker under a policy: each case runs in its own process.
//!
//! The tests here cover the permissions that each declaration grants, and exact outcomes. Attempts that are always
//! refused, as root and as an ordinary user, are only in `table`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test is to end where it went wrong")]

mod attempts;
mod child;
#[cfg(target_arch = "x86_64")]
mod table;

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixDatagram, UnixListener},
        process::ExitStatusExt as _,
    },
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use child::{Child, Outcomes};
use conductor_sandbox::{PluginCapabilities, SandboxPolicy, WorkerLimits};

/// Files of the host and of others, and endpoints to try.
struct World {
    dir: tempfile::TempDir,
    tcp: TcpListener,
    _unix: UnixListener,
    _datagrams: UnixDatagram,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("shared/state")).unwrap();
        fs::create_dir(at("shared/folder")).unwrap();
        for file in [
            "shared/conductor.toml",
            "shared/state/lock",
            "shared/folder/file",
            "shared/neighbour",
            "elsewhere",
        ] {
            fs::write(at(file), "content").unwrap();
        }
        fs::write(
            at("script"),
            "#!/bin/sh\nread -r line </etc/hosts\nexit 3\n",
        )
        .unwrap();
        fs::set_permissions(at("script"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(a_library(), at("shared/state/library.so")).unwrap();
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            _unix: UnixListener::bind(at("socket")).unwrap(),
            _datagrams: UnixDatagram::bind(at("datagrams")).unwrap(),
            dir,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn child(&self, policy: &SandboxPolicy) -> Child {
        Child::new(policy)
            .with("DIR", self.dir.path().display())
            .with("TCP", self.tcp.local_addr().unwrap())
            .with("HOST", std::process::id())
    }

    fn outcomes(&self, capabilities: PluginCapabilities) -> Outcomes {
        let policy = SandboxPolicy {
            capabilities,
            hidden: vec![self.at("shared/conductor.toml"), self.at("shared/state")],
            ..SandboxPolicy::default()
        };
        self.child(&policy).outcomes()
    }
}

/// Returns a system library that this process has loaded, so one that can be loaded.
fn a_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    files
        .find(|file| file.contains("/libgcc_s"))
        .unwrap()
        .into()
}

fn nothing() -> PluginCapabilities {
    PluginCapabilities::default()
}

#[test]
fn this_kernel_knows_every_layer() {
    let outcomes = World::new().outcomes(nothing());
    assert_eq!(outcomes.lines, Vec::<String>::new());
}

#[test]
fn what_every_probe_needs_works_undeclared() {
    let outcomes = World::new().outcomes(nothing());
    for name in [
        "start a thread",
        "look a name up",
        "send over UDP",
        "list the interfaces",
        "make a pair of sockets",
        "ask for the fill of a filesystem",
        "read /proc/meminfo",
        "read /proc/self/maps",
        "list /sys",
        "list /usr/lib",
        "read /etc/hosts",
        "read /etc/nsswitch.conf",
        "read /dev/urandom",
        "write to /dev/null",
        "signal itself",
        "allocate 64 MiB",
        "connect within the process",
    ] {
        assert_eq!(outcomes.of(name), "ok", "{name}");
    }
}

#[test]
fn the_network_is_closed_until_it_is_declared() {
    let world = World::new();
    let closed = world.outcomes(nothing());
    for name in ["connect over TCP", "listen on TCP", "ping"] {
        closed.assert_refused(name);
    }
    let open = world.outcomes(PluginCapabilities {
        network: true,
        ..nothing()
    });
    for name in ["connect over TCP", "listen on TCP"] {
        assert_eq!(open.of(name), "ok", "{name}");
    }
    open.assert_refused("connect to a Unix socket");
}

#[test]
fn udp_is_closed_where_the_operator_says_so_and_nothing_else_with_it() {
    let world = World::new();
    for network in [false, true] {
        let closed = world.outcomes(PluginCapabilities {
            network,
            no_udp: true,
            ..nothing()
        });
        closed.assert_refused("send over UDP");
        for name in [
            "list the interfaces",
            "make a pair of sockets",
            "start a thread",
        ] {
            assert_eq!(closed.of(name), "ok", "{name}");
        }
        if network {
            assert_eq!(closed.of("connect over TCP"), "ok");
        } else {
            closed.assert_refused("connect over TCP");
        }
    }
}

#[test]
fn unix_sockets_are_closed_until_they_are_declared() {
    let world = World::new();
    world
        .outcomes(nothing())
        .assert_refused("connect to a Unix socket");
    world
        .outcomes(nothing())
        .assert_refused("send a datagram from a pair to a Unix socket");
    let open = world.outcomes(PluginCapabilities {
        unix_sockets: true,
        ..nothing()
    });
    assert_eq!(open.of("connect to a Unix socket"), "ok");
    assert_eq!(
        open.of("send a datagram from a pair to a Unix socket"),
        "ok"
    );
    open.assert_refused("connect over TCP");
}

#[test]
fn files_are_closed_until_they_are_declared() {
    let world = World::new();
    let closed = world.outcomes(nothing());
    let open = world.outcomes(PluginCapabilities {
        read: vec![world.at("shared"), world.at("elsewhere")],
        ..nothing()
    });
    for name in [
        "read shared/neighbour",
        "read shared/folder/file",
        "list shared/folder",
        "read elsewhere",
    ] {
        closed.assert_refused(name);
        assert_eq!(open.of(name), "ok", "{name}");
    }
    for name in ["read /etc/shadow", "list /tmp", "list /root", "list /etc"] {
        closed.assert_refused(name);
        open.assert_refused(name);
    }
}

#[test]
fn what_is_hidden_stays_closed_inside_an_open_folder() {
    let world = World::new();
    for read in [
        vec![world.at("shared")],
        vec![world.at("shared/conductor.toml"), world.at("shared/state")],
        vec![PathBuf::from("/")],
    ] {
        let outcomes = world.outcomes(PluginCapabilities { read, ..nothing() });
        for name in ["read shared/conductor.toml", "read shared/state/lock"] {
            outcomes.assert_refused(name);
        }
    }
}

#[test]
fn nothing_can_be_written_or_changed() {
    let world = World::new();
    let outcomes = world.outcomes(PluginCapabilities {
        read: vec![world.dir.path().to_owned()],
        ..nothing()
    });
    assert_eq!(outcomes.of("read elsewhere"), "ok", "only reading is open");
    for name in [
        "empty elsewhere",
        "change the times of elsewhere",
        "set an attribute of elsewhere",
    ] {
        outcomes.assert_refused(name);
    }
    assert_eq!(fs::read(world.at("elsewhere")).unwrap(), b"content");
}

/// If a call does not exist, the C library tries others; if it is refused, it gives up.
#[test]
fn calls_that_the_c_library_can_do_without_do_not_exist() {
    let world = World::new();
    let running = PluginCapabilities {
        run: vec![PathBuf::from("/bin/true")],
        ..nothing()
    };
    for capabilities in [nothing(), running] {
        let outcomes = world.outcomes(capabilities);
        for name in ["clone3", "a call of the x32 ABI"] {
            assert_eq!(outcomes.of(name), "ENOSYS", "{name}");
        }
    }
}

#[test]
fn programs_are_closed_until_they_are_declared() {
    let world = World::new();
    let closed = world.outcomes(nothing());
    for name in ["fork", "run /bin/true", "run the script", "end a program"] {
        closed.assert_refused(name);
    }
    let open = world.outcomes(PluginCapabilities {
        run: vec![
            PathBuf::from("/bin/true"),
            PathBuf::from("/bin/sleep"),
            world.at("script"),
        ],
        ..nothing()
    });
    assert_eq!(open.lines, Vec::<String>::new());
    assert_eq!(open.of("run /bin/true"), "exit status: 0");
    assert_eq!(open.of("run the script"), "exit status: 3");
    assert_eq!(open.of("end a program"), "signal: 9 (SIGKILL)");
    open.assert_refused("run /bin/ls");
    open.assert_refused("signal the host");
}

/// Landlock knows signals since Linux 6.12.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that waits has to give up some time"
)]
fn on_an_old_kernel_programs_are_ended_and_nothing_else() {
    let world = World::new();
    let policy = SandboxPolicy {
        capabilities: PluginCapabilities {
            run: vec![PathBuf::from("/bin/sleep"), PathBuf::from("/bin/sh")],
            ..nothing()
        },
        ..SandboxPolicy::default()
    };
    let outcomes = world.child(&policy).on_an_old_kernel().outcomes();
    let lines = outcomes.lines.join("\n");
    assert!(lines.starts_with("the kernel has no landlock"), "{lines}");
    assert_eq!(outcomes.lines.len(), 1, "{lines}");
    assert_eq!(outcomes.of("end a program"), "signal: 9 (SIGKILL)");
    assert_eq!(outcomes.of("a program signals itself"), "exit status: 7");
    assert_eq!(outcomes.of("signal itself"), "ok");
    assert_eq!(outcomes.of("signal a process that is gone"), "ESRCH");
    for name in [
        "signal the host",
        "signal init",
        "signal every process",
        "signal the group of the host",
        "signal the broker",
        "leave the process group",
    ] {
        outcomes.assert_refused(name);
    }
    // The broker ends with the worker.
    let broker = outcomes.of("the broker");
    assert!(broker.parse::<u32>().is_ok(), "{broker}");
    let begun = Instant::now();
    while fs::read_to_string(format!("/proc/{broker}/stat")).is_ok_and(|s| !s.contains(") Z ")) {
        assert!(begun.elapsed() < PATIENCE, "the broker is left");
        thread::sleep(Duration::from_millis(5));
    }
    // A worker that runs nothing has no broker, and needs none.
    let closed = world
        .child(&SandboxPolicy::default())
        .on_an_old_kernel()
        .outcomes();
    assert_eq!(closed.of("signal itself"), "ok");
    closed.assert_refused("signal the host");
}

#[test]
fn all_privileges_are_gone() {
    let outcomes = World::new().outcomes(nothing());
    for (field, value) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Umask", "0077"),
    ] {
        assert_eq!(outcomes.of(field), value, "{field}");
    }
    if rustix::process::geteuid().is_root() {
        assert_eq!(outcomes.of("CapBnd"), "0000000000000000");
    }
}

#[test]
fn a_core_is_left_only_where_that_is_wanted() {
    let world = World::new();
    let outcomes = world.outcomes(nothing());
    assert_eq!(outcomes.of("limit of cores"), "0");
    assert_eq!(outcomes.of("dumpable"), "no");
    let policy = SandboxPolicy {
        limits: WorkerLimits {
            core_dumps: true,
            ..WorkerLimits::default()
        },
        ..SandboxPolicy::default()
    };
    let outcomes = world.child(&policy).outcomes();
    assert_eq!(outcomes.of("dumpable"), "yes");
}

#[test]
fn allocating_past_the_limit_fails_and_so_does_opening_files() {
    let world = World::new();
    let limits = WorkerLimits {
        memory: 256 << 20,
        open_files: 64,
        ..WorkerLimits::default()
    };
    let policy = SandboxPolicy {
        limits,
        ..SandboxPolicy::default()
    };
    let outcomes = world.child(&policy).outcomes();
    assert_eq!(outcomes.lines, Vec::<String>::new());
    assert_eq!(outcomes.of("allocate 1 GiB at once"), "refused");
    assert_eq!(
        outcomes.of("allocate 1 GiB as a stack that grows"),
        "refused"
    );
    let pieces: u64 = outcomes.of("allocate 1 GiB in pieces").parse().unwrap();
    assert!((8..16).contains(&pieces), "{pieces} of 16 MiB");
    assert_eq!(outcomes.of("open files"), "EMFILE");
    outcomes.assert_refused("raise a limit");
}

#[test]
fn a_worker_can_abort() {
    let world = World::new();
    let status = world.child(&SandboxPolicy::default()).status_of("abort");
    assert_eq!(status.signal(), Some(6), "{status}");
}

#[test]
fn the_library_is_loaded_though_its_folder_is_hidden() {
    let world = World::new();
    let policy = SandboxPolicy {
        library: Some(world.at("shared/state/library.so")),
        hidden: vec![world.at("shared")],
        ..SandboxPolicy::default()
    };
    let outcomes = world.child(&policy).outcomes();
    assert_eq!(outcomes.of("load shared/state/library.so"), "loaded");
    outcomes.assert_refused("read shared/state/lock");
    outcomes.assert_refused("read shared/neighbour");
    let closed = world.outcomes(nothing());
    let said = closed.of("load shared/state/library.so");
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn what_is_declared_and_not_there_is_said() {
    let world = World::new();
    let outcomes = world.outcomes(PluginCapabilities {
        read: vec![PathBuf::from("/not/there"), world.at("shared/state")],
        ..nothing()
    });
    let state = world.at("shared/state");
    let expected = [
        "read /not/there: not opened: No such file or directory (os error 2)".to_owned(),
        format!(
            "read {}: not opened: it is one of the host's own",
            state.display()
        ),
    ];
    assert_eq!(outcomes.lines, expected);
}

#[test]
fn a_host_that_protects_itself_is_closed_to_its_user() {
    // As root this cannot be observed: root's processes may inspect all others.
    let policy = SandboxPolicy::default();
    let outcomes = Child::new(&policy).protected_only().outcomes();
    assert_eq!(outcomes.of("dumpable"), "no");
}

const PATIENCE: Duration = Duration::from_secs(60);
