//! `conductor run [--once]`.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::mpsc;

use super::{CliError, DEFAULT_ADDRESS, Exit, Global, print, status};
use crate::{
    config::Config,
    host::{self, Doors, ReadConfig},
    plugin::sandbox,
    server::{ExternalUrl, Security},
    tail::Tail,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Check every platform once, print what was found, and leave
    #[arg(long)]
    once: bool,
    /// Where to serve metrics and status
    #[arg(long = "web.listen-address", value_name = "ADDRESS", env = "CONDUCTOR_WEB_LISTEN_ADDRESS", default_value = DEFAULT_ADDRESS)]
    address: SocketAddr,
    #[command(flatten)]
    web: super::WebConfigFile,
    /// Where browsers reach the host, if by another name than localhost, as through a proxy on this machine
    #[arg(
        long = "web.external-url",
        value_name = "URL",
        env = "CONDUCTOR_WEB_EXTERNAL_URL"
    )]
    external_url: Option<ExternalUrl>,
    /// Let POST /-/reload read the config again
    #[arg(long = "web.enable-lifecycle", env = "CONDUCTOR_WEB_ENABLE_LIFECYCLE", value_parser = clap::builder::FalseyValueParser::new())]
    enable_lifecycle: bool,
}

pub(super) fn run(args: Args, global: &Global) -> Result<Exit, CliError> {
    let tail = Tail::default();
    let log = global.start_log(tail.clone());
    if let Err(error) = sandbox::protect_host() {
        tracing::warn!("this process is not closed to others of its user: {error}");
    }
    let config = global.config()?;
    let result = if args.once {
        once(&config)
    } else {
        watch(&config, &args, global, tail)
    };
    let exit = match &result {
        Ok(exit) => *exit,
        Err(error) => {
            error.print();
            error.exit()
        }
    };
    drop(log);
    // Everything of the host's is dropped by now. What may be left are calls stuck in plugins and the plugins' own exit
    // handlers, and neither may keep the process from leaving.
    signal_hook::low_level::exit(exit as i32)
}

fn once(config: &Arc<Config>) -> Result<Exit, CliError> {
    let status = host::check_once(config).map_err(CliError::Other)?;
    print(&status::text(&status, status::Coloring::detect()))?;
    Ok(status::exit(&status))
}

fn watch(config: &Arc<Config>, args: &Args, global: &Global, tail: Tail) -> Result<Exit, CliError> {
    let security = match &args.web.file {
        Some(file) => Security::read(file)?,
        None => Security::default(),
    };
    let config = &without_own_page(Arc::clone(config), &security);
    // One thread serves HTTP, so that a flood of requests cannot take the other cores from the checks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::Other(format!("cannot start: {e}")))?;
    let result = runtime.block_on(async {
        let asked = asked_to_stop().map_err(|e| format!("cannot listen to signals: {e}"))?;
        let doors = Doors {
            address: args.address,
            listener: handed_over()?,
            external_url: args.external_url.clone(),
            enable_lifecycle: args.enable_lifecycle,
            read_config: read_config(global, security.clone()),
            security,
            tail,
            reloads: asked_to_reload().map_err(|e| format!("cannot listen to signals: {e}"))?,
        };
        host::run(config, doors, asked).await
    });
    runtime.shutdown_background();
    result.map_err(CliError::Other)?;
    Ok(Exit::Ok)
}

/// The port that systemd has opened for this process (socket activation), if it has.
#[cfg(unix)]
fn handed_over() -> Result<Option<std::net::TcpListener>, String> {
    let mut passed = listenfd::ListenFd::from_env();
    if passed.len() > 1 {
        return Err(format!(
            "systemd passes {} sockets, this host serves one; leave a single ListenStream= in its .socket unit",
            passed.len()
        ));
    }
    if passed.len() == 0 {
        return Ok(None);
    }
    passed
        .take_tcp_listener(0)
        .map_err(|e| format!("the socket that systemd passes is no TCP port: {e}"))
}

#[cfg(not(unix))]
fn handed_over() -> Result<Option<std::net::TcpListener>, String> {
    Ok(None)
}

/// Reads the config anew, from where it was read the first time.
fn read_config(global: &Global, security: Security) -> ReadConfig {
    let global = global.clone();
    Arc::new(move || {
        let config = global.config().map_err(|error| match error {
            CliError::Config(error) => error.to_plain(),
            CliError::Unreachable(message) | CliError::Other(message) => message,
        })?;
        Ok(without_own_page(config, &security))
    })
}

/// Where not everybody gets in, the built-in config does not watch the host's own page: it knows neither a password nor
/// whose certificate to trust, and would call a host unhealthy whose door is closed on purpose.
fn without_own_page(mut config: Arc<Config>, security: &Security) -> Arc<Config> {
    if config.is_builtin && !security.lets_everybody_in() {
        tracing::info!(
            "{OWN_PAGE} is left out of the built-in config, which knows neither the CA nor the passwords of the web config"
        );
        Arc::make_mut(&mut config)
            .platforms
            .retain(|platform| platform.name != OWN_PAGE);
    }
    config
}

/// Gets a message for each SIGHUP.
#[cfg(unix)]
fn asked_to_reload() -> std::io::Result<mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let (ask, asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // One that waits already reads whatever this one was sent for.
            let _ = ask.try_send(());
        }
    });
    Ok(asked)
}

#[cfg(not(unix))]
fn asked_to_reload() -> std::io::Result<mpsc::Receiver<()>> {
    Ok(mpsc::channel(1).1)
}

/// Resolves at the first signal to stop; the second one ends the process there and then.
#[cfg(unix)]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
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
                    // The host may have failed and gone by itself.
                    let _ = first.send(());
                }
                None => signal_hook::low_level::exit(128 + number),
            }
        }
    });
    Ok(async {
        let _ = asked.await;
    })
}

#[cfg(not(unix))]
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        tokio::spawn(async {
            let _ = tokio::signal::ctrl_c().await;
            signal_hook::low_level::exit(130)
        });
    })
}

/// What the built-in config calls the host's own page.
const OWN_PAGE: &str = "self-http";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_builtin_config_calls_no_closed_door_unhealthy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("web.yml");
        let names = |config: &Config| -> Vec<String> {
            config.platforms.iter().map(|p| p.name.clone()).collect()
        };
        let builtin = Arc::new(Config::builtin(Path::new("")));
        let all = names(&builtin);
        assert!(all.iter().any(|name| name == OWN_PAGE));

        let open = without_own_page(Arc::clone(&builtin), &Security::default());
        assert_eq!(names(&open), all);
        let hash = bcrypt::hash("wonder", 4).unwrap();
        std::fs::write(&file, format!("basic_auth_users:\n  alice: {hash}\n")).unwrap();
        let security = Security::read(&file).unwrap();
        let closed = names(&without_own_page(Arc::clone(&builtin), &security));
        assert_eq!(closed.len(), all.len() - 1);
        assert!(!closed.iter().any(|name| name == OWN_PAGE));

        // Whoever writes such a platform themselves means it.
        let mut own = Config::clone(&builtin);
        own.is_builtin = false;
        assert_eq!(names(&without_own_page(Arc::new(own), &security)), all);
    }
}
