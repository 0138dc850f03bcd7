//! `conductor run [--once]`.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc};

use conductor_command::{
    CliError, CommandExit, ConfigSource, DEFAULT_ADDRESS, GlobalArgs, OutputFormat, json, print,
    print_styled,
};
use conductor_config::{ConductorConfig, ConfigReadResult, OwnAddress, PlatformConfig};
use conductor_engine::log_tail::LogTail;
use conductor_runtime::worker;
use conductor_sandbox as sandbox;
use conductor_server::{ExternalUrl, ListenAddress, ServerSecurity};
use tokio::sync::mpsc;

#[cfg(windows)]
use self::windows::{asked_to_reload, asked_to_stop};
use super::{shard::ShardArgs, status};
use crate::host::{self, HostError, RunOptions};

#[cfg(windows)]
mod windows;

#[derive(clap::Args)]
pub(super) struct RunArgs {
    /// Check every platform once, print the results and exit
    #[arg(long)]
    once: bool,
    /// Output format of --once; JSON as printed by `status`
    #[arg(long, value_enum, default_value_t = OutputFormat::Table, requires = "once")]
    output: OutputFormat,
    #[command(flatten)]
    serve: ServeArgs,
}

/// The options of a host that serves.
#[derive(Clone, clap::Args)]
pub(super) struct ServeArgs {
    /// Address to serve metrics and status on: IP:PORT, NAME:PORT, or :PORT for all addresses; port 0 selects a free port
    #[arg(long = "web.listen-address", value_name = "ADDRESS", env = "CONDUCTOR_WEB_LISTEN_ADDRESS", default_value = DEFAULT_ADDRESS)]
    pub(super) address: ListenAddress,
    #[command(flatten)]
    pub(super) web: super::WebConfigFile,
    /// URL at which browsers reach the host, if its name is not localhost, for example that of a proxy on this machine
    #[arg(
        long = "web.external-url",
        value_name = "URL",
        env = "CONDUCTOR_WEB_EXTERNAL_URL"
    )]
    pub(super) external_url: Option<ExternalUrl>,
    /// Allow POST requests that operate the host: reload, check, breaker, maintenance
    #[arg(long = "web.enable-lifecycle", env = "CONDUCTOR_WEB_ENABLE_LIFECYCLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) enable_lifecycle: bool,
    #[command(flatten)]
    pub(super) shard: ShardArgs,
}

/// Requests to a host from its operating system.
pub(super) struct HostRequests {
    /// Resolves at the request to stop.
    pub(super) stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Each message asks for a reload.
    pub(super) reloads: mpsc::Receiver<()>,
    /// Called once the host serves.
    pub(super) started: Box<dyn FnOnce() + Send>,
}

impl HostRequests {
    /// Returns those of a process that was started from a command line; call it inside of the runtime.
    fn of_this_process() -> io::Result<Self> {
        Ok(Self {
            stop: Box::pin(asked_to_stop()?),
            reloads: asked_to_reload()?,
            started: Box::new(|| {}),
        })
    }
}

pub(super) fn run(args: RunArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let exit = as_host(global, |tail| match args.once {
        true => once(&args, global),
        false => serve(&args.serve, global, tail, HostRequests::of_this_process),
    })?;
    // The host has been dropped by now. Only calls stuck in plugins and the plugins' own exit handlers may remain, and
    // neither may delay the exit.
    worker::exit(exit as i32)
}

/// Makes this process a host for the time of `work`: it writes a log, and is closed to other processes. Errors are
/// printed, and logged if the log goes to files.
pub(super) fn as_host(
    global: &GlobalArgs,
    work: impl FnOnce(LogTail) -> Result<CommandExit, CliError>,
) -> Result<CommandExit, CliError> {
    let tail = LogTail::default();
    let log = global.start_log(tail.clone())?;
    if let Err(error) = sandbox::protect_host() {
        tracing::warn!("other processes of this user can read the host's memory: {error}");
    }
    #[cfg(target_os = "linux")]
    host::check_proc(std::path::Path::new("/proc"), std::process::id())
        .map_err(|e| CliError::Other(e.to_string()))?;
    #[cfg(target_os = "linux")]
    let reaper = worker::OrphanReaper::start()
        .inspect_err(|e| tracing::warn!("processes that plugins leave behind are not reaped: {e}"));
    worker::hold_program();
    let exit = match work(tail) {
        Ok(exit) => exit,
        Err(error) => {
            if global.log_dir.is_some() {
                tracing::error!("the host ends: {error}");
            }
            error.print();
            error.exit()
        }
    };
    #[cfg(target_os = "linux")]
    drop(reaper);
    drop(log);
    Ok(exit)
}

