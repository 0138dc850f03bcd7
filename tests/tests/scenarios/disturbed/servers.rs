//! The servers: those of this machine, each in a folder of its own, and some of this process.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use conductor_real_servers::{RealServer, drop_root, program, skip};
use tempfile::TempDir;

use super::{adb, apis, relay::Relay};
use crate::{bundled, servers};

/// A server behind a relay.
pub(super) struct DisturbedServer {
    /// The id of the plugin that checks it.
    pub(super) plugin: &'static str,
    pub(super) relay: Relay,
    address: SocketAddr,
    /// `None` if it is a thread of this process.
    process: Option<Process>,
}

struct Process {
    command: Box<dyn Fn() -> Command + Send>,
    running: Option<RealServer>,
    _folder: TempDir,
}

impl DisturbedServer {
    fn of_this_process(plugin: &'static str, address: SocketAddr) -> Self {
        Self {
            plugin,
            relay: Relay::start(address),
            address,
            process: None,
        }
    }

    /// Starts a process, whose command is made from a folder of its own and its address.
    fn of_a_process<F>(plugin: &'static str, make: impl FnOnce(&Path, SocketAddr) -> F) -> Self
    where
        F: Fn() -> Command + Send + 'static,
    {
        let address = own_address();
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::of_this_process(plugin, address);
        server.process = Some(Process {
            command: Box::new(make(folder.path(), address)),
            running: None,
            _folder: folder,
        });
        server.start();
        server
    }

    /// Returns the config of its platform.
    pub(super) fn config(&self) -> String {
        let address = self.relay.address;
        match self.plugin {
            "amqp" => format!(r#"{{ address = "{address}", round_trip = true }}"#),
            "http" => format!(r#"{{ url = "http://{address}/-/ready" }}"#),
            "kubernetes" => format!(r#"{{ url = "http://{address}", resources = ["nodes"] }}"#),
            "llm" => format!(
                r#"{{ url = "http://{address}/v1", models = ["llama"], completion = {{}} }}"#
            ),
            "mysql" => format!(r#"{{ address = "{address}", user = "root" }}"#),
            "postgres" => format!(r#"{{ address = "{address}", user = "postgres" }}"#),
            "prometheus" => format!(r#"{{ url = "http://{address}", query = "vector(1)" }}"#),
            id => bundled::at(id, &address.to_string()).unwrap(),
        }
    }

    pub(super) fn is_a_process(&self) -> bool {
        self.process.is_some()
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn running(&mut self) -> &mut RealServer {
        self.process().running.as_mut().unwrap()
    }

    pub(super) fn start(&mut self) {
        let address = self.address;
        let is_datagrams = matches!(self.plugin, "dns" | "ntp");
        let is_ready = || is_datagrams || TcpStream::connect(address).is_ok();
        let process = self.process();
        let command = (process.command)();
        process.running = Some(RealServer::start(command, is_ready));
    }

    pub(super) fn signal(&mut self, name: &str) {
        self.running().signal(name);
    }

    pub(super) fn stop(&mut self) {
        self.running().stop();
    }

    /// Ends it without time to clean up.
    pub(super) fn kill(&mut self) {
        // If PostgreSQL is killed, its children keep memory for a while, without which the next one does not start.
        let signal = match self.plugin {
            "postgres" => "QUIT",
            _ => "KILL",
        };
        self.running().end_by(signal);
    }
}

/// Returns an address with a port that is free, of an IP address that no other test uses: while the server is stopped, no
/// other program takes its port.
fn own_address() -> SocketAddr {
    loop {
        let listener = TcpListener::bind("127.0.0.84:0").unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Starts all that this machine has, at the same time.
pub(super) fn start_all() -> Vec<DisturbedServer> {
    let mut all = vec![
        DisturbedServer::of_this_process("android", adb::adb_server()),
        DisturbedServer::of_this_process("container", apis::container_engine()),
        DisturbedServer::of_this_process("discord", apis::discord()),
        DisturbedServer::of_this_process("kubernetes", apis::kubernetes()),
        DisturbedServer::of_this_process("llm", apis::language_model()),
        DisturbedServer::of_this_process("grpc", servers::health_server()),
        DisturbedServer::of_this_process("mail", servers::mail_server()),
        DisturbedServer::of_this_process("tcp", servers::web_server()),
        DisturbedServer::of_this_process("tls", servers::tls_server()),
    ];
    let starts: [fn() -> Option<DisturbedServer>; 10] = [
        rabbitmq, dnsmasq, chrony, http, prometheus, postgres, mariadb, redis, mosquitto, openssh,
    ];
    let threads = starts.map(std::thread::spawn);
    all.extend(
        threads
            .into_iter()
            .filter_map(|start| start.join().unwrap()),
    );
    all
}

fn dnsmasq() -> Option<DisturbedServer> {
    let dnsmasq = program("dnsmasq", "dnsmasq-base")?;
    Some(DisturbedServer::of_a_process("dns", |_, address| {
        move || {
            let mut command = Command::new(&dnsmasq);
            command
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                ])
                .args(["--no-hosts", "--pid-file", "--user", "--bind-interfaces"])
                .args([
                    &format!("--listen-address={}", address.ip()),
                    "--host-record=shop.example,192.0.2.1",
                ])
                .arg(format!("--port={}", address.port()));
            command
        }
    }))
}

fn chrony() -> Option<DisturbedServer> {
    let chronyd = program("chronyd", "chrony")?;
    Some(DisturbedServer::of_a_process("ntp", |folder, address| {
        let file = folder.join("chrony.conf");
        let text = format!(
            "local stratum 8\nallow 127.0.0.0/8\nbindaddress {}\nport {}\ncmdport 0\nbindcmdaddress /\npidfile {}/pid\n",
            address.ip(),
            address.port(),
            folder.display()
        );
        fs::write(&file, text).unwrap();
        move || {
            // It does not touch the clock.
            let mut command = Command::new(&chronyd);
            command.args(["-x", "-d", "-u", "root", "-f"]).arg(&file);
            command
        }
    }))
}

/// Prometheus, which `http` asks whether it is ready.
fn http() -> Option<DisturbedServer> {
    prometheus_for("http")
}

fn prometheus() -> Option<DisturbedServer> {
    prometheus_for("prometheus")
}

fn prometheus_for(plugin: &'static str) -> Option<DisturbedServer> {
    let prometheus = program("prometheus", "prometheus")?;
    Some(DisturbedServer::of_a_process(plugin, |folder, address| {
        fs::write(folder.join("prometheus.yml"), "").unwrap();
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&prometheus);
            command
                .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
                .arg(format!("--web.listen-address={address}"))
                .current_dir(&folder);
            drop_root(&mut command, &folder);
            command
        }
    }))
}

fn postgres() -> Option<DisturbedServer> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let folders = versions.flatten().map(|entry| entry.path().join("bin"));
    let Some(programs) = folders.filter(|bin| bin.join("initdb").exists()).max() else {
        skip("there is no PostgreSQL server on this machine (on Debian: apt install postgresql)");
        return None;
    };
    Some(DisturbedServer::of_a_process(
        "postgres",
        |folder, address| {
            let mut create = Command::new(programs.join("initdb"));
            create
                .args([
                    "--username=postgres",
                    "--auth=trust",
                    "--no-sync",
                    "-D",
                    "data",
                ])
                .current_dir(folder);
            run_as_nobody(create, folder);
            let folder = folder.to_owned();
            move || {
                let mut command = Command::new(programs.join("postgres"));
                command
                    .args(["-D", "data", "-c"])
                    .arg(format!("listen_addresses={}", address.ip()))
                    .args(["-c", "fsync=off", "-c", "unix_socket_directories="])
                    .args(["-p", &address.port().to_string()])
                    .current_dir(&folder);
                drop_root(&mut command, &folder);
                command
            }
        },
    ))
}

fn mariadb() -> Option<DisturbedServer> {
    let server = program("mariadbd", "mariadb-server")?;
    let installer = program("mariadb-install-db", "mariadb-server")?;
    Some(DisturbedServer::of_a_process("mysql", |folder, address| {
        let data = format!("--datadir={}", folder.join("data").display());
        let mut create = Command::new(installer);
        create
            .args([
                "--no-defaults",
                "--skip-test-db",
                "--skip-name-resolve",
                &data,
            ])
            .args(["--auth-root-authentication-method=normal"])
            .arg("--innodb-buffer-pool-size=8M")
            .current_dir(folder);
        run_as_nobody(create, folder);
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&server);
            command
                .args([
                    "--no-defaults",
                    &format!("--bind-address={}", address.ip()),
                    "--skip-name-resolve",
                ])
                .args(["--innodb-buffer-pool-size=8M", "--socket=db.sock", &data])
                .arg(format!("--port={}", address.port()))
                .current_dir(&folder);
            drop_root(&mut command, &folder);
            command
        }
    }))
}

fn redis() -> Option<DisturbedServer> {
    let redis = program("redis-server", "redis-server")?;
    Some(DisturbedServer::of_a_process("redis", |folder, address| {
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&redis);
            command
                .args(["--bind", &address.ip().to_string(), "--save", ""])
                .args(["--port", &address.port().to_string()])
                .current_dir(&folder);
            drop_root(&mut command, &folder);
            command
        }
    }))
}

fn mosquitto() -> Option<DisturbedServer> {
    let mosquitto = program("mosquitto", "mosquitto")?;
    Some(DisturbedServer::of_a_process("mqtt", |folder, address| {
        let config = folder.join("mosquitto.conf");
        let (ip, port) = (address.ip(), address.port());
        fs::write(
            &config,
            format!("listener {port} {ip}\nallow_anonymous true\n"),
        )
        .unwrap();
        move || {
            let mut command = Command::new(&mosquitto);
            command.arg("-c").arg(&config);
            command
        }
    }))
}

/// RabbitMQ, with an epmd of its own that ends with it; only in a long run, as it now and then does not start again.
fn rabbitmq() -> Option<DisturbedServer> {
    env::var_os("CONDUCTOR_DISTURB_SECONDS")?;
    program("rabbitmq-server", "rabbitmq-server")?;
    let epmd = program("epmd", "erlang-base")?;
    let setpriv = program("setpriv", "util-linux")?;
    Some(DisturbedServer::of_a_process("amqp", |folder, address| {
        let (folder, ports) = (folder.to_owned(), [own_address(), own_address()]);
        let ports = ports.map(|address| address.port().to_string());
        move || {
            let script = format!(
                "{} --pdeathsig KILL {epmd} & until {epmd} -names > names; do sleep 0.05; done; \
                 exec /usr/lib/rabbitmq/bin/rabbitmq-server",
                setpriv.display(),
                epmd = epmd.display()
            );
            let mut command = Command::new("sh");
            command
                .args(["-c", &script])
                .current_dir(&folder)
                .env("HOME", &folder)
                .env("ERL_EPMD_ADDRESS", "127.0.0.1")
                .env("ERL_EPMD_PORT", &ports[0])
                .env("RABBITMQ_DIST_PORT", &ports[1])
                .env("RABBITMQ_NODENAME", "disturbed@localhost")
                .env("RABBITMQ_NODE_IP_ADDRESS", address.ip().to_string())
                .env("RABBITMQ_NODE_PORT", address.port().to_string())
                // The process is the server, and no shell that waits for it.
                .env("RABBITMQ_ALLOW_INPUT", "1")
                .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput")
                .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
                .env("RABBITMQ_LOGS", "-");
            for (name, file) in [
                ("RABBITMQ_MNESIA_BASE", "data"),
                ("RABBITMQ_LOG_BASE", "log"),
                ("RABBITMQ_ENABLED_PLUGINS_FILE", "plugins"),
                ("RABBITMQ_CONFIG_FILE", "config"),
                ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced"),
                ("RABBITMQ_PID_FILE", "pid"),
            ] {
                command.env(name, folder.join(file));
            }
            drop_root(&mut command, &folder);
            command
        }
    }))
}

fn openssh() -> Option<DisturbedServer> {
    let sshd = program("sshd", "openssh-server")?;
    let keygen = program("ssh-keygen", "openssh-client")?;
    Some(DisturbedServer::of_a_process("ssh", |folder, address| {
        let key = folder.join("key");
        let mut create = Command::new(keygen);
        create
            .args(["-q", "-N", "", "-t", "ed25519", "-f"])
            .arg(&key);
        assert!(create.status().unwrap().success());
        let config: PathBuf = folder.join("sshd_config");
        let text = format!(
            "ListenAddress {address}\nPidFile none\nUsePAM no\nHostKey {}\n",
            key.display()
        );
        fs::write(&config, text).unwrap();
        // For root alone, which may create it: the folder that the unprivileged part of the server changes to.
        let _ = fs::create_dir_all("/run/sshd");
        move || {
            let mut command = Command::new(&sshd);
            command.args(["-D", "-e", "-f"]).arg(&config);
            command
        }
    }))
}

fn run_as_nobody(mut command: Command, folder: &Path) {
    drop_root(&mut command, folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
