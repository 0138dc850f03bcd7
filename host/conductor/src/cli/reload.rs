//! `conductor reload PID`: asks a host on this machine to read its config again, as SIGHUP does on other systems.

use conductor_command::{CliError, CommandExit};

#[derive(clap::Args)]
pub(super) struct ReloadArgs {
    /// Process ID of the host, which its log shows at start
    pid: u32,
}

#[cfg(windows)]
pub(super) fn run(args: &ReloadArgs) -> Result<CommandExit, CliError> {
    use std::io::ErrorKind;
    let pid = args.pid;
    crate::reload_event::set(pid).map_err(|error| {
        CliError::Other(match error.kind() {
            ErrorKind::NotFound => format!(
                "process {pid} is no host that was started with `conductor run`: its log shows the process ID at start; a service is reloaded with `conductor service reload`"
            ),
            ErrorKind::PermissionDenied => format!(
                "access to the host with process ID {pid} is denied: run this as the host's user, or from a prompt opened with \"Run as administrator\""
            ),
            _ => format!("cannot ask process {pid} to reload: {error}"),
        })
    })?;
    conductor_command::note("the host reads its config again; its log has the result");
    Ok(CommandExit::Ok)
}

#[cfg(not(windows))]
pub(super) fn run(args: &ReloadArgs) -> Result<CommandExit, CliError> {
    Err(CliError::Usage(format!(
        "`conductor reload` is for Windows: use kill -HUP {}, systemctl reload conductor, or POST /-/reload",
        args.pid
    )))
}