fn once(args: &RunArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let reading = global.config_source()?.read(&OwnAddress::default());
    let config = accepted(reading.with_shard(args.serve.shard.shard()?))?.own_share();
    let config = without_platforms(config, |platform| {
        let is_own = platform.secrets.name_own_address;
        is_own.then_some("run --once serves no page or port")
    });
    let status = host::check_once(&Arc::new(config))?;
    match args.output {
        OutputFormat::Json => print(&json(&status)?)?,
        OutputFormat::Table => print_styled(&status::text(&status, status::ColorMode::detect()))?,
    }
    Ok(status::exit(&status))
}

/// Runs a host until it is asked to stop; `requests` is called inside of its runtime.
pub(super) fn serve(
    args: &ServeArgs,
    global: &GlobalArgs,
    tail: LogTail,
    requests: impl FnOnce() -> io::Result<HostRequests>,
) -> Result<CommandExit, CliError> {
    let security = match &args.web.file {
        Some(file) => ServerSecurity::read(file)?,
        None => ServerSecurity::default(),
    };
    // First, because the config may refer to the port that was assigned.
    let handed_over = handed_over().map_err(|error| CliError::Other(error.to_string()))?;
    let listener = match handed_over {
        Some(listener) => listener,
        None => args
            .address
            .listen()
            .map_err(|error| CliError::Other(error.to_string()))?,
    };
    let address = listener
        .local_addr()
        .map_err(|e| CliError::Other(format!("cannot get the address of the open port: {e}")))?;
    let read_config = {
        let (source, security) = (global.config_source()?, security.clone());
        let shard = args.shard.shard()?;
        move |text: Option<&ConductorConfig>| {
            read_config(&source, address, &security, text).with_shard(shard)
        }
    };
    let config = &Arc::new(accepted(read_config(None))?.own_share());
    // One thread serves HTTP, so that a flood of requests cannot take CPU on other cores from the checks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Other(format!("cannot start: {e}")))?;
    let result = runtime.block_on(async {
        let requests = requests().map_err(HostError::Signals)?;
        let options = RunOptions {
            listener,
            external_url: args.external_url.clone(),
            enable_lifecycle: args.enable_lifecycle,
            read_config: Arc::new(read_config),
            security,
            tail,
            reloads: requests.reloads,
            started: requests.started,
        };
        host::run(config, options, requests.stop).await
    });
    runtime.shutdown_background();
    result?;
    Ok(CommandExit::Ok)
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        Self::Other(error.to_string())
    }
}

/// Sockets from systemd that a host cannot serve on.
#[derive(Debug, thiserror::Error)]
enum SocketError {
    #[cfg(unix)]
    #[error(
        "systemd passes {0} sockets, but the host serves one: leave a single ListenStream= in its .socket unit"
    )]
    Several(usize),
    #[cfg(unix)]
    #[error("the socket that systemd passes is not a TCP socket: {0}")]
    NotTcp(#[source] io::Error),
}

/// Returns the port that systemd has opened for this process (socket activation), if any.
#[cfg(unix)]
fn handed_over() -> Result<Option<std::net::TcpListener>, SocketError> {
    let mut passed = listenfd::ListenFd::from_env();
    if passed.len() > 1 {
        return Err(SocketError::Several(passed.len()));
    }
    if passed.len() == 0 {
        return Ok(None);
    }
    passed.take_tcp_listener(0).map_err(SocketError::NotTcp)
}

#[cfg(not(unix))]
fn handed_over() -> Result<Option<std::net::TcpListener>, SocketError> {
    Ok(None)
}

/// Returns the config if the file has no errors in syntax and shape; otherwise the error includes those that the
/// plugins find. Errors that only plugins find do not stop the monitoring of other platforms.
fn accepted(reading: ConfigReadResult) -> Result<ConductorConfig, CliError> {
    if reading.error.is_none() {
        return Ok(reading.into_result()?);
    }
    match host::judge(reading) {
        Ok(config) => Ok(Arc::unwrap_or_clone(config)),
        Err(rejection) => Err(rejection.error.into()),
    }
}

