//! The commands of one check, and what their outputs say.

use std::collections::BTreeSet;

use conductor_net::{CheckError, PhaseClock};

use crate::{
    apps::{self, Packages},
    battery::Battery,
    devices,
    reading::{Reading, number, words},
    server::AdbServer,
    storage::Storage,
    thermal::{self, Thermal},
};

/// The questions of a check to the device.
pub(crate) struct ExaminationPlan {
    /// Serial or USB port; `None` for the only device.
    pub(crate) serial: Option<String>,
    /// The command `df PATH`.
    pub(crate) storage: String,
    pub(crate) lists_packages: bool,
    pub(crate) finds_foreground: bool,
    /// The command that starts an activity.
    pub(crate) launch: Option<String>,
}

/// The findings of a check so far; `None` for what it has not asked for.
#[derive(Debug, Default)]
pub(crate) struct DeviceFindings {
    pub(crate) model: Option<String>,
    pub(crate) is_booted: bool,
    /// Seconds.
    pub(crate) uptime: Option<f64>,
    pub(crate) battery: Option<Reading<Battery>>,
    pub(crate) storage: Option<Reading<Storage>>,
    pub(crate) thermal: Option<Reading<Thermal>>,
    pub(crate) packages: Option<Packages>,
    pub(crate) foreground: Option<BTreeSet<String>>,
    /// The time of the launch in seconds, if Android tells it; or what it says instead.
    pub(crate) launch: Option<Result<Option<f64>, String>>,
}

impl DeviceFindings {
    /// Returns the version code of an installed package, if Android tells it.
    pub(crate) fn version_code(&self, package: &str) -> Option<u64> {
        *self.packages.as_ref()?.get(package)?
    }
}

impl ExaminationPlan {
    /// Asks the device for its state. A device that has not completed its boot is asked for nothing else.
    pub(crate) async fn examine(
        &self,
        server: &mut AdbServer,
        findings: &mut DeviceFindings,
        clock: &mut PhaseClock<'_>,
    ) -> Result<(), CheckError> {
        let devices = server.devices(clock).await?;
        let device = devices::choose(devices, self.serial.as_deref())?;
        findings.model = device.model.clone();
        let serial = self.serial.clone().unwrap_or_else(|| device.selector());
        let mut shell = server.shell(serial, clock).await?;

        let boot = shell.run("boot", BOOT, clock).await?;
        let mut lines = boot.stdout.lines().map(str::trim);
        findings.is_booted = lines.next() == Some("1");
        let uptime = lines.next().and_then(|line| line.split(' ').next());
        findings.uptime = uptime.and_then(number).filter(|seconds| *seconds >= 0.0);
        if !findings.is_booted {
            return Ok(());
        }
        let battery = shell.run("battery", crate::battery::COMMAND, clock).await?;
        findings.battery = Some(Battery::parse(&battery));
        let storage = shell.run("storage", &self.storage, clock).await?;
        findings.storage = Some(Storage::parse(&self.storage, &storage));
        let thermal = shell.run("thermal", thermal::COMMAND, clock).await?;
        findings.thermal = Some(Thermal::parse(&thermal));

        if self.lists_packages {
            let output = shell.run("packages", apps::LIST, clock).await?;
            let mut packages = apps::packages(&output);
            if packages.is_none() {
                let output = shell.run("packages", apps::LIST_NAMES, clock).await?;
                packages = apps::packages(&output);
            }
            let found = packages.ok_or_else(|| {
                CheckError::Platform(format!(
                    "`{}` on the device lists no packages: {}",
                    apps::LIST,
                    words(&output)
                ))
            })?;
            findings.packages = Some(found);
        }
        if self.finds_foreground {
            let output = shell.run("foreground", apps::FOREGROUND, clock).await?;
            findings.foreground = Some(apps::foreground(&output));
        }
        if let Some(command) = &self.launch {
            let output = shell.run("intent", command, clock).await?;
            findings.launch = Some(apps::launch(&output));
        }
        Ok(())
    }
}

/// Prints whether the boot is complete, and the uptime.
const BOOT: &str = "getprop sys.boot_completed; cat /proc/uptime";
