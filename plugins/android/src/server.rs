//! The adb server, and the shell of one of its devices.

use conductor_net::{CheckError, NameResolver, PhaseClock, ServerAddress};
use tokio::time::timeout;

use crate::{
    devices::{self, ListedDevice},
    wire::{AdbError, AdbStream, ShellOutput},
};

/// An adb server. It serves one request per connection.
pub(crate) struct AdbServer {
    pub(crate) address: ServerAddress,
    pub(crate) resolver: NameResolver,
}

/// The shell of a device.
pub(crate) struct DeviceShell<'a> {
    server: &'a mut AdbServer,
    serial: String,
    /// `true` if the device tells exit codes and keeps errors apart: since Android 7.
    is_v2: bool,
}

impl AdbServer {
    /// Returns the devices of the server: the phase `devices`.
    pub(crate) async fn devices(
        &mut self,
        clock: &mut PhaseClock<'_>,
    ) -> Result<Vec<ListedDevice>, CheckError> {
        let mut stream = self.connect(clock).await?;
        clock.enter("devices");
        let list = async {
            stream.request("host:devices-l").await?;
            stream.text().await
        };
        let list = within(clock, "the list of devices", list).await?;
        clock.end();
        Ok(devices::parse(&list))
    }

    /// Returns the shell of a device, which nothing is sent to yet: the phase `devices` again.
    pub(crate) async fn shell(
        &mut self,
        serial: String,
        clock: &mut PhaseClock<'_>,
    ) -> Result<DeviceShell<'_>, CheckError> {
        let mut stream = self.connect(clock).await?;
        clock.enter("devices");
        let request = format!("host-serial:{serial}:features");
        let features = async {
            match stream.request(&request).await {
                Ok(()) => stream.text().await,
                // An adb server from before Android 7 does not know the request.
                Err(AdbError::Refused(_)) => Ok(String::new()),
                Err(error) => Err(error),
            }
        };
        let features = within(clock, "the features of the device", features).await?;
        clock.end();
        Ok(DeviceShell {
            server: self,
            serial,
            is_v2: features.split(',').any(|feature| feature == "shell_v2"),
        })
    }

    async fn connect(&mut self, clock: &mut PhaseClock<'_>) -> Result<AdbStream, CheckError> {
        match self.address.connect(&mut self.resolver, clock).await {
            Ok(stream) => Ok(AdbStream::new(stream)),
            Err(CheckError::Platform(fault)) => Err(CheckError::Platform(format!(
                "{fault}; start the adb server on that machine, with `adb start-server`"
            ))),
            Err(error) => Err(error),
        }
    }
}

impl DeviceShell<'_> {
    /// Runs a command on the device and returns its output: the phase `phase`.
    pub(crate) async fn run(
        &mut self,
        phase: &'static str,
        command: &str,
        clock: &mut PhaseClock<'_>,
    ) -> Result<ShellOutput, CheckError> {
        let mut stream = self.server.connect(clock).await?;
        clock.enter(phase);
        let transport = format!("host:transport:{}", self.serial);
        let shell = match self.is_v2 {
            true => format!("shell,v2,raw:{command}"),
            false => format!("shell:{command}"),
        };
        let output = async {
            stream.request(&transport).await?;
            stream.request(&shell).await?;
            match self.is_v2 {
                true => stream.shell_v2().await,
                false => stream.shell_v1().await,
            }
        };
        let awaited = format!("`{command}` on the device");
        let output = within(clock, &awaited, output).await?;
        clock.end();
        Ok(output)
    }
}

async fn within<T>(
    clock: &PhaseClock<'_>,
    awaited: &str,
    reply: impl Future<Output = Result<T, AdbError>>,
) -> Result<T, CheckError> {
    let Ok(reply) = timeout(clock.limit.left(), reply).await else {
        return Err(CheckError::Platform(format!(
            "no answer within {} (waiting for {awaited})",
            clock.limit.show()
        )));
    };
    reply.map_err(|error| error.judge(awaited))
}