/// Reads the config for a host that serves at `address`, from the same file each time, or from the `text` of a config
/// read earlier.
fn read_config(
    source: &ConfigSource,
    address: SocketAddr,
    security: &ServerSecurity,
    text: Option<&ConductorConfig>,
) -> ConfigReadResult {
    let own = OwnAddress::of(address, security.scheme());
    let reading = match text {
        Some(config) if !config.is_builtin => ConfigReadResult::again(config, &own),
        _ => source.read(&own),
    };
    if security.lets_everybody_in() {
        return reading;
    }
    let config = reading.config.map(|config| {
        without_platforms(config, |platform| {
            asks_own_page(platform).then_some(
                "web config restricts access\nadd ca_file, headers or expect_status to its config, so that its requests are accepted",
            )
        })
    });
    ConfigReadResult { config, ..reading }
}

/// Returns whether a platform monitors the host's own page without a CA, a password or another expected status, as in
/// the built-in config.
///
/// Such a host would report itself unhealthy although access is restricted on purpose.
fn asks_own_page(platform: &PlatformConfig) -> bool {
    let config = platform.config.as_object();
    platform.secrets.name_own_address
        && config.is_some_and(|config| config.len() == 1 && config.contains_key("url"))
}

/// Returns the config without the platforms that cannot be checked, and logs the reason for each.
fn without_platforms(
    mut config: ConductorConfig,
    reason: impl Fn(&PlatformConfig) -> Option<&'static str>,
) -> ConductorConfig {
    if config
        .platforms
        .iter()
        .any(|platform| reason(platform).is_some())
    {
        config.platforms.retain(|platform| {
            let reason = reason(platform);
            if let Some(reason) = reason {
                tracing::info!(platform = platform.name, "not checked: {reason}");
            }
            reason.is_none()
        });
    }
    config
}

/// Returns a channel with a message for each SIGHUP.
#[cfg(unix)]
fn asked_to_reload() -> io::Result<mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let (ask, asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // If one is queued already, its reload covers this signal too.
            let _ = ask.try_send(());
        }
    });
    Ok(asked)
}

/// Resolves at the first signal to stop; the second one ends the process immediately.
#[cfg(unix)]
fn asked_to_stop() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let (first, asked) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut first = Some(first);
        loop {
            let number = tokio::select! {
                _ = terminate.recv() => 15,
                _ = interrupt.recv() => 2,
            };
            match first.take() {
                Some(first) => {
                    // The host may have failed and exited already.
                    let _ = first.send(());
                }
                None => worker::exit(128 + number),
            }
        }
    });
    Ok(async {
        let _ = asked.await;
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn names(config: &ConductorConfig) -> Vec<&str> {
        config.platforms.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn a_closed_door_is_not_called_unhealthy_by_a_platform_without_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let (web, file) = (
            folder.path().join("web.yml"),
            folder.path().join("conductor.toml"),
        );
        let hash = bcrypt::hash("wonder", 4).unwrap();
        std::fs::write(&web, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
        let closed = ServerSecurity::read(&web).unwrap();
        let own = "[platform.meant]\nplugin = \"http\"\nconfig = { url = \"${self.url}\", expect_status = [401] }\n";
        std::fs::write(&file, format!("{}{own}", conductor_config::default_text())).unwrap();
        let address = "127.0.0.1:29751".parse().unwrap();
        let read = |file: Option<&Path>, security: &ServerSecurity| {
            let global = GlobalArgs {
                config_file: file.map(Path::to_owned),
                log_level: conductor_command::LogLevel::Info,
                log_format: conductor_command::LogFormat::Text,
                log_dir: None,
            };
            let source = global.config_source().unwrap();
            let reading = read_config(&source, address, security, None);
            reading.into_result().unwrap()
        };
        let open = read(None, &ServerSecurity::default());
        assert_eq!(names(&open), ["disk", "self-http", "self-port"]);
        assert_eq!(
            open.platforms[1].config["url"],
            "http://127.0.0.1:29751/-/healthy"
        );
        assert_eq!(open.platforms[2].config["address"], "127.0.0.1:29751");
        assert_eq!(names(&read(None, &closed)), ["disk", "self-port"]);
        let written = read(Some(&file), &closed);
        assert_eq!(names(&written), ["disk", "self-port", "meant"]);
    }
}
