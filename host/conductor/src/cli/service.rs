//! `conductor service`: the host as a service of Windows.
//!
//! The commands are parsed on every system, so that the reference is the same everywhere, and refused on others.

use conductor_command::{CliError, CommandExit, GlobalArgs, OutputFormat};

use super::run::ServeArgs;

#[cfg(windows)]
mod control;
#[cfg(windows)]
mod error;
#[cfg(windows)]
mod install;
#[cfg(windows)]
mod manager;
#[cfg(windows)]
mod process;

#[derive(clap::Subcommand)]
pub(super) enum ServiceCommand {
    /// Install the host as a service that starts with the machine
    ///
    /// Config, log and web options are stored with the service, also those from environment variables. Relative paths are
    /// those of the current folder.
    Install(InstallArgs),
    /// Stop the service and remove it; its config, state and logs stay
    Uninstall(ServiceName),
    /// Start the service, and wait until it runs
    Start(ServiceName),
    /// Stop the service, and wait until its checks under way have ended
    Stop(ServiceName),
    /// Make the service read its config again; its log has the result
    Reload(ServiceName),
    /// Print the state of the service; the exit code is 0 if it runs
    Status(ServiceStatusArgs),
    /// Run as the service; started by the service manager alone
    #[command(hide = true)]
    Run(ServeArgs),
}

#[derive(clap::Args)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    service: ServiceName,
    /// Account without a password that the service runs as [default: the service's own, 'NT SERVICE\NAME', without any right but to what it is given]
    #[arg(long)]
    account: Option<String>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(clap::Args)]
pub(super) struct ServiceName {
    /// Name of the service; each of several has its own
    #[arg(long, default_value = "conductor")]
    name: String,
}

#[derive(clap::Args)]
pub(super) struct ServiceStatusArgs {
    #[command(flatten)]
    service: ServiceName,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[cfg(windows)]
pub(super) fn run(command: ServiceCommand, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    match command {
        ServiceCommand::Install(args) => install::install(&args, global),
        ServiceCommand::Uninstall(service) => manager::uninstall(&service.name),
        ServiceCommand::Start(service) => manager::start(&service.name),
        ServiceCommand::Stop(service) => manager::stop(&service.name),
        ServiceCommand::Reload(service) => manager::reload(&service.name),
        ServiceCommand::Status(args) => manager::status(&args.service.name, args.output),
        ServiceCommand::Run(args) => process::run(args, global.clone()),
    }
}

#[cfg(not(windows))]
pub(super) fn run(_: ServiceCommand, _: &GlobalArgs) -> Result<CommandExit, CliError> {
    Err(CliError::Usage(
        "`conductor service` is for Windows: use the systemd unit, see docs/operate/packages.md"
            .to_owned(),
    ))
}
