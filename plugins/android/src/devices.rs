//! The devices that an adb server lists, and the one to check.

use conductor_net::CheckError;
use conductor_plugin_api::Failure;

use crate::wire::shown;

/// One line of `adb devices -l`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ListedDevice {
    pub(crate) serial: String,
    state: String,
    /// The path of its USB port, such as `usb:1-4`.
    port: Option<String>,
    /// The model as its maker calls it, with `_` for spaces.
    pub(crate) model: Option<String>,
}

/// Parses the reply to `host:devices-l`; lines of another form are skipped.
pub(crate) fn parse(list: &str) -> Vec<ListedDevice> {
    list.lines().filter_map(ListedDevice::parse).collect()
}

impl ListedDevice {
    fn parse(line: &str) -> Option<Self> {
        // A device that does not tell its serial has a text with spaces instead.
        let (serial, rest) = match line.strip_prefix(NO_SERIAL) {
            Some(rest) => (NO_SERIAL, rest),
            None => line.split_once(char::is_whitespace)?,
        };
        let words = || rest.split_whitespace();
        let named = |name: &str| words().find_map(|word| word.strip_prefix(name));
        Some(Self {
            serial: serial.to_owned(),
            state: match rest.trim_start().starts_with(NO_PERMISSIONS) {
                true => NO_PERMISSIONS.to_owned(),
                false => words().next()?.to_owned(),
            },
            port: words()
                .find(|word| word.starts_with("usb:"))
                .map(str::to_owned),
            model: named("model:").map(|model| shown(&model.replace('_', " "))),
        })
    }

    /// Returns the text by which the server finds the device.
    pub(crate) fn selector(self) -> String {
        match self.port {
            Some(port) if self.serial == NO_SERIAL => port,
            _ => self.serial,
        }
    }

    fn is(&self, wanted: &str) -> bool {
        self.serial == wanted || self.port.as_deref() == Some(wanted)
    }

    /// Returns the fault that the state shows, with its cure; nothing if the device is ready.
    fn check(&self) -> Result<(), CheckError> {
        let cure = match self.state.as_str() {
            "device" => return Ok(()),
            "unauthorized" => {
                "it has not accepted the key of this adb server; unlock it and confirm \"Allow USB debugging\""
            }
            "offline" => {
                "it is connected, but does not respond to the adb server; reconnect it, or run `adb reconnect offline`"
            }
            NO_PERMISSIONS => {
                "the adb server may not open its USB port; install the udev rules (Debian: \
                 android-sdk-platform-tools-common), reconnect it, and restart the adb server"
            }
            "authorizing" | "connecting" => "it has only just been connected; wait",
            "recovery" | "sideload" | "rescue" | "bootloader" => {
                "it does not run Android now; restart it with `adb reboot`"
            }
            _ => "expected the state device; see `adb devices -l`",
        };
        Err(CheckError::Platform(format!(
            "the device {} has the state \"{}\": {cure}",
            shown(&self.serial),
            shown(&self.state)
        )))
    }
}

/// Returns the device with a serial or USB port, or the only one; an error if it is absent or not ready.
pub(crate) fn choose(
    devices: Vec<ListedDevice>,
    wanted: Option<&str>,
) -> Result<ListedDevice, CheckError> {
    let all = list(&devices);
    let mut found = devices
        .into_iter()
        .filter(|device| wanted.is_none_or(|wanted| device.is(wanted)));
    let Some(device) = found.next() else {
        return Err(CheckError::Platform(match wanted {
            Some(wanted) => format!(
                "there is no device {wanted}: the adb server has {all}; connect it, enable USB debugging, and for a \
                 device of the network run `adb connect {wanted}`"
            ),
            None => {
                "the adb server has no devices; connect one, and enable USB debugging".to_owned()
            }
        }));
    };
    match (found.next(), wanted) {
        (None, _) => {}
        (Some(_), None) => {
            return Err(CheckError::Host(Failure::new(format!(
                "the adb server has {all}; choose one with `serial`"
            ))));
        }
        (Some(_), Some(wanted)) => {
            return Err(CheckError::Host(Failure::new(format!(
                "several devices have the serial {wanted}; set `serial` to the USB port of one, such as \"usb:1-4\", as \
                 `adb devices -l` lists it"
            ))));
        }
    }
    device.check()?;
    Ok(device)
}

fn list(devices: &[ListedDevice]) -> String {
    let shown: Vec<_> = devices
        .iter()
        .take(MAX_LISTED)
        .map(|device| shown(&device.serial))
        .collect();
    let more = match devices.len().saturating_sub(MAX_LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match devices.len() {
        0 => "no devices".to_owned(),
        1 => format!("only the device {}", shown.join("")),
        _ => format!("the devices {}{more}", shown.join(", ")),
    }
}

const NO_SERIAL: &str = "(no serial number)";
const NO_PERMISSIONS: &str = "no permissions";

/// Most devices in a message.
const MAX_LISTED: usize = 5;
