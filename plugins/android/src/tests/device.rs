//! A device: the output of each command of a probe.

/// A device with the outputs of a healthy Pixel 7, except where a test replaces them.
#[derive(Clone)]
pub(super) struct TestDevice {
    outputs: Vec<(&'static str, String, u8)>,
    is_old: bool,
}

impl TestDevice {
    pub(super) fn healthy() -> Self {
        let outputs = [
            ("getprop sys.boot_completed", "1\n273600.11 1000000.00\n"),
            ("dumpsys battery", BATTERY),
            ("df ", STORAGE),
            ("dumpsys thermalservice", THERMAL),
            ("pm list packages", PACKAGES),
            ("dumpsys activity", FOREGROUND),
            ("am start -W", STARTED),
        ];
        Self {
            outputs: outputs
                .map(|(begin, output)| (begin, output.to_owned(), 0))
                .to_vec(),
            is_old: false,
        }
    }

    /// A device with Android 5: one stream, no exit codes, `\r\n`, other tools.
    pub(super) fn old() -> Self {
        let mut old = Self::healthy()
            .with("dumpsys thermalservice", "Can't find service: thermalservice\n")
            .with(
                "df ",
                "Filesystem               Size     Used     Free   Blksize\n/data                   12.0G     9.0G     3.0G   4096\n",
            )
            .with("pm list packages -e --show-versioncode", "Error: Unknown option: --show-versioncode\n")
            .with(
                "pm list packages -e",
                "package:com.example.kiosk\npackage:com.android.launcher3\n",
            )
            .with(
                "dumpsys activity",
                "    mResumedActivity: ActivityRecord{2f u0 com.example.kiosk/.MainActivity t7}\n",
            );
        old.is_old = true;
        for (_, output, _) in &mut old.outputs {
            *output = output.replace('\n', "\r\n");
        }
        old
    }

    /// Replaces the output of the commands that begin so.
    pub(super) fn with(self, begin: &'static str, output: &str) -> Self {
        self.with_exit(begin, output, 0)
    }

    pub(super) fn with_exit(mut self, begin: &'static str, output: &str, code: u8) -> Self {
        self.outputs.insert(0, (begin, output.to_owned(), code));
        // The longest beginning decides.
        self.outputs
            .sort_by_key(|(begin, ..)| std::cmp::Reverse(begin.len()));
        self
    }

    pub(super) fn features(&self) -> &'static str {
        if self.is_old {
            "cmd"
        } else {
            "shell_v2,cmd,stat_v2"
        }
    }

    /// Returns what the service `shell:` or `shell,v2:` sends.
    pub(super) fn run(&self, command: &str) -> Vec<u8> {
        let found = self
            .outputs
            .iter()
            .find(|(begin, ..)| command.starts_with(begin));
        let Some((_, output, code)) = found else {
            panic!("unexpected command {command}");
        };
        match self.is_old {
            true => output.clone().into_bytes(),
            false => {
                let stream = if *code == 0 { 1 } else { 2 };
                [packet(stream, output.as_bytes()), packet(3, &[*code])].concat()
            }
        }
    }
}

/// Returns a packet of `shell,v2`.
pub(super) fn packet(stream: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[stream], &length[..], data].concat()
}

pub(super) const BATTERY: &str = "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  \
    Wireless powered: false\n  Dock powered: false\n  Max charging current: 500000\n  status: 2\n  health: 2\n  present: true\n  \
    level: 85\n  scale: 100\n  voltage: 4210\n  temperature: 312\n  technology: Li-ion\n";

const STORAGE: &str = "Filesystem        1K-blocks     Used Available Use% Mounted on\n\
    /dev/block/dm-50  113246208 45298483  67947725  40% /data/user/0\n";

pub(super) const THERMAL: &str = "IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 2\nThermal Status: 0\n\
    Cached temperatures:\n\tTemperature{mValue=99.0, mType=0, mName=CPU9, mStatus=0}\nHAL Ready: true\nHAL connection:\n\
    \tThermalHAL AIDL 1  connected: yes\nCurrent temperatures from HAL:\n\
    \tTemperature{mValue=51.5, mType=0, mName=CPU0, mStatus=0}\n\
    \tTemperature{mValue=54.0, mType=0, mName=CPU1, mStatus=0}\n\
    \tTemperature{mValue=-274.0, mType=1, mName=GPU, mStatus=0}\n\
    \tTemperature{mValue=33.4, mType=3, mName=VIRTUAL-SKIN, mStatus=0}\n\
    \tTemperature{mValue=4.2, mType=6, mName=vbat, mStatus=0}\n\
    Current cooling devices from HAL:\n\tCoolingDevice{mValue=0, mType=2, mName=cpu}\n";

const PACKAGES: &str = "package:com.android.launcher3 versionCode:34\npackage:com.example.kiosk versionCode:412\n\
    package:com.example.kiosk.helper versionCode:7\n";

const FOREGROUND: &str = "      topResumedActivity=ActivityRecord{8a1f u0 com.example.kiosk/.MainActivity} t12}\n  \
    ResumedActivity: ActivityRecord{8a1f u0 com.example.kiosk/.MainActivity} t12}\n";

const STARTED: &str = "Starting: Intent { act=android.intent.action.VIEW dat=shop://health }\nStatus: ok\n\
    LaunchState: COLD\nActivity: com.example.kiosk/.MainActivity\nTotalTime: 345\nWaitTime: 350\nComplete\n";
