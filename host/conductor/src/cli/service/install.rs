//! `conductor service install`: what the service manager stores about a host.

use std::{env, ffi::OsString, io, path::Path, time::Duration};

use conductor_command::{CliError, CommandExit, GlobalArgs, note, warn};
use windows_service::{
    service::{
        Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl,
        ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType,
        ServiceType,
    },
    service_manager::ServiceManagerAccess,
};

use super::{InstallArgs, error::ServiceError, manager};
use crate::cli::run::ServeArgs;

/// Installs the service; a config with errors is refused first.
pub(super) fn install(args: &InstallArgs, global: &GlobalArgs) -> Result<CommandExit, CliError> {
    let name = args.service.name.as_str();
    global.config()?;
    let failed = |error: io::Error| CliError::Other(format!("cannot install the service: {error}"));
    let account = match &args.account {
        Some(account) => account.clone(),
        None => format!(r"NT SERVICE\{name}"),
    };
    let info = ServiceInfo {
        name: name.into(),
        display_name: match name {
            "conductor" => "Conductor".into(),
            other => format!("Conductor ({other})").into(),
        },
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: env::current_exe().map_err(failed)?,
        launch_arguments: arguments(global, &args.serve).map_err(failed)?,
        dependencies: Vec::new(),
        account_name: Some(account.clone().into()),
        account_password: None,
    };
    let of = |error| ServiceError::of(name, error);
    let rights = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let service = manager::connect(rights)
        .and_then(|manager| {
            // A restart on failure needs the right to start.
            manager.create_service(&info, ServiceAccess::CHANGE_CONFIG | ServiceAccess::START)
        })
        .map_err(of)?;
    service.set_description(DESCRIPTION).map_err(of)?;
    if let Err(error) = restart_on_failure(&service) {
        let error = of(error);
        warn(&format!(
            "the service is not restarted after a failure: {error}"
        ));
    }
    note(&format!(
        "the service {name} runs as {account}, which must be able to read the config and its plugins, and to write to the state folder and that of the log; start it with `conductor service start`"
    ));
    Ok(CommandExit::Ok)
}

/// Restarts it after 5 s, then after 10 s, then every minute, until it has run for a day.
fn restart_on_failure(service: &Service) -> windows_service::Result<()> {
    let restart = |seconds| ServiceAction {
        action_type: ServiceActionType::Restart,
        delay: Duration::from_secs(seconds),
    };
    service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(Duration::from_secs(24 * 60 * 60)),
        reboot_msg: None,
        command: None,
        actions: Some(vec![restart(5), restart(10), restart(60)]),
    })
}

/// Returns the arguments with which the service manager starts the program.
fn arguments(global: &GlobalArgs, serve: &ServeArgs) -> io::Result<Vec<OsString>> {
    let mut arguments = vec![OsString::from("service"), "run".into()];
    let mut add = |name: &str, value: OsString| {
        let mut argument = OsString::from(format!("--{name}="));
        argument.push(value);
        arguments.push(argument);
    };
    let absolute = |path: &Path| std::path::absolute(path).map(Into::into);
    if let Some(file) = &global.config_file {
        add("config.file", absolute(file)?);
    }
    add("log.level", global.log_level.name().into());
    add("log.format", global.log_format.name().into());
    if let Some(folder) = &global.log_dir {
        add("log.dir", absolute(folder)?);
    }
    add("web.listen-address", serve.address.to_string().into());
    if let Some(file) = &serve.web.file {
        add("web.config.file", absolute(file)?);
    }
    if let Some(url) = &serve.external_url {
        add("web.external-url", url.to_string().into());
    }
    if let (Some(index), Some(total)) = (serve.shard.index, serve.shard.total) {
        add("shard.index", index.to_string().into());
        add("shard.total", total.to_string().into());
    }
    if serve.enable_lifecycle {
        arguments.push("--web.enable-lifecycle".into());
    }
    Ok(arguments)
}

const DESCRIPTION: &str = "Monitors platforms through plugins, and exports their health to Prometheus and to a status page.";
